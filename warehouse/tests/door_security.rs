//! What users of each role cannot do, against a real engine: whatever way it is written, and only that.

mod door_disguise;
mod door_process;
mod support;

use std::sync::OnceLock;

use door_disguise::disguises;
use door_process::Door;
use proptest::prelude::*;
use support::{ask, post};

const CANARY: &str = "canary-7f3a-must-not-leave";

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(|| {
        let door = Door::start();
        std::fs::write(door.dir().join("canary"), CANARY).unwrap();
        door
    })
}

fn code(text: &str) -> u32 {
    text.strip_prefix("Code: ")
        .and_then(|rest| rest.split('.').next())
        .and_then(|code| code.parse().ok())
        .unwrap_or_default()
}

/// Every table function and engine that this engine knows is either on the short list of those that stay inside, or
/// refused to every role.
#[tokio::test]
async fn what_the_engine_offers_is_refused_unless_listed() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    let boss = door.url_of("boss");
    let functions = ask(
        &boss,
        "SELECT name FROM system.table_functions ORDER BY name FORMAT TSVRaw",
    )
    .await;
    let local = [
        "SQLStandardValues",
        "dictionary",
        "format",
        "fuzzJSON",
        "generateRandom",
        "generateSeries",
        "generate_series",
        "input",
        "loop",
        "merge",
        "mergeTreeAnalyzeIndexes",
        "mergeTreeAnalyzeIndexesUUID",
        "mergeTreeIndex",
        "mergeTreeProjection",
        "mergeTreeTextIndex",
        "null",
        "numbers",
        "numbers_mt",
        "primes",
        "values",
        "view",
        "viewExplain",
        "viewIfPermitted",
        "zeros",
        "zeros_mt",
    ];
    let for_readers = [
        "SQLStandardValues",
        "format",
        "generateRandom",
        "generateSeries",
        "generate_series",
        "null",
        "numbers",
        "numbers_mt",
        "primes",
        "values",
        "view",
        "viewExplain",
        "viewIfPermitted",
        "zeros",
        "zeros_mt",
    ];
    assert!(functions.lines().count() > 80, "{functions}");
    for name in functions.lines() {
        // In the form of the function of the same name, of a table, and of a target.
        for sql in [
            format!("SELECT * FROM {name}('x', 'y') LIMIT 1"),
            // Explained only: some of these have no end.
            format!("EXPLAIN SELECT 1 IN (SELECT * FROM {name}())"),
            format!("INSERT INTO FUNCTION {name}('x') SELECT 1"),
            format!("CREATE TABLE of_function AS {name}('x')"),
        ] {
            for user in ["analyst", "writer", "boss"] {
                let (status, text) = post(&door.url_of(user), sql.clone()).await;
                let allowed = if user == "analyst" {
                    &for_readers[..]
                } else {
                    &local[..]
                };
                let parses = code(&text) != 62;
                if !allowed.contains(&name) && parses {
                    let refused = [497, 164].contains(&code(&text));
                    assert!(status >= 400 && refused, "{user}: {sql}: {text}");
                } else if !sql.starts_with("INSERT") && !sql.starts_with("CREATE") {
                    assert_ne!(code(&text), 497, "{user}: {sql}: {text}");
                }
            }
        }
    }
    let engines = ask(&boss, "SELECT name FROM system.table_engines UNION ALL SELECT name FROM system.database_engines FORMAT TSVRaw").await;
    let outside = [
        "S3",
        "S3Queue",
        "URL",
        "File",
        "FileLog",
        "HDFS",
        "MySQL",
        "PostgreSQL",
        "MongoDB",
        "Redis",
        "SQLite",
        "ODBC",
        "JDBC",
        "Kafka",
        "Executable",
        "ExecutablePool",
        "AzureBlobStorage",
        "AzureQueue",
        "Iceberg",
        "DeltaLake",
        "Hudi",
        "Filesystem",
        "DataLakeCatalog",
        "Remote",
        "RemoteSecure",
        "EmbeddedRocksDB",
        "KeeperMap",
        "ArrowStream",
        "YTsaurus",
        "QueryRunner",
        "MaterializedPostgreSQL",
        "Backup",
        "Distributed",
        "Paimon",
    ];
    for name in engines.lines().chain(outside) {
        let local = name.ends_with("MergeTree")
            || name.ends_with("Log") && name != "FileLog"
            || [
                "Alias",
                "Atomic",
                "Buffer",
                "Dictionary",
                "FuzzJSON",
                "GenerateRandom",
                "Join",
                "Loop",
                "MaterializedView",
                "Memory",
                "Merge",
                "Null",
                "Ordinary",
                "Replicated",
                "Set",
                "View",
                "WindowView",
            ]
            .contains(&name);
        for sql in [
            format!("CREATE TABLE of_engine (a Int8) ENGINE = {name}('x')"),
            format!("CREATE DATABASE of_engine ENGINE {name}"),
            format!("CREATE TABLE of_engine (a Int8) eNgInE {name} AS SELECT 1"),
        ] {
            let (_, text) = post(&door.url_of("writer"), sql.clone()).await;
            assert_eq!(code(&text) == 497, !local, "{sql}: {text}");
            assert!(!outside.contains(&name) || !local, "{name}");
            ask(&boss, "DROP TABLE IF EXISTS of_engine").await;
            ask(&boss, "DROP DATABASE IF EXISTS of_engine").await;
        }
    }
}

#[tokio::test]
async fn readers_see_of_system_what_exists_and_not_who_does_what() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    let tables = ask(
        &door.url_of("boss"),
        "SELECT name FROM system.tables WHERE database = 'system' FORMAT TSVRaw",
    )
    .await;
    let open = [
        "aggregate_function_combinators",
        "build_options",
        "codecs",
        "collations",
        "columns",
        "completions",
        "contributors",
        "data_skipping_index_types",
        "data_skipping_indices",
        "data_type_families",
        "databases",
        "documentation",
        "formats",
        "functions",
        "keywords",
        "licenses",
        "numbers",
        "numbers_mt",
        "one",
        "primes",
        "settings",
        "table_engines",
        "table_functions",
        "tables",
        "time_zones",
        "tokenizers",
        "unicode",
        "zeros",
        "zeros_mt",
    ];
    let reader = door.url_of("analyst");
    for table in tables.lines() {
        let (status, text) = post(&reader, format!("SELECT 1 FROM system.{table} LIMIT 1")).await;
        assert_eq!(status == 200, open.contains(&table), "{table}: {text}");
        if !open.contains(&table) {
            for (url, sql) in [
                (
                    reader.clone(),
                    format!("SELECT * FROM `system`.\"{table}\""),
                ),
                (
                    reader.clone(),
                    format!("SELECT * FROM system /* */ . {table}"),
                ),
                (
                    reader.clone(),
                    format!("SELECT 1 WHERE 1 IN (SELECT 1 FROM system.{table})"),
                ),
                (
                    reader.clone(),
                    format!("SELECT * FROM `sys\\x74em`.{table}"),
                ),
                (
                    format!("{reader}&database=system"),
                    format!("SELECT * FROM {table}"),
                ),
                (
                    format!("{reader}&param_d=system&param_t={table}"),
                    "SELECT * FROM {d:Identifier}.{t:Identifier}".into(),
                ),
                (
                    format!("{reader}&param_t=system.{table}"),
                    "SELECT * FROM {t:Identifier}".into(),
                ),
                (
                    reader.clone(),
                    format!("SELECT * FROM merge('system', '^{table}$')"),
                ),
                (reader.clone(), format!("DESCRIBE TABLE system.{table}")),
            ] {
                let (status, text) = post(&url, sql.clone()).await;
                assert!(status >= 400, "{sql}: {text}");
            }
        }
    }
    for sql in [
        "SHOW PROCESSLIST",
        "SHOW USERS",
        "SHOW GRANTS",
        "USE system",
        "SYSTEM FLUSH LOGS",
        "BACKUP TABLE t TO File('x')",
        "SELECT getServerSetting('max_server_memory_usage')",
        "SELECT filesystemCapacity()",
        "SELECT addressToLine(1)",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 SETTINGS log_comment = 'x/boss'",
        "SELECT 1 PARALLEL WITH SELECT 2",
        "CREATE TEMPORARY TABLE t (a Int8)",
        "KILL QUERY WHERE 1",
    ] {
        let (status, text) = post(&reader, sql).await;
        assert!(
            status >= 400 && [62, 164, 497].contains(&code(&text)),
            "{sql}: {text}"
        );
    }
}

#[tokio::test]
async fn words_in_strings_and_names_are_no_calls() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    let writer = door.url_of("writer");
    for sql in [
        "CREATE TABLE `file` (`url` Int8, s3 String, `INTO OUTFILE` UInt8) ENGINE = MergeTree ORDER BY url",
        "INSERT INTO file (url, s3, `INTO OUTFILE`) VALUES (1, 'remote(''x'')', 2)",
        "INSERT INTO `file` (url, s3) SELECT 2, 'file(x) INTO OUTFILE \\'y\\''",
    ] {
        ask(&writer, sql).await;
    }
    let reader = door.url_of("analyst");
    for (sql, answer) in [
        (
            "SELECT count() FROM file WHERE s3 LIKE '%file(%' OR s3 = 'remote(''x'')'",
            "2",
        ),
        (
            "SELECT file.url FROM file AS file WHERE url = 1 -- FROM INFILE",
            "1",
        ),
        ("SELECT `INTO OUTFILE` FROM file WHERE url IN (1)", "2"),
        (
            "SELECT 'system.processes', \"url\" FROM file WHERE url = 1 /* file('x') */",
            "system.processes\t1",
        ),
        ("WITH url AS (SELECT 5 AS mysql) SELECT mysql FROM url", "5"),
        ("SELECT $$file('/etc/passwd')$$", "file(\\'/etc/passwd\\')"),
        ("SELECT profile FROM (SELECT 1 AS profile)", "1"),
        ("SELECT cutURLParameter('http://x/?a=1', 'a')", "http://x/?"),
    ] {
        assert_eq!(ask(&reader, sql).await, answer, "{sql}");
    }
}

/// Written in any of these ways, a call that reads a file is refused, and the same way of writing a harmless call works.
#[test]
fn no_disguise_gets_a_file_out() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let door = door();
    let path = door.dir().join("canary");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(400));
    let worked = std::sync::atomic::AtomicU32::new(0);
    runner
        .run(&disguises(), |disguise| {
            let url = door.url_of(if disguise.as_reader {
                "analyst"
            } else {
                "writer"
            });
            let gap = disguise.blank();
            let harmless = disguise.statement(&format!("{}{gap}(1, 1)", disguise.name("numbers")));
            let (status, text) = runtime.block_on(post(&url, harmless.clone()));
            let valid = status == 200;
            if valid {
                worked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            } else {
                // What is not a valid statement is nobody's evasion; but it must not be the policy that says so.
                prop_assert_ne!(code(&text), 497, "{}: {}", harmless, text);
                prop_assert_ne!(code(&text), 164, "{}: {}", harmless, text);
            }
            for call in [
                format!(
                    "{}{gap}('{}', 'LineAsString')",
                    disguise.name("file"),
                    path.display()
                ),
                format!(
                    "(SELECT {}{gap}('{}'))",
                    disguise.name("file"),
                    path.display()
                ),
            ] {
                let sql = disguise.statement(&call);
                let (status, text) = runtime.block_on(post(&url, sql.clone()));
                prop_assert!(!text.contains(CANARY), "{}: {}", sql, text);
                prop_assert!(status >= 400, "{}: {}", sql, text);
                prop_assert!(!valid || code(&text) == 497, "{}: {}", sql, text);
            }
            Ok(())
        })
        .unwrap();
    let worked = worked.into_inner();
    assert!(
        worked > 100,
        "only {worked} of 400 ways are valid statements"
    );
}

/// Texts that are no statements, or several, or that end in the middle of something: refused, and nothing gets out.
#[test]
fn broken_statements_let_nothing_through() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let door = door();
    let call = format!(
        "file('{}', 'LineAsString')",
        door.dir().join("canary").display()
    );
    let pieces = prop_oneof![
        Just("'".to_owned()),
        Just("`".to_owned()),
        Just("\"".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just("--".to_owned()),
        Just("\n".to_owned()),
        Just("$$".to_owned()),
        Just("$a$".to_owned()),
        Just(";".to_owned()),
        Just("\\".to_owned()),
        Just("x'".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("“".to_owned()),
        Just("”".to_owned()),
        Just("SELECT * FROM ".to_owned()),
        Just("SELECT 1, ".to_owned()),
        Just(" UNION ALL ".to_owned()),
        Just(call.clone()),
        Just("FORMAT CSV ".to_owned()),
        Just("INSERT INTO t FORMAT CSV ".to_owned()),
        Just("\0".to_owned()),
        Just("1".to_owned()),
        Just(" AS a$".to_owned()),
        Just("EXPLAIN ".to_owned()),
    ];
    let texts = proptest::collection::vec(pieces, 1..14).prop_map(|pieces| pieces.concat());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1_500));
    runner
        .run(&texts, |text| {
            let sql = format!("SELECT * FROM {call} {text}");
            for sql in [text, sql] {
                let (_, answer) = runtime.block_on(post(&door.url_of("analyst"), sql.clone()));
                prop_assert!(!answer.contains(CANARY), "{}: {}", sql, answer);
            }
            Ok(())
        })
        .unwrap();
}

/// Settings can name files too, or hold expressions: read, written, or evaluated where no call is seen.
#[tokio::test]
async fn no_setting_gets_a_file_in_or_out() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    let path = door.dir().join("canary").display().to_string();
    let written = door.dir().join("written").display().to_string();
    let filter = format!("throwIf(file('{path}') != '')").replace('\'', "\\'");
    ask(
        &door.url_of("boss"),
        "CREATE TABLE filtered (a Int8) ENGINE = Memory",
    )
    .await;
    ask(&door.url_of("boss"), "INSERT INTO filtered VALUES (1)").await;
    for (name, value, sql) in [
        (
            "format_template_row",
            &path,
            "SELECT 1 AS a FORMAT Template",
        ),
        (
            "format_template_resultset",
            &path,
            "SELECT 1 AS a FORMAT Template",
        ),
        (
            "format_template_row",
            &path,
            "SELECT * FROM format(Template, 'x')",
        ),
        (
            "format_schema",
            &format!("{path}:M"),
            "SELECT 1 AS a FORMAT Protobuf",
        ),
        (
            "output_format_schema",
            &written,
            "SELECT 1 AS a FORMAT Protobuf",
        ),
        (
            "input_format_record_errors_file_path",
            &written,
            "SELECT * FROM format(CSV, 'a Int8', 'x')",
        ),
        (
            "additional_table_filters",
            &format!("{{'heliograph.filtered':'{filter}'}}"),
            "SELECT * FROM filtered",
        ),
        (
            "additional_result_filter",
            &filter,
            "SELECT * FROM filtered",
        ),
        (
            "format_avro_schema_registry_url",
            &"http://127.0.0.1:9/".to_owned(),
            "SELECT * FROM format(AvroConfluent, 'x')",
        ),
        ("dialect", &"kusto".to_owned(), "SELECT 1"),
    ] {
        for user in ["analyst", "writer", "boss"] {
            let url = door.url_of(user);
            let beside = reqwest::Client::new()
                .post(&url)
                .query(&[(name, value)])
                .body(sql)
                .send()
                .await
                .unwrap();
            let literal = format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
            let literal = if value.starts_with('{') {
                value.clone()
            } else {
                literal
            };
            let within = post(&url, format!("{sql} SETTINGS {name} = {literal}"))
                .await
                .1;
            let quoted = post(&url, format!("{sql} SETTINGS `{name}` /* */ = {literal}"))
                .await
                .1;
            let session = format!("{url}&session_id=settings-{user}-{name}");
            let set = post(&session, format!("SET max_threads = 2, {name} = {literal}"))
                .await
                .1;
            for text in [beside.text().await.unwrap(), within, quoted, set] {
                assert!(
                    [497, 164].contains(&code(&text)),
                    "{user}: {name}: {sql}: {text}"
                );
            }
            assert!(!std::path::Path::new(&written).exists(), "{name}");
        }
    }
}

/// The name of a format is no place for a clause.
#[tokio::test]
async fn a_format_is_a_name() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    let written = door.dir().join("by_format");
    for format in [
        format!("CSV INTO OUTFILE '{}'", written.display()),
        "CSV SETTINGS readonly = 0".into(),
        "CSV; SELECT 1".into(),
    ] {
        let request = reqwest::Client::new().post(door.url_of("analyst"));
        let response = request
            .query(&[("default_format", &format)])
            .body("SELECT 1")
            .send()
            .await
            .unwrap();
        assert!(response.status().as_u16() >= 400, "{format}");
        let head = format!("INSERT INTO `x` FORMAT {format}\n1\n");
        let (status, text) = post(&door.url_of("writer"), head.clone()).await;
        assert!(status >= 400, "{head}: {text}");
    }
    assert!(!written.exists());
}

/// The second line: were the policy to fail, the engine itself refuses readers.
#[tokio::test]
async fn a_reader_is_readonly_in_the_engine_too() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    let reader = door.url_of("analyst");
    let settings = ask(&reader, "SELECT getSetting('readonly'), getSetting('allow_ddl'), getSetting('max_execution_time'), getSetting('max_memory_usage'), getSetting('allow_introspection_functions')").await;
    assert_eq!(settings, "1\tfalse\t2\t1073741824\tfalse");
    for (sql, expected) in [
        (
            "SELECT count() FROM numbers(100000000000) WHERE NOT ignore(sipHash64(number))",
            159,
        ),
        ("SELECT length(range(400000000))", 241),
        ("SELECT number FROM numbers(2000000) FORMAT Null", 396),
    ] {
        let (_, text) = post(&reader, sql).await;
        assert_eq!(code(&text), expected, "{sql}: {text}");
    }
}
