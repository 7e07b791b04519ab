use super::*;

fn policy() -> Policy {
    let surface = Surface::of_answer(
        "function\tnumbers\nfunction\tnewlake\nengine\tmergetree\nengine\tnewqueue\n",
    );
    Policy::new(&surface, "door_log")
}

fn permit(role: Role, text: &str) -> Result<(), ServerError> {
    let asked = Asked {
        role,
        database: None,
        settings: &[],
        params: &[],
    };
    policy().permit(text.as_bytes(), asked)
}

#[test]
fn nothing_leaves_the_engine() {
    for text in [
        "SELECT * FROM file('/etc/passwd')",
        "SELECT * FROM `url`('http://x')",
        "SELECT file('/etc/hostname')",
        "SELECT * FROM newlake('x')",
        "INSERT INTO FUNCTION s3('x') SELECT 1",
        "CREATE TABLE t (`a` Int8) ENGINE = MySQL('a', 'b', 'c', 'd', 'e')",
        "CREATE TABLE t (`a` Int8) ENGINE = NewQueue",
        "CREATE DATABASE d ENGINE = Filesystem",
        "CREATE DICTIONARY d (`a` UInt64) PRIMARY KEY a SOURCE(HTTP(URL 'http://x' FORMAT 'TSV')) LAYOUT(FLAT())",
        "CREATE DICTIONARY d (`a` UInt64) PRIMARY KEY a SOURCE(CLICKHOUSE(HOST 'x' TABLE 't')) LAYOUT(FLAT())",
        "CREATE TABLE t (`a` Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'local', path = '/tmp')",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "ATTACH TABLE t FROM '/x' (`a` Int8) ENGINE = Log",
        "BACKUP TABLE t TO S3('x')",
        "SELECT * FROM eval('SELECT 1')",
        "SELECT 1 FORMAT Template SETTINGS format_template_row = '/etc/passwd'",
        "SET additional_table_filters = {'t':'file(1)'}",
        "SET a = 1, `dialect` = 'kusto'",
        "CREATE VIEW v AS SELECT 1 SETTINGS output_format_schema = '/tmp/x'",
    ] {
        for role in [Role::Reader, Role::Writer, Role::Admin] {
            assert!(permit(role, text).is_err(), "{role}: {text}");
        }
    }
}

#[test]
fn each_role_has_its_statements() {
    use Role::{Admin, Reader, Writer};
    for (least, text) in [
        (Reader, "SELECT file, `url` FROM t WHERE x = 'file(1)'"),
        (
            Reader,
            "SELECT * FROM numbers(3) WHERE number IN (SELECT 1)",
        ),
        (Reader, "SELECT `s3` (1)"),
        (Reader, "SELECT name FROM system.tables"),
        (Reader, "SHOW CREATE TABLE t"),
        (Reader, "EXPLAIN SELECT 1"),
        (Writer, "INSERT INTO url (a, b) FORMAT CSV"),
        (
            Writer,
            "CREATE TABLE t (`file` Int8) ENGINE = MergeTree ORDER BY file",
        ),
        (
            Writer,
            "CREATE DICTIONARY d (`a` UInt64) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't')) LAYOUT(FLAT())",
        ),
        (Writer, "SELECT query FROM system.processes"),
        (Writer, "SELECT * FROM merge('a', 'b')"),
        (Writer, "SET readonly = 0"),
        (Admin, "KILL QUERY WHERE 1 ASYNC"),
        (
            Writer,
            "INSERT INTO t (a) SELECT * FROM input('a UInt8') WHERE (SELECT 1) = 1 FORMAT Native",
        ),
        (Admin, "SYSTEM STOP MERGES"),
        (Writer, "SHOW PROCESSLIST"),
        (Admin, "SHOW CREATE USER x"),
        (Admin, "CREATE USER x"),
        (Admin, "CREATE NAMED COLLECTION x AS a = 1"),
        (Admin, "BACKUP DATABASE d TO File('one')"),
        (Admin, "RESTORE DATABASE d FROM File('one')"),
        (Admin, "SELECT * FROM door_log.query_log"),
        (Admin, "SELECT * FROM merge('door_log', 'x')"),
        (Admin, "SELECT * FROM merge(REGEXP('door.*'), 'x')"),
        (Admin, "SELECT * FROM merge(concat('door', '_log'), 'x')"),
        (
            Admin,
            "CREATE TABLE t AS x ENGINE = Merge('door\\x5flog', 'x')",
        ),
        (
            Writer,
            "CREATE TABLE t AS x ENGINE = Buffer('heliograph', 'x', 1, 1, 1, 1, 1, 1, 1)",
        ),
        (Writer, "SELECT * FROM merge('x')"),
        (Admin, "SELECT 1 SETTINGS log_comment = 'x/ann'"),
        (Admin, "SET log_comment = 'x/ann'"),
        (
            Admin,
            "CREATE TABLE a (`x` Int8) ENGINE = Memory PARALLEL WITH CREATE TABLE b (`x` Int8) ENGINE = Memory",
        ),
    ] {
        for role in [Reader, Writer, Admin] {
            let shown = permit(role, text);
            let expected = role >= least;
            assert_eq!(shown.is_ok(), expected, "{role}: {text}: {shown:?}");
        }
    }
}

#[test]
fn settings_beside_a_statement_count() {
    let permit = |name: &str| {
        let settings = [(name.to_owned(), "x".to_owned())];
        let asked = Asked {
            role: Role::Admin,
            database: None,
            settings: &settings,
            params: &[],
        };
        policy().permit(b"SELECT dialect = 'x'", asked)
    };
    for name in [
        "format_template_row",
        "Dialect",
        "format_avro_schema_registry_url",
        "input_format_record_errors_file_path",
    ] {
        assert!(permit(name).is_err(), "{name}");
    }
    for name in [
        "max_threads",
        "format_template_row_format",
        "output_format_json_quote_64bit_integers",
    ] {
        assert!(permit(name).is_ok(), "{name}");
    }
}

#[test]
fn names_in_parameters_count() {
    let params = [
        ("t".to_owned(), "sys\\x74em".to_owned()),
        ("u".to_owned(), "door_log.x".to_owned()),
    ];
    let with = |role, database, text: &str| {
        policy().permit(
            text.as_bytes(),
            Asked {
                role,
                database,
                settings: &[],
                params: &params,
            },
        )
    };
    assert!(with(Role::Reader, None, "SELECT * FROM {t:Identifier}.processes").is_err());
    assert!(with(Role::Writer, None, "SELECT * FROM {u:Identifier}").is_err());
    assert!(with(Role::Reader, None, "SELECT {t:String}, {u:String}").is_ok());
    assert!(with(Role::Reader, Some("system"), "SELECT * FROM processes").is_err());
    assert!(with(Role::Writer, Some("door_log"), "SELECT 1").is_err());
    assert!(with(Role::Reader, Some("heliograph"), "SELECT 1").is_ok());
}
