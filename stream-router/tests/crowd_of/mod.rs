//! What tests with very many clients have in common.

use std::path::PathBuf;

/// As many clients as are wanted.
pub const WANTED: usize = 10_000;
/// File descriptors of a process for other things.
const OTHERS: usize = 200;

/// How many sockets this process, and the clients' like it, may have.
pub fn sockets_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    soft.unwrap_or(1_024) - OTHERS
}

/// The example that is the clients.
pub fn clients(example: &str) -> PathBuf {
    // target/PROFILE/deps/TEST-… → target/PROFILE/examples
    let exe = std::env::current_exe().expect("this program");
    let profile = exe.ancestors().nth(2).expect("a target directory");
    let program = profile.join("examples").join(example);
    let built = "cargo builds examples with the tests";
    assert!(program.is_file(), "{}: {built}", program.display());
    program
}

pub fn resident_mib(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("the process runs") / 1024.0
}
