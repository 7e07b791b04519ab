"""Unmodified clickhouse-connect against the door: every line of warehouse/conformance.md that begins with `py-`.

Usage: conformance.py URL USER PASSWORD. Prints one JSON object {check: null or what went wrong} on the last line.
"""

import datetime
import decimal
import ipaddress
import json
import sys
import traceback
import uuid
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

URL, USER, PASSWORD = urlsplit(sys.argv[1]), sys.argv[2], sys.argv[3]
CHECKS = {}


def check(name):
    def register(function):
        CHECKS[name] = function
        return function
    return register


def connect(**options):
    return clickhouse_connect.get_client(
        host=URL.hostname, port=URL.port, username=USER, password=PASSWORD, database="heliograph", **options
    )


def table(client, name, columns, order="tuple()"):
    client.command(f"DROP TABLE IF EXISTS {name}")
    client.command(f"CREATE TABLE {name} ({columns}) ENGINE = MergeTree ORDER BY {order}")


def equal(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def raises(function, *words, kind=ClickHouseError):
    try:
        function()
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return
    raise AssertionError("no error was raised")


@check("py-connect")
def _():
    client = connect()
    assert client.server_version.startswith("26."), client.server_version
    equal(client.command("SELECT currentDatabase()"), "heliograph")


@check("py-ping")
def _():
    equal(connect().ping(), True)


@check("py-auth")
def _():
    raises(
        lambda: clickhouse_connect.get_client(
            host=URL.hostname, port=URL.port, username=USER, password="certainly wrong"
        ),
        "516",
    )


TYPES = [
    ("a UInt64", [0, 2**64 - 1]),
    ("b Nullable(Int32)", [None, -5]),
    ("c LowCardinality(String)", ["x", "x"]),
    ("d LowCardinality(Nullable(String))", [None, "y"]),
    ("e Array(Array(UInt8))", [[[1, 2], []], []]),
    ("f Map(String, UInt64)", [{"k": 1}, {}]),
    ("g Tuple(Int8, String)", [(1, "a"), (-1, "\n\n")]),
    ("h Int128", [-(2**127), 2**127 - 1]),
    ("i UInt256", [0, 2**256 - 1]),
    ("j DateTime64(6, 'UTC')", [
        # The client returns UTC without saying so.
        datetime.datetime(2026, 1, 2, 3, 4, 5, 678901),
        datetime.datetime(1970, 1, 1),
    ]),
    ("k Decimal(38, 9)", [decimal.Decimal("-1.000000001"), decimal.Decimal("12345678901234567890.5")]),
    ("l UUID", [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]),
    ("m IPv4", [ipaddress.IPv4Address("1.2.3.4"), ipaddress.IPv4Address("255.255.255.255")]),
    ("n IPv6", [ipaddress.IPv6Address("::1"), ipaddress.IPv6Address("2001:db8::1")]),
    ("o Enum8('one' = 1, 'two' = 2)", ["one", "two"]),
    ("p Bool", [True, False]),
    ("q FixedString(3)", [b"abc", b"\n\n\n"]),
    ("r Date32", [datetime.date(2026, 1, 2), datetime.date(1969, 12, 31)]),
    ("s String", ["", "ü\n\n;'\\"]),
    ("t Float64", [0.5, -1e300]),
    ("u Array(Nullable(Int64))", [[None, 1], []]),
]


@check("py-types")
def _():
    client = connect()
    table(client, "py_types", ", ".join(column for column, _ in TYPES), "a")
    rows = [[values[at] for _, values in TYPES] for at in (0, 1)]
    client.insert("py_types", rows, column_names=[column.split()[0] for column, _ in TYPES])
    back = client.query("SELECT * FROM py_types ORDER BY a").result_rows
    for at, (column, values) in enumerate(TYPES):
        for row in (0, 1):
            assert back[row][at] == values[row], f"{column}: {back[row][at]!r} is not {values[row]!r}"


@check("py-byte-pairs")
def _():
    client = connect()
    table(client, "py_pairs", "n UInt32, fixed FixedString(2), free String", "n")
    pairs = [number.to_bytes(2, "big") for number in range(65536)]
    client.insert("py_pairs", [[n, pair, pair] for n, pair in enumerate(pairs)], column_names=["n", "fixed", "free"])
    back = client.query("SELECT fixed, free FROM py_pairs ORDER BY n", query_formats={"String": "bytes"}).result_rows
    equal(len(back), 65536)
    assert all(row[0] == pair and row[1] == pair for row, pair in zip(back, pairs)), "bytes differ"


@check("py-params")
def _():
    text = "it's\n\t\\ \"quoted\" {x:String} ü"
    row = connect().query(
        "SELECT {n:UInt64}, {s:String}, {a:Array(UInt8)}, {b:Nullable(String)}, {t:DateTime('UTC')}",
        parameters={"n": 2**63, "s": text, "a": [1, 2], "b": None, "t": datetime.datetime(2026, 1, 2, 3, 4, 5)},
    ).result_rows[0]
    equal(row[:4], (2**63, text, [1, 2], None))
    equal((row[4].hour, row[4].second), (3, 5))


@check("py-params-client-side")
def _():
    equal(connect().query("SELECT %s, %s", parameters=["a'b", 5]).result_rows[0], ("a'b", 5))


@check("py-params-form")
def _():
    client = connect(form_encode_query_params=True)
    long = "x" * 200_000
    equal(client.query("SELECT length({s:String})", parameters={"s": long}).result_rows[0][0], 200_000)


for coding in ("lz4", "zstd", "gzip"):
    @check(f"py-compression-{coding}")
    def _(coding=coding):
        client = connect(compress=coding)
        equal(client.compression, coding)
        name = f"py_compression_{coding}"
        table(client, name, "a UInt64, b String", "a")
        rows = [[n, "text " * 20] for n in range(20_000)]
        client.insert(name, rows, column_names=["a", "b"])
        equal(client.query(f"SELECT count(), uniqExact(a), min(b) FROM {name}").result_rows[0],
              (20_000, 20_000, "text " * 20))
        back = client.query(f"SELECT a, b FROM {name} ORDER BY a").result_rows
        equal((len(back), back[-1]), (20_000, (19_999, "text " * 20)))


@check("py-compression-none")
def _():
    client = connect(compress=False)
    equal(len(client.query("SELECT number FROM numbers(100000)").result_rows), 100_000)


@check("py-session")
def _():
    client = connect()
    client.command("CREATE TEMPORARY TABLE py_session (a UInt8)")
    client.insert("py_session", [[1], [2]], column_names=["a"])
    equal(client.query("SELECT sum(a) FROM py_session").result_rows[0][0], 3)
    raises(lambda: connect().query("SELECT a FROM py_session"), "60")


@check("py-session-settings")
def _():
    client = connect()
    client.command("SET max_threads = 3")
    equal(str(client.command("SELECT getSetting('max_threads')")), "3")


@check("py-no-session")
def _():
    client = connect(autogenerate_session_id=False)
    equal(client.query("SELECT 1").result_rows, [(1,)])


@check("py-settings")
def _():
    client = connect()
    equal(client.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 1234}).result_rows[0][0], 1234)
    raises(lambda: client.query("SELECT sleep(2)", settings={"max_execution_time": 1}), "159")


@check("py-errors")
def _():
    client = connect()
    raises(lambda: client.query("SELECT * FROM py_missing"), "60", "UNKNOWN_TABLE", kind=DatabaseError)
    raises(lambda: client.query("SELEC 1"), "62")
    raises(lambda: client.insert("py_missing", [[1]], column_names=["a"]), "60")
    equal(client.query("SELECT 1").result_rows, [(1,)])


@check("py-insert-rejected")
def _():
    client = connect()
    table(client, "py_rejected", "a UInt8, CONSTRAINT small CHECK a < 5", "a")
    raises(lambda: client.insert("py_rejected", [[1], [9]], column_names=["a"]), "469")
    equal(client.query("SELECT count() FROM py_rejected").result_rows[0][0], 0)


@check("py-stream-blocks")
def _():
    total, rows = 0, 0
    with connect().query_row_block_stream("SELECT number, toString(number) FROM numbers(1000000)") as stream:
        for block in stream:
            rows += len(block)
            total += sum(row[0] for row in block)
    equal((rows, total), (1_000_000, 499_999_500_000))


@check("py-stream-error")
def _():
    def read():
        count = 0
        with connect().query_row_block_stream(
            "SELECT number + throwIf(number = 900000, 'in the middle') FROM numbers(1000000)"
        ) as stream:
            for block in stream:
                count += len(block)
        raise AssertionError(f"{count} rows without an error")
    raises(read, "in the middle", kind=Exception)


@check("py-stream-left")
def _():
    client = connect()
    with client.query_row_block_stream("SELECT number FROM numbers(3000000)") as stream:
        for _ in stream:
            break
    # The same session again: it must be free.
    equal(client.query("SELECT 1").result_rows, [(1,)])


@check("py-raw")
def _():
    client = connect()
    equal(client.raw_query("SELECT 1 AS a, 'x' AS b", fmt="CSVWithNames"), b'"a","b"\n1,"x"\n')
    parquet = client.raw_query("SELECT number FROM numbers(10)", fmt="Parquet")
    equal((parquet[:4], parquet[-4:]), (b"PAR1", b"PAR1"))
    table(client, "py_raw", "a UInt8, b String", "a")
    client.raw_insert("py_raw", ["a", "b"], insert_block=b'1,"\n\nx"\n2,"y"\n', fmt="CSV")
    client.raw_insert("py_raw", insert_block=b'{"a":3,"b":"z\\n\\n"}\n', fmt="JSONEachRow")
    equal(client.query("SELECT a, b FROM py_raw ORDER BY a").result_rows, [(1, "\n\nx"), (2, "y"), (3, "z\n\n")])


@check("py-raw-stream")
def _():
    stream = connect().raw_stream("SELECT number FROM numbers(300000)", fmt="TabSeparated")
    text = b"".join(iter(lambda: stream.read(65536), b""))
    equal(text.count(b"\n"), 300_000)


@check("py-command")
def _():
    client = connect()
    equal(client.command("SELECT 'text'"), "text")
    equal(client.command("SELECT 5"), 5)
    table(client, "py_command", "a UInt8")
    assert client.command("SHOW TABLES LIKE 'py_command'") == "py_command"
    client.command("INSERT INTO py_command VALUES", data="(1),(2)")
    equal(client.command("SELECT count() FROM py_command"), 2)


@check("py-summary")
def _():
    client = connect()
    table(client, "py_summary", "a UInt64", "a")
    summary = client.insert("py_summary", [[n] for n in range(1000)], column_names=["a"])
    equal(summary.written_rows, 1000)
    result = client.query("SELECT a FROM py_summary")
    equal(int(result.summary["read_rows"]), 1000)
    assert result.query_id, "no query id"


@check("py-query-id")
def _():
    query_id = str(uuid.uuid4())
    equal(connect().query("SELECT 1", settings={"query_id": query_id}).query_id, query_id)


@check("py-columns")
def _():
    result = connect().query("SELECT number AS n, toString(number) AS s FROM numbers(3)", column_oriented=True)
    equal(result.column_names, ("n", "s"))
    equal([str(kind) for kind in [t.name for t in result.column_types]], ["UInt64", "String"])
    equal([list(column) for column in result.result_columns], [[0, 1, 2], ["0", "1", "2"]])


@check("py-empty")
def _():
    result = connect().query("SELECT number AS n FROM numbers(10) WHERE n > 100")
    equal(result.result_rows, [])


@check("py-query-limit")
def _():
    equal(len(connect(query_limit=7).query("SELECT number FROM numbers(100)").result_rows), 7)


@check("py-insert-context")
def _():
    client = connect()
    table(client, "py_context", "a UInt64, b Nullable(String) DEFAULT 'd'", "a")
    context = client.create_insert_context("py_context", column_names=["a"])
    for start in (0, 10):
        context.data = [[n] for n in range(start, start + 10)]
        client.insert(context=context)
    equal(client.query("SELECT count(), uniqExact(a), any(b) FROM py_context").result_rows[0], (20, 20, "d"))


@check("py-timezone")
def _():
    stamp = connect().query("SELECT toDateTime('2026-01-02 03:04:05', 'Asia/Tokyo')", query_tz="UTC").result_rows[0][0]
    equal((stamp.day, stamp.hour), (1, 18))


@check("py-external-data")
def _():
    from clickhouse_connect.driver.external import ExternalData
    data = ExternalData(file_name="ids.csv", data=b"1\n2\n", fmt="CSV", structure=["id UInt64"])
    equal(connect().query("SELECT sum(id) FROM ids", external_data=data).result_rows[0][0], 3)


def main():
    only = sys.argv[4:]
    results = {}
    for name, function in CHECKS.items():
        if only and name not in only:
            continue
        try:
            function()
            results[name] = None
        except Exception as error:  # a check that fails is a result
            if only:
                traceback.print_exc()
            results[name] = f"{type(error).__name__}: {str(error)[:500]}"
    print(json.dumps({"client": f"clickhouse-connect {clickhouse_connect.__version__}", "results": results}))


main()
