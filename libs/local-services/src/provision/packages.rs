//! Programs that the distribution provides: which are missing, and how to install them.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use super::{Progress, Unit};

/// One program we call, and the Debian and Ubuntu package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    pub program: &'static str,
    pub package: &'static str,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    pub present: bool,
}

impl Package {
    /// Looks whether `program` is on the path.
    pub fn of(program: &'static str, package: &'static str, purpose: &'static str) -> Self {
        Self {
            program,
            package,
            purpose,
            present: on_path(program),
        }
    }
}

const WANTED: [(&str, &str, &str); 8] = [
    ("java", "openjdk-17-jre-headless", "runs Kafka"),
    ("mvn", "maven", "fetches Kafka's jars"),
    ("npm", "npm", "fetches the ClickHouse engine"),
    ("node", "nodejs", "runs npm and the JavaScript client tests"),
    (
        "python3",
        "python3",
        "unpacks archives, runs the Python client test",
    ),
    ("setpriv", "util-linux", "ends services with their parent"),
    ("tar", "tar", "unpacks archives"),
    ("postgres", "postgresql", "the ledger's database"),
];

/// What is needed to run the stack, with what is there.
pub fn packages() -> Vec<Package> {
    WANTED
        .iter()
        .map(|&(program, package, purpose)| Package {
            program,
            package,
            purpose,
            present: match program {
                "postgres" => super::find_postgres().is_some(),
                _ => on_path(program),
            },
        })
        .collect()
}

/// Installs those of `wanted` that are missing by apt, as root or through sudo. One sentence says what to do where that
/// is not possible.
pub fn system_packages(wanted: &[Package], progress: &Progress) -> anyhow::Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|package| !package.present)
        .map(|package| package.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !on_path("apt-get") {
        bail!("missing programs: install these packages (Debian's names) and try again: {list}");
    }
    let root = rustix::process::geteuid().is_root();
    if !root && !on_path("sudo") {
        bail!("missing packages: as root, run `apt-get install {list}` and try again");
    }
    apt(root, &["update"], "updating the list of packages", progress)?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(root, &arguments, &format!("installing {list}"), progress)
}

fn apt(root: bool, arguments: &[&str], what: &str, progress: &Progress) -> anyhow::Result<()> {
    let mut command = if root {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    let mut child = command
        .args(["-q", "-o", "APT::Status-Fd=1"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what}: could not run apt-get"))?;
    let errors = super::collect(child.stderr.take());
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(percent) = status_percent(&line) {
                progress.update(what, percent, 100, Unit::Percent);
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!(
            "{what} failed: apt-get ended with {status}: {}",
            super::last_words(&errors.join().unwrap_or_default())
        );
    }
    Ok(())
}

// `dlstatus:1:20.5:Retrieving …` and `pmstatus:package:40.0:Unpacking …`
fn status_percent(line: &str) -> Option<u64> {
    let mut fields = line.split(':');
    matches!(fields.next(), Some("dlstatus" | "pmstatus")).then_some(())?;
    // A package name may carry its architecture, `libc6:amd64`: the percentage is the first field that is a number with a point.
    fields
        .find_map(|field| field.contains('.').then(|| field.parse::<f64>().ok())?)
        .map(|percent| percent as u64)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| Path::new(&dir).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::status_percent;

    #[test]
    fn apt_status_lines_become_percentages() {
        assert_eq!(
            status_percent("dlstatus:1:20.5897:Retrieving file 1 of 3"),
            Some(20)
        );
        assert_eq!(
            status_percent("pmstatus:libc6:amd64:66.6667:Unpacking"),
            Some(66)
        );
        assert_eq!(status_percent("Reading package lists..."), None);
    }
}
