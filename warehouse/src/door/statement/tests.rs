use proptest::prelude::*;

use super::*;

fn insert(text: &str) -> (String, String, String) {
    match scan(text.as_bytes(), true) {
        Scan::Insert {
            head, format, data, ..
        } => (text[..head].trim().into(), format, text[data..].into()),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn splits_text_from_data() {
    for (text, head, format, data) in [
        (
            "INSERT INTO t FORMAT RowBinary\n\n\nab",
            "INSERT INTO t",
            "RowBinary",
            "\n\nab",
        ),
        (
            "insert into `a.b`.t (x, y) format  CSV \r\n1,2\n",
            "insert into `a.b`.t (x, y)",
            "CSV",
            "1,2\n",
        ),
        (
            "INSERT INTO t VALUES (1),(2)",
            "INSERT INTO t",
            "Values",
            " (1),(2)",
        ),
        (
            "INSERT INTO t (`values`, b) SETTINGS a='FORMAT x', b=1 FORMAT JSONEachRow {\"a\":1}",
            "INSERT INTO t (`values`, b) SETTINGS a='FORMAT x', b=1",
            "JSONEachRow",
            "{\"a\":1}",
        ),
        (
            "/* VALUES */ INSERT INTO values VALUES (1)",
            "/* VALUES */ INSERT INTO values",
            "Values",
            " (1)",
        ),
        (
            "INSERT INTO TABLE format.values(a) -- SELECT\n FORMAT TSV\n1",
            "INSERT INTO TABLE format.values(a) -- SELECT",
            "TSV",
            "1",
        ),
        ("INSERT INTO t", "INSERT INTO t", "Values", ""),
    ] {
        assert_eq!(
            insert(text),
            (head.into(), format.into(), data.into()),
            "{text}"
        );
    }
}

#[test]
fn rows_that_are_read_as_a_table_are_data_too() {
    for (text, head, data) in [
        (
            "INSERT INTO t SELECT a FROM input('a UInt8') WHERE a > 1 FORMAT CSV\n1\n",
            "INSERT INTO t SELECT a FROM input('a UInt8') WHERE a > 1",
            "1\n",
        ),
        (
            "insert into t (a) with 1 as x select format, format('{}', a) from INPUT ( 'a UInt8' ) format CSV 1",
            "insert into t (a) with 1 as x select format, format('{}', a) from INPUT ( 'a UInt8' )",
            "1",
        ),
    ] {
        assert_eq!(insert(text), (head.into(), "CSV".into(), data.into()));
        let Scan::Insert {
            input: Some(at), ..
        } = scan(text.as_bytes(), true)
        else {
            panic!("{text}");
        };
        let called: String = text[at].split_whitespace().collect();
        assert_eq!(called.to_lowercase(), "input(");
        for cut in 0..head.len() {
            assert_eq!(
                scan(&text.as_bytes()[..cut], false),
                Scan::Incomplete,
                "{cut}"
            );
        }
    }
}

#[test]
fn statements_without_data() {
    for text in [
        "SELECT 1",
        "INSERT INTO t SELECT * FROM s",
        "INSERT INTO t SELECT input FROM s FORMAT CSV",
        "INSERT INTO t SELECT * FROM s WHERE a = 'input(' FORMAT CSV",
        "INSERT INTO t (a) (SELECT 1)",
        "INSERT INTO t WITH 1 AS x SELECT x",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        "WITH 1 AS x INSERT INTO t SELECT x",
        "CREATE TABLE t (a String DEFAULT 'INSERT INTO x FORMAT CSV')",
        "",
    ] {
        assert_eq!(scan(text.as_bytes(), true), Scan::Statement, "{text}");
    }
}

#[test]
fn finds_the_output_format() {
    assert_eq!(
        output_format(b"SELECT 1 FORMAT JSON").as_deref(),
        Some("JSON")
    );
    assert_eq!(
        output_format(b"SELECT 'FORMAT x' format Native SETTINGS a=1").as_deref(),
        Some("Native")
    );
    assert_eq!(
        output_format(b"SELECT formatRow('CSV', 1) -- FORMAT CSV\n"),
        None
    );
    assert_eq!(output_format(b"SELECT * FROM (SELECT 1 FORMAT TSV)"), None);
}

proptest! {
    /// However the text arrives in pieces, the split is the one of the whole text.
    #[test]
    fn a_prefix_never_answers_differently(cut in 0usize..200, data in proptest::collection::vec(any::<u8>(), 0..50)) {
        let mut text = b"INSERT INTO heliograph.t (a, `b`) SETTINGS x = 'FORMAT' /* c */ FORMAT RowBinary\n".to_vec();
        text.extend_from_slice(&data);
        let whole = scan(&text, true);
        let part = scan(&text[..cut.min(text.len())], false);
        prop_assert!(part == Scan::Incomplete || part == whole, "{part:?} {whole:?}");
    }

    #[test]
    fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..200), complete in any::<bool>()) {
        scan(&text, complete);
        output_format(&text);
        first_word(&text);
    }
}
