//! What a statement may do at the door. The embedded engine has no users, so this is the first line; its own `readonly`,
//! `allow_ddl` and limits are the second. Pure.
//!
//! The text judged is never the client's: it is the statement as the engine's own parser prints it back (`formatQuery`),
//! without comments, escapes or odd quotes. In that form a call is a name with a bracket right behind it. A statement that
//! the parser does not print is not run. Where names decide, what is allowed is listed, and the rest refused.

mod names;

use std::collections::HashSet;

use super::{
    error::{Kind, ServerError},
    token::{self, Token, Tokens},
    users::Role,
};

/// What the engine offers, asked from it at the start, in lower case: a newer engine may know names that we do not.
#[derive(Debug, Default, Clone)]
pub struct Surface {
    pub table_functions: Vec<String>,
    /// Of tables and of databases.
    pub engines: Vec<String>,
}

impl Surface {
    /// One row per name: what it is, a tab, the name.
    pub const QUESTION: &'static str = "SELECT 'function', lower(name) FROM system.table_functions UNION ALL \
         SELECT 'engine', lower(name) FROM system.table_engines UNION ALL \
         SELECT 'engine', lower(name) FROM system.database_engines";

    pub fn of_answer(answer: &str) -> Self {
        let mut surface = Self::default();
        for line in answer.lines() {
            match line.split_once('\t') {
                Some(("function", name)) => surface.table_functions.push(name.to_owned()),
                Some(("engine", name)) => surface.engines.push(name.to_owned()),
                _ => {}
            }
        }
        surface
    }
}

/// See the module.
pub struct Policy {
    refused_to_all: HashSet<String>,
    refused_to_readers: HashSet<String>,
    refused_engines: HashSet<String>,
    /// The database of the door's own tables.
    own_database: String,
}

/// Who asks, and with what beside the statement.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub role: Role,
    pub database: Option<&'a str>,
    /// Settings beside the statement.
    pub settings: &'a [(String, String)],
    /// Values of `{name:Type}`.
    pub params: &'a [(String, String)],
}

impl Policy {
    pub fn new(surface: &Surface, own_database: &str) -> Self {
        let is_local = |name: &&String| {
            let name = name.as_str();
            names::PURE_TABLE_FUNCTIONS.contains(&name)
                || names::LOCAL_TABLE_FUNCTIONS.contains(&name)
        };
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let mut refused_to_all: HashSet<String> = owned(names::LEAVES_THE_ENGINE);
        refused_to_all.extend(
            surface
                .table_functions
                .iter()
                .filter(|name| !is_local(name))
                .cloned(),
        );
        let refused_engines: HashSet<String> = refused_to_all
            .iter()
            .cloned()
            .chain(surface.engines.iter().cloned())
            .chain(["backup", "distributed", "timeseries", "remote"].map(str::to_owned))
            .filter(|name| !names::LOCAL_ENGINES.contains(&name.as_str()))
            .collect();
        let mut refused_to_readers: HashSet<String> = owned(names::TELLS_ABOUT_THE_MACHINE);
        refused_to_readers.extend(owned(names::LOCAL_TABLE_FUNCTIONS) as HashSet<String>);
        Self {
            refused_to_all,
            refused_to_readers,
            refused_engines,
            own_database: own_database.to_owned(),
        }
    }

    /// Judges a statement in the engine's own spelling.
    pub fn permit(&self, printed: &[u8], asked: Asked<'_>) -> Result<(), ServerError> {
        let text = Text {
            text: printed,
            tokens: Tokens::new(printed).collect(),
        };
        no_files(&text)?;
        no_leaving_settings(&text, asked)?;
        kind_of_statement(&text, asked.role)?;
        self.calls(&text, asked.role)?;
        self.engines(&text, asked.role)?;
        self.names(&text, asked)
    }

    /// Functions, table functions, dictionary sources and disks.
    fn calls(&self, text: &Text<'_>, role: Role) -> Result<(), ServerError> {
        let backup = role == Role::Admin && matches!(text.word(0).as_str(), "BACKUP" | "RESTORE");
        for (at, name) in text.calls() {
            let lower = name.to_lowercase();
            // The engine confines these to its `backups.allowed_path` and `backups.allowed_disk`.
            let destination = backup
                && matches!(lower.as_str(), "file" | "disk")
                && (text.is(at.wrapping_sub(1), "TO")
                    || text.is(at.wrapping_sub(1), "FROM")
                    || text.is(at.wrapping_sub(2), "base_backup"));
            if self.refused_to_all.contains(&lower) && !destination {
                return Err(denied(format!(
                    "{name} reaches outside the warehouse and is refused"
                )));
            }
            if role == Role::Reader && self.refused_to_readers.contains(&lower) {
                return Err(denied(format!(
                    "{name} is not for users with the role reader"
                )));
            }
        }
        Ok(())
    }

    /// `ENGINE = X` of what a statement creates, and the source of a dictionary.
    fn engines(&self, text: &Text<'_>, role: Role) -> Result<(), ServerError> {
        if !text.has_word("CREATE") && !text.has_word("ATTACH") && !text.has_word("REPLACE") {
            return Ok(());
        }
        for at in 0..text.tokens.len() {
            if text.is(at, "ENGINE") {
                let name = text.name(if text.is_mark(at + 1, b'=') {
                    at + 2
                } else {
                    at + 1
                });
                let lower = name.to_lowercase();
                let of_cluster = role == Role::Admin && lower == "distributed";
                if self.refused_engines.contains(&lower) && !of_cluster {
                    return Err(denied(format!(
                        "engine {name} keeps its rows outside the warehouse and is refused"
                    )));
                }
            }
            if text.is(at, "SOURCE") && text.is_mark(at + 1, b'(') {
                let name = text.name(at + 2);
                let local = matches!(name.to_lowercase().as_str(), "clickhouse" | "null");
                let elsewhere = (at..text.tokens.len()).any(|at| text.is(at, "HOST"));
                if !local || elsewhere {
                    return Err(denied(format!(
                        "a dictionary's source must be CLICKHOUSE without HOST; {name} is refused"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Databases and tables that are not for everyone.
    fn names(&self, text: &Text<'_>, asked: Asked<'_>) -> Result<(), ServerError> {
        if asked.role == Role::Admin {
            return Ok(());
        }
        self.names_in_strings(text)?;
        for at in 0..text.tokens.len() {
            let name = text.name(at);
            self.database(&name, "")?;
            if asked.role == Role::Reader && name == "system" && text.is_mark(at + 1, b'.') {
                let table = text.name(at + 2);
                if !names::OPEN_SYSTEM_TABLES.contains(&table.as_str()) {
                    return Err(denied(format!(
                        "system.{table} is not for users with the role reader"
                    )));
                }
            }
        }
        let reader_must_not = if asked.role == Role::Reader {
            "system"
        } else {
            ""
        };
        if let Some(database) = asked.database {
            self.database(database, reader_must_not)?;
        }
        for param in text.identifier_params() {
            let values = asked.params.iter().filter(|(name, _)| *name == param);
            for (_, value) in values {
                for part in token::unescaped(value.as_bytes(), 0).split('.') {
                    self.database(part.trim_matches(['`', '"', ' ']), reader_must_not)?;
                }
            }
        }
        Ok(())
    }

    /// `merge`, `Merge` and `Buffer` take the database as text: it must be a plain one, and not the door's.
    fn names_in_strings(&self, text: &Text<'_>) -> Result<(), ServerError> {
        for (at, call) in text.calls() {
            if !matches!(call.to_lowercase().as_str(), "merge" | "buffer") {
                continue;
            }
            let plain = text.is_mark(at + 3, b',') || text.is_mark(at + 3, b')');
            if !plain {
                return Err(denied(format!(
                    "{call} wants its database as a name or a plain string"
                )));
            }
            self.database(&text.literal(at + 2), "")?;
        }
        Ok(())
    }

    fn database(&self, name: &str, also_refused: &str) -> Result<(), ServerError> {
        if name == self.own_database || (!name.is_empty() && name == also_refused) {
            return Err(denied(format!("database {name} is not for this user")));
        }
        Ok(())
    }
}

/// `INTO OUTFILE`, `FROM INFILE`, `ATTACH … FROM 'path'`: files of the door's machine.
fn no_files(text: &Text<'_>) -> Result<(), ServerError> {
    let attaches = text.word(0) == "ATTACH";
    let found = (0..text.tokens.len()).any(|at| {
        (text.is(at, "INTO") && text.is(at + 1, "OUTFILE"))
            || (text.is(at, "FROM") && text.is(at + 1, "INFILE"))
            || (attaches && text.is(at, "FROM") && text.kind(at + 1) == Some(token::Kind::Literal))
    });
    if found {
        return Err(ServerError::new(
            Kind::OutfileNotAllowed,
            "INTO OUTFILE, FROM INFILE and ATTACH … FROM are not allowed: they name files of the door's machine. Send rows in the request's body, or save the answer",
        ));
    }
    Ok(())
}

/// Settings that reach outside, in a statement or beside it. `log_comment` says whose rows of the query log are seen; beside
/// a statement the door takes it for itself.
fn no_leaving_settings(text: &Text<'_>, asked: Asked<'_>) -> Result<(), ServerError> {
    let sets = text.has_word("SETTINGS") || text.has_word("SETTING") || text.has_word("SET");
    let within = (0..text.tokens.len())
        .filter(|at| sets && text.is_mark(at + 1, b'='))
        .map(|at| text.name(at).to_lowercase())
        .find(|name| leaves(name) || (name == "log_comment" && asked.role != Role::Admin));
    let beside = asked
        .settings
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .find(|name| leaves(name));
    match within.or(beside) {
        Some(name) => Err(denied(format!(
            "the setting {name} reaches outside the statement and is refused"
        ))),
        None => Ok(()),
    }
}

fn leaves(setting: &str) -> bool {
    names::SETTINGS_THAT_LEAVE.contains(&setting)
        || names::ENDS_OF_SETTINGS_THAT_LEAVE
            .iter()
            .any(|end| setting.ends_with(end))
}

fn kind_of_statement(text: &Text<'_>, role: Role) -> Result<(), ServerError> {
    let first = text.word(0);
    let readonly = || {
        ServerError::new(
            Kind::Readonly,
            format!(
                "Cannot execute query in readonly mode: {first} is not for users with the role {role}"
            ),
        )
    };
    // `A PARALLEL WITH B` is two statements.
    let two = (0..text.tokens.len()).any(|at| text.is(at, "PARALLEL") && text.is(at + 1, "WITH"));
    match role {
        Role::Admin => Ok(()),
        _ if two => Err(ServerError::new(
            Kind::SyntaxError,
            "PARALLEL WITH is not offered: send one statement per request",
        )),
        Role::Reader if !names::READER_STATEMENTS.contains(&first.as_str()) => Err(readonly()),
        _ if first == "SHOW" && !may_show(text, role) => Err(denied(format!(
            "SHOW {} is not for users with the role {role}",
            text.word(1)
        ))),
        Role::Reader => Ok(()),
        Role::Writer => {
            let names_an_object = matches!(
                first.as_str(),
                "CREATE"
                    | "ALTER"
                    | "DROP"
                    | "DETACH"
                    | "ATTACH"
                    | "RENAME"
                    | "EXCHANGE"
                    | "UNDROP"
            );
            let known = names::READER_STATEMENTS.contains(&first.as_str())
                || names::WRITER_STATEMENTS.contains(&first.as_str());
            if !known
                || (names_an_object && !names::WRITER_OBJECTS.contains(&text.word(1).as_str()))
            {
                let object = text.word(1);
                return Err(denied(format!(
                    "{first} {object} is not for users with the role writer"
                )));
            }
            Ok(())
        }
    }
}

fn may_show(text: &Text<'_>, role: Role) -> bool {
    let what = text.word(1);
    let of_all = names::READER_SHOWS.contains(&what.as_str())
        && (what != "CREATE" || names::WRITER_OBJECTS.contains(&text.word(2).as_str()));
    of_all || (role == Role::Writer && matches!(what.as_str(), "PROCESSLIST" | "MERGES"))
}

fn denied(problem: String) -> ServerError {
    ServerError::new(
        Kind::AccessDenied,
        format!("Not enough privileges: {problem}"),
    )
}

struct Text<'a> {
    text: &'a [u8],
    tokens: Vec<Token>,
}

impl Text<'_> {
    fn kind(&self, at: usize) -> Option<token::Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.is(self.text, word))
    }

    fn is_mark(&self, at: usize, mark: u8) -> bool {
        self.kind(at) == Some(token::Kind::Mark(mark))
    }

    fn has_word(&self, word: &str) -> bool {
        (0..self.tokens.len()).any(|at| self.is(at, word))
    }

    /// The bare word there, in capitals; empty for anything else.
    fn word(&self, at: usize) -> String {
        self.tokens
            .get(at)
            .filter(|token| token.kind == token::Kind::Word)
            .and_then(|token| token.name(self.text))
            .unwrap_or_default()
            .to_ascii_uppercase()
    }

    fn name(&self, at: usize) -> String {
        self.tokens
            .get(at)
            .and_then(|token| token.name(self.text))
            .unwrap_or_default()
    }

    /// What a string literal says; empty for anything else.
    fn literal(&self, at: usize) -> String {
        self.tokens
            .get(at)
            .filter(|token| token.kind == token::Kind::Literal && self.text[token.start] == b'\'')
            .map(|token| token::unescaped(&self.text[token.start + 1..token.end - 1], b'\''))
            .unwrap_or_default()
    }

    /// Every name with a bracket right behind it, and where it stands.
    fn calls(&self) -> impl Iterator<Item = (usize, String)> {
        self.tokens
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| {
                pair[1].kind == token::Kind::Mark(b'(') && pair[0].end == pair[1].start
            })
            .filter_map(|(at, pair)| Some((at, pair[0].name(self.text)?)))
    }

    /// Names of parameters that stand for identifiers: `{name:Identifier}`.
    fn identifier_params(&self) -> impl Iterator<Item = String> {
        (0..self.tokens.len())
            .filter(|at| {
                self.is_mark(*at, b'{')
                    && self.is_mark(at + 2, b':')
                    && self.is(at + 3, "Identifier")
            })
            .map(|at| self.name(at + 1))
    }
}

#[cfg(test)]
mod tests;
