//! The lines `rs-…`: the crate `clickhouse`.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail, ensure};
use clickhouse::{Client, Compression, Row, error::Error};
use serde::{Deserialize, Serialize};

use super::{Results, door_process::PASSWORD};

struct Rust {
    url: String,
    client: Client,
}

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Wide {
    a: u64,
    b: Option<i32>,
    c: String,
    d: Vec<Vec<u8>>,
    e: Vec<(String, u64)>,
    f: (i8, String),
    g: i128,
    h: i64,
    i: bool,
    j: [u8; 3],
    k: i8,
    l: Option<String>,
    #[serde(with = "clickhouse::serde::ipv4")]
    m: std::net::Ipv4Addr,
    n: std::net::Ipv6Addr,
    o: u16,
    p: f64,
    q: u32,
    r: Vec<Option<i64>>,
    s: u128,
}

const WIDE: &str = "a UInt64, b Nullable(Int32), c LowCardinality(String), d Array(Array(UInt8)), e Map(String, UInt64), \
    f Tuple(Int8, String), g Int128, h DateTime64(6, 'UTC'), i Bool, j FixedString(3), k Enum8('one' = 1), \
    l LowCardinality(Nullable(String)), m IPv4, n IPv6, o Date, p Float64, q DateTime('UTC'), r Array(Nullable(Int64)), s UInt128";

fn wide(a: u64) -> Wide {
    let odd = a % 2 == 1;
    Wide {
        a,
        b: odd.then_some(-5),
        c: "\n\n".into(),
        d: vec![vec![10, 10], vec![]],
        e: vec![("k\n".into(), u64::MAX)],
        f: (-1, String::new()),
        g: i128::MIN + i128::from(a),
        h: 1_767_323_045_678_901,
        i: odd,
        j: *b"\n\n\n",
        k: 1,
        l: (!odd).then(|| "x".into()),
        m: [1, 2, 10, 10].into(),
        n: std::net::Ipv6Addr::from(0x0a0a_u128 << 100 | u128::from(a)),
        o: 2570,
        p: -1e300,
        q: 0x0a0a_0a0a,
        r: vec![None, Some(0x0a0a_0a0a_0a0a_0a0a)],
        s: u128::MAX - u128::from(a),
    }
}

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Number {
    n: u64,
}

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Pair {
    n: u32,
    fixed: [u8; 2],
    #[serde(with = "serde_bytes_vec")]
    free: Vec<u8>,
}

/// Bytes as a String column holds them.
mod serde_bytes_vec {
    use serde::{Deserializer, Serializer, de::Visitor};

    pub fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("bytes")
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}

impl Rust {
    async fn table(&self, name: &str, columns: &str) -> Result<()> {
        let sql = format!("CREATE TABLE {name} ({columns}) ENGINE = MergeTree ORDER BY tuple()");
        Ok(self.client.query(&sql).execute().await?)
    }

    async fn count(&self, table: &str) -> Result<u64> {
        let sql = format!("SELECT count() FROM {table}");
        Ok(self.client.query(&sql).fetch_one().await?)
    }

    async fn types(&self, client: Client, table: &str) -> Result<()> {
        self.table(table, WIDE).await?;
        let mut insert = client.insert::<Wide>(table).await?;
        for a in 0..2_000 {
            insert.write(&wide(a)).await?;
        }
        insert.end().await?;
        let sql = format!("SELECT ?fields FROM {table} ORDER BY a");
        let back = client.query(&sql).fetch_all::<Wide>().await?;
        ensure!(back.len() == 2_000, "{} rows", back.len());
        for (a, row) in back.iter().enumerate() {
            ensure!(*row == wide(a as u64), "{row:?}");
        }
        Ok(())
    }

    async fn byte_pairs(&self) -> Result<()> {
        self.table("rs_pairs", "n UInt32, fixed FixedString(2), free String")
            .await?;
        let mut insert = self.client.insert::<Pair>("rs_pairs").await?;
        let pair = |n: u16| Pair {
            n: n.into(),
            fixed: n.to_be_bytes(),
            free: n.to_be_bytes().to_vec(),
        };
        for n in 0..=u16::MAX {
            insert.write(&pair(n)).await?;
        }
        insert.end().await?;
        let mut cursor = self
            .client
            .query("SELECT ?fields FROM rs_pairs ORDER BY n")
            .fetch::<Pair>()?;
        for n in 0..=u16::MAX {
            let row = cursor.next().await?;
            ensure!(row == Some(pair(n)), "{n}: {row:?}");
        }
        ensure!(cursor.next().await?.is_none());
        Ok(())
    }

    async fn middle_error(&self, client: &Client) -> Result<()> {
        let sql =
            "SELECT number + throwIf(number = 900000, 'in the middle') AS n FROM numbers(1000000)";
        let mut cursor = client.query(sql).fetch::<Number>()?;
        let mut rows = 0;
        loop {
            match cursor.next().await {
                Ok(Some(_)) => rows += 1,
                Ok(None) => bail!("{rows} rows and no error"),
                Err(error) => {
                    // The client reads the text only where it comes in one piece; that there is an error, always.
                    let text = error.to_string();
                    let told = text.contains("in the middle") || text.contains("exception tag");
                    ensure!(told, "{error}");
                    return Ok(());
                }
            }
        }
    }

    async fn gone(&self, mark: &str) -> Result<()> {
        let sql = format!(
            "SELECT count() FROM system.processes WHERE query LIKE '%{mark}%' AND query NOT LIKE '%system.processes%'"
        );
        for _ in 0..200 {
            if self.client.query(&sql).fetch_one::<u64>().await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the statement still runs")
    }
}

fn code(outcome: std::result::Result<impl std::fmt::Debug, Error>, code: u32) -> Result<()> {
    match outcome {
        Ok(answer) => bail!("no error: {answer:?}"),
        Err(error) => {
            ensure!(
                error.to_string().contains(&format!("Code: {code}")),
                "{error}"
            );
            Ok(())
        }
    }
}

/// All lines.
pub async fn results(url: &str) -> Results {
    let client = Client::default()
        .with_url(url)
        .with_user("boss")
        .with_password(PASSWORD)
        .with_database("heliograph");
    let rust = Rust {
        url: url.to_owned(),
        client,
    };
    let mut results = Results::new();
    run(&rust, &mut results).await;
    results
}

async fn check(results: &mut Results, name: &str, outcome: impl Future<Output = Result<()>>) {
    let problem = outcome.await.err().map(|error| format!("{error:#}"));
    results.insert(name.to_owned(), problem);
}

async fn run(rust: &Rust, results: &mut Results) {
    let client = &rust.client;
    check(results, "rs-select", async {
        let rows: Vec<(u64, String)> = client
            .query("SELECT number, toString(number) FROM numbers(3)")
            .fetch_all()
            .await?;
        ensure!(
            rows == [(0, "0".into()), (1, "1".into()), (2, "2".into())],
            "{rows:?}"
        );
        let one: u64 = client.query("SELECT 1::UInt64").fetch_one().await?;
        ensure!(one == 1);
        let none: Option<u64> = client
            .query("SELECT number FROM numbers(0)")
            .fetch_optional()
            .await?;
        ensure!(none.is_none());
        Ok(())
    })
    .await;
    check(results, "rs-types", rust.types(client.clone(), "rs_types")).await;
    check(
        results,
        "rs-types-without-validation",
        rust.types(client.clone().with_validation(false), "rs_raw_types"),
    )
    .await;
    check(
        results,
        "rs-compression-none",
        rust.types(
            client.clone().with_compression(Compression::None),
            "rs_plain_types",
        ),
    )
    .await;
    check(results, "rs-byte-pairs", rust.byte_pairs()).await;
    check(results, "rs-validation", async {
        rust.table("rs_validation", "n Int8").await?;
        let outcome = async {
            let mut insert = client.insert::<Number>("rs_validation").await?;
            insert.write(&Number { n: 1 }).await?;
            insert.end().await
        };
        let refused = outcome.await;
        ensure!(
            matches!(refused, Err(Error::SchemaMismatch(_))),
            "{refused:?}"
        );
        let refused = client
            .query("SELECT 'text' AS n")
            .fetch_all::<Number>()
            .await;
        ensure!(
            matches!(refused, Err(Error::SchemaMismatch(_))),
            "{refused:?}"
        );
        Ok(())
    })
    .await;
    check(results, "rs-params", async {
        let text = "it's\n\t\\ ? {x:String} ü";
        #[derive(Row, Deserialize)]
        struct Bound {
            a: u64,
            b: String,
            c: Vec<u8>,
        }
        let Bound { a, b, c } = client
            .query("SELECT {a:UInt64} AS a, {b:String} AS b, {c:Array(UInt8)} AS c")
            .param("a", u64::MAX)
            .param("b", text)
            .param("c", vec![1_u8, 2])
            .fetch_one()
            .await?;
        ensure!(
            (a, b.as_str(), c.as_slice()) == (u64::MAX, text, [1, 2].as_slice()),
            "{a} {b}"
        );
        let (a, b): (String, u64) = client
            .query("SELECT ?, ?::UInt64")
            .bind(text)
            .bind(7)
            .fetch_one()
            .await?;
        ensure!((a.as_str(), b) == (text, 7));
        Ok(())
    })
    .await;
    check(results, "rs-cursor", async {
        let mut cursor = client
            .query("SELECT number AS n FROM numbers(3000000)")
            .fetch::<Number>()?;
        let (mut rows, mut sum) = (0_u64, 0_u64);
        while let Some(row) = cursor.next().await? {
            rows += 1;
            sum += row.n;
        }
        ensure!((rows, sum) == (3_000_000, 4_499_998_500_000));
        Ok(())
    })
    .await;
    check(results, "rs-stream-error", rust.middle_error(client)).await;
    let plain = client.clone().with_compression(Compression::None);
    check(results, "rs-stream-error-plain", rust.middle_error(&plain)).await;
    check(results, "rs-cursor-left", async {
        let mut cursor = client
            .query("SELECT number AS n FROM numbers(1000000000000) WHERE 'rs left' != ''")
            .fetch::<Number>()?;
        cursor.next().await?;
        drop(cursor);
        rust.gone("rs left").await
    })
    .await;
    check(results, "rs-errors", async {
        code(
            client
                .query("SELECT * FROM rs_missing")
                .fetch_all::<u64>()
                .await,
            60,
        )?;
        code(client.query("SELEC 1").execute().await, 62)?;
        let wrong = client.clone().with_password("wrong");
        code(wrong.query("SELECT 1").execute().await, 516)
    })
    .await;
    check(results, "rs-insert-error", async {
        rust.table("rs_strict", "n UInt64, CONSTRAINT small CHECK n < 5")
            .await?;
        let mut insert = client.insert::<Number>("rs_strict").await?;
        for n in [1, 9] {
            insert.write(&Number { n }).await?;
        }
        code(insert.end().await, 469)?;
        ensure!(rust.count("rs_strict").await? == 0);
        Ok(())
    })
    .await;
    check(results, "rs-insert-dropped", async {
        rust.table("rs_dropped", "n UInt64").await?;
        let mut insert = client.insert::<Number>("rs_dropped").await?;
        for n in 0..500_000 {
            insert.write(&Number { n }).await?;
        }
        drop(insert);
        tokio::time::sleep(Duration::from_millis(500)).await;
        ensure!(rust.count("rs_dropped").await? == 0);
        Ok(())
    })
    .await;
    check(results, "rs-insert-formatted", async {
        rust.table("rs_formatted", "n UInt64, s String").await?;
        let mut insert = client.insert_formatted_with("INSERT INTO rs_formatted FORMAT CSV");
        insert.send("1,\"\n\n\"\n2,x\n".into()).await?;
        insert.end().await?;
        let text: String = client
            .query("SELECT s FROM rs_formatted WHERE n = 1")
            .fetch_one()
            .await?;
        ensure!(text == "\n\n");
        Ok(())
    })
    .await;
    check(results, "rs-fetch-bytes", async {
        let bytes = client
            .query("SELECT number FROM numbers(3)")
            .fetch_bytes("JSONEachRow")?
            .collect()
            .await?;
        ensure!(
            bytes.iter().filter(|byte| **byte == b'\n').count() == 3,
            "{bytes:?}"
        );
        let parquet = client
            .query("SELECT 1")
            .fetch_bytes("Parquet")?
            .collect()
            .await?;
        ensure!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
        Ok(())
    })
    .await;
    check(results, "rs-summary", async {
        rust.table("rs_summary", "n UInt64").await?;
        client
            .query("INSERT INTO rs_summary SELECT number FROM numbers(5500)")
            .execute()
            .await?;
        let mut cursor = client.query("SELECT n FROM rs_summary").fetch::<Number>()?;
        while cursor.next().await?.is_some() {}
        let rows = cursor.summary().and_then(|summary| summary.read_rows());
        ensure!(rows == Some(5_500), "{rows:?}");
        Ok(())
    })
    .await;
    check(results, "rs-settings", async {
        let threads: String = client
            .query("SELECT toString(getSetting('max_threads'))")
            .with_setting("max_threads", "3")
            .fetch_one()
            .await?;
        ensure!(threads == "3", "{threads}");
        let refused = client
            .query("SELECT 1")
            .with_setting("no_such_setting", "1");
        code(refused.execute().await, 115)
    })
    .await;
    check(results, "rs-session", async {
        let session = client.clone().with_setting("session_id", "rs");
        session
            .query("CREATE TEMPORARY TABLE rs_session (n UInt64)")
            .execute()
            .await?;
        session
            .query("INSERT INTO rs_session VALUES (7)")
            .execute()
            .await?;
        let n: u64 = session
            .query("SELECT n FROM rs_session")
            .fetch_one()
            .await?;
        ensure!(n == 7);
        code(
            client
                .query("SELECT n FROM rs_session")
                .fetch_one::<u64>()
                .await,
            60,
        )
    })
    .await;
    check(results, "rs-bearer", async {
        let bearer = Client::default()
            .with_url(&rust.url)
            .with_access_token(format!("boss:{PASSWORD}"));
        let one: u8 = bearer.query("SELECT 1").fetch_one().await?;
        ensure!(one == 1);
        Ok(())
    })
    .await;
    check(results, "rs-no-database", async {
        let name: String = Client::default()
            .with_url(&rust.url)
            .query("SELECT currentDatabase()")
            .fetch_one()
            .await?;
        ensure!(name == "heliograph", "{name}");
        Ok(())
    })
    .await;
    check(results, "rs-parallel", async {
        let answers = futures::future::try_join_all((0..20_u64).map(|n| {
            client
                .query("SELECT ? + sleep(0.05)::UInt64")
                .bind(n)
                .fetch_one::<u64>()
        }))
        .await?;
        ensure!(answers == (0..20).collect::<Vec<_>>(), "{answers:?}");
        Ok(())
    })
    .await;
    check(results, "rs-ddl", async {
        client
            .query("CREATE TABLE rs_ddl (n UInt64) ENGINE = Memory")
            .execute()
            .await?;
        client
            .query("ALTER TABLE rs_ddl ADD COLUMN m UInt8")
            .execute()
            .await?;
        client.query("DROP TABLE rs_ddl").execute().await?;
        code(client.query("DROP TABLE rs_ddl").execute().await, 60)
    })
    .await;
}
