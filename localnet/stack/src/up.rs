//! `up`: start, then either watch until told to stop, or run once and report.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::Up,
    layout::{Ports, RunDir},
    live, once,
    progress::Say,
    source::Plan,
    stack::Stack,
    traffic,
};

/// `root` is the run directory; a run that ends by itself gets an empty one below it.
pub async fn run(
    repository: PathBuf,
    root: PathBuf,
    options: Up,
    say: &Say,
) -> anyhow::Result<ExitCode> {
    let plan = Plan::resolve(&options.source, &repository, say)?;
    if options.once
        && let Some(report) = &options.report
    {
        // Before the long work, not after it.
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(report)
            .map_err(|error| anyhow::anyhow!("--report {}: {error}", report.display()))?;
    }
    let dir = if options.once {
        let once = root.join("once");
        refuse_second(&RunDir { root: once.clone() })?;
        let _ = std::fs::remove_dir_all(&once);
        RunDir::create(once)?
    } else {
        let dir = RunDir::create(root)?;
        refuse_second(&dir)?;
        dir
    };
    let ports = if options.free_ports {
        Ports::free()
    } else {
        Ports::DOCUMENTED
    };
    say.line(&format!(
        "source: {plan}; logs and data in {}",
        dir.root.display()
    ));

    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
    };
    tokio::pin!(stop);

    let mut stack = tokio::select! {
        stack = Stack::start(dir, ports, &plan, say) => stack?,
        () = &mut stop => bail!("stopped while starting"),
    };
    let outcome = if options.once {
        tokio::select! {
            report = once::run(&mut stack, &plan, &options, say) => report.map(Some),
            () = &mut stop => Err(anyhow::anyhow!("stopped before the run was through")),
        }
    } else {
        stack.source.begin()?;
        stack.save_state(&plan)?;
        urls(&stack, say);
        let traffic = match plan {
            Plan::Validator if !options.no_traffic => Some(traffic::start(&stack, u64::MAX)?),
            _ => None,
        };
        let shown = live::show(&mut stack, &mut stop).await.map(|()| None);
        // Before the drain: the validator goes last.
        drop(traffic);
        shown
    };
    second_signal_exits();
    tokio::task::block_in_place(|| stack.stop(say));
    let root = stack.dir.root.clone();
    drop(stack);
    match outcome? {
        None => Ok(ExitCode::SUCCESS),
        Some(report) => {
            let agrees = once::conclude(&report, options.report.as_deref())?;
            if agrees && !options.keep {
                let _ = std::fs::remove_dir_all(root);
            } else if !agrees {
                say.line(&format!("logs are kept in {}", root.display()));
            }
            Ok(if agrees {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

fn refuse_second(dir: &RunDir) -> anyhow::Result<()> {
    if let Some(state) = dir.running() {
        bail!(
            "a stack runs in {} already (process {}); `./heliograph down` stops it, or name another folder by --dir",
            dir.root.display(),
            state.pid
        );
    }
    Ok(())
}

// The first signal drains. The second means now; the services die with this process.
fn second_signal_exits() {
    tokio::spawn(async {
        if let (Ok(mut interrupts), Ok(mut terminations)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            std::process::exit(130);
        }
    });
}

fn urls(stack: &Stack, say: &Say) {
    let ports = &stack.ports;
    say.line(&format!(
        "
  web page and API   http://localhost:{}
  Solana PubSub      ws://127.0.0.1:{}
  Yellowstone gRPC   http://127.0.0.1:{}
  ClickHouse         http://127.0.0.1:{}   (SELECT count() FROM transactions)
  ledger             http://127.0.0.1:{}/v1/check
  send transactions  http://127.0.0.1:{}   (JSON-RPC sendTransaction)
  Kafka              127.0.0.1:{}   PostgreSQL {}
",
        ports.edge,
        ports.router,
        ports.grpc,
        ports.clickhouse,
        ports.ledger,
        ports.sender,
        ports.kafka,
        stack.database_url(),
    ));
    if let Some(validator) = &stack.source.validator {
        say.line(&format!(
            "  validator RPC      {}   PubSub ws://127.0.0.1:{}   identity {}
",
            validator.rpc,
            ports.rpc + 1,
            validator.identity
        ));
    }
}
