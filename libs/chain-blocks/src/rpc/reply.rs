//! Pure: the body of a `getBlock` reply, and what it means.

use serde::Deserialize;

use solana_transaction_status::Reward;

use crate::json_meta::JsonMeta;

/// `getBlock` with encoding base64.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcBlock {
    pub blockhash: String,
    pub previous_blockhash: String,
    pub parent_slot: u64,
    pub transactions: Vec<RpcTransaction>,
    pub rewards: Vec<Reward>,
    pub num_reward_partitions: Option<u64>,
    pub block_time: Option<i64>,
    pub block_height: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RpcTransaction {
    /// The bytes, and how they are written.
    pub transaction: (String, String),
    /// Absent when the node did not keep what the execution did.
    pub meta: Option<JsonMeta>,
}

/// What a node says about a slot.
#[derive(Debug, Clone)]
pub enum Reply {
    Block(Box<RpcBlock>),
    /// The slot has no block, or the node never had it.
    NoBlock(String),
    /// It may have it later.
    NotYet(String),
    /// It will never have it.
    Gone(String),
    /// It does not know this version of transactions.
    VersionRefused(String),
    /// It could not be asked, or did not answer what was asked for.
    Failed(String),
}

#[derive(Deserialize)]
struct Envelope {
    result: Option<RpcBlock>,
    error: Option<EnvelopeError>,
}

#[derive(Deserialize)]
struct EnvelopeError {
    code: i64,
    message: String,
}

/// Characters of a node's message that are passed on.
const MESSAGE_MAX: usize = 200;

/// Codes are those of solana-rpc-client-api 4.2.2.
pub fn read(body: &[u8]) -> Reply {
    let envelope: Envelope = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(error) => return Reply::Failed(format!("its reply is not understood: {error}")),
    };
    if let Some(block) = envelope.result {
        return Reply::Block(Box::new(block));
    }
    let Some(EnvelopeError { code, message }) = envelope.error else {
        return Reply::NotYet("it has no such block".to_owned());
    };
    let message: String = message.chars().take(MESSAGE_MAX).collect();
    let said = format!("error {code}: {message}");
    match code {
        // Slot skipped; slot skipped, or missing in long-term storage.
        -32007 | -32009 => Reply::NoBlock(said),
        // Cleaned up; transaction history not available; no slot history.
        -32001 | -32011 | -32021 => Reply::Gone(said),
        // Block not available, node unhealthy, block status not available yet.
        -32004 | -32005 | -32014 => Reply::NotYet(said),
        // Invalid params; unsupported transaction version.
        -32602 | -32015 => Reply::VersionRefused(said),
        _ => Reply::Failed(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i64) -> Reply {
        read(
            format!(
                r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{}"}},"id":1}}"#,
                "m".repeat(500)
            )
            .as_bytes(),
        )
    }

    #[test]
    fn error_codes_say_whether_to_ask_again() {
        for code in [-32007, -32009] {
            assert!(matches!(error(code), Reply::NoBlock(_)), "{code}");
        }
        for code in [-32004, -32005, -32014] {
            assert!(matches!(error(code), Reply::NotYet(_)), "{code}");
        }
        for code in [-32001, -32011, -32021] {
            assert!(matches!(error(code), Reply::Gone(_)), "{code}");
        }
        for code in [-32602, -32015] {
            assert!(matches!(error(code), Reply::VersionRefused(_)), "{code}");
        }
        let Reply::Failed(said) = error(-32603) else {
            panic!("an internal error is no answer");
        };
        assert!(said.starts_with("error -32603: mmm") && said.len() < 250);
    }

    #[test]
    fn foreign_replies_are_failures_that_name_the_field() {
        let Reply::Failed(problem) = read(br#"{"result":{"blockhash":"a"}}"#) else {
            panic!("half a block is none");
        };
        assert!(problem.contains("previousBlockhash"), "{problem}");
        assert!(matches!(
            read(br#"{"result":null,"id":1}"#),
            Reply::NotYet(_)
        ));
        for body in [
            &b"<html>"[..],
            b"",
            b"[]",
            b"null",
            b"\xff\xff",
            b"{\"result\":7}",
        ] {
            assert!(matches!(read(body), Reply::Failed(_)), "{body:?}");
        }
    }
}
