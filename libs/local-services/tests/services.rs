//! The real services start, answer, survive SIGKILL with their data, and end with their owner.

use std::time::Duration;

use local_services::{Child, ChildSpec, Kafka, KafkaOptions, Postgres, PostgresOptions};

fn alive(pid: u32) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn kafka_starts_and_comes_back_after_sigkill() {
    let mut kafka = Kafka::start(KafkaOptions::default()).unwrap();
    assert!(kafka.answers());
    let first = kafka.pid();
    kafka.kill();
    assert!(!kafka.answers());
    kafka.restart().unwrap();
    assert!(kafka.answers());
    assert_ne!(kafka.pid(), first);
    let pid = kafka.pid();
    drop(kafka);
    assert!(!alive(pid));
}

#[test]
fn postgres_starts_and_keeps_its_databases_across_sigkill() {
    let mut postgres = Postgres::start(PostgresOptions::default()).unwrap();
    postgres.create_database("heliograph").unwrap();
    // Creating it again is not an error.
    postgres.create_database("heliograph").unwrap();
    assert!(postgres.create_database("no; drop").is_err());
    postgres.restart().unwrap();
    assert!(postgres.answers());
    postgres.create_database("heliograph").unwrap();
    let (pid, data) = (postgres.pid(), postgres.data_dir().to_owned());
    drop(postgres);
    assert!(!alive(pid));
    assert!(!data.exists());
}

#[test]
fn a_child_outlives_the_thread_that_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ChildSpec::new("sleeper", "sleep", dir.path().join("log")).arg("60");
    let mut child = std::thread::spawn(|| Child::spawn(spec).unwrap())
        .join()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.is_running());
    let pid = child.pid();
    drop(child);
    assert!(!alive(pid));
}

#[test]
fn a_child_that_ends_at_start_is_explained_by_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ChildSpec::new("speaker", "sh", dir.path().join("log"))
        .arg("-c")
        .arg("echo the reason; exit 3");
    let mut child = Child::spawn(spec).unwrap();
    let error = child
        .wait_ready(Duration::from_secs(10), || false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exit status: 3") && error.contains("the reason"),
        "{error}"
    );
}

#[test]
fn a_missing_binary_says_how_to_build_it() {
    let error = Child::spawn(ChildSpec::new("ghost", "/nonexistent/ghost", "/dev/null"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("./heliograph build"), "{error}");
}
