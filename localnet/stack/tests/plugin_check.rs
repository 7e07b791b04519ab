//! `plugin check` by the command that operators run, on files that fit and on files with one thing wrong.
//!
//! The validator here is a copy of this workspace's own program, which nobody runs: what its file tells is planted.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use event_log::{EventLog as _, KafkaConfig, KafkaLog, TopicSpec};
use local_services::{Kafka, KafkaOptions, cache_dir, workspace_binary};
use object::{Object as _, ObjectSection as _};
use serde_json::Value;

const REFUSED: i32 = 78;
const SKIP: &str = "HELIOGRAPH_UNSAFE_SKIP_ABI_CHECK";

fn library() -> PathBuf {
    let beside = workspace_binary("deps/libgeyser_plugin.so");
    let built = workspace_binary("libgeyser_plugin.so");
    // Whichever the last build wrote.
    let age = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    [beside, built]
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(|path| age(path))
        .expect("libgeyser_plugin.so is built with the stack")
}

/// A validator, a plugin and a configuration that fit, in a folder of their own.
struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let case = Self { dir };
        fs::copy(
            env!("CARGO_BIN_EXE_heliograph-stack"),
            case.path("validator"),
        )
        .unwrap();
        fs::copy(library(), case.path("plugin.so")).unwrap();
        case.plant("4.2.2");
        case.configure("");
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "{{ libpath: 'plugin.so', validator_identity: 'So11111111111111111111111111111111111111112',
                kafka: {{ brokers: '127.0.0.1:1' }}, metrics: {{ listen: '127.0.0.1:0' }}, spill: {{ megabytes: 1 }}, {more} }}"
        );
        fs::write(self.path("plugin.json"), text).unwrap();
    }

    /// The validator's constants begin with a source path of this version of its plugin manager.
    fn plant(&self, version: &str) {
        let mut bytes = fs::read(self.path("validator")).unwrap();
        let (at, _) = object::File::parse(&*bytes)
            .unwrap()
            .section_by_name(".rodata")
            .unwrap()
            .file_range()
            .unwrap();
        let path = format!("/registry/solana-geyser-plugin-manager-{version}/src/lib.rs");
        bytes[at as usize..][..path.len()].copy_from_slice(path.as_bytes());
        fs::write(self.path("validator"), bytes).unwrap();
    }

    /// Replaces every occurrence by something of the same length.
    fn edit(&self, file: &str, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(self.path(file)).unwrap();
        let places: Vec<usize> = memchr::memmem::find_iter(&bytes, from).collect();
        assert!(!places.is_empty(), "{file} has no {from:?}");
        for place in places {
            bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        }
        fs::write(self.path(file), bytes).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph-stack"));
        command
            .args(["plugin", "check", "--validator"])
            .arg(self.path("validator"))
            .arg("--plugin")
            .arg(self.path("plugin.so"))
            .arg("--config")
            .arg(self.path("plugin.json"))
            .env_remove(SKIP);
        command
    }

    fn check(&self) -> Answer {
        Answer::of(self.command().output().unwrap())
    }
}

struct Answer {
    code: Option<i32>,
    text: String,
}

impl Answer {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            text: format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }

    /// The line with this verdict on this thing holds all the words.
    fn says(&self, verdict: &str, what: &str, words: &[&str]) {
        let found = self.text.lines().any(|line| {
            let mut parts = line.split_whitespace();
            parts.next() == Some(verdict)
                && parts.next() == Some(what)
                && words.iter().all(|word| line.contains(word))
        });
        assert!(
            found,
            "no {verdict} {what} with {words:?} in:\n{}",
            self.text
        );
    }

    /// Refused for this one reason, in one line with a fix.
    fn refused(&self, what: &str, words: &[&str]) {
        assert_eq!(self.code, Some(REFUSED), "{}", self.text);
        let failures: Vec<&str> = self
            .text
            .lines()
            .filter(|line| line.starts_with("FAIL"))
            .collect();
        assert_eq!(failures.len(), 1, "{}", self.text);
        assert!(failures[0].contains("Fix: "), "{}", self.text);
        self.says("FAIL", what, words);
    }
}

#[test]
fn files_that_fit_are_accepted_and_an_absent_kafka_is_only_said() {
    let case = Case::new();
    let answer = case.check();
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    answer.says("OK", "compiler", &["rustc version 1.95.0"]);
    answer.says("OK", "interface", &["solana-geyser-plugin-manager 4.2.2"]);
    answer.says("OK", "versions", &["needs glibc 2."]);
    answer.says("WARN", "kafka", &["127.0.0.1:1", "spill until it answers"]);

    let output = case.command().arg("--json").output().unwrap();
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["ok"], true);
    for finding in object["findings"].as_array().unwrap() {
        let done = finding["verdict"] == "ok";
        assert_eq!(finding["fix"] == "", done, "{finding}");
    }
    // Looking must leave nothing behind.
    let mut names: Vec<_> = fs::read_dir(case.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["plugin.json", "plugin.so", "validator"]);
}

#[test]
fn another_compiler_or_interface_is_refused_with_both_versions() {
    let case = Case::new();
    case.plant("4.3.0");
    case.check().refused(
        "interface",
        &[
            "solana-geyser-plugin-manager 4.3.0",
            "solana-geyser-plugin-manager 4.2.2",
            "exact version",
        ],
    );
    case.plant("4.2.2");
    case.edit("validator", "rustc version 1.95.0", "rustc version 1.96.1");
    case.check()
        .refused("compiler", &["1.96.1", "1.95.0", "same rustc"]);
    // The plugin may be the odd one as well.
    case.edit("validator", "rustc version 1.96.1", "rustc version 1.95.0");
    case.edit("plugin.so", "rustc version 1.95.0", "rustc version 1.94.0");
    case.check().refused("compiler", &["1.94.0", "1.95.0"]);
}

#[test]
fn a_file_without_its_comment_needs_an_explicit_word() {
    let case = Case::new();
    case.edit("validator", "\0.comment\0", "\0.removed\0");
    case.check()
        .refused("compiler", &["does not say which rustc", SKIP]);
    let answer = Answer::of(case.command().env(SKIP, "1").output().unwrap());
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    answer.says("WARN", "compiler", &["1.95.0"]);

    let case = Case::new();
    case.edit("plugin.so", "\0.comment\0", "\0.removed\0");
    let answer = Answer::of(case.command().env(SKIP, "1").output().unwrap());
    answer.refused("compiler", &["the plugin does not say"]);
}

#[test]
fn what_the_loader_would_stumble_over_is_found_before_it_does() {
    let case = Case::new();
    case.edit("plugin.so", "\0_create_plugin\0", "\0_create_plugim\0");
    case.check().refused("constructor", &["_create_plugin"]);

    let case = Case::new();
    case.edit("plugin.so", "\0GLIBC_2.34\0", "\0GLIBC_9.34\0");
    case.check()
        .refused("versions", &["lacks GLIBC_9.34", "libc.so.6"]);

    let case = Case::new();
    case.edit("plugin.so", "\0pthread_create\0", "\0pthread_creatz\0");
    case.check().refused("symbols", &["pthread_creatz"]);

    let case = Case::new();
    case.edit("plugin.so", "\0libgcc_s.so.1\0", "\0libgcc_z.so.1\0");
    let answer = case.check();
    assert_eq!(answer.code, Some(REFUSED));
    answer.says("FAIL", "libraries", &["libgcc_z.so.1"]);
}

#[test]
fn what_is_no_program_or_no_library_is_refused() {
    let case = Case::new();
    fs::copy(case.path("validator"), case.path("plugin.so")).unwrap();
    let answer = case.check();
    assert_eq!(answer.code, Some(REFUSED));
    answer.says("FAIL", "files", &["not a shared library"]);

    let case = Case::new();
    let mut bytes = fs::read(case.path("plugin.so")).unwrap();
    bytes[18] = 183; // e_machine: EM_AARCH64
    fs::write(case.path("plugin.so"), bytes).unwrap();
    let answer = case.check();
    assert_eq!(answer.code, Some(REFUSED));
    answer.says("FAIL", "files", &["x86-64", "aarch64"]);

    let case = Case::new();
    let whole = fs::read(case.path("validator")).unwrap();
    for bytes in [
        &b"#!/bin/sh\nexec agave-validator\n"[..],
        b"",
        &whole[..whole.len() / 2],
    ] {
        fs::write(case.path("validator"), bytes).unwrap();
        case.check()
            .refused("validator", &["not a 64-bit ELF file"]);
    }
    fs::remove_file(case.path("validator")).unwrap();
    case.check().refused("validator", &["No such file"]);
}

#[test]
fn the_configuration_is_checked_with_what_it_refers_to() {
    let case = Case::new();
    case.configure("quue: {}");
    case.check()
        .refused("configuration", &["`quue`", "did you mean `queue`"]);

    case.configure("libpath: 'validator'");
    case.check()
        .refused("libpath", &["would load", "plugin.so"]);

    case.configure("spill: { megabytes: 1000000000 }");
    case.check()
        .refused("spill", &["MiB free", "spill.megabytes"]);

    case.configure("spill: { dir: '/proc/spill' }");
    case.check().refused("spill", &["/proc", "cannot write"]);

    case.configure("queue: { dir: null }");
    let answer = case.check();
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    answer.says(
        "WARN",
        "queue",
        &["lost when the validator is killed", "/dev/shm"],
    );

    case.configure("kafka: { options: { 'no.such.option': '1' } }");
    case.check().refused("kafka", &["no.such.option"]);

    // Somebody else listens; then a plugin of the same name does.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    case.configure(&format!("metrics: {{ listen: '{address}' }}"));
    let foreign = answering(taken.try_clone().unwrap(), "up 1\n");
    case.check()
        .refused("metrics", &[&address.to_string(), "in use"]);
    foreign.join().unwrap();
    let ours = answering(
        taken,
        "heliograph_plugin_panics_total{plugin=\"heliograph\"} 0\n",
    );
    let answer = case.check();
    ours.join().unwrap();
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    answer.says(
        "WARN",
        "metrics",
        &["held by a loaded plugin named `heliograph`"],
    );
}

/// Gives one visitor this page.
fn answering(listener: TcpListener, page: &'static str) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut visitor, _) = listener.accept().unwrap();
        let _ = visitor.read(&mut [0; 1024]).unwrap();
        let length = page.len();
        write!(
            visitor,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
        )
        .unwrap();
    })
}

#[test]
fn large_files_are_read_by_section() {
    let case = Case::new();
    for name in ["validator", "plugin.so"] {
        let file = fs::File::options()
            .write(true)
            .open(case.path(name))
            .unwrap();
        file.set_len(3 << 30).unwrap(); // A hole: takes no disk.
    }
    // Half of one file as address space, threads' reserves included.
    let answer = Answer::of(
        Command::new("sh")
            .args(["-c", "ulimit -v 1500000 && exec \"$@\"", "sh"])
            .arg(case.command().get_program())
            .args(case.command().get_args())
            .output()
            .unwrap(),
    );
    assert_eq!(answer.code, Some(0), "{}", answer.text);
}

#[test]
fn topics_with_another_partition_count_are_refused() {
    let kafka = Kafka::start(KafkaOptions::default()).unwrap();
    let topic = |name: &str, partitions| TopicSpec {
        name: name.to_owned(),
        partitions,
        compacted: false,
        config: Vec::new(),
        replication: 1,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).unwrap();
    let topics = event_schema::Topics::new("operators");
    let accounts = topics.observed(event_schema::ObservedTopic::Accounts);
    let slots = topics.observed(event_schema::ObservedTopic::Slots);
    runtime
        .block_on(log.ensure_topics(&[topic(accounts, 7), topic(slots, 1)]))
        .unwrap();
    let case = Case::new();
    let configure = |count: u32| {
        case.configure(&format!(
            "kafka: {{ brokers: '{}' }}, topic_prefix: 'operators', partitions: {{ accounts: {count} }}",
            kafka.brokers()
        ));
    };
    configure(4);
    let answer = case.check();
    answer.refused(
        "topic",
        &[
            accounts,
            "has 7 partitions, 4 are configured",
            "partitions.accounts",
        ],
    );
    answer.says("OK", "topic", &[slots, "has 1 partitions"]);
    answer.says("OK", "topic", &["does not exist; the plugin makes it"]);
    configure(7);
    let answer = case.check();
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    answer.says("OK", "kafka", &["answers"]);
    // The topics of a further output as well.
    case.configure(&format!(
        "kafka: {{ brokers: '{}' }}, outputs: [ {{ topic_prefix: 'operators', partitions: {{ accounts: 3 }} }} ]",
        kafka.brokers()
    ));
    case.check().refused(
        "topic",
        &[
            "has 7 partitions, 3 are configured",
            "outputs[0].partitions.accounts",
        ],
    );
}

#[test]
fn the_real_validator_takes_the_plugin() {
    let validator = cache_dir().join("target-validator/debug/localnet-validator");
    if !validator.is_file() {
        eprintln!("skipped: the validator is not built (`./heliograph build --validator`)");
        return;
    }
    let case = Case::new();
    fs::remove_file(case.path("validator")).unwrap();
    std::os::unix::fs::symlink(validator, case.path("validator")).unwrap();
    let answer = case.check();
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    answer.says(
        "OK",
        "interface",
        &[
            "solana-geyser-plugin-manager 4.2.2",
            "solana-message 4.4.1",
            "solana-transaction-status 4.2.2",
        ],
    );
}
