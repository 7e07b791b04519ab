//! Quotas of keys, and the query log: who asked what, what it cost, and who may read that.

mod door_process;
mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::OnceLock,
    time::Duration,
};

use door_process::Door;
use sha2::{Digest, Sha256};
use support::{ask, post, until};

/// A window of a hundred days is one window for the whole test, unless it runs at its very edge.
const LONG: u64 = 8_640_000;

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(|| {
        let user = |name: &str, quota: &str| {
            format!("[[users]]\nname = {name:?}\npassword = \"secret\"\nquota = {quota:?}\n")
        };
        let quota = |name: &str, rest: &str| {
            format!("[[quotas]]\nname = {name:?}\n{rest}\n[[quotas.windows]]\nseconds = {LONG}\n")
        };
        let key = |name: &str, key: &str| {
            let sha256 = hex::encode(Sha256::digest(key.as_bytes()));
            format!("[[users.keys]]\nname = {name:?}\nsha256 = {sha256:?}\n")
        };
        Door::with(
            &[
                user("counted", "three"),
                key("laptop", "k1"),
                user("rows", "rows"),
                user("bytes", "bytes"),
                user("time", "time"),
                user("errors", "errors"),
                user("returned", "returned"),
                user("places", "places"),
                quota("three", ""),
                "queries = 3\n".into(),
                quota("rows", ""),
                "rows_read = 1000000\n".into(),
                quota("bytes", ""),
                "bytes_read = 8000000\n".into(),
                quota("time", ""),
                "execution_seconds = 1\n".into(),
                quota("errors", ""),
                "errors = 2\n".into(),
                quota("returned", ""),
                "rows_returned = 10\n".into(),
                quota("places", "concurrent_queries = 2"),
            ]
            .concat(),
        )
    })
}

async fn started() -> &'static Door {
    tokio::task::spawn_blocking(door).await.unwrap()
}

#[tokio::test]
async fn every_resource_has_its_end() {
    let door = started().await;
    let boss = door.url_of("boss");
    ask(
        &boss,
        "CREATE TABLE quota_numbers (n UInt64) ENGINE = MergeTree ORDER BY n",
    )
    .await;
    ask(
        &boss,
        "INSERT INTO quota_numbers SELECT number FROM numbers(700000)",
    )
    .await;
    // The sum reads 700,000 rows of 8 bytes.
    let read = "SELECT sum(n) FROM quota_numbers";
    let slow = "SELECT sleep(0.7)";
    for (user, statement, good, resource) in [
        ("counted", "SELECT 1", 3, "queries = 3/3"),
        (
            "rows",
            read,
            1,
            "read_rows = 700000 and more than 300000 by this query/1000000",
        ),
        (
            "bytes",
            read,
            1,
            "read_bytes = 5600000 and more than 2400000 by this query/8000000",
        ),
        ("time", slow, 2, "execution_time_ms = "),
        ("errors", "SELECT * FROM missing", 0, "errors = 2/2"),
        (
            "returned",
            "SELECT number FROM numbers(6)",
            2,
            "result_rows = 12/10",
        ),
    ] {
        let url = door.url_of(user);
        let mut went_well = 0;
        let refusal = loop {
            let (status, text) = post(&url, statement).await;
            if status == 200 {
                went_well += 1;
                assert!(went_well <= good, "{user}: {went_well} went well");
            } else if text.starts_with("Code: 60.") {
                assert_eq!(user, "errors");
            } else {
                break text;
            }
        };
        assert_eq!(went_well, good, "{user}: {refusal}");
        assert!(
            refusal.starts_with("Code: 201. DB::Exception: Quota for user `"),
            "{user}: {refusal}"
        );
        assert!(
            refusal.contains(resource) && refusal.contains("(QUOTA_EXCEEDED)"),
            "{user}: {refusal}"
        );
    }
    // Another key of the same user is counted for itself.
    let other_key = format!("{}/?user=counted&password=k1", door.url());
    assert_eq!(ask(&other_key, "SELECT 1").await, "1");
}

#[tokio::test]
async fn places_are_limited_and_come_back() {
    let door = started().await;
    let url = door.url_of("places");
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { ask(&url, "SELECT sleep(1)").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let (status, text) = post(&url, "SELECT 1").await;
    assert!(status == 503 && text.starts_with("Code: 202."), "{text}");
    assert!(text.contains("TOO_MANY_SIMULTANEOUS_QUERIES"), "{text}");
    for one in slow {
        one.await.unwrap();
    }
    assert_eq!(ask(&url, "SELECT 1").await, "1");
}

#[tokio::test]
async fn every_statement_leaves_a_row_for_its_user_and_the_admin() {
    let door = started().await;
    let (boss, analyst, writer) = (
        door.url_of("boss"),
        door.url_of("analyst"),
        door.url_of("writer"),
    );
    ask(
        &writer,
        "CREATE TABLE logged (n UInt64) ENGINE = MergeTree ORDER BY n",
    )
    .await;
    ask(
        &writer,
        "INSERT INTO logged SELECT number FROM numbers(1000)",
    )
    .await;
    assert_eq!(
        post(
            &format!("{writer}&query_id=streamed&query=INSERT%20INTO%20logged%20FORMAT%20TSV"),
            "1\n2\n"
        )
        .await
        .0,
        200
    );
    for number in [1, 2] {
        ask(
            &format!("{analyst}&query_id=log-{number}"),
            &format!("SELECT sum(n) /* mine */ FROM logged WHERE n != {number}"),
        )
        .await;
    }
    post(
        &format!("{analyst}&query_id=refused"),
        "SELECT * FROM file('secret-path')",
    )
    .await;
    post(&format!("{analyst}&query_id=broken"), "SELEC 1").await;
    post(
        &format!(
            "{}/?user=analyst&password=wrong&query_id=stranger",
            door.url()
        ),
        "SELECT 1",
    )
    .await;
    let all = "heliograph_door.query_log";
    until(
        &boss,
        &format!("SELECT query_id, user, role, statement, read_rows, result_rows, exception_code, cancelled FROM {all} WHERE query_id LIKE 'log-%' ORDER BY query_id"),
        "log-1\tanalyst\treader\tSELECT sum(n) FROM logged WHERE n != 1\t1002\t1\t0\tfalse\nlog-2\tanalyst\treader\tSELECT sum(n) FROM logged WHERE n != 2\t1002\t1\t0\tfalse",
    )
    .await;
    until(
        &boss,
        &format!("SELECT uniqExact(statement_hash) FROM {all} WHERE query_id LIKE 'log-%'"),
        "1",
    )
    .await;
    until(&boss, &format!("SELECT user, role, exception_code FROM {all} WHERE query_id IN ('refused', 'broken', 'stranger') ORDER BY exception_code"),
        "analyst\treader\t62\nanalyst\treader\t497\nanalyst\t\t516").await;
    until(
        &boss,
        &format!(
            "SELECT user, written_rows, written_bytes > 0 FROM {all} WHERE query_id = 'streamed'"
        ),
        "writer\t2\t1",
    )
    .await;
    // Everyone's own rows, and nobody else's.
    until(
        &analyst,
        "SELECT uniqExact(user), any(user) FROM query_log",
        "1\tanalyst",
    )
    .await;
    until(
        &writer,
        "SELECT uniqExact(user), any(user) FROM heliograph.query_log",
        "1\twriter",
    )
    .await;
    for (url, sql) in [
        (analyst.clone(), "SELECT * FROM heliograph_door.query_log"),
        (writer.clone(), "SELECT * FROM heliograph_door.query_log"),
        (writer.clone(), "DROP TABLE heliograph_door.query_log"),
        (
            format!("{writer}&database=heliograph_door"),
            "SELECT * FROM query_log",
        ),
        (
            format!("{writer}&param_d=heliograph_door"),
            "SELECT * FROM {d:Identifier}.query_log",
        ),
        (
            analyst.clone(),
            "SELECT * FROM merge('heliograph_door', 'query_log')",
        ),
        (
            analyst.clone(),
            "SELECT * FROM query_log SETTINGS log_comment = 'x/writer'",
        ),
        (
            writer.clone(),
            "SELECT * FROM query_log SETTINGS log_comment = 'x/analyst'",
        ),
        (
            writer.clone(),
            "SELECT * FROM merge('heliograph_door', 'query_log')",
        ),
        (
            writer.clone(),
            "SELECT * FROM merge(REGEXP('heliograph_d.*'), 'query_log')",
        ),
        (
            writer.clone(),
            "CREATE TABLE theirs AS query_log ENGINE = Merge('heliograph_door', '.*')",
        ),
        (
            format!("{analyst}&log_comment=door/writer"),
            "SELECT * FROM query_log",
        ),
    ] {
        let (status, text) = post(&url, sql).await;
        assert!(status >= 400, "{sql}: {text}");
    }
    assert_eq!(
        ask(
            &format!("{writer}&log_comment=door/analyst"),
            "SELECT countIf(user != 'writer') FROM query_log"
        )
        .await,
        "0"
    );
}

/// A client that leaves: the engine stops, the place comes back, and the log says so.
#[tokio::test]
async fn a_cancelled_statement_is_logged_as_one() {
    let door = started().await;
    let sql =
        "SELECT count() FROM numbers(9000000000) WHERE NOT ignore(sipHash64(number), 'log left')";
    let mut stream = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    write!(stream, "POST /?user=places&password=secret&query_id=left HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}", sql.len()).unwrap();
    let boss = door.url_of("boss");
    until(&boss, "SELECT count() FROM system.processes WHERE query LIKE '%log left%' AND query NOT LIKE '%system.processes%'", "1").await;
    stream
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let _ = stream.read(&mut [0; 10]);
    drop(stream);
    until(&boss, "SELECT count() FROM system.processes WHERE query LIKE '%log left%' AND query NOT LIKE '%system.processes%'", "0").await;
    until(
        &boss,
        "SELECT cancelled, duration_ms > 0 FROM heliograph_door.query_log WHERE query_id = 'left'",
        "true\t1",
    )
    .await;
}

/// A statement that an admin ends tells its client so.
#[tokio::test]
async fn an_admin_can_end_a_statement() {
    let door = started().await;
    let boss = door.url_of("boss");
    let victim = tokio::spawn({
        let url = door.url_of("writer");
        async move {
            post(&url, "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number), 'to be ended')").await
        }
    });
    until(&boss, "SELECT count() FROM system.processes WHERE query LIKE '%to be ended%' AND query NOT LIKE '%system.processes%'", "1").await;
    ask(
        &boss,
        "KILL QUERY WHERE query LIKE '%to be ended%' AND query NOT LIKE '%KILL%' ASYNC",
    )
    .await;
    let (_, text) = victim.await.unwrap();
    assert!(text.starts_with("Code: 394."), "{text}");
}

/// A large result goes through in pieces: the door never holds it.
#[tokio::test]
async fn a_large_result_needs_little_memory() {
    let door = tokio::task::spawn_blocking(Door::start).await.unwrap();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", door.child.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    ask(
        &door.url_of("boss"),
        "SELECT sum(number) FROM numbers(10000000)",
    )
    .await;
    let before = resident();
    let mut response = reqwest::Client::new()
        .post(door.url_of("boss"))
        .body("SELECT repeat('x', 1000) FROM numbers(2000000) FORMAT TSV")
        .send()
        .await
        .unwrap();
    let (mut bytes, mut most) = (0_u64, 0);
    while let Some(piece) = response.chunk().await.unwrap() {
        if bytes / (64 << 20) != (bytes + piece.len() as u64) / (64 << 20) {
            most = most.max(resident());
        }
        bytes += piece.len() as u64;
    }
    assert_eq!(bytes, 2_000_000 * 1_001);
    let grown = most.saturating_sub(before) / 1024;
    println!("2 GB passed, resident memory grew by {grown} MiB at most");
    // Some of the engine's blocks of 65 MB, and nothing that grows with the result.
    assert!(grown < 500, "{grown} MiB");
}
