//! Counts the allocations of each thread of the program into which it is loaded by `LD_PRELOAD`.
//!
//! It stands before libc's `malloc` and its relatives, adds one to a number of the calling thread, and passes the call on to
//! glibc under its other name. It allocates nothing itself. `free` is not touched: the memory is glibc's.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::{c_int, c_void},
};

thread_local! {
    // Initialised at compile time and without a destructor: reading it allocates nothing, at any time of a thread's life.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

const EINVAL: c_int = 22;
const ENOMEM: c_int = 12;

unsafe extern "C" {
    // glibc's own names of the functions below, exported since its first version.
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
}

fn count() {
    // Past the thread's end nobody reads the number.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

/// Allocations that the calling thread has made since it began.
#[unsafe(no_mangle)]
pub extern "C" fn heliograph_allocations_on_this_thread() -> u64 {
    ALLOCATIONS.try_with(Cell::get).unwrap_or(0)
}

/// # Safety
///
/// As of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller's promises are those of the function behind.
    unsafe { __libc_malloc(size) }
}

/// # Safety
///
/// As of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(elements: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: as above.
    unsafe { __libc_calloc(elements, size) }
}

/// # Safety
///
/// As of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
    count();
    // SAFETY: as above.
    unsafe { __libc_realloc(memory, size) }
}

/// # Safety
///
/// As of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: as above.
    unsafe { __libc_memalign(alignment, size) }
}

/// # Safety
///
/// As of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: as above; the C library's function does the same.
    unsafe { __libc_memalign(alignment, size) }
}

/// # Safety
///
/// As of the C library's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    memory: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    if !alignment.is_power_of_two() || alignment < size_of::<*mut c_void>() {
        return EINVAL;
    }
    count();
    // SAFETY: as above.
    let made = unsafe { __libc_memalign(alignment, size) };
    if made.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller gives a place for the address.
    unsafe { *memory = made };
    0
}
