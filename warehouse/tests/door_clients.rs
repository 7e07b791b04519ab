//! Every line of `warehouse/conformance.md`, by the client it names, against a real door: all pass, or are on the skip list.
//!
//! The Python and JavaScript clients come from PyPI and npm at pinned versions into the cache directory.

mod door_process;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use door_process::Door;

/// What a client's checks came to: nothing, or what went wrong.
type Results = BTreeMap<String, Option<String>>;

#[path = "clients/curl.rs"]
mod curl;
#[path = "clients/rust.rs"]
mod rust;

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(Door::start)
}

/// The published lines of a client, without and with those that are skipped.
fn published(prefix: &str) -> (BTreeSet<String>, usize) {
    let text = include_str!("../conformance.md");
    let (list, skipped) = text.split_once("## Skip list").unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.starts_with(prefix))
            .collect()
    };
    let all = names(list);
    let skipped = names(skipped);
    (all.difference(&skipped).cloned().collect(), all.len())
}

/// The checklist and what was run are the same list, all of it passed, and at least 95 % of it was run.
fn judge(prefix: &str, results: &Results) {
    let (expected, all) = published(prefix);
    let failed: Vec<String> = results
        .iter()
        .filter(|(name, _)| expected.contains(*name))
        .filter_map(|(name, problem)| Some(format!("{name}: {}", problem.as_ref()?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let run: BTreeSet<String> = results
        .iter()
        .filter(|(_, problem)| problem.is_none())
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(run, expected, "conformance.md and the checks differ");
    println!("{prefix}: {} of {all} lines pass", run.len());
    assert!(run.len() * 100 >= all * 95, "{} of {all}", run.len());
}

/// A program that must be there. Absent on somebody's machine the check is skipped aloud; on a CI machine it fails.
fn present(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is not installed"
        );
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Fills a folder of the cache once: other tests of this run may want it at the same time.
fn cached(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let cache = local_services::cache_dir();
    std::fs::create_dir_all(&cache).unwrap();
    let lock = std::fs::File::create(cache.join(format!(".{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let target = cache.join(name);
    if !target.is_dir() {
        let unfinished = cache.join(format!(".{name}.unfinished"));
        let _ = std::fs::remove_dir_all(&unfinished);
        std::fs::create_dir_all(&unfinished).unwrap();
        fill(&unfinished);
        std::fs::rename(&unfinished, &target).unwrap();
    }
    target
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

fn results_of(output: &str) -> Results {
    let last = output.lines().last().unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(last).unwrap();
    println!("{}", report["client"]);
    serde_json::from_value(report["results"].clone()).unwrap()
}

#[test]
fn clickhouse_connect_works_unmodified() {
    if !present("python3") {
        return;
    }
    let packages = cached("door-clients-python-1.12.0", |dir| {
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(dir)
            .arg("-r")
            .arg(script("requirements.txt")));
    });
    let output = run(Command::new("python3")
        .arg(script("conformance.py"))
        .args([&door().url(), "boss", door_process::PASSWORD])
        .env("PYTHONPATH", packages));
    judge("py-", &results_of(&output));
}

#[test]
fn clickhouse_client_of_javascript_works_unmodified() {
    if !present("node") || !present("npm") {
        return;
    }
    let packages = cached("door-clients-node-1.23.1", |dir| {
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(script(name), dir.join(name)).unwrap();
        }
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(dir));
    });
    // Modules are looked for from the script's own folder upwards.
    let copy = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(packages)
        .unwrap();
    let path = copy.path().join("conformance.mjs");
    std::fs::copy(script("conformance.mjs"), &path).unwrap();
    let output =
        run(Command::new("node")
            .arg(path)
            .args([&door().url(), "boss", door_process::PASSWORD]));
    judge("js-", &results_of(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_of_rust_works_unmodified() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    judge("rs-", &rust::results(&door.url()).await);
}

#[test]
fn curl_works() {
    if !present("curl") {
        return;
    }
    judge("curl-", &curl::results(&door().url()));
}
