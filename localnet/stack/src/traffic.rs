//! The process that drives transactions of every kind at the validator.

use local_services::{Child, ChildSpec, workspace_binary};

use crate::stack::Stack;

/// Ends by itself when the validator has reached slot `last`.
pub fn start(stack: &Stack, last: u64) -> anyhow::Result<Child> {
    let mut spec = ChildSpec::new(
        "traffic",
        workspace_binary("localnet-traffic"),
        stack.dir.log("traffic"),
    );
    for argument in [
        "drive",
        "--rpc",
        &format!("http://127.0.0.1:{}", stack.ports.rpc),
        "--until-slot",
        &last.to_string(),
        "--mint-keypair",
    ] {
        spec = spec.arg(argument);
    }
    Child::spawn(spec.arg(&stack.source.mint_keypair))
}
