//! The sample queries of `warehouse/queries`, and what the comments they begin with say: a title, what the query answers, its
//! columns, its parameters with defaults. Program, guide and test read the same text.

/// A query of the folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Sample {
    /// Name of its file, without `.sql`.
    pub file: &'static str,
    pub sql: &'static str,
}

/// What a sample says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    pub title: &'a str,
    /// What it answers, in one line.
    pub answers: String,
    /// Name and meaning, in their order.
    pub columns: Vec<(&'a str, &'a str)>,
    pub params: Vec<Param<'a>>,
    /// Whether no rows are an answer too.
    pub may_be_empty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    pub name: &'a str,
    pub default: &'a str,
    pub meaning: &'a str,
}

impl Sample {
    pub fn find(name: &str) -> Option<&'static Self> {
        SAMPLES.iter().find(|sample| sample.name() == name)
    }

    /// The file's name without its number.
    pub fn name(&self) -> &'static str {
        self.file
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '-')
    }

    /// Reads the comments at the sample's begin; an error names the line.
    pub fn header(&self) -> Result<Header<'static>, String> {
        let mut header = Header::default();
        let comments = self.sql.lines().map_while(|line| line.strip_prefix("--"));
        for (line, number) in comments.map(str::trim).zip(1..) {
            let named = |rest: &'static str| {
                rest.split_once(": ").ok_or_else(|| {
                    format!("{}.sql, line {number}: write `NAME: meaning`", self.file)
                })
            };
            if number == 1 {
                header.title = line;
            } else if let Some(rest) = line.strip_prefix("column ") {
                header.columns.push(named(rest)?);
            } else if let Some(rest) = line.strip_prefix("param ") {
                let (value, meaning) = named(rest)?;
                let (name, default) = value.split_once(" = ").ok_or_else(|| {
                    format!(
                        "{}.sql, line {number}: write `param NAME = DEFAULT: meaning`",
                        self.file
                    )
                })?;
                header.params.push(Param {
                    name,
                    default,
                    meaning,
                });
            } else if line == "rows: any" {
                header.may_be_empty = true;
            } else if !line.is_empty() {
                if !header.answers.is_empty() {
                    header.answers.push(' ');
                }
                header.answers.push_str(line);
            }
        }
        Ok(header)
    }

    /// The sample's parameters: what is given, and defaults for the rest. An error says which names there are.
    pub fn params(&self, given: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
        let header = self.header()?;
        if let Some((unknown, _)) = given
            .iter()
            .find(|(name, _)| header.params.iter().all(|param| param.name != name))
        {
            let names: Vec<&str> = header.params.iter().map(|param| param.name).collect();
            return Err(format!(
                "the sample {} has no parameter {unknown}; it has: {}",
                self.name(),
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            ));
        }
        let value = |param: &Param<'_>| {
            let chosen = given.iter().rfind(|(name, _)| name == param.name);
            let value = chosen.map_or(param.default, |(_, value)| value);
            (param.name.to_owned(), value.to_owned())
        };
        Ok(header.params.iter().map(value).collect())
    }
}

/// Name and title of every sample, a line each.
pub fn list() -> String {
    let width = SAMPLES
        .iter()
        .map(|sample| sample.name().len())
        .max()
        .unwrap_or(0);
    let line = |sample: &Sample| {
        let title = sample
            .sql
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("-- ");
        format!("{:width$}  {title}\n", sample.name())
    };
    SAMPLES.iter().map(line).collect()
}

macro_rules! samples {
    ($($file:literal,)*) => {
        /// Every file of the folder, in its order.
        pub const SAMPLES: &[Sample] = &[$(Sample { file: $file, sql: include_str!(concat!("../../queries/", $file, ".sql")) }),*];
    };
}

samples! {
    "01-newest-blocks",
    "02-freshness",
    "03-skipped-slots",
    "04-not-final",
    "05-gaps",
    "06-transaction-by-signature",
    "07-instructions-of-a-transaction",
    "08-raw-transaction",
    "09-transactions-of-an-address",
    "10-failures-by-reason",
    "11-log-search",
    "12-version-1-transactions",
    "13-fee-percentiles",
    "14-unit-price-per-slot",
    "15-compute-use",
    "16-programs-by-use",
    "17-decode-coverage",
    "18-instructions-by-name",
    "19-conservation",
    "20-token-transfers-of-a-wallet",
    "21-sol-transfers-of-a-wallet",
    "22-mints-and-burns",
    "23-holders-of-a-mint",
    "24-balances-as-of-a-slot",
    "25-balance-history",
    "26-account-latest",
    "27-trades-of-a-pool",
    "28-swaps-of-a-wallet",
    "29-routes",
    "30-candles",
    "31-pool-day",
    "32-largest-swaps",
    "33-sandwich-like",
    "34-stake-events",
    "35-rewards",
    "36-leader-earnings",
    "37-fee-revenue-daily",
    "38-fee-revenue-of-slots",
    "39-program-fees-daily",
    "40-token-volume-daily",
    "41-swap-volume-daily",
    "42-storage",
    "43-my-queries",
    "44-transfers-of-an-account",
    "45-mint",
    "46-upgraded-programs",
    "47-swap-volume-in-tokens",
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Sample = Sample {
        file: "07-x-y",
        sql: "-- Title\n--\n-- What it\n-- answers.\n--\n-- column a: First: of two\n-- param n = 5: How many\n-- rows: any\nSELECT 1 AS a -- rows\n",
    };

    #[test]
    fn reads_what_a_sample_says() {
        assert_eq!(SAMPLE.name(), "x-y");
        let param = Param {
            name: "n",
            default: "5",
            meaning: "How many",
        };
        assert_eq!(
            SAMPLE.header(),
            Ok(Header {
                title: "Title",
                answers: "What it answers.".into(),
                columns: vec![("a", "First: of two")],
                params: vec![param],
                may_be_empty: true,
            })
        );
        for (sql, words) in [
            ("-- T\n-- column a\n", "x.sql, line 2: write `NAME"),
            ("-- T\n-- param a: b\n", "param NAME = DEFAULT"),
        ] {
            let error = Sample { file: "x", sql }.header().unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn takes_defaults_for_what_is_not_given() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(SAMPLE.params(&[]), Ok(vec![pair("n", "5")]));
        assert_eq!(
            SAMPLE.params(&[pair("n", "6"), pair("n", "7")]),
            Ok(vec![pair("n", "7")])
        );
        assert_eq!(
            SAMPLE.params(&[pair("m", "1")]),
            Err("the sample x-y has no parameter m; it has: n".into())
        );
    }
}
