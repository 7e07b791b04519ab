use auth_edge::AuthEdge;
use std::process::ExitCode;

fn main() -> ExitCode {
    service_host::run::<AuthEdge>()
}
