//! Do the two files agree on Rust's layouts, as far as files can tell: compiler, boundary crates, machine, constructor.

use std::path::Path;

use geyser_plugin::host_check::{
    self, Making, Mismatch, SKIP_VARIABLE, compare_crates, examine_plugin,
};

use super::{
    finding::Finding,
    linking::{Kind, Object},
};

const CONSTRUCTOR: &str = "_create_plugin";

pub fn examine(validator: &Path, plugin: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let host = read("validator", validator, &mut findings, |path| {
        Ok((Object::read(path)?, host_check::examine(path)?))
    });
    let guest = read("plugin", plugin, &mut findings, |path| {
        Ok((Object::read(path)?, examine_plugin(path)?))
    });
    let (Some((host_object, host)), Some((object, (guest, stated)))) = (host, guest) else {
        return findings;
    };
    findings.push(forms(validator, &host_object, plugin, &object));
    findings.push(compiler(&host, &guest));
    findings.extend(crates(&host, &guest, stated));
    findings.push(constructor(&object));
    findings
}

fn read<T>(
    what: &'static str,
    path: &Path,
    findings: &mut Vec<Finding>,
    reading: impl Fn(&Path) -> Result<T, String>,
) -> Option<T> {
    match reading(path) {
        Ok(value) => Some(value),
        Err(error) => {
            findings.push(Finding::fail(
                what,
                format!("{}: {error}", path.display()),
                format!("name the {what}'s ELF file, readable by this user"),
            ));
            None
        }
    }
}

fn forms(validator: &Path, host: &Object, plugin: &Path, guest: &Object) -> Finding {
    let (validator, plugin) = (validator.display(), plugin.display());
    if host.kind == Kind::Other {
        return Finding::fail(
            "files",
            format!("{validator} is not a program"),
            "name the validator's executable",
        );
    }
    // A program that can be placed anywhere has the same type as a library, but says who starts it.
    if guest.kind != Kind::Shared || guest.starts {
        return Finding::fail(
            "files",
            format!("{plugin} is not a shared library"),
            "name the plugin's .so",
        );
    }
    if host.machine != guest.machine {
        return Finding::fail(
            "files",
            format!(
                "the validator is for {}, the plugin for {}",
                host.machine_name(),
                guest.machine_name()
            ),
            "build the plugin for the validator's machine",
        );
    }
    Finding::ok(
        "files",
        format!("{validator} and {plugin}, both {}", host.machine_name()),
    )
}

fn compiler(host: &Making, guest: &Making) -> Finding {
    let list = |making: &Making| {
        let all: Vec<&str> = making.compilers.iter().map(String::as_str).collect();
        all.join("`, `")
    };
    if guest.compilers.is_empty() {
        return Finding::fail(
            "compiler",
            "the plugin does not say which rustc built it (no `rustc version …` in .comment)",
            "use a library whose .comment section was not removed; plain `strip` leaves it",
        );
    }
    if host.compilers.is_empty() {
        let unknown = Mismatch::Unknown {
            plugin: list(guest),
        };
        let skip = std::env::var(SKIP_VARIABLE).is_ok_and(|value| value == "1");
        return if skip {
            Finding::warn(
                "compiler",
                format!(
                    "the validator does not say which rustc built it; {SKIP_VARIABLE}=1 trusts it"
                ),
                format!(
                    "be sure that it was `{}`, and give the validator the same variable",
                    list(guest)
                ),
            )
        } else {
            split("compiler", &unknown)
        };
    }
    if host.compilers.is_disjoint(&guest.compilers) {
        let mismatch = Mismatch::Compiler {
            host: list(host),
            plugin: list(guest),
        };
        return split("compiler", &mismatch);
    }
    let common: Vec<&str> = host
        .compilers
        .intersection(&guest.compilers)
        .map(String::as_str)
        .collect();
    Finding::ok("compiler", format!("both by {}", common.join(" and ")))
}

fn crates(host: &Making, guest: &Making, stated: bool) -> Vec<Finding> {
    let (same, different) = compare_crates(&host.crates, &guest.crates);
    let mut findings: Vec<Finding> = different
        .iter()
        .map(|mismatch| split("interface", mismatch))
        .collect();
    if !different.is_empty() {
        return findings;
    }
    let showing = if stated { "states" } else { "shows" };
    // The manager is released with the interface, under one version.
    let interface = [
        "solana-geyser-plugin-manager",
        "agave-geyser-plugin-interface",
    ]
    .iter()
    .any(|name| same.iter().any(|pair| pair.starts_with(name)));
    findings.push(if interface {
        Finding::ok("interface", format!("same on both sides: {}", same.join(", ")))
    } else {
        let plugin: Vec<&str> = guest
            .crates
            .iter()
            .map(String::as_str)
            .filter(|pair| pair.contains("geyser"))
            .collect();
        Finding::warn(
            "interface",
            format!(
                "the validator does not show the version of its plugin interface; the plugin {showing} {}; the same on both sides: {}",
                if plugin.is_empty() { "none either".to_owned() } else { plugin.join(", ") },
                if same.is_empty() { "nothing".to_owned() } else { same.join(", ") },
            ),
            "compare with what the validator prints for --version",
        )
    });
    findings
}

fn constructor(plugin: &Object) -> Finding {
    if plugin.defines.contains(CONSTRUCTOR) {
        return Finding::ok("constructor", format!("`{CONSTRUCTOR}` is exported"));
    }
    Finding::fail(
        "constructor",
        format!("the library exports no `{CONSTRUCTOR}`"),
        "name a Geyser plugin (a crate of type cdylib), not stripped of its dynamic symbols",
    )
}

/// The mismatch's own sentence ends with what to do.
fn split(what: &'static str, mismatch: &Mismatch) -> Finding {
    let text = mismatch.to_string();
    let (detail, fix) = text.rsplit_once("; ").unwrap_or((&text, ""));
    Finding::fail(what, detail, fix)
}

#[cfg(test)]
mod tests {
    use geyser_plugin::host_check::BUILT_BY;

    use super::*;
    use crate::plugin_check::finding::Verdict;

    fn making(compilers: &[&str], crates: &[&str]) -> Making {
        let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        Making {
            compilers: set(compilers),
            crates: set(crates),
        }
    }

    #[test]
    fn compilers_are_named_on_both_sides() {
        let ours = making(&[BUILT_BY], &[]);
        assert_eq!(compiler(&ours, &ours).verdict, Verdict::Ok);
        let theirs = making(&["rustc version 1.96.1 (x)"], &[]);
        let finding = compiler(&theirs, &ours);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(
            finding.detail.contains("1.96.1") && finding.detail.contains(BUILT_BY),
            "{finding}"
        );
        assert!(finding.fix.contains("same rustc"), "{finding}");
        for (host, guest) in [(making(&[], &[]), ours.clone()), (ours, making(&[], &[]))] {
            assert_eq!(compiler(&host, &guest).verdict, Verdict::Fail);
        }
    }

    #[test]
    fn an_interface_that_is_not_shown_is_a_warning_and_another_one_a_failure() {
        let plugin = making(
            &[],
            &["solana-geyser-plugin-manager 4.2.2", "solana-message 4.4.1"],
        );
        let verdicts = |host: &[&str]| -> Vec<Verdict> {
            crates(&making(&[], host), &plugin, true)
                .iter()
                .map(|finding| finding.verdict)
                .collect()
        };
        assert_eq!(
            verdicts(&["solana-geyser-plugin-manager 4.2.2"]),
            [Verdict::Ok]
        );
        assert_eq!(verdicts(&["solana-message 4.4.1"]), [Verdict::Warn]);
        assert_eq!(verdicts(&[]), [Verdict::Warn]);
        assert_eq!(
            verdicts(&["solana-geyser-plugin-manager 4.3.0", "solana-message 4.4.0"]),
            [Verdict::Fail, Verdict::Fail]
        );
    }
}
