//! What operators are given besides programs: alert rules that fire when they should, scripts that parse.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let rules = repository().join("ops/prometheus");
    let output = match Command::new("promtool")
        .args(["test", "rules", "rules.test.yml"])
        .current_dir(rules)
        .output()
    {
        Ok(output) => output,
        Err(error) => {
            eprintln!(
                "skipped: the alert rules, because promtool (package prometheus) does not run: {error}"
            );
            return;
        }
    };
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The compiler is played; the rest of the script is itself.
#[test]
fn the_plugins_build_script_names_hashes_and_keeps_what_the_host_check_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (tools, out) = (dir.path().join("tools"), dir.path().join("out"));
    std::fs::create_dir(&tools).unwrap();
    // In the library's place: a program of ours, which has a .comment and debug information as well.
    let cargo = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$RUSTFLAGS\" > {0}/flags\nmkdir -p \"$CARGO_TARGET_DIR/release\"\ncp {1} \"$CARGO_TARGET_DIR/release/libgeyser_plugin.so\"\n",
        dir.path().display(),
        env!("CARGO_BIN_EXE_heliograph-stack")
    );
    std::fs::write(tools.join("cargo"), cargo).unwrap();
    std::fs::set_permissions(
        tools.join("cargo"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let output = Command::new(repository().join("ops/deploy/plugin/build.sh"))
        .arg("--out")
        .arg(&out)
        .env("PATH", path)
        .env("SOURCE_DATE_EPOCH", "1")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let sums = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    let name = sums.split_whitespace().nth(1).unwrap();
    assert!(
        name.starts_with("libgeyser_plugin-") && name.contains("-agave4.2.2-rustc1.95.0"),
        "{name}"
    );
    assert!(
        said.contains(&sums.trim()[..64]) && said.contains("bytes"),
        "{said}"
    );
    let making = geyser_plugin::host_check::examine(&out.join(name)).unwrap();
    assert_eq!(
        making.compilers.len(),
        1,
        "the compiler's name was stripped away"
    );
    // Source paths are the same wherever it is built, and keep the part that names a crate's version.
    let flags = std::fs::read_to_string(dir.path().join("flags")).unwrap();
    for mapped in ["=/heliograph", "=/cargo", "=/build"] {
        assert!(flags.contains(mapped), "{flags}");
    }
}
