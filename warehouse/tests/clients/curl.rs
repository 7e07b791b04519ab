//! The lines `curl-…`.

use std::{io::Write, process::Command};

use super::{Results, door_process::PASSWORD};

/// Standard output of a successful `curl -sS …`; `input` goes to its standard input.
fn curl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(input).unwrap();
    let output = Command::new("curl")
        .arg("-sS")
        .args(arguments)
        .stdin(file.reopen().unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn text(arguments: &[&str], input: &[u8]) -> String {
    String::from_utf8_lossy(&curl(arguments, input)).into_owned()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

/// All lines; a check that panics has failed.
pub fn results(url: &str) -> Results {
    let insert = |table: &str, format: &str| {
        format!("{url}/?query=INSERT%20INTO%20{table}%20FORMAT%20{format}")
    };
    let create = |table: &str, columns: &str| {
        let sql = format!("CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY tuple()");
        assert_eq!(text(&[url, "--data-binary", &sql], b""), "");
    };
    let count = |table: &str| text(&[url, "-d", &format!("SELECT count() FROM {table}")], b"");
    let pairs: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_be_bytes).collect();
    type Check<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let checks: Vec<Check<'_>> = vec![
        (
            "curl-ping",
            Box::new(|| {
                for path in ["/", "/ping", "/replicas_status"] {
                    assert_eq!(text(&[&format!("{url}{path}")], b""), "Ok.\n");
                }
            }),
        ),
        (
            "curl-head",
            Box::new(|| {
                assert!(text(&["-I", &format!("{url}/ping")], b"").starts_with("HTTP/1.1 200"));
            }),
        ),
        (
            "curl-get",
            Box::new(|| {
                assert_eq!(
                    text(&["-G", url, "--data-urlencode", "query=SELECT 1, 'a'"], b""),
                    "1\ta\n"
                );
            }),
        ),
        (
            "curl-get-changes-nothing",
            Box::new(|| {
                let answer = text(
                    &[
                        "-G",
                        url,
                        "--data-urlencode",
                        "query=CREATE TABLE curl_get (a Int8) ENGINE = Memory",
                    ],
                    b"",
                );
                assert!(answer.contains("Code: 164."), "{answer}");
            }),
        ),
        (
            "curl-post",
            Box::new(|| {
                assert_eq!(
                    text(
                        &[url, "--data-binary", "@-"],
                        b"SELECT 'a\n\nb' FORMAT JSONEachRow"
                    ),
                    "{\"'a\\\\n\\\\nb'\":\"a\\n\\nb\"}\n"
                );
            }),
        ),
        (
            "curl-insert-url-and-body",
            Box::new(|| {
                create("curl_url", "a UInt8, b String");
                assert_eq!(
                    text(
                        &[&insert("curl_url", "CSV"), "--data-binary", "@-"],
                        b"1,\"x\n\ny\"\n2,z\n"
                    ),
                    ""
                );
                assert_eq!(count("curl_url"), "2\n");
            }),
        ),
        (
            "curl-insert-body",
            Box::new(|| {
                create("curl_body", "a UInt8, b String");
                assert_eq!(
                    text(
                        &[url, "--data-binary", "@-"],
                        b"INSERT INTO curl_body VALUES (1, 'x\n\ny'), (2, ';')"
                    ),
                    ""
                );
                assert_eq!(count("curl_body"), "2\n");
            }),
        ),
        (
            "curl-byte-pairs",
            Box::new(|| {
                create("curl_pairs", "a FixedString(2)");
                assert_eq!(
                    text(
                        &[&insert("curl_pairs", "RowBinary"), "--data-binary", "@-"],
                        &pairs
                    ),
                    ""
                );
                let body = [
                    b"INSERT INTO curl_pairs FORMAT RowBinary\n".as_slice(),
                    &pairs,
                ]
                .concat();
                assert_eq!(text(&[url, "--data-binary", "@-"], &body), "");
                let native = [
                    &[1, 0x80, 0x80, 0x04, 1, b'a', 14][..],
                    b"FixedString(2)",
                    &pairs,
                ]
                .concat();
                assert_eq!(
                    text(
                        &[&insert("curl_pairs", "Native"), "--data-binary", "@-"],
                        &native
                    ),
                    ""
                );
                let back = curl(
                    &[
                        url,
                        "-d",
                        "SELECT a FROM curl_pairs GROUP BY a HAVING count() = 3 ORDER BY a FORMAT RowBinary",
                    ],
                    b"",
                );
                assert!(back == pairs, "{} bytes came back", back.len());
            }),
        ),
        (
            "curl-gzip-answer",
            Box::new(|| {
                let query = format!(
                    "{url}/?enable_http_compression=1&query=SELECT%20number%20FROM%20numbers(100000)"
                );
                let raw = curl(&["-H", "Accept-Encoding: gzip", &query], b"");
                assert_eq!(
                    gunzip(&raw).iter().filter(|byte| **byte == b'\n').count(),
                    100_000
                );
                assert_eq!(
                    text(
                        &[
                            "--compressed",
                            &format!("{url}/?enable_http_compression=1&query=SELECT%201")
                        ],
                        b""
                    ),
                    "1\n"
                );
            }),
        ),
        (
            "curl-gzip-request",
            Box::new(|| {
                create("curl_gzip", "a UInt32");
                let rows: String = (0..50_000).map(|row| format!("{row}\n")).collect();
                assert_eq!(
                    text(
                        &[
                            "-H",
                            "Content-Encoding: gzip",
                            &insert("curl_gzip", "TSV"),
                            "--data-binary",
                            "@-"
                        ],
                        &gzip(rows.as_bytes())
                    ),
                    ""
                );
                assert_eq!(count("curl_gzip"), "50000\n");
            }),
        ),
        (
            "curl-zstd-request",
            Box::new(|| {
                create("curl_zstd", "a UInt32");
                let rows = zstd::encode_all(b"1\n2\n3\n".as_slice(), 1).unwrap();
                assert_eq!(
                    text(
                        &[
                            "-H",
                            "Content-Encoding: zstd",
                            &insert("curl_zstd", "TSV"),
                            "--data-binary",
                            "@-"
                        ],
                        &rows
                    ),
                    ""
                );
                assert_eq!(count("curl_zstd"), "3\n");
            }),
        ),
        (
            "curl-chunked",
            Box::new(|| {
                create("curl_chunked", "a UInt32");
                assert_eq!(
                    text(
                        &[
                            "-H",
                            "Transfer-Encoding: chunked",
                            &insert("curl_chunked", "TSV"),
                            "--data-binary",
                            "@-"
                        ],
                        b"1\n2\n"
                    ),
                    ""
                );
                assert_eq!(count("curl_chunked"), "2\n");
            }),
        ),
        (
            "curl-auth",
            Box::new(|| {
                let basic = format!("analyst:{PASSWORD}");
                assert_eq!(text(&["-u", &basic, url, "-d", "SELECT 1"], b""), "1\n");
                assert_eq!(
                    text(
                        &[
                            "-H",
                            "X-ClickHouse-User: analyst",
                            "-H",
                            &format!("X-ClickHouse-Key: {PASSWORD}"),
                            url,
                            "-d",
                            "SELECT 1"
                        ],
                        b""
                    ),
                    "1\n"
                );
                assert_eq!(
                    text(
                        &[
                            &format!("{url}/?user=analyst&password={PASSWORD}"),
                            "-d",
                            "SELECT 1"
                        ],
                        b""
                    ),
                    "1\n"
                );
                let refused = text(&["-u", "analyst:wrong", url, "-d", "SELECT 1"], b"");
                assert!(
                    refused.contains("Code: 516.") && refused.contains("AUTHENTICATION_FAILED"),
                    "{refused}"
                );
            }),
        ),
        (
            "curl-errors",
            Box::new(|| {
                let answer = text(&["-i", url, "-d", "SELECT * FROM curl_missing"], b"")
                    .to_ascii_lowercase();
                assert!(
                    answer.starts_with("http/1.1 404")
                        && answer.contains("x-clickhouse-exception-code: 60"),
                    "{answer}"
                );
                assert!(
                    answer.contains("code: 60. db::exception:")
                        && answer.contains("(unknown_table) (version 26."),
                    "{answer}"
                );
            }),
        ),
        (
            "curl-stream-error",
            Box::new(|| {
                let output = Command::new("curl")
                .args(["-sS", "-i", url, "-d", "SELECT number + throwIf(number = 900000, 'in the middle') FROM numbers(1000000)"])
                .output()
                .unwrap();
                // The connection ends before the body does: curl says so by its exit code.
                assert!(!output.status.success());
                let answer = String::from_utf8_lossy(&output.stdout).into_owned();
                let tag = answer
                    .lines()
                    .find_map(|line| {
                        line.to_ascii_lowercase()
                            .strip_prefix("x-clickhouse-exception-tag: ")
                            .map(str::to_owned)
                    })
                    .unwrap();
                let tail = answer
                    .split_once(&format!("\r\n__exception__\r\n{tag}\r\n"))
                    .unwrap()
                    .1;
                let (message, end) = tail
                    .rsplit_once(&format!("\n{}", tail.lines().nth(1).unwrap()))
                    .unwrap();
                assert!(
                    message.contains("in the middle") && end.ends_with("__exception__\r\n"),
                    "{tail}"
                );
                let length: usize = tail
                    .lines()
                    .nth(1)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(length, message.len() + 1, "{tail}");
            }),
        ),
        (
            "curl-headers",
            Box::new(|| {
                let answer = text(
                    &[
                        "-i",
                        &format!("{url}/?query_id=curl-id"),
                        "-d",
                        "SELECT 1 FORMAT JSON",
                    ],
                    b"",
                )
                .to_ascii_lowercase();
                for header in [
                    "content-type: application/json",
                    "x-clickhouse-query-id: curl-id",
                    "x-clickhouse-format: json",
                    "x-clickhouse-timezone:",
                    "x-clickhouse-summary: {\"read_rows\":\"",
                    "x-clickhouse-server-display-name:",
                ] {
                    assert!(answer.contains(header), "{header}: {answer}");
                }
            }),
        ),
        (
            "curl-params",
            Box::new(|| {
                let query = format!("{url}/?param_a=5&param_s=it%27s%5Ct%5Cn");
                assert_eq!(
                    text(&[&query, "-d", "SELECT {a:UInt8} + 1, {s:String}"], b""),
                    "6\tit\\'s\\t\\n\n"
                );
                let form = [url, "-F", "query=SELECT {a:UInt8}", "-F", "param_a=7"];
                assert_eq!(text(&form, b""), "7\n");
            }),
        ),
        (
            "curl-settings",
            Box::new(|| {
                assert_eq!(
                    text(
                        &[
                            &format!("{url}/?max_threads=3&default_format=CSV"),
                            "-d",
                            "SELECT getSetting('max_threads'), 'a'"
                        ],
                        b""
                    ),
                    "3,\"a\"\n"
                );
                assert!(
                    text(
                        &[&format!("{url}/?no_such_setting=1"), "-d", "SELECT 1"],
                        b""
                    )
                    .contains("Code: 115.")
                );
            }),
        ),
        (
            "curl-database",
            Box::new(|| {
                assert_eq!(
                    text(
                        &[
                            &format!("{url}/?database=system"),
                            "-d",
                            "SELECT count() FROM one"
                        ],
                        b""
                    ),
                    "1\n"
                );
                assert!(
                    text(
                        &[&format!("{url}/?database=curl_none"), "-d", "SELECT 1"],
                        b""
                    )
                    .contains("Code: 81.")
                );
            }),
        ),
        (
            "curl-session",
            Box::new(|| {
                let session = format!("{url}/?session_id=curl");
                assert_eq!(
                    text(
                        &[
                            &session,
                            "-d",
                            "CREATE TEMPORARY TABLE curl_session (a UInt8)"
                        ],
                        b""
                    ),
                    ""
                );
                assert_eq!(
                    text(&[&session, "-d", "SELECT count() FROM curl_session"], b""),
                    "0\n"
                );
                assert!(
                    text(
                        &[
                            &format!("{url}/?session_id=curl2&session_check=1"),
                            "-d",
                            "SELECT 1"
                        ],
                        b""
                    )
                    .contains("Code: 372.")
                );
            }),
        ),
        (
            "curl-wait-end",
            Box::new(|| {
                let answer = text(
                    &[
                        "-i",
                        &format!("{url}/?wait_end_of_query=1"),
                        "-d",
                        "SELECT number + throwIf(number = 900000, 'in the middle') FROM numbers(1000000)",
                    ],
                    b"",
                );
                assert!(
                    answer.starts_with("HTTP/1.1 500") && answer.contains("Code: 395."),
                    "{:.300}",
                    answer
                );
            }),
        ),
        (
            "curl-external-data",
            Box::new(|| {
                let url = format!(
                    "{url}/?ids_structure=id%20UInt64&ids_format=CSV&query=SELECT%20sum(id)%20FROM%20ids"
                );
                assert_eq!(text(&["-F", "ids=@-", &url], b"1\n2\n"), "3\n");
            }),
        ),
    ];
    checks
        .into_iter()
        .map(|(name, check)| {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
            let problem = outcome.err().map(|panic| {
                panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default()
            });
            (name.to_owned(), problem)
        })
        .collect()
}
