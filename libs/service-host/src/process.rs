//! The whole `main` of a service.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};
use futures::FutureExt;
use prometheus::{IntGauge, Opts};

use crate::config::{self, HostConfig, Loaded, LogFormat};
use crate::{Host, Service, admin, listen, logs, print};

const DRAINED: u8 = 0;
const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

/// Reads the command line, runs the service and says how it went: 0 done or drained, 1 failed, 2 bad configuration.
pub fn run<S: Service>() -> ExitCode {
    ExitCode::from(run_with::<S>(&mut command::<S>().get_matches()))
}

fn command<S: Service>() -> Command {
    Command::new(S::NAME)
        .about(S::ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("TOML configuration; without it, defaults and HELIOGRAPH_* variables"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Check the configuration and exit: 0 when it is good, 2 when not"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print every configuration key with its default and meaning, and exit"),
        )
        .arg(
            Arg::new("admin")
                .long("admin")
                .value_name("ADDR")
                .help("Admin address, instead of `host.admin`"),
        )
        .arg(
            Arg::new("log-format")
                .long("log-format")
                .value_parser(value_parser!(LogFormat))
                .help("Log format, instead of `host.log_format`"),
        )
}

fn run_with<S: Service>(arguments: &mut clap::ArgMatches) -> u8 {
    if arguments.get_flag("print-config") {
        print!("{}", print::documented::<S>());
        return DRAINED;
    }
    let file: Option<PathBuf> = arguments.remove_one("config");
    let Loaded { service, mut host } =
        match config::load::<S>(file.as_deref(), std::env::vars_os().filter_map(text)) {
            Ok(loaded) => loaded,
            Err(error) => return refuse(S::NAME, error),
        };
    if let Some(admin) = arguments.remove_one("admin") {
        host.admin = admin;
    }
    if let Some(format) = arguments.remove_one("log-format") {
        host.log_format = format;
    }
    if let Err(error) = S::check(&service).and_then(|()| logs::start(&host)) {
        return refuse(S::NAME, error);
    }
    if arguments.get_flag("check") {
        let origin = file.map_or_else(|| "defaults".to_owned(), |file| file.display().to_string());
        println!("{}: configuration is good ({origin})", S::NAME);
        return DRAINED;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(S::NAME)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start the runtime: {error}");
            return FAILED;
        }
    };
    let code = runtime.block_on(live::<S>(service, host));
    // Blocking work that outlived the drain must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

fn refuse(name: &str, error: impl std::fmt::Display) -> u8 {
    eprintln!("{name}: {error}");
    BAD_CONFIGURATION
}

/// Variables that are not text cannot be ours.
fn text((key, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((key.into_string().ok()?, value.into_string().ok()?))
}

async fn live<S: Service>(service: S::Config, config: HostConfig) -> u8 {
    let host = Host::detached();
    register_identity(&host, S::NAME);
    let listener = match listen("host.admin", &config.admin).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("{error:#}");
            return FAILED;
        }
    };
    if let Ok(admin) = listener.local_addr() {
        tracing::info!(service = S::NAME, version = env!("CARGO_PKG_VERSION"), %admin, "starting");
    }
    if let Err(error) = watch_signals(host.clone()) {
        tracing::error!("cannot listen for signals: {error}");
        return FAILED;
    }
    let admin = tokio::spawn(admin::serve(listener, host.clone()));
    let code = until_drained(&host, config.drain_seconds, S::run(service, host.clone())).await;
    admin.abort();
    tracing::info!(service = S::NAME, code, "ended");
    code
}

/// Runs the service and its tasks to their end, or to the deadline after a drain was asked for.
async fn until_drained(
    host: &Host,
    drain_seconds: u64,
    service: impl Future<Output = anyhow::Result<()>> + Send,
) -> u8 {
    let whole = async {
        match std::panic::AssertUnwindSafe(service).catch_unwind().await {
            Ok(Ok(())) => host.request_drain(),
            Ok(Err(error)) => host.fail(format!("the service failed: {error:#}")),
            Err(_) => host.fail("the service panicked".to_owned()),
        }
        host.tasks_ended().await;
    };
    let deadline = async {
        host.drain().await;
        tokio::time::sleep(Duration::from_secs(drain_seconds)).await;
    };
    tokio::select! {
        () = whole => {}
        () = deadline => {
            let tasks = host.task_names();
            host.fail(format!(
                "the drain did not end within {drain_seconds} s (`host.drain_seconds`); giving up. Tasks still running: {tasks:?}"
            ));
            host.abort_tasks();
        }
    }
    if host.failed() { FAILED } else { DRAINED }
}

/// The first signal drains; the second exits at once. On its own thread, so that a busy or blocked runtime cannot keep
/// the process from leaving.
fn watch_signals(host: Host) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                let mut next = async || {
                    tokio::select! {
                        _ = terminate.recv() => "SIGTERM",
                        _ = interrupt.recv() => "SIGINT",
                    }
                };
                let first = next().await;
                tracing::info!(signal = first, "draining; a second signal exits at once");
                host.request_drain();
                let second = next().await;
                tracing::warn!(signal = second, "exiting at once");
                std::process::exit(i32::from(FAILED));
            });
        })?;
    Ok(())
}

fn register_identity(host: &Host, name: &str) {
    let options = Opts::new(
        "heliograph_service_info",
        "Always 1; the labels say what runs.",
    )
    .const_label("service", name)
    .const_label("version", env!("CARGO_PKG_VERSION"));
    if let Ok(info) = IntGauge::with_opts(options) {
        info.set(1);
        // A fresh registry cannot hold it already.
        let _ = host.metrics().register(Box::new(info));
    }
}
