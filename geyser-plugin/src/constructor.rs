//! The one symbol a validator looks up, and the one place with `unsafe`.
//!
//! The host is examined before it gets anything whose layout it could misread. There is no value that says "no" across an
//! unknown layout: null is undefined behaviour in the host, and a plugin whose `on_load` fails is already called through the
//! trait object in doubt. So a host that does not fit gets one line on stderr and nothing else: at start the process ends
//! with [`EXIT_REFUSED`]; a validator that is already running (its plugin thread calls) is not ended for a plugin's sake,
//! that thread is parked.

use agave_geyser_plugin_interface::geyser_plugin_interface::GeyserPlugin;

use crate::{Plugin, host_check};

/// `EX_CONFIG` of sysexits.h.
pub const EXIT_REFUSED: i32 = 78;

/// Name of the validator's thread that loads plugins by admin request, as the kernel cuts it.
const LOADING_THREAD: &str = "SolGeyserPlugin";

/// Called once per load, by the validator, through `dlsym`.
///
/// # Safety
///
/// The caller takes the pointer into a `Box<dyn GeyserPlugin>` and keeps the library mapped for as long as that lives. Host
/// and plugin must agree on Rust's layouts; the check inside refuses hosts that are known not to, or that do not say.
#[allow(unsafe_code, improper_ctypes_definitions)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _create_plugin() -> *mut dyn GeyserPlugin {
    match host_check::check_host() {
        Ok(_) => Box::into_raw(Box::new(Plugin::default())),
        Err(mismatch) => refuse(&mismatch),
    }
}

fn refuse(mismatch: &host_check::Mismatch) -> ! {
    eprintln!("heliograph: plugin refused: {mismatch}");
    let thread = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
    if thread.trim_end() == LOADING_THREAD {
        eprintln!(
            "heliograph: the validator runs on without the plugin; its plugin commands answer again after a restart"
        );
        loop {
            std::thread::park();
        }
    }
    std::process::exit(EXIT_REFUSED)
}
