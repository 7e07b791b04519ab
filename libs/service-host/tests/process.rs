//! Real processes: exit codes, signals, the admin door.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn hosted(arguments: &[&str]) -> Command {
    let deps = std::env::current_exe().unwrap();
    let example: PathBuf = deps
        .parent()
        .and_then(|deps| deps.parent())
        .unwrap()
        .join("examples/hosted");
    let mut command = Command::new(example);
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running service and the admin address it reported.
fn start(environment: &[(&str, &str)]) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let mut child = hosted(&["--log-format", "json"])
        .envs(environment.iter().copied())
        .spawn()
        .unwrap();
    let mut logs = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    logs.read_line(&mut line).unwrap();
    let admin = line
        .split("\"admin\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let admin = admin
        .unwrap_or_else(|| panic!("no address in {line}"))
        .to_owned();
    (child, admin, logs)
}

fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned();
    (status, body)
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

fn exit_code(child: &mut Child, within: Duration) -> Option<i32> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("still running after {within:?}");
}

fn outcome(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output {
        status,
        stderr,
        stdout,
    } = hosted(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code(), text)
}

#[test]
fn serves_health_and_drains_on_a_signal() {
    let (mut child, admin, _logs) = start(&[]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while get(&admin, "/readyz").0 != 200 {
        assert!(Instant::now() < deadline, "never ready");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(get(&admin, "/livez").0, 200);
    assert_eq!(get(&admin, "/startupz").0, 200);
    let (_, metrics) = get(&admin, "/metrics");
    assert!(
        metrics.contains("heliograph_service_info{service=\"hosted\""),
        "{metrics}"
    );
    let (_, ready) = get(&admin, "/readyz");
    assert!(ready.contains("\"work\":true"), "{ready}");
    signal(&child, "TERM");
    assert_eq!(exit_code(&mut child, Duration::from_secs(5)), Some(0));
}

#[test]
fn a_second_signal_exits_at_once() {
    let (mut child, admin, _logs) = start(&[("HELIOGRAPH_ENDING", "stuck")]);
    signal(&child, "INT");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(&admin, "/readyz").1.contains("\"draining\":true") {
        assert!(Instant::now() < deadline, "never draining");
    }
    let start = Instant::now();
    signal(&child, "TERM");
    assert_eq!(exit_code(&mut child, Duration::from_secs(5)), Some(1));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_drain_has_a_deadline() {
    let (mut child, _, _logs) = start(&[
        ("HELIOGRAPH_ENDING", "stuck"),
        ("HELIOGRAPH_HOST__DRAIN_SECONDS", "1"),
    ]);
    signal(&child, "TERM");
    assert_eq!(exit_code(&mut child, Duration::from_secs(6)), Some(1));
}

#[test]
fn failures_exit_with_one_and_say_why() {
    for (ending, said) in [
        ("fail", "as configured"),
        ("panic", "panicked"),
        ("task", "task `short-lived` failed: the task broke"),
    ] {
        let (code, text) = outcome(&[], &[("HELIOGRAPH_ENDING", ending)]);
        assert_eq!(code, Some(1), "{ending}: {text}");
        assert!(text.contains(said), "{ending}: {text}");
    }
}

#[test]
fn a_bad_configuration_exits_with_two_and_names_the_key() {
    let (code, text) = outcome(&["--check"], &[("HELIOGRAPH_ENDING", "never")]);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("`ending`") && text.contains("Use wait"),
        "{text}"
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    std::fs::write(&file, "endin = \"wait\"\n").unwrap();
    let (code, text) = outcome(&["--config", file.to_str().unwrap()], &[]);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("bad.toml") && text.contains("did you mean `ending`?"),
        "{text}"
    );

    let (code, text) = outcome(&[], &[("HELIOGRAPH_HOST__LOG", "a=b=c")]);
    assert_eq!(code, Some(2));
    assert!(text.contains("`host.log`"), "{text}");
}

#[test]
fn check_and_print_need_no_network() {
    assert_eq!(outcome(&["--check"], &[]).0, Some(0));
    let (code, text) = outcome(&["--print-config"], &[]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("ending = \"wait\"") && text.contains("# wait, fail, panic"),
        "{text}"
    );
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let (code, text) = outcome(&["--admin", &address], &[]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains(&address) && text.contains("`host.admin`"),
        "{text}"
    );
}
