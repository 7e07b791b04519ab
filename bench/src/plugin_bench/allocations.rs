//! The bench's end of `examples/allocation_counter.rs`, a library that counts what each thread allocates when it is loaded
//! by `LD_PRELOAD`. It sees every object of the process that allocates by libc, so foreign plugins too; not one that
//! brings an allocator of its own.

use std::path::PathBuf;

/// Name of the library's one function; `examples/allocation_counter.rs` exports it.
const READER: &[u8] = b"heliograph_allocations_on_this_thread\0";

/// Reads the calling thread's count.
#[derive(Debug, Clone, Copy)]
pub struct AllocationReader(extern "C" fn() -> u64);

impl AllocationReader {
    /// `None` when the library is not loaded into this process.
    #[allow(unsafe_code)]
    pub fn find() -> Option<Self> {
        let program = libloading::os::unix::Library::this();
        // SAFETY: the only library with this name is ours, and its function has this signature. Preloaded, it is never
        // unmapped.
        let reader = unsafe { program.get::<extern "C" fn() -> u64>(READER) }.ok()?;
        Some(Self(*reader))
    }

    pub fn on_this_thread(self) -> u64 {
        (self.0)()
    }
}

/// Where cargo puts the library, beside this program; `None` when it has not been built.
pub fn counter_library() -> Option<PathBuf> {
    let path = local_services::workspace_binary("examples/liballocation_counter.so");
    path.is_file().then_some(path)
}
