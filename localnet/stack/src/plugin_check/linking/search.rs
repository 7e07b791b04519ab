//! Where the loader looks for a library.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Object;

const CONFIGURATION: &str = "/etc/ld.so.conf";
const DEFAULTS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];

pub struct Search {
    environment: Vec<PathBuf>,
    /// Folders that the loader's cache is made of, then the default ones.
    system: Vec<PathBuf>,
}

impl Search {
    pub fn of_this_machine() -> Self {
        let environment = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        let mut system = Vec::new();
        configured(Path::new(CONFIGURATION), &mut system, 0);
        system.extend(DEFAULTS.map(PathBuf::from));
        Self {
            environment: folders(&environment, Path::new("")),
            system,
        }
    }

    /// Files to try, in the loader's order, for what `asking` at `path` needs.
    pub fn candidates(&self, name: &str, path: &Path, asking: &Object) -> Vec<PathBuf> {
        if name.contains('/') {
            return vec![PathBuf::from(name)];
        }
        let origin = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let origin = origin.parent().unwrap_or(Path::new("/"));
        let listed = |lists: &[String]| -> Vec<PathBuf> {
            lists
                .iter()
                .flat_map(|list| folders(list, origin))
                .collect()
        };
        let runpath = listed(&asking.runpath);
        // RUNPATH takes RPATH's place and comes after the environment.
        let rpath = if runpath.is_empty() {
            listed(&asking.rpath)
        } else {
            Vec::new()
        };
        rpath
            .iter()
            .chain(&self.environment)
            .chain(&runpath)
            .chain(&self.system)
            .map(|folder| folder.join(name))
            .filter(|file| file.is_file())
            .collect()
    }
}

fn folders(list: &str, origin: &Path) -> Vec<PathBuf> {
    let origin = origin.display().to_string();
    list.split([':', ';'])
        .filter(|folder| !folder.is_empty())
        .map(|folder| {
            folder
                .replace("${ORIGIN}", &origin)
                .replace("$ORIGIN", &origin)
                .into()
        })
        .collect()
}

/// The folders that `file` lists, with those of the files it includes.
fn configured(file: &Path, folders: &mut Vec<PathBuf>, depth: usize) {
    const DEPTH_MAX: usize = 4;
    let Ok(text) = fs::read_to_string(file) else {
        return; // Other loaders have none.
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include") {
            if depth < DEPTH_MAX {
                for included in matching(Path::new(pattern.trim()), file) {
                    configured(&included, folders, depth + 1);
                }
            }
        } else if line.starts_with('/') {
            folders.push(line.into());
        }
    }
}

/// A pattern's last part may hold one `*`, as in `/etc/ld.so.conf.d/*.conf`.
fn matching(pattern: &Path, beside: &Path) -> Vec<PathBuf> {
    let pattern = beside.parent().unwrap_or(Path::new("/")).join(pattern);
    let name = pattern
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let Some((start, end)) = name.split_once('*') else {
        return vec![pattern];
    };
    let mut files: Vec<PathBuf> = fs::read_dir(pattern.parent().unwrap_or(Path::new("/")))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_are_read_and_origin_is_the_asking_files_folder() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("conf.d");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a.conf"), "# comment\n/opt/a/lib\n").unwrap();
        fs::write(inner.join("b.txt"), "/opt/b/lib\n").unwrap();
        let main = dir.path().join("ld.so.conf");
        fs::write(&main, "include conf.d/*.conf\n/opt/c/lib # ours\n").unwrap();
        let mut found = Vec::new();
        configured(&main, &mut found, 0);
        assert_eq!(
            found,
            [PathBuf::from("/opt/a/lib"), PathBuf::from("/opt/c/lib")]
        );
        assert_eq!(
            folders("$ORIGIN/../lib:/x", Path::new("/opt/p")),
            [PathBuf::from("/opt/p/../lib"), PathBuf::from("/x")]
        );
        // A file that includes itself ends.
        fs::write(&main, "include ld.so.conf\n").unwrap();
        configured(&main, &mut found, 0);
        assert_eq!(found.len(), 2);
    }
}
