//! The door as its clients meet it: a real process, a real engine, real HTTP.

mod door_process;
mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::OnceLock,
    time::{Duration, Instant},
};

use door_process::Door;
use proptest::prelude::*;
use support::{ask, post};

/// One door for all tests of this binary; tests use tables of their own.
fn url() -> String {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(Door::start).url()
}

fn client() -> clickhouse::Client {
    clickhouse::Client::default()
        .with_url(url())
        .with_database("heliograph")
}

#[tokio::test]
async fn answers_health_checks_and_select_1() {
    let url = url();
    for path in ["/ping", "/", "/replicas_status"] {
        assert_eq!(
            reqwest::get(format!("{url}{path}"))
                .await
                .unwrap()
                .text()
                .await
                .unwrap(),
            "Ok.\n"
        );
    }
    assert_eq!(
        reqwest::get(format!("{url}/?query=SELECT%201"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "1\n"
    );
    assert_eq!(ask(&url, "SELECT currentDatabase()").await, "heliograph");
    assert_eq!(
        reqwest::get(format!("{url}/nothing"))
            .await
            .unwrap()
            .status(),
        404
    );
}

/// Every pair of bytes, blank lines among them, in each way rows can be sent.
#[tokio::test]
async fn no_byte_pair_loses_a_row() {
    let url = url();
    ask(
        &url,
        "CREATE TABLE pairs (a FixedString(2)) ENGINE = MergeTree ORDER BY a",
    )
    .await;
    let rows: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_be_bytes).collect();
    let in_url = format!("{url}/?query=INSERT%20INTO%20pairs%20FORMAT%20RowBinary");
    assert_eq!(post(&in_url, rows.clone()).await.0, 200);
    let in_body = [
        b"INSERT INTO pairs (a) FORMAT RowBinary\n".as_slice(),
        &rows,
    ]
    .concat();
    assert_eq!(post(&url, in_body).await.0, 200);
    let mut native = vec![1, 0x80, 0x80, 0x04, 1, b'a', 14];
    native.extend(b"FixedString(2)");
    native.extend(&rows);
    let in_body = [b"insert into pairs format Native\n".as_slice(), &native].concat();
    assert_eq!(post(&url, in_body).await.0, 200);
    assert_eq!(
        ask(
            &url,
            "SELECT count(), uniqExact(a), countIf(a = '\\n\\n') FROM pairs"
        )
        .await,
        "196608\t65536\t3"
    );
}

/// `input()`: rows that are changed or refused on their way, whatever bytes they have and wherever the statement stands.
#[tokio::test]
async fn rows_are_read_as_a_table() {
    let url = url();
    ask(
        &url,
        "CREATE TABLE changed (a UInt16, b String) ENGINE = MergeTree ORDER BY a",
    )
    .await;
    let rows: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_be_bytes).collect();
    let statement = "INSERT INTO changed (b, a) SELECT c, reinterpretAsUInt16(reverse(c)) FROM input('c FixedString(2)') \
                     WHERE (SELECT count() FROM changed) = {held:UInt64} FORMAT RowBinary";
    let within = [statement.as_bytes(), b"\n", &rows].concat();
    let beside = format!("{url}/?param_held=65536&query={}", percent(statement));
    for (to, body, count) in [
        (format!("{url}/?param_held=0"), within.clone(), "65536"),
        (format!("{url}/?param_held=0"), within, "65536"),
        (beside.clone(), rows.clone(), "131072"),
        (beside, rows, "131072"),
    ] {
        let (status, text) = post(&to, body).await;
        assert_eq!(status, 200, "{text}");
        assert_eq!(ask(&url, "SELECT count() FROM changed").await, count);
    }
    let exact =
        "SELECT countIf(b = reverse(reinterpretAsFixedString(a))), uniqExact(a) FROM changed";
    assert_eq!(ask(&url, exact).await, "131072\t65536");

    for (statement, told) in [
        (
            "INSERT INTO changed SELECT * FROM input() FORMAT CSV\n1,2\n",
            "input() wants the structure",
        ),
        (
            "INSERT INTO changed SELECT * FROM input('a UInt16, b String') FORMAT CSV\nx,y\n",
            "CANNOT_PARSE",
        ),
        (
            "INSERT INTO changed SELECT * FROM input('a UInt16, b Strong') FORMAT CSV\n1,y\n",
            "Strong",
        ),
    ] {
        let (status, text) = post(&url, statement.as_bytes().to_vec()).await;
        assert!(
            (400..600).contains(&status) && text.contains(told),
            "{text}"
        );
    }
    assert_eq!(ask(&url, "SELECT count() FROM changed").await, "131072");
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn random_rows_come_back_as_they_went() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = url();
    runtime.block_on(ask(&url, "CREATE TABLE random_rows (run UInt32, at UInt32, value String) ENGINE = MergeTree ORDER BY (run, at)"));
    let runs = std::sync::atomic::AtomicU32::new(0);
    // Bytes that end texts, lines or statements come often.
    let byte = prop_oneof![Just(b'\n'), Just(b';'), Just(b' '), Just(0), any::<u8>()];
    let rows = proptest::collection::vec(proptest::collection::vec(byte, 0..20), 1..20);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
    runner
        .run(&rows, |rows| {
            let run = runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut body = b"INSERT INTO random_rows FORMAT RowBinary\n".to_vec();
            for (at, value) in rows.iter().enumerate() {
                body.extend(run.to_le_bytes());
                body.extend((at as u32).to_le_bytes());
                body.push(value.len() as u8);
                body.extend(value);
            }
            let (status, text) = runtime.block_on(post(&url, body));
            prop_assert_eq!(status, 200, "{}", text);
            let back = runtime.block_on(ask(&url, &format!("SELECT arrayStringConcat(groupArray(hex(value)), ',') FROM (SELECT value FROM random_rows WHERE run = {run} ORDER BY at)")));
            let sent: Vec<String> = rows.iter().map(|value| value.iter().map(|byte| format!("{byte:02X}")).collect()).collect();
            prop_assert_eq!(back, sent.join(","));
            Ok(())
        })
        .unwrap();
}

#[derive(Debug, PartialEq, clickhouse::Row, serde::Serialize, serde::Deserialize)]
struct Sample {
    a: u64,
    b: String,
    c: Option<i32>,
    d: [u8; 4],
}

#[tokio::test]
async fn the_rust_client_works_unmodified() {
    let client = client();
    client.query("CREATE TABLE rust_client (a UInt64, b String, c Nullable(Int32), d FixedString(4)) ENGINE = MergeTree ORDER BY a").execute().await.unwrap();
    let row = |a: u64| Sample {
        a,
        b: format!("text\n\n{a}"),
        c: (a % 2 == 0).then_some(-1),
        d: *b"\n\n\n\n",
    };
    let mut insert = client.insert::<Sample>("rust_client").await.unwrap();
    for a in 0..50_000 {
        insert.write(&row(a)).await.unwrap();
    }
    insert.end().await.unwrap();
    let rows = client
        .query("SELECT a, b, c, d FROM rust_client WHERE a < ? ORDER BY a")
        .bind(30_000)
        .fetch_all::<Sample>()
        .await
        .unwrap();
    assert_eq!(rows.len(), 30_000);
    assert_eq!(rows[2570], row(2570));
    let count: u64 = client
        .query("SELECT count() FROM rust_client WHERE a >= {from:UInt64}")
        .param("from", 49_990)
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(count, 10);
    let none = client
        .query("SELECT a, b, c, d FROM rust_client WHERE a > 1000000")
        .fetch_all::<Sample>()
        .await
        .unwrap();
    assert!(none.is_empty());
    let error = client
        .query("SELECT a FROM missing")
        .fetch_all::<u64>()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Code: 60"), "{error}");
    // An error after rows were sent is an error, never a shorter result.
    let error = client
        .query("SELECT number + throwIf(number = 900000, 'in the middle') FROM numbers(1000000)")
        .fetch_all::<u64>()
        .await
        .unwrap_err();
    // The client reads the text only where it comes in one piece; that there is an error, always.
    let text = error.to_string();
    assert!(
        text.contains("in the middle") || text.contains("exception tag"),
        "{error}"
    );
}

#[tokio::test]
async fn wrong_requests_get_clear_errors() {
    let url = url();
    for (sql, status, words) in [
        ("SELEC 1", 400, "Code: 62."),
        (
            "SELECT 1; SELECT 2",
            400,
            "Multi-statements are not allowed",
        ),
        ("SELECT * FROM missing", 404, "Code: 60."),
        ("", 400, "Empty query"),
        ("SELECT * FROM file('/etc/passwd')", 403, "Code: 497."),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 500, "Code: 197."),
        (
            "INSERT INTO missing FORMAT RowBinary\nabc",
            404,
            "Code: 60.",
        ),
    ] {
        let (got, text) = post(&url, sql).await;
        assert_eq!(got, status, "{sql}: {text}");
        assert!(
            text.contains(words) && text.contains("(version 26."),
            "{sql}: {text}"
        );
    }
    let (status, text) = post(&format!("{url}/?not_a_setting=1"), "SELECT 1").await;
    assert_eq!((status, text.contains("Code: 115.")), (404, true), "{text}");
    let changed = reqwest::get(format!(
        "{url}/?query=CREATE%20TABLE%20g%20(a%20Int8)%20ENGINE%3DMemory"
    ))
    .await
    .unwrap();
    assert_eq!(changed.headers()["x-clickhouse-exception-code"], "164");
}

#[tokio::test]
async fn readers_only_read() {
    let reader = format!("{}/?user=analyst&password=secret", url());
    assert_eq!(
        ask(&reader, "SELECT sum(number) FROM numbers(10)").await,
        "45"
    );
    assert_eq!(
        ask(
            &format!("{reader}&output_format_json_quote_64bit_integers=1"),
            "SELECT toUInt64(1) AS x FORMAT JSONEachRow"
        )
        .await,
        "{\"x\":\"1\"}"
    );
    for (url, sql) in [
        (reader.clone(), "CREATE TABLE r (a Int8) ENGINE = Memory"),
        (reader.clone(), "INSERT INTO r VALUES (1)"),
        (reader.clone(), "SET readonly = 0"),
        (reader.clone(), "SELECT 1 SETTINGS readonly = 0"),
        (reader.clone(), "KILL QUERY WHERE 1"),
        (format!("{reader}&max_execution_time=0"), "SELECT 1"),
        (
            format!("{}/?user=analyst&password=wrong", self::url()),
            "SELECT 1",
        ),
    ] {
        let (status, text) = post(&url, sql).await;
        assert!(status >= 400, "{sql}: {text}");
    }
    let (status, text) = post(
        &reader,
        "SELECT count() FROM numbers(100000000000) WHERE NOT ignore(sipHash64(number))",
    )
    .await;
    assert_eq!((status, text.contains("Code: 159.")), (408, true), "{text}");
}

#[tokio::test]
async fn sessions_hold_and_lock() {
    let session = format!("{}/?session_id=mine", url());
    ask(&session, "CREATE TEMPORARY TABLE temporary (a UInt8)").await;
    ask(&session, "INSERT INTO temporary VALUES (7)").await;
    assert_eq!(ask(&session, "SELECT a FROM temporary").await, "7");
    assert_eq!(post(&url(), "SELECT a FROM temporary").await.0, 404);
    assert_eq!(
        post(
            &format!("{}/?session_id=none&session_check=1", url()),
            "SELECT 1"
        )
        .await
        .0,
        404
    );
    let slow = tokio::spawn({
        let session = session.clone();
        async move { ask(&session, "SELECT sleep(1)").await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let (_, text) = post(&session, "SELECT 1").await;
    assert!(text.contains("Code: 373."), "{text}");
    slow.await.unwrap();
}

#[tokio::test]
async fn settings_of_one_request_stay_in_it() {
    let url = url();
    assert_eq!(
        ask(
            &format!("{url}/?max_threads=3"),
            "SELECT getSetting('max_threads')"
        )
        .await,
        "3"
    );
    for _ in 0..5 {
        assert_ne!(ask(&url, "SELECT getSetting('max_threads')").await, "3");
    }
}

/// An insert whose client breaks off leaves nothing behind.
#[tokio::test]
async fn half_an_insert_is_no_insert() {
    let url = url();
    ask(
        &url,
        "CREATE TABLE halves (a UInt64) ENGINE = MergeTree ORDER BY a",
    )
    .await;
    let address = url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "POST /?query=INSERT%20INTO%20halves%20FORMAT%20RowBinary HTTP/1.1\r\nHost: x\r\nContent-Length: 1600\r\n\r\n").unwrap();
    stream.write_all(&[0; 800]).unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ask(&url, "SELECT count() FROM halves").await, "0");
}

/// A statement nobody waits for is cancelled.
#[tokio::test]
async fn a_client_that_leaves_cancels_its_statement() {
    let url = url();
    let address = url.trim_start_matches("http://").to_owned();
    let sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number), 'left behind')";
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}",
        sql.len()
    )
    .unwrap();
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%left behind%' AND query NOT LIKE '%system.processes%'";
    let wait_for = async |count: &str| {
        let started = Instant::now();
        while ask(&url, running).await != count {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "still not {count}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    wait_for("1").await;
    stream
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let _ = stream.read(&mut [0; 10]);
    drop(stream);
    wait_for("0").await;
}

/// Clients that leave while their statement is still being read, judged or set up: it ends too.
#[tokio::test]
async fn a_client_that_leaves_at_once_leaves_nothing_running() {
    let url = url();
    let address = url.trim_start_matches("http://").to_owned();
    let sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number), 'left at once')";
    for number in 0..40_u64 {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}",
            sql.len()
        )
        .unwrap();
        // From before the first step of the statement to well after the last.
        tokio::time::sleep(Duration::from_micros(number * 250)).await;
        drop(stream);
    }
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%left at once%' AND query NOT LIKE '%system.processes%'";
    let started = Instant::now();
    // None now is not enough: one may be about to begin.
    let mut quiet = 0;
    while quiet < 10 {
        quiet = if ask(&url, running).await == "0" {
            quiet + 1
        } else {
            0
        };
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "some still run"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn acknowledged_rows_survive_a_kill() {
    let mut door = tokio::task::spawn_blocking(Door::start).await.unwrap();
    let url = door.url();
    ask(
        &url,
        "CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a",
    )
    .await;
    for round in 1..=3_u64 {
        for part in 0..5 {
            ask(
                &url,
                &format!("INSERT INTO kept VALUES ({})", round * 10 + part),
            )
            .await;
        }
        door.kill_and_restart();
        assert_eq!(
            ask(&url, "SELECT count(), uniqExact(a) FROM kept").await,
            format!("{0}\t{0}", round * 5)
        );
    }
    // A drain closes the engine and ends the process well.
    let status = tokio::task::spawn_blocking(move || door.child.stop(Duration::from_secs(20)))
        .await
        .unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}
