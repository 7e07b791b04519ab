//! `heliograph sql` as people and scripts use it: the real program against a real door.

mod door_process;
mod support;

use std::{
    io::{Read, Write},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use door_process::{Door, PASSWORD};
use support::ask;

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(Door::start)
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph-sql"));
    command
        .env("HELIOGRAPH_SQL_URL", door().url())
        .env("HELIOGRAPH_SQL_USER", "boss")
        .env("HELIOGRAPH_SQL_PASSWORD", PASSWORD);
    command
}

/// Runs it with `input` on standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn good(arguments: &[&str], input: &str) -> String {
    let (code, out, error) = text(&run(arguments, input));
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

#[test]
fn one_statement_in_any_format() {
    assert_eq!(good(&["SELECT 1, 'a'"], ""), "1\ta\n");
    assert_eq!(
        good(&["SELECT 1 AS x", "--format", "JSONEachRow"], ""),
        "{\"x\":1}\n"
    );
    assert_eq!(
        good(&["-f", "CSVWithNames", "SELECT 1 AS x;"], ""),
        "\"x\"\n1\n"
    );
    assert!(good(&["SELECT 1 AS x", "-f", "PrettyCompact"], "").contains('┌'));
    let parquet = run(&["SELECT 1 AS x", "-f", "Parquet"], "").stdout;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    assert_eq!(
        good(
            &["SELECT {a:UInt8}, {s:String}", "-p", "a=5", "-p", "s=x=y"],
            ""
        ),
        "5\tx=y\n"
    );
    assert_eq!(
        good(
            &["SELECT getSetting('max_threads')", "-s", "max_threads=3"],
            ""
        ),
        "3\n"
    );
    assert_eq!(good(&["SELECT * FROM one", "-d", "system"], ""), "0\n");
}

#[test]
fn scripts_and_rows_on_standard_input() {
    let script = "CREATE TABLE sql_rows (n UInt32, s String) ENGINE = MergeTree ORDER BY n; -- one; two\n\
                  INSERT INTO sql_rows VALUES (1, 'a;b'), (2, '\n\n'); SELECT count() FROM sql_rows;\n";
    assert_eq!(good(&[], script), "2\n");
    assert_eq!(
        good(&["INSERT INTO sql_rows FORMAT CSV"], "3,\"x\n\ny\"\n4,;\n"),
        ""
    );
    assert_eq!(
        good(
            &[],
            "SELECT max(n) FROM sql_rows; INSERT INTO sql_rows FORMAT TSV\n5\tx;y\n"
        ),
        "4\n"
    );
    assert_eq!(
        good(
            &[
                "SELECT n, s FROM sql_rows WHERE n > 2 ORDER BY n",
                "-f",
                "JSONCompactEachRow"
            ],
            ""
        ),
        "[3, \"x\\n\\ny\"]\n[4, \";\"]\n[5, \"x;y\"]\n"
    );
    // A script stops at its first error.
    let (code, out, error) = text(&run(&[], "SELECT 1; SELECT * FROM sql_missing; SELECT 2"));
    assert_eq!((code, out.as_str()), (1, "1\n"));
    assert!(
        error.contains("Code: 60.") && error.contains("UNKNOWN_TABLE"),
        "{error}"
    );
}

#[test]
fn errors_are_told_and_never_look_like_data() {
    let (code, out, error) = text(&run(
        &["SELECT number + throwIf(number = 900000, 'in the middle') FROM numbers(1000000)"],
        "",
    ));
    assert_eq!(code, 1);
    assert!(
        error.contains("in the middle") && !out.contains("exception"),
        "{error}"
    );
    assert!(out.lines().all(|line| line.parse::<u64>().is_ok()));
    for (arguments, code, words) in [
        (vec!["SELECT 1", "--user", "nobody"], 1, "516"),
        (
            vec!["SELECT 1", "--url", "http://127.0.0.1:9"],
            1,
            "nothing answers at http://127.0.0.1:9",
        ),
        (vec!["SELECT 1", "--url", "https://x"], 1, "speaks no TLS"),
        (vec!["SELECT 1", "-p", "novalue"], 2, "is not NAME=VALUE"),
        (vec!["--no-such-option"], 2, "unexpected argument"),
    ] {
        let (got, _, error) = text(&run(&arguments, ""));
        assert!(
            got == code && error.contains(words),
            "{arguments:?}: {got} {error}"
        );
    }
    let help = good(&["--help"], "");
    for words in [
        "HELIOGRAPH_SQL_URL",
        "--format",
        "Ctrl-C",
        "INSERT INTO labels",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
    assert!(!help.contains(PASSWORD));
}

/// Ctrl-C ends the program and the statement in the engine.
#[test]
fn interruption_ends_the_statement() {
    let mut child = program()
        .arg("SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number), 'sql interrupted')")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let boss = door().url_of("boss");
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%sql interrupted%' AND query NOT LIKE '%system.processes%'";
    let until = |expected: &str| {
        let started = Instant::now();
        while runtime.block_on(ask(&boss, running)) != expected {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "not {expected}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until("1");
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    until("0");
}

/// The prompt on a terminal: several lines, settings that last, an error that does not end it, history.
#[test]
fn the_prompt_reads_until_a_semicolon() {
    let home = tempfile::tempdir().unwrap();
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is not installed");
        eprintln!("SKIPPED: python3, which gives the prompt a terminal, is not installed");
        return;
    }
    let terminal =
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut child = Command::new("python3")
        .args(["-c", terminal, env!("CARGO_BIN_EXE_heliograph-sql")])
        .env("HELIOGRAPH_SQL_URL", door().url())
        .env("HELIOGRAPH_SQL_USER", "boss")
        .env("HELIOGRAPH_SQL_PASSWORD", PASSWORD)
        .env("XDG_STATE_HOME", home.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let shown = Arc::<Mutex<String>>::default();
    let reader = std::thread::spawn({
        let shown = shown.clone();
        move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = output.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                shown
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    });
    let mut seen = 0;
    // As a person does: reads what came, and types when asked.
    let mut wait_for = |words: &str| {
        let started = Instant::now();
        loop {
            let text = shown.lock().unwrap().clone();
            if let Some(at) = text[seen..].find(words) {
                seen += at + words.len();
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{words:?} is not in: {}",
                &text[seen..]
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("ClickHouse 26.");
    for (lines, words) in [
        ("SELECT 40\n+ 2 AS answer;\n", "│     42 │"),
        ("SELEC 1;\n", "Code: 62."),
        ("SET max_threads = 3;\n", " s"),
        ("\\f TabSeparated\n", "\r\n"),
        (
            "SELECT 'threads', getSetting('max_threads');\n",
            "threads\t3",
        ),
        ("\\?\n", "A statement ends with a semicolon"),
        ("\\q\n", "\r\n"),
    ] {
        wait_for("heliograph> ");
        input.write_all(lines.as_bytes()).unwrap();
        wait_for(words);
    }
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
    let history = std::fs::read_to_string(home.path().join("heliograph/sql_history")).unwrap();
    assert!(
        history.contains("SELECT 40") && history.contains("+ 2 AS answer;"),
        "{history}"
    );
}
