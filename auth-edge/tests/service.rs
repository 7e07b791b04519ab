//! The binary itself: starts, says what it waits for, serves, drains, and refuses what cannot work.

use local_services::{Postgres, PostgresOptions, free_port};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_auth-edge");

fn run_to_end(config: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .arg("--config")
        .arg(config)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HTTP status of a GET, without an HTTP library: one request, one answer.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    std::io::Write::write_all(
        &mut stream,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn wait_for(port: u16, path: &str, status: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !get(port, path).is_some_and(|answer| answer.starts_with(&format!("HTTP/1.1 {status}"))) {
        assert!(
            Instant::now() < deadline,
            "{path} never answered {status}: {:?}",
            get(port, path)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_service_waits_for_its_database_serves_and_drains() {
    let folder = tempfile::tempdir().unwrap();
    let (database_port, port, admin) = (free_port(), free_port(), free_port());
    let config = folder.path().join("edge.toml");
    let key = folder.path().join("custody.key");
    let write = |custody: &str| {
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\npublic_origin = \"http://localhost:{port}\"\n\
             database_url = \"postgres://postgres@127.0.0.1:{database_port}/edge_test\"\n\
             [custody]\nkey_file = \"{}\"\n{custody}\n[host]\nadmin = \"127.0.0.1:{admin}\"\n",
            key.display()
        );
        std::fs::write(&config, text).unwrap();
    };

    write("");
    let output = run_to_end(&config, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("custody.create = true"),
        "{}",
        text(&output)
    );

    write("create = true");
    let child = Command::new(BINARY)
        .arg("--config")
        .arg(&config)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    wait_for(admin, "/livez", "200");
    wait_for(admin, "/readyz", "503");
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let postgres = Postgres::start(PostgresOptions {
        port: Some(database_port),
        ..PostgresOptions::default()
    })
    .unwrap();
    postgres.create_database("edge_test").unwrap();
    wait_for(admin, "/readyz", "200");
    assert!(get(port, "/").unwrap().contains("Log in with a passkey"));
    assert!(get(port, "/v1/me").unwrap().contains("no_session"));
    let metrics = get(admin, "/metrics").unwrap();
    assert!(
        metrics.contains("edge_refusals_total{code=\"no_session\"} 1"),
        "{metrics}"
    );

    let second = run_to_end(&config, &["--admin", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second).contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{}",
        text(&second)
    );

    drop(postgres);
    wait_for(admin, "/readyz", "503");
    wait_for(admin, "/livez", "200");

    assert!(
        Command::new("kill")
            .arg(running.0.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(running.0.wait().unwrap().code(), Some(0), "drained");
}

#[test]
fn wrong_configurations_are_refused_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("edge.toml");
    let policy = folder.path().join("wrong.cedar");
    std::fs::write(&policy, "permit (principal").unwrap();
    let policy_line = format!(
        "policy_file = \"{}\"\ncustody = {{ create = true, key_file = \"{}\" }}",
        policy.display(),
        folder.path().join("k").display()
    );
    for (line, expected) in [
        ("rpc_ulr = \"http://127.0.0.1:1\"", "rpc_url"),
        ("public_origin = \"http://pay.example\"", "public_origin"),
        ("[limits]\ndaily_lamports = 0", "limits.daily_lamports"),
        (policy_line.as_str(), "not valid Cedar"),
    ] {
        std::fs::write(&config, format!("{line}\n")).unwrap();
        let output = run_to_end(&config, &["--check"]);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", text(&output));
        assert!(
            text(&output).contains(expected),
            "{line}: {}",
            text(&output)
        );
    }
    let printed = Command::new(BINARY).arg("--print-config").output().unwrap();
    assert!(
        text(&printed).contains("public_origin") && text(&printed).contains("daily_lamports"),
        "{}",
        text(&printed)
    );
}
