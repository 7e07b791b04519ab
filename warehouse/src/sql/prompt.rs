//! The prompt: lines until a semicolon, with history and completion.

use std::{borrow::Cow, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use rustyline::{
    Config, Context, Editor, Helper,
    completion::Completer,
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::DefaultHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use tokio::runtime::Runtime;

use super::{
    client::{Client, Outcome},
    script,
};

const HELP: &str = "\
A statement ends with a semicolon and may have many lines. Ctrl-C ends the running statement, or clears the line.
  \\f FORMAT   output format: PrettyCompact, Vertical, JSONEachRow, CSVWithNames …
  \\d          tables;  \\d TABLE  its columns
  \\?          this help
  \\q          leave (also Ctrl-D, exit, quit)";

pub fn run(mut client: Client, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    client.keep_session();
    let about = runtime.block_on(client.ask("SELECT version(), currentDatabase(), currentUser()"));
    match about
        .as_deref()
        .and_then(|text| text.trim_end().split_once('\t'))
    {
        Some((version, rest)) => {
            let database = rest.split('\t').next().unwrap_or_default();
            println!("ClickHouse {version}, database {database}. \\? for help");
        }
        None => eprintln!("warning: the server does not answer yet; statements will say why"),
    }
    let names = runtime.block_on(client.ask(
        "SELECT DISTINCT name FROM (SELECT name FROM system.tables WHERE database = currentDatabase() \
         UNION ALL SELECT name FROM system.columns WHERE database = currentDatabase() \
         UNION ALL SELECT keyword FROM system.keywords WHERE keyword NOT LIKE '% %') ORDER BY name",
    ));
    let names = names
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    let config = Config::builder().auto_add_history(true).build();
    let mut editor: Editor<Reader, DefaultHistory> =
        Editor::with_config(config).context("cannot use this terminal")?;
    editor.set_helper(Some(Reader { names }));
    let history = history_file();
    if let Some(path) = &history {
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    loop {
        match editor.readline("heliograph> ") {
            Ok(line) => {
                if !obey(&mut client, runtime, line.trim()) {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("cannot read from this terminal"),
        }
        if let Some(path) = &history
            && let Err(problem) = editor.save_history(path)
        {
            tracing::debug!(%problem, "the history was not saved");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one entry. `false`: leave.
fn obey(client: &mut Client, runtime: &Runtime, line: &str) -> bool {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let statement = match word {
        "" => return true,
        "\\q" | "exit" | "quit" | "exit;" | "quit;" => return false,
        "\\?" | "\\h" | "help" => {
            println!("{HELP}");
            return true;
        }
        "\\f" => {
            client.format = rest.trim().to_owned();
            return true;
        }
        "\\d" if rest.trim().is_empty() => "SHOW TABLES".to_owned(),
        "\\d" => format!(
            "DESCRIBE TABLE {} SETTINGS describe_compact_output = 0",
            rest.trim()
        ),
        _ => line.to_owned(),
    };
    match runtime.block_on(client.run_script(statement.as_bytes(), true)) {
        Outcome::Done => {}
        Outcome::Failed(problem) => eprintln!("error: {problem}"),
        Outcome::Cancelled => eprintln!("cancelled"),
    }
    true
}

/// `$XDG_STATE_HOME/heliograph/sql_history`, its folder made.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    let dir = state.join("heliograph");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("sql_history"))
}

/// Decides when an entry is complete, and completes names.
struct Reader {
    /// Sorted: keywords, tables, columns.
    names: Vec<String>,
}

impl Helper for Reader {}

impl Hinter for Reader {
    type Hint = String;
}

impl Highlighter for Reader {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}

impl Validator for Reader {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let command = text.starts_with('\\') || matches!(text, "exit" | "quit" | "help");
        Ok(if command || script::is_complete(text) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Completer for Reader {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completions(&self.names, line, position))
    }
}

/// Where the word before the cursor begins, and what it could become.
fn completions(names: &[String], line: &str, position: usize) -> (usize, Vec<String>) {
    let before = &line[..position];
    let begin = before
        .rfind(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        });
    let word = before[begin..].to_lowercase();
    if word.is_empty() {
        return (begin, Vec::new());
    }
    let matching = names
        .iter()
        .filter(|name| name.to_lowercase().starts_with(&word));
    (begin, matching.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_the_word_before_the_cursor() {
        let names = ["SELECT", "slot", "transactions"].map(str::to_owned);
        let found = |line: &str| completions(&names, line, line.len());
        assert_eq!(found("sel"), (0, vec!["SELECT".into()]));
        assert_eq!(found("SELECT max(sl"), (11, vec!["slot".into()]));
        assert_eq!(
            found("SELECT ü.s"),
            (10, vec!["SELECT".into(), "slot".into()])
        );
        assert_eq!(found("SELECT "), (7, vec![]));
    }
}
