//! What the configuration refers to on this machine: the library itself and the metrics address.

use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use geyser_plugin::config::Config;

use super::finding::Finding;

const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The validator loads what `libpath` says, whatever was checked.
/// `file`: absolute path of the configuration.
pub fn library(config: &Config, file: &Path, plugin: &Path) -> Finding {
    // As the validator: relative to the configuration file.
    let beside = file.parent().unwrap_or(Path::new("/"));
    let written = beside.join(&config.libpath);
    let checked = plugin.display();
    let canonical = plugin.canonicalize();
    let absolute = canonical.as_deref().unwrap_or(plugin);
    let fix = format!("write libpath: {:?}", absolute.display().to_string());
    if config.libpath.is_empty() {
        return Finding::fail("libpath", "`libpath` is missing", fix);
    }
    match (written.canonicalize(), &canonical) {
        (Ok(written), Ok(plugin)) if written == *plugin => {
            Finding::ok("libpath", format!("{} is the plugin", config.libpath))
        }
        (Ok(written), _) => Finding::fail(
            "libpath",
            format!(
                "the validator would load {}, not {checked}",
                written.display()
            ),
            fix,
        ),
        (Err(error), _) => Finding::fail("libpath", format!("{}: {error}", written.display()), fix),
    }
}

pub async fn metrics(config: &Config) -> Finding {
    let Some(listen) = &config.metrics.listen else {
        return Finding::warn(
            "metrics",
            "turned off: nobody will see a loss",
            "set `metrics.listen`, for example to \"127.0.0.1:9185\"",
        );
    };
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("metrics", format!("{listen} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            if is_served_by(listen, &config.name).await {
                return Finding::warn(
                    "metrics",
                    format!(
                        "{listen} is held by a loaded plugin named `{}`",
                        config.name
                    ),
                    "unload it first (a reload does), or give this one another `name` and `metrics.listen`",
                );
            }
            Finding::fail(
                "metrics",
                format!("{listen} is in use"),
                "write a free address in `metrics.listen`; `ss -ltnp` shows who listens",
            )
        }
        Err(error) => Finding::fail(
            "metrics",
            format!("`metrics.listen` {listen}: {error}"),
            "write an address of this machine, such as \"127.0.0.1:9185\"",
        ),
    }
}

/// Whether a plugin of this name answers there.
async fn is_served_by(listen: &str, name: &str) -> bool {
    let Some(mut address) = listen
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
    else {
        return false;
    };
    if address.ip().is_unspecified() {
        address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    }
    let asked = async {
        let client = reqwest::Client::builder().timeout(ANSWER_LIMIT).build()?;
        let page = client.get(format!("http://{address}/metrics")).send();
        page.await?.text().await
    };
    asked.await.is_ok_and(|page| {
        page.contains("heliograph_plugin_") && page.contains(&format!("plugin=\"{name}\""))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plugin_check::finding::Verdict;

    #[test]
    fn libpath_must_lead_to_the_checked_file() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("plugin.so");
        fs::write(&plugin, b"").unwrap();
        let file = dir.path().join("plugin.json");
        let verdict = |libpath: &str| {
            let config = Config {
                libpath: libpath.to_owned(),
                ..Config::default()
            };
            library(&config, &file, &plugin).verdict
        };
        assert_eq!(verdict("plugin.so"), Verdict::Ok);
        assert_eq!(verdict(plugin.to_str().unwrap()), Verdict::Ok);
        assert_eq!(verdict(""), Verdict::Fail);
        assert_eq!(verdict("other.so"), Verdict::Fail);
        fs::write(dir.path().join("other.so"), b"").unwrap();
        assert_eq!(verdict("other.so"), Verdict::Fail);
    }

    #[tokio::test]
    async fn a_taken_metrics_address_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut config = Config::default();
        config.metrics.listen = Some(address.clone());
        // Somebody who never answers is not our plugin.
        let finding = metrics(&config).await;
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.detail.contains(&address), "{finding}");
        config.metrics.listen = Some("192.0.2.1:1".into());
        assert_eq!(metrics(&config).await.verdict, Verdict::Fail);
        drop(taken);
        config.metrics.listen = Some(address);
        assert_eq!(metrics(&config).await.verdict, Verdict::Ok);
    }
}
