//! The door in front of a server: here that server is another door, which speaks the same interface.

mod door_process;
mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::OnceLock,
    time::Duration,
};

use clickhouse::Row;
use door_process::{Door, PASSWORD};
use serde::{Deserialize, Serialize};
use support::{ask, post, until};

struct Pair {
    server: Door,
    front: Door,
}

fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let server = Door::with("[query_log]\nenabled = false\n");
        let front = Door::with(&format!(
            "[[users]]\nname = \"counted\"\npassword = {PASSWORD:?}\nquota = \"two\"\n\
             [[quotas]]\nname = \"two\"\n[[quotas.windows]]\nseconds = 8640000\nqueries = 2\n\
             [upstream]\nurl = {:?}\nuser = \"boss\"\npassword = {PASSWORD:?}\n[limits.reader]\nseconds = 2\nrows_read = 0\n",
            server.url()
        ));
        Pair { server, front }
    })
}

async fn started() -> &'static Pair {
    tokio::task::spawn_blocking(pair).await.unwrap()
}

#[tokio::test]
async fn users_policy_quotas_and_log_stay_in_front() {
    let pair = started().await;
    let front = &pair.front;
    let (boss, reader, writer) = (
        front.url_of("boss"),
        front.url_of("analyst"),
        front.url_of("writer"),
    );
    ask(
        &writer,
        "CREATE TABLE proxied (n UInt64) ENGINE = MergeTree ORDER BY n",
    )
    .await;
    ask(
        &writer,
        "INSERT INTO proxied SELECT number FROM numbers(1000)",
    )
    .await;
    assert_eq!(
        ask(&pair.server.url_of("boss"), "SELECT count() FROM proxied").await,
        "1000"
    );
    assert_eq!(
        ask(
            &format!("{reader}&query_id=through"),
            "SELECT sum(n) FROM proxied"
        )
        .await,
        "499500"
    );
    for (url, sql, code) in [
        (
            format!("{}/?user=analyst&password=wrong", front.url()),
            "SELECT 1",
            516,
        ),
        (
            reader.clone(),
            "SELECT * FROM `\\x66ile`('/etc/passwd')",
            497,
        ),
        (
            writer.clone(),
            "SELECT * FROM url('http://127.0.0.1:9/')",
            497,
        ),
        (reader.clone(), "SELECT * FROM system.processes", 497),
        (reader.clone(), "INSERT INTO proxied VALUES (1)", 164),
        (reader.clone(), "SELECT 1 SETTINGS readonly = 0", 164),
        (format!("{reader}&max_execution_time=0"), "SELECT 1", 164),
        (
            reader.clone(),
            "SELECT count() FROM numbers(100000000000) WHERE NOT ignore(sipHash64(number))",
            159,
        ),
        (reader.clone(), "SELEC 1", 62),
        (reader.clone(), "SELECT * FROM missing", 60),
    ] {
        let (status, text) = post(&url, sql).await;
        assert!(
            status >= 400 && text.starts_with(&format!("Code: {code}.")),
            "{sql}: {status} {text}"
        );
    }
    let changed = reqwest::get(format!("{writer}&query=DROP%20TABLE%20proxied"))
        .await
        .unwrap();
    assert_eq!(changed.headers()["x-clickhouse-exception-code"], "164");
    let counted = front.url_of("counted");
    ask(&counted, "SELECT 1").await;
    ask(&counted, "SELECT 1").await;
    let (_, text) = post(&counted, "SELECT 1").await;
    assert!(text.starts_with("Code: 201."), "{text}");
    until(&boss, "SELECT user, result_bytes > 0, exception_code FROM heliograph_door.query_log WHERE query_id = 'through'", "analyst\t1\t0").await;
    until(&boss, "SELECT count() > 0 FROM heliograph_door.query_log WHERE user = 'counted' AND exception_code = 201", "1").await;
    // The log lies on the server, and everyone sees their own rows of it.
    until(
        &reader,
        "SELECT uniqExact(user), any(user) FROM query_log",
        "1\tanalyst",
    )
    .await;
}

#[derive(Debug, PartialEq, Row, Serialize, Deserialize)]
struct Sample {
    n: u64,
    text: String,
}

/// Clients notice no difference: typed and compressed both ways, streams, sessions, errors in the middle.
#[tokio::test]
async fn a_client_notices_no_difference() {
    let pair = started().await;
    let client = clickhouse::Client::default()
        .with_url(pair.front.url())
        .with_user("boss")
        .with_password(PASSWORD);
    client
        .query("CREATE TABLE through (n UInt64, text String) ENGINE = MergeTree ORDER BY n")
        .execute()
        .await
        .unwrap();
    let row = |n: u64| Sample {
        n,
        text: format!("\n\n{n}"),
    };
    let mut insert = client.insert::<Sample>("through").await.unwrap();
    for n in 0..50_000 {
        insert.write(&row(n)).await.unwrap();
    }
    insert.end().await.unwrap();
    let back = client
        .query("SELECT ?fields FROM through ORDER BY n")
        .fetch_all::<Sample>()
        .await
        .unwrap();
    assert_eq!(back.len(), 50_000);
    assert!(back.iter().zip(0..).all(|(got, n)| *got == row(n)));
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
    let session = client.clone().with_setting("session_id", "front");
    session
        .query("CREATE TEMPORARY TABLE front (n UInt64)")
        .execute()
        .await
        .unwrap();
    session
        .query("INSERT INTO front VALUES (7)")
        .execute()
        .await
        .unwrap();
    assert_eq!(
        session
            .query("SELECT n FROM front")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        7
    );
    // Every pair of bytes.
    let rows: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_be_bytes).collect();
    let url = pair.front.url_of("boss");
    ask(
        &url,
        "CREATE TABLE front_pairs (a FixedString(2)) ENGINE = MergeTree ORDER BY a",
    )
    .await;
    let body = [
        b"INSERT INTO front_pairs FORMAT RowBinary\n".as_slice(),
        &rows,
    ]
    .concat();
    assert_eq!(post(&url, body).await, (200, String::new()));
    let back = reqwest::Client::new()
        .post(&url)
        .body("SELECT a FROM front_pairs ORDER BY a FORMAT RowBinary")
        .send()
        .await
        .unwrap();
    assert!(back.bytes().await.unwrap() == rows);
}

#[tokio::test]
async fn half_an_insert_is_no_insert() {
    let pair = started().await;
    let boss = pair.front.url_of("boss");
    ask(
        &boss,
        "CREATE TABLE front_halves (a UInt64) ENGINE = MergeTree ORDER BY a",
    )
    .await;
    let mut stream = TcpStream::connect(("127.0.0.1", pair.front.port)).unwrap();
    write!(stream, "POST /?user=boss&password={PASSWORD}&query=INSERT%20INTO%20front_halves%20FORMAT%20RowBinary HTTP/1.1\r\nHost: x\r\nContent-Length: 1600\r\n\r\n").unwrap();
    stream.write_all(&[0; 800]).unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ask(&boss, "SELECT count() FROM front_halves").await, "0");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_statement_on_the_server() {
    let pair = started().await;
    let sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number), 'left front')";
    let mut stream = TcpStream::connect(("127.0.0.1", pair.front.port)).unwrap();
    write!(stream, "POST /?user=boss&password={PASSWORD}&query_id=front-left HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}", sql.len()).unwrap();
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%left front%' AND query NOT LIKE '%system.processes%'";
    let server = pair.server.url_of("boss");
    until(&server, running, "1").await;
    stream
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let _ = stream.read(&mut [0; 10]);
    drop(stream);
    until(&server, running, "0").await;
    until(
        &pair.front.url_of("boss"),
        "SELECT cancelled FROM heliograph_door.query_log WHERE query_id = 'front-left'",
        "true",
    )
    .await;
}

/// Without its server the door says so, and goes on when the server is back.
#[tokio::test]
async fn a_server_that_is_away_is_an_error_and_comes_back() {
    let mut server = tokio::task::spawn_blocking(|| Door::with("[query_log]\nenabled = false\n"))
        .await
        .unwrap();
    let url = server.url();
    let front = tokio::task::spawn_blocking(move || {
        Door::with(&format!(
            "[upstream]\nurl = {url:?}\nuser = \"boss\"\npassword = {PASSWORD:?}\n"
        ))
    })
    .await
    .unwrap();
    let boss = front.url_of("boss");
    assert_eq!(ask(&boss, "SELECT 1").await, "1");
    server.child.kill();
    let (status, text) = post(&boss, "SELECT 1").await;
    assert!(
        status >= 500 && text.contains("does not answer"),
        "{status} {text}"
    );
    let server = tokio::task::spawn_blocking(move || {
        server.kill_and_restart();
        server
    })
    .await
    .unwrap();
    assert_eq!(ask(&boss, "SELECT 1").await, "1");
    drop(server);
}
