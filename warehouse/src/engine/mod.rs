//! The ClickHouse engine inside this process: one data directory, a keeper connection, a pool of sessions.
//!
//! A session ([`Handle`]) runs one statement at a time. One whose settings were changed is not given back to the pool but
//! closed: opening another costs a third of a millisecond, and no request can inherit another's settings.

pub mod cold;
pub mod ffi;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use ffi::{Connection, Library};

/// How the engine is started.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub library: PathBuf,
    pub data_dir: PathBuf,
    /// Database of statements that name none; created when absent.
    pub database: String,
    /// Bytes the engine may hold in all.
    pub memory_bytes: u64,
    pub mark_cache_bytes: u64,
    /// Threads that merge parts.
    pub background_threads: u32,
    /// Idle sessions kept open.
    pub idle_sessions: usize,
    /// Longest statement, in bytes.
    pub text_bytes_max: usize,
    /// Folder that `BACKUP … TO File` may write to; `None`: no backups.
    pub backup_dir: Option<PathBuf>,
    /// Folder of the cold volume; `None`: there is none.
    pub cold_dir: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Load(#[from] ffi::LoadError),
    #[error(
        "the engine does not open {0}: is another warehouse-door running on it? Stop that one or set data_dir to another directory"
    )]
    Open(String),
    #[error("the engine refuses {statement}: {problem}")]
    Statement { statement: String, problem: String },
    #[error("cannot use the folder {path}: {problem}")]
    Directory { path: String, problem: String },
    #[error("engine.cold_path: {problem}")]
    Cold { problem: String },
    #[error("the engine is closed")]
    Closed,
}

impl EngineError {
    fn folder(path: &Path, error: &std::io::Error) -> Self {
        Self::Directory {
            path: path.display().to_string(),
            problem: error.to_string(),
        }
    }
}

/// See the module.
pub struct Engine {
    library: &'static Library,
    arguments: Vec<String>,
    folder: PathBuf,
    database: String,
    version: String,
    timezone: String,
    /// Keeps the engine alive between statements, and runs the short ones of our own (cancellation).
    keeper: Mutex<Option<Connection>>,
    idle: Mutex<Vec<Handle>>,
    idle_max: usize,
    open: Arc<AtomicUsize>,
    numbers: AtomicU64,
}

/// A session of the engine.
pub struct Handle {
    pub connection: Connection,
    /// Names the session in `system.processes` (`log_comment` begins with it and a slash), so that another session can
    /// cancel its statement. The rest of `log_comment` is the user's name.
    pub tag: String,
    /// Something outlives the statement that ran: settings, the current database, temporary tables.
    pub changed: bool,
    /// Its client went away: a cancellation by name may still be under way.
    pub abandoned: bool,
    _count: OpenCount,
}

/// Counts the handles that are alive.
struct OpenCount(Arc<AtomicUsize>);

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    pub fn open(options: &EngineOptions) -> Result<Arc<Self>, EngineError> {
        let library = Library::load(&options.library)?;
        std::fs::create_dir_all(&options.data_dir)
            .map_err(|error| EngineError::folder(&options.data_dir, &error))?;
        let arguments = arguments(options)?;
        let mut keeper = Connection::open(library, &arguments)
            .ok_or_else(|| EngineError::Open(options.data_dir.display().to_string()))?;
        run(
            &mut keeper,
            &format!(
                "CREATE DATABASE IF NOT EXISTS {}",
                quote_identifier(&options.database)
            ),
        )?;
        let about = run(&mut keeper, "SELECT version(), timezone()")?;
        let (version, timezone) = about
            .trim_end()
            .split_once('\t')
            .unwrap_or((about.as_str(), "UTC"));
        Ok(Arc::new(Self {
            library,
            arguments,
            folder: options.data_dir.clone(),
            database: options.database.clone(),
            version: version.to_owned(),
            timezone: timezone.to_owned(),
            keeper: Mutex::new(Some(keeper)),
            idle: Mutex::new(Vec::new()),
            idle_max: options.idle_sessions,
            open: Arc::default(),
            numbers: AtomicU64::new(0),
        }))
    }

    /// The engine's own version, as `SELECT version()` says.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn timezone(&self) -> &str {
        &self.timezone
    }

    /// In which every session begins.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sessions in use or idle.
    pub fn sessions(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A session in its first state. Blocks for about a third of a millisecond when none is idle.
    pub fn session(&self) -> Result<Handle, EngineError> {
        if let Some(handle) = self.idle.lock().pop() {
            return Ok(handle);
        }
        if self.keeper.lock().is_none() {
            return Err(EngineError::Closed);
        }
        let tag = format!(
            "door-{}-{}",
            std::process::id(),
            self.numbers.fetch_add(1, Ordering::Relaxed)
        );
        let mut connection = Connection::open(self.library, &self.arguments).ok_or_else(|| {
            EngineError::Open(self.arguments.first().cloned().unwrap_or_default())
        })?;
        run(
            &mut connection,
            &format!("USE {}", quote_identifier(&self.database)),
        )?;
        run(
            &mut connection,
            &format!("SET log_comment = {}", quote_text(&format!("{tag}/"))),
        )?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Handle {
            connection,
            tag,
            changed: false,
            abandoned: false,
            _count: OpenCount(self.open.clone()),
        })
    }

    /// Takes a session back after its statement.
    pub fn give_back(&self, handle: Handle) {
        let mut idle = self.idle.lock();
        if !handle.changed
            && !handle.abandoned
            && idle.len() < self.idle_max
            && self.keeper.lock().is_some()
        {
            idle.push(handle);
        }
    }

    /// Cancels whatever the session named `tag` is running. Returns at once: `KILL QUERY … SYNC` may never come back.
    pub fn cancel(&self, tag: &str) {
        let statement = format!(
            "KILL QUERY WHERE startsWith(Settings['log_comment'], {}) ASYNC FORMAT Null",
            quote_text(&format!("{tag}/"))
        );
        if let Some(keeper) = self.keeper.lock().as_mut()
            && let Err(problem) = run(keeper, &statement)
        {
            tracing::warn!(%problem, tag, "a statement could not be cancelled");
        }
    }

    /// A statement as the engine's parser prints it. Runs nothing. The session used is one without settings of anybody.
    pub fn print(&self, statement: &[u8]) -> Result<Printed, EngineError> {
        let mut handle = self.session()?;
        let params = [("q".to_owned(), escape_param(statement))];
        let result = handle
            .connection
            .query(Printed::QUESTION.as_bytes(), "TSVRaw", &params);
        self.give_back(handle);
        let answer = result.map_err(|problem| EngineError::Statement {
            statement: String::from_utf8_lossy(statement).into_owned(),
            problem,
        })?;
        Ok(Printed::of_answer(&String::from_utf8_lossy(answer.bytes())))
    }

    /// One short read of our own.
    pub fn ask(&self, sql: &str) -> Result<String, EngineError> {
        run(self.keeper.lock().as_mut().ok_or(EngineError::Closed)?, sql)
    }

    /// Closes idle sessions and the keeper. Sessions in use must have been given back before; the process ends after this.
    pub fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
        drop(self.keeper.lock().take());
    }
}

/// A statement in the engine's own spelling: no comments, one way to quote, secrets hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printed {
    /// Equal for statements that differ only in literals.
    pub hash: u64,
    pub text: String,
}

impl Printed {
    /// To be asked with the statement as the parameter `q`, in the format TSVRaw.
    pub const QUESTION: &'static str =
        "SELECT normalizedQueryHash({q:String}), formatQuerySingleLine({q:String})";

    pub fn of_answer(answer: &str) -> Self {
        let (hash, text) = answer.split_once('\t').unwrap_or_default();
        Self {
            hash: hash.parse().unwrap_or_default(),
            text: text.trim_end().to_owned(),
        }
    }

    /// The parser's error without our question around it.
    pub fn problem(text: &str) -> String {
        match text.split_once(": In scope SELECT normalizedQueryHash(") {
            Some((problem, question)) => {
                let name = question
                    .rsplit_once(" (")
                    .map_or("SYNTAX_ERROR)", |(_, name)| name);
                format!("{}. ({name}", problem.trim_end_matches(['.', ' ']))
            }
            None => text.to_owned(),
        }
    }
}

/// A value of a `{name:String}` parameter, escaped as in TSV. Bytes that are no UTF-8 can only stand in literals.
pub fn escape_param(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            other => out.push(other),
        }
    }
    out
}

/// Start arguments. The first connection boots the engine with them; later ones take only the query-level settings.
fn arguments(options: &EngineOptions) -> Result<Vec<String>, EngineError> {
    let mut arguments = vec![
        format!("--path={}", options.data_dir.display()),
        format!("--max_server_memory_usage={}", options.memory_bytes),
        format!("--mark_cache_size={}", options.mark_cache_bytes),
        format!("--background_pool_size={}", options.background_threads),
        format!("--max_query_size={}", options.text_bytes_max),
        // The engine's default is asynchronous inserts, which acknowledge before the rows are durable and merge tokens.
        "--async_insert=0".into(),
        // `1+1` is not a statement.
        "--implicit_select=0".into(),
        // On by default in this embedding: functions that read the process's memory map.
        "--allow_introspection_functions=0".into(),
        "--output_format_pretty_color=0".into(),
    ];
    if let Some(file) = configuration(options)? {
        arguments.push(format!("--config-file={}", file.display()));
    }
    Ok(arguments)
}

/// What the engine takes from a file only: where backups may be written, and the cold volume.
fn configuration(options: &EngineOptions) -> Result<Option<PathBuf>, EngineError> {
    let mut parts = Vec::new();
    if let Some(dir) = &options.backup_dir {
        std::fs::create_dir_all(dir).map_err(|error| EngineError::folder(dir, &error))?;
        let dir = dir
            .canonicalize()
            .map_err(|error| EngineError::folder(dir, &error))?;
        parts.push(format!(
            "<backups><allowed_path>{}</allowed_path></backups>",
            escape_xml(&dir)
        ));
    }
    if let Some(dir) = cold::open(&options.data_dir, options.cold_dir.as_deref())? {
        parts.push(cold::storage_configuration(&dir));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let file = options.data_dir.join("door-engine.xml");
    let text = format!("<clickhouse>{}</clickhouse>\n", parts.concat());
    std::fs::write(&file, text).map_err(|error| EngineError::folder(&file, &error))?;
    Ok(Some(file))
}

fn escape_xml(path: &Path) -> String {
    let text = path.display().to_string();
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn run(connection: &mut Connection, sql: &str) -> Result<String, EngineError> {
    let result = connection
        .query(sql.as_bytes(), "TabSeparated", &[])
        .map_err(|problem| EngineError::Statement {
            statement: sql.to_owned(),
            problem,
        })?;
    Ok(String::from_utf8_lossy(result.bytes()).into_owned())
}

/// `name` as a quoted identifier.
pub fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// `text` as a string literal.
pub fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
