//! The built library as a validator meets it: `dlopen`, `_create_plugin`, callbacks, `on_unload`, `dlclose`.

mod validator;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use agave_geyser_plugin_interface::geyser_plugin_interface::GeyserPlugin;
use libloading::{Library, Symbol};
use local_services::free_port;
use validator::{Size, run_slot};

/// Set: this process plays a host that loads the library named here and drives a slot through it.
const PLAY_HOST: &str = "HELIOGRAPH_TEST_LOADS";

/// Beside the test's own executable.
fn library() -> PathBuf {
    let beside = env::current_exe().unwrap().parent().unwrap().to_owned();
    let found = [
        beside.join("libgeyser_plugin.so"),
        beside.join("../libgeyser_plugin.so"),
    ];
    found
        .iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("none of {found:?} exists"))
        .clone()
}

/// As the validator does it, in its order.
#[allow(unsafe_code, improper_ctypes_definitions)]
fn load(path: &Path) -> (Box<dyn GeyserPlugin>, Library) {
    type Constructor = unsafe extern "C" fn() -> *mut dyn GeyserPlugin;
    // SAFETY: the library is this workspace's plugin, built together with this test.
    unsafe {
        let library = Library::new(path).unwrap();
        let constructor: Symbol<Constructor> = library.get(b"_create_plugin").unwrap();
        (Box::from_raw(constructor()), library)
    }
}

fn config(dir: &Path, more: &str) -> String {
    let file = dir.join("plugin.json");
    let text = format!(
        "{{ libpath: 'unused', validator_identity: 'So11111111111111111111111111111111111111112',
            kafka: {{ brokers: '127.0.0.1:1' }}, metrics: {{ listen: '127.0.0.1:0' }}, unload_seconds: 1, {more} }}"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn entries(dir: &str) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn loading_and_unloading_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "");
    let path = library();
    let mut after_first = None;
    for round in 0..4 {
        let (mut plugin, library) = load(&path);
        plugin
            .setup_logger(log::logger(), log::max_level())
            .unwrap();
        plugin.on_load(&config, round > 0).unwrap();
        run_slot(
            plugin.as_ref(),
            50 + round,
            Size {
                transactions: 20,
                accounts: 20,
            },
            false,
        );
        plugin.on_unload();
        drop(plugin);
        library.close().unwrap();
        let now = (entries("/proc/self/task"), entries("/proc/self/fd"));
        // The first round settles what the process itself keeps.
        let first = *after_first.get_or_insert(now);
        assert_eq!(
            now, first,
            "threads and file descriptors after round {round}"
        );
    }
    // Kafka was never there: all of it waits in the spill.
    assert!(
        entries(
            dir.path()
                .join("heliograph-spill/heliograph")
                .to_str()
                .unwrap()
        ) > 1
    );
}

/// Operators set alerts by the guide, so it must name what there is, and the rules may ask for nothing else.
#[test]
fn the_operators_guide_and_the_alert_rules_know_the_metrics_of_the_library() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = config(dir.path(), "").replace("plugin.json", "guide.json");
    let text = fs::read_to_string(dir.path().join("plugin.json")).unwrap();
    fs::write(
        &config,
        text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")),
    )
    .unwrap();
    let (mut plugin, library) = load(&library());
    plugin.on_load(&config, false).unwrap();
    let page = scrape(port);
    plugin.on_unload();
    drop(plugin);
    library.close().unwrap();
    let families: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| {
            line.strip_prefix("# TYPE heliograph_plugin_")?
                .split(' ')
                .next()
        })
        .collect();
    assert!(families.len() > 20, "{page}");

    let guide = include_str!("../../docs/guides/plugin-operator.md");
    let described: BTreeSet<&str> = guide
        .lines()
        .skip_while(|line| !line.starts_with("## 5"))
        .take_while(|line| !line.starts_with("## 6"))
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next())
        .flat_map(|names| names.split("`, `"))
        .map(|name| name.trim_end_matches('`').split('{').next().unwrap())
        .collect();
    assert_eq!(described, families, "left: the guide, right: the library");

    let rules = include_str!("../../ops/prometheus/rules.yml");
    let asked: BTreeSet<&str> = rules
        .match_indices("heliograph_plugin_")
        .map(|(at, mark)| {
            let rest = &rules[at + mark.len()..];
            let end = rest
                .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
                .unwrap();
            rest[..end].trim_end_matches("_bucket")
        })
        .collect();
    let unknown: Vec<_> = asked.difference(&families).collect();
    assert!(unknown.is_empty(), "rules.yml asks for {unknown:?}");
    for reason in page
        .split("reason=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(
            guide.contains(&format!("`{reason}`")),
            "the guide does not explain `{reason}`"
        );
    }
}

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn bad_configuration_is_an_answer_not_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (mut plugin, library) = load(&library());
    let mut refusal = |config: &str| plugin.on_load(config, false).unwrap_err().to_string();
    let message = refusal(&config(dir.path(), "quue: {}"));
    assert!(
        message.contains("`quue`") && message.contains("did you mean `queue`"),
        "{message}"
    );
    let message = refusal("/nonexistent/plugin.json");
    assert!(message.contains("/nonexistent/plugin.json"), "{message}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = fs::read_to_string(config(dir.path(), ""))
        .unwrap()
        .replace("127.0.0.1:0", &address.to_string());
    let file = dir.path().join("taken.json");
    fs::write(&file, text).unwrap();
    let message = refusal(file.to_str().unwrap());
    assert!(
        message.contains(&address.to_string()) && message.contains("metrics.listen"),
        "{message}"
    );
    drop(plugin);
    library.close().unwrap();
}

#[test]
fn a_host_of_another_compiler_is_refused_with_both_versions_and_an_exit_code() {
    if let Ok(path) = env::var(PLAY_HOST) {
        let (plugin, library) = load(Path::new(&path));
        assert_eq!(plugin.name(), "heliograph");
        // In this order: dropping the plugin needs its code.
        drop(plugin);
        library.close().unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ours = fs::read(env::current_exe().unwrap()).unwrap();
    let play = |bytes: &[u8], skip: &str| {
        let host = dir.path().join("host");
        fs::write(&host, bytes).unwrap();
        fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let output = Command::new(&host)
            .args([
                "--exact",
                "a_host_of_another_compiler_is_refused_with_both_versions_and_an_exit_code",
                "--nocapture",
            ])
            .env(PLAY_HOST, library())
            .env("HELIOGRAPH_UNSAFE_SKIP_ABI_CHECK", skip)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(play(&ours, "0").0, Some(0), "an unchanged copy is taken");

    let (version, release) = (geyser_plugin::host_check::BUILT_BY, "1.95.0");
    assert!(
        version.contains(release),
        "the toolchain moved on: adapt this test to {version}"
    );
    let other = replace(
        &ours,
        format!("rustc version {release}").as_bytes(),
        b"rustc version 1.90.0",
    );
    let (code, stderr) = play(&other, "0");
    assert_eq!(
        code,
        Some(geyser_plugin::constructor::EXIT_REFUSED),
        "{stderr}"
    );
    let line = stderr
        .lines()
        .find(|line| line.contains("plugin refused"))
        .expect("one line says so");
    assert!(
        line.contains("1.90.0") && line.contains(release) && line.contains("same rustc"),
        "{line}"
    );
    assert_eq!(
        play(&other, "1").0,
        code,
        "a known difference cannot be waved through"
    );

    let silent = replace(&ours, b"rustc version ", b"somec version ");
    let (code, stderr) = play(&silent, "0");
    assert_eq!(
        code,
        Some(geyser_plugin::constructor::EXIT_REFUSED),
        "{stderr}"
    );
    assert!(
        stderr.contains("HELIOGRAPH_UNSAFE_SKIP_ABI_CHECK=1"),
        "{stderr}"
    );
    assert_eq!(
        play(&silent, "1").0,
        Some(0),
        "an unknown one can, by explicit word"
    );
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, from).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    bytes
}
