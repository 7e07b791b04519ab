//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_host::run::<stream_router::service::StreamRouter>()
}
