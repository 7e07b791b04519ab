use std::process::ExitCode;

fn main() -> ExitCode {
    let code = service_host::run::<warehouse::door::WarehouseDoor>();
    // All of the engine's sessions are closed; its threads and destructors must not race the end of the process.
    let number = if code == ExitCode::SUCCESS {
        0
    } else if code == ExitCode::from(2) {
        2
    } else {
        1
    };
    warehouse::engine::ffi::exit_without_destructors(number)
}
