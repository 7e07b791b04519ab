//! Records what this plugin was built by and with, so that it can refuse a host that was not.

use std::{env, fs, path::Path, process::Command};

/// Crates whose types cross the plugin boundary with the Rust ABI. The host must have been built with the same versions.
const BOUNDARY_CRATES: &[&str] = &[
    "agave-geyser-plugin-interface",
    // The host's side of the interface, released with it under the same version throughout 4.2.
    "solana-geyser-plugin-manager",
    "solana-transaction-status",
    "solana-transaction-status-client-types",
    "solana-account-decoder-client-types",
    "solana-message",
    "solana-transaction",
    "solana-transaction-error",
    "solana-instruction-error",
    "solana-transaction-context",
];

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc)
        .arg("-V")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    // `rustc 1.95.0 (59807616e 2026-04-14)` → what the compiler writes into `.comment`.
    let version = version.trim().replacen("rustc ", "rustc version ", 1);
    println!("cargo:rustc-env=HELIOGRAPH_BUILT_BY={version}");

    let manifest = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let lock = Path::new(&manifest).join("../Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock.display());
    println!("cargo:rerun-if-changed=build.rs");
    // Never unmapped: Rust's standard library leaves destructors behind on the thread that loads the plugin, and those must
    // find their code. Without this it stays mapped all the same, but only because of them. Another version of the plugin
    // is another file (see the operators' guide).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    let lock = fs::read_to_string(lock).unwrap_or_default();
    let versions: Vec<String> = BOUNDARY_CRATES
        .iter()
        .flat_map(|name| {
            locked_versions(&lock, name).map(move |version| format!("{name} {version}"))
        })
        .collect();
    println!(
        "cargo:rustc-env=HELIOGRAPH_BUILT_WITH={}",
        versions.join(",")
    );
}

/// Every version of the package in the lock file.
fn locked_versions<'a>(lock: &'a str, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let wanted = format!("name = \"{name}\"");
    let mut lines = lock.lines();
    std::iter::from_fn(move || {
        while let Some(line) = lines.next() {
            if line == wanted {
                let version = lines.next().unwrap_or_default();
                return version
                    .strip_prefix("version = \"")
                    .and_then(|rest| rest.strip_suffix('"'));
            }
        }
        None
    })
}
