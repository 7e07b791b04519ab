//! The C interface of libchdb 26.7, and nothing else: the only unsafe code of this crate.
//!
//! Every pointer the library hands out is owned by one Rust value that frees it once. A connection runs one statement at
//! a time, so everything that uses it borrows it mutably; the library may be called from any thread.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr::NonNull,
};

type Raw = *mut c_void;
type OneParam = unsafe extern "C" fn(Raw) -> Raw;
type Free = unsafe extern "C" fn(Raw);
type Number = unsafe extern "C" fn(Raw) -> u64;
type Text = unsafe extern "C" fn(Raw) -> *const c_char;
type Bound = unsafe extern "C" fn(
    Raw,
    *const u8,
    usize,
    *const u8,
    usize,
    *const *const u8,
    *const usize,
    *const *const u8,
    *const usize,
    usize,
) -> Raw;

/// What `chdb_classify_query_n` reports; versioned by its size.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Analysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// What a statement does to state that outlives it, by the engine's own parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueryClass {
    ReadOnly,
    Mutating,
    /// Functions, named collections, workloads: persistent, beside the databases.
    MutatingGlobal,
    /// Session state, `KILL`, `SYSTEM`, `BACKUP`, `INTO OUTFILE`.
    Control,
    /// It does not parse.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classification {
    pub class: QueryClass,
    pub statements: u32,
}

/// The loaded library. Never unloaded: the engine's threads live as long as the process.
pub struct Library {
    connect: unsafe extern "C" fn(c_int, *const *const c_char) -> *mut Raw,
    close: unsafe extern "C" fn(*mut Raw),
    query: Bound,
    stream_query: Bound,
    fetch: unsafe extern "C" fn(Raw, Raw) -> Raw,
    cancel_query: unsafe extern "C" fn(Raw, Raw),
    destroy_result: Free,
    result_buffer: OneParam,
    result_length: unsafe extern "C" fn(Raw) -> usize,
    result_error: Text,
    result_rows: Number,
    result_bytes: Number,
    storage_rows: Number,
    storage_bytes: Number,
    rows_written: Number,
    bytes_written: Number,
    insert: Bound,
    append: unsafe extern "C" fn(Raw, *const c_void, usize) -> c_int,
    insert_done: OneParam,
    insert_cancel: Free,
    insert_error: Text,
    insert_destroy: Free,
    classify: unsafe extern "C" fn(Raw, *const u8, usize, *const u8, usize, *mut Analysis) -> c_int,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot load {path}: {problem}. Set engine.library to a libchdb.so of version 26.7.3 or later (npm package @chdb/lib-linux-x64-gnu)"
)]
pub struct LoadError {
    path: String,
    problem: String,
}

impl Library {
    /// Loads the library for the life of the process.
    pub fn load(path: &Path) -> Result<&'static Self, LoadError> {
        let failed = |problem: String| LoadError {
            path: path.display().to_string(),
            problem,
        };
        if !path.is_file() {
            return Err(failed("no such file".into()));
        }
        // SAFETY: loading runs the library's initialisers. libchdb is a trusted part of the product, named by the
        // operator, and is made to be loaded this way.
        let library =
            unsafe { libloading::Library::new(path) }.map_err(|error| failed(error.to_string()))?;
        macro_rules! symbol {
            ($name:literal) => {{
                // SAFETY: the type of the field is the C declaration of this symbol in chdb.h 26.7. The pointer stays
                // valid because the library is leaked below.
                let found = unsafe { library.get(concat!($name, "\0").as_bytes()) };
                *found.map_err(|_| failed(format!("it has no symbol {}", $name)))?
            }};
        }
        let silence: libloading::Symbol<'_, unsafe extern "C" fn(c_int)> =
            // SAFETY: the declaration of chdb.h; called before the first connection, as it asks.
            unsafe { library.get(b"chdb_set_signal_handlers_enabled\0") }
                .map_err(|_| failed("it has no symbol chdb_set_signal_handlers_enabled".into()))?;
        // SAFETY: takes a plain integer. Signals belong to this process's own drain.
        unsafe { silence(0) };
        let loaded = Self {
            connect: symbol!("chdb_connect"),
            close: symbol!("chdb_close_conn"),
            query: symbol!("chdb_query_with_params_n"),
            stream_query: symbol!("chdb_stream_query_with_params_n"),
            fetch: symbol!("chdb_stream_fetch_result"),
            cancel_query: symbol!("chdb_stream_cancel_query"),
            destroy_result: symbol!("chdb_destroy_query_result"),
            result_buffer: symbol!("chdb_result_buffer"),
            result_length: symbol!("chdb_result_length"),
            result_error: symbol!("chdb_result_error"),
            result_rows: symbol!("chdb_result_rows_read"),
            result_bytes: symbol!("chdb_result_bytes_read"),
            storage_rows: symbol!("chdb_result_storage_rows_read"),
            storage_bytes: symbol!("chdb_result_storage_bytes_read"),
            rows_written: symbol!("chdb_result_rows_written"),
            bytes_written: symbol!("chdb_result_bytes_written"),
            insert: symbol!("chdb_stream_insert_with_params_n"),
            append: symbol!("chdb_stream_append"),
            insert_done: symbol!("chdb_stream_done"),
            insert_cancel: symbol!("chdb_stream_cancel_insert"),
            insert_error: symbol!("chdb_stream_insert_error"),
            insert_destroy: symbol!("chdb_destroy_insert_stream"),
            classify: symbol!("chdb_classify_query_n"),
        };
        std::mem::forget(library);
        Ok(Box::leak(Box::new(loaded)))
    }
}

/// Names and values of a statement's `{name:Type}` parameters, in the shape C wants.
struct Params {
    names: Vec<*const u8>,
    name_lengths: Vec<usize>,
    values: Vec<*const u8>,
    value_lengths: Vec<usize>,
}

impl Params {
    fn of(params: &[(String, String)]) -> Self {
        Self {
            names: params.iter().map(|(name, _)| name.as_ptr()).collect(),
            name_lengths: params.iter().map(|(name, _)| name.len()).collect(),
            values: params.iter().map(|(_, value)| value.as_ptr()).collect(),
            value_lengths: params.iter().map(|(_, value)| value.len()).collect(),
        }
    }

    /// # Safety
    /// `call` is one of the library's `_with_params_n` functions and `connection` is open and idle.
    unsafe fn run(&self, call: Bound, connection: Raw, sql: &[u8], format: &str) -> Raw {
        // SAFETY: all pointers and lengths describe live borrows; the library copies what it keeps.
        unsafe {
            call(
                connection,
                sql.as_ptr(),
                sql.len(),
                format.as_ptr(),
                format.len(),
                self.names.as_ptr(),
                self.name_lengths.as_ptr(),
                self.values.as_ptr(),
                self.value_lengths.as_ptr(),
                self.names.len(),
            )
        }
    }
}

/// One session of the engine.
pub struct Connection {
    library: &'static Library,
    handle: NonNull<Raw>,
}

// SAFETY: the library lets a connection be used from any thread, one statement at a time; `&mut self` guarantees the latter.
unsafe impl Send for Connection {}

impl Connection {
    /// Arguments as of clickhouse-local, `--path=DIR` first of all. `None` when the engine refuses; it does not say why
    /// (most often: another process holds the directory).
    pub fn open(library: &'static Library, arguments: &[String]) -> Option<Self> {
        let owned: Vec<CString> = std::iter::once("clickhouse")
            .chain(arguments.iter().map(String::as_str))
            .map(|argument| CString::new(argument).ok())
            .collect::<Option<_>>()?;
        let pointers: Vec<*const c_char> = owned.iter().map(|argument| argument.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `pointers` holds `count` NUL-terminated strings that outlive the call.
        let handle = NonNull::new(unsafe { (library.connect)(count, pointers.as_ptr()) })?;
        Some(Self { library, handle })
    }

    fn raw(&self) -> Raw {
        // SAFETY: `handle` came from chdb_connect and is closed only on drop.
        unsafe { *self.handle.as_ptr() }
    }

    /// Runs a statement and holds its whole result. Never give it inline data: the engine cuts that at a blank line.
    pub fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        params: &[(String, String)],
    ) -> Result<QueryResult, String> {
        // SAFETY: the connection is open and, by `&mut self`, idle.
        let raw = unsafe { Params::of(params).run(self.library.query, self.raw(), sql, format) };
        QueryResult::checked(self.library, raw)
    }

    /// Starts a `SELECT` whose result is fetched block by block.
    pub fn stream(
        &mut self,
        sql: &[u8],
        format: &str,
        params: &[(String, String)],
    ) -> Result<ResultStream<'_>, String> {
        // SAFETY: as in `query`.
        let raw =
            unsafe { Params::of(params).run(self.library.stream_query, self.raw(), sql, format) };
        let handle = QueryResult::checked(self.library, raw)?;
        Ok(ResultStream {
            connection: self,
            handle,
            ended: false,
        })
    }

    /// Starts an `INSERT` (without `FORMAT` and data) whose rows follow in `format`, binary-safe.
    pub fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        params: &[(String, String)],
    ) -> Result<InsertStream<'_>, String> {
        // SAFETY: as in `query`.
        let raw = unsafe { Params::of(params).run(self.library.insert, self.raw(), sql, format) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(
                "Code: 1002. DB::Exception: the engine gave no insert stream. (UNKNOWN_EXCEPTION)"
                    .into(),
            );
        };
        let stream = InsertStream {
            connection: self,
            raw,
            finished: false,
        };
        match stream.error() {
            Some(problem) => Err(problem),
            None => Ok(stream),
        }
    }

    /// Asks the engine's parser what a statement would do. Runs nothing.
    pub fn classify(&mut self, sql: &[u8]) -> Classification {
        let mut analysis = Analysis {
            struct_size: size_of::<Analysis>() as u32,
            ..Analysis::default()
        };
        // SAFETY: `analysis` is a live struct that states its own size; a null target database is allowed.
        let state = unsafe {
            (self.library.classify)(
                self.raw(),
                sql.as_ptr(),
                sql.len(),
                std::ptr::null(),
                0,
                &mut analysis,
            )
        };
        let class = match (state, analysis.query_class) {
            (0, 0) => QueryClass::ReadOnly,
            (0, 1) => QueryClass::Mutating,
            (0, 2) => QueryClass::MutatingGlobal,
            (0, 3) => QueryClass::Control,
            _ => QueryClass::Unknown,
        };
        Classification {
            class,
            statements: analysis.statement_count,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: closed once, with no stream left open: streams borrow the connection.
        unsafe { (self.library.close)(self.handle.as_ptr()) }
    }
}

/// A result held by the engine; its bytes are read in place.
pub struct QueryResult {
    library: &'static Library,
    raw: NonNull<c_void>,
}

// SAFETY: a finished result is immutable memory of its own; freeing it may happen on any thread.
unsafe impl Send for QueryResult {}
// SAFETY: all accessors only read.
unsafe impl Sync for QueryResult {}

impl QueryResult {
    fn checked(library: &'static Library, raw: Raw) -> Result<Self, String> {
        let Some(raw) = NonNull::new(raw) else {
            return Err(
                "Code: 1002. DB::Exception: the engine gave no result. (UNKNOWN_EXCEPTION)".into(),
            );
        };
        let result = Self { library, raw };
        // SAFETY: `raw` is a live result.
        let error = unsafe { text((library.result_error)(result.raw.as_ptr())) };
        match error {
            Some(problem) => Err(problem),
            None => Ok(result),
        }
    }

    fn number(&self, of: Number) -> u64 {
        // SAFETY: `raw` is a live result and `of` one of its accessors.
        unsafe { of(self.raw.as_ptr()) }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: buffer and length belong to this live result and do not change.
        unsafe {
            let length = (self.library.result_length)(self.raw.as_ptr());
            let start = (self.library.result_buffer)(self.raw.as_ptr()).cast::<u8>();
            if start.is_null() || length == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(start, length)
            }
        }
    }

    pub fn progress(&self) -> Progress {
        Progress {
            read_rows: self.number(self.library.storage_rows),
            read_bytes: self.number(self.library.storage_bytes),
            written_rows: self.number(self.library.rows_written),
            written_bytes: self.number(self.library.bytes_written),
            result_rows: self.number(self.library.result_rows),
            result_bytes: self.number(self.library.result_bytes),
        }
    }
}

impl AsRef<[u8]> for QueryResult {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for QueryResult {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { (self.library.destroy_result)(self.raw.as_ptr()) }
    }
}

/// Rows and bytes of one statement.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub read_rows: u64,
    pub read_bytes: u64,
    pub written_rows: u64,
    pub written_bytes: u64,
    pub result_rows: u64,
    pub result_bytes: u64,
}

/// A running `SELECT`. Dropped early, it is cancelled.
pub struct ResultStream<'c> {
    connection: &'c mut Connection,
    handle: QueryResult,
    ended: bool,
}

impl ResultStream<'_> {
    /// The next block in the stream's format, complete in itself; `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<QueryResult>, String> {
        if self.ended {
            return Ok(None);
        }
        // SAFETY: both handles are live, and the connection is ours alone while the stream lives.
        let raw = unsafe {
            (self.connection.library.fetch)(self.connection.raw(), self.handle.raw.as_ptr())
        };
        match QueryResult::checked(self.connection.library, raw) {
            Ok(chunk) if chunk.bytes().is_empty() => {
                self.ended = true;
                Ok(None)
            }
            Ok(chunk) => Ok(Some(chunk)),
            Err(problem) => {
                self.ended = true;
                Err(problem)
            }
        }
    }
}

impl Drop for ResultStream<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: both handles are live; cancelled at most once.
            unsafe {
                (self.connection.library.cancel_query)(
                    self.connection.raw(),
                    self.handle.raw.as_ptr(),
                )
            }
        }
    }
}

/// A running `INSERT`. Only [`InsertStream::finish`] commits; dropped early, it is cancelled.
pub struct InsertStream<'c> {
    connection: &'c mut Connection,
    raw: NonNull<c_void>,
    finished: bool,
}

impl InsertStream<'_> {
    fn error(&self) -> Option<String> {
        // SAFETY: `raw` is a live insert stream.
        unsafe { text((self.connection.library.insert_error)(self.raw.as_ptr())) }
    }

    /// Hands over the next bytes; blocks while the engine is behind.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), String> {
        // SAFETY: the bytes are copied by the library before it returns.
        let state = unsafe {
            (self.connection.library.append)(self.raw.as_ptr(), bytes.as_ptr().cast(), bytes.len())
        };
        if state == 0 {
            return Ok(());
        }
        // The reason comes out of finishing; a failed stream commits nothing more.
        match self.error() {
            Some(problem) => Err(problem),
            None => Err(self.finish_now().err().unwrap_or_else(|| {
                "Code: 1002. DB::Exception: the engine refused data without a reason. (UNKNOWN_EXCEPTION)".into()
            })),
        }
    }

    fn finish_now(&mut self) -> Result<Progress, String> {
        self.finished = true;
        // SAFETY: `raw` is a live insert stream, finished once.
        let raw = unsafe { (self.connection.library.insert_done)(self.raw.as_ptr()) };
        QueryResult::checked(self.connection.library, raw).map(|result| result.progress())
    }

    /// Commits what was appended.
    pub fn finish(mut self) -> Result<Progress, String> {
        self.finish_now()
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is a live insert stream; cancelled only when never finished, destroyed once.
        unsafe {
            if !self.finished {
                (self.connection.library.insert_cancel)(self.raw.as_ptr());
            }
            (self.connection.library.insert_destroy)(self.raw.as_ptr());
        }
    }
}

/// # Safety
/// `pointer` is null or a NUL-terminated string that lives during the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by the contract above.
    let found = unsafe { CStr::from_ptr(pointer) };
    (!found.is_empty()).then(|| found.to_string_lossy().into_owned())
}

/// Ends the process without running the engine's global destructors, which race its remaining threads.
pub fn exit_without_destructors(code: i32) -> ! {
    // SAFETY: _exit takes a plain integer and does not return.
    unsafe { libc::_exit(code) }
}
