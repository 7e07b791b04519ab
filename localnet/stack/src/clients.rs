//! The unmodified clients that the tests on the validator run: JavaScript and Python packages at pinned versions, and
//! Chromium.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};
use local_services::{
    cache_dir,
    provision::{self, Package},
};

use crate::progress::Say;

/// Installs what is missing; a moment's work when all is there.
pub fn provision(repository: &Path, say: &Say) -> anyhow::Result<()> {
    let programs = [
        Package::of("chromium", "chromium", "the browser test"),
        Package::of("pip3", "python3-pip", "fetches the Python client"),
    ];
    provision::system_packages(&programs, &say.provisioning())?;

    let clients = repository.join("localnet/clients");
    // npm writes this file last.
    let installed = clients.join("node_modules/.package-lock.json");
    if !is_newer(&installed, &clients.join("package-lock.json")) {
        say.step("fetching the JavaScript clients");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&clients);
        run(&mut npm, "fetching the JavaScript clients from npm failed")?;
        touch(&installed)?;
    }

    let requirements = clients.join("requirements.txt");
    let packages = cache_dir().join("python-clients");
    let mark = packages.join(".complete");
    if !is_newer(&mark, &requirements) {
        say.step("fetching the Python client");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
            .arg(&packages)
            .arg("-r")
            .arg(&requirements);
        run(&mut pip, "fetching the Python client from PyPI failed")?;
        touch(&mark)?;
    }
    Ok(())
}

fn run(command: &mut Command, failure: &str) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{failure}: is the program installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{failure}: {}", said.trim());
    }
    Ok(())
}

fn is_newer(made: &Path, source: &Path) -> bool {
    let time = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((time(made), time(source)), (Ok(made), Ok(source)) if made >= source)
}

fn touch(path: &Path) -> anyhow::Result<()> {
    std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(std::time::SystemTime::now()))
        .with_context(|| format!("{}", path.display()))
}
