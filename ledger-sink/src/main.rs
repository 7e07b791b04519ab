use std::process::ExitCode;

fn main() -> ExitCode {
    service_host::run::<ledger_sink::service::LedgerSink>()
}
