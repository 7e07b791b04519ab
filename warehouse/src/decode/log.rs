//! What programs wrote into the transaction's log, each with the call that wrote it.
//!
//! The runtime writes `Program ID invoke [depth]` when a call begins and `Program ID success` or `failed` when it ends; what
//! stands between belongs to that call. Only the runtime's own lines begin so: what a program logs as text stands behind
//! `Program log: `. A log that was cut, or that does not fit the calls, ends the reading: no line is given to a wrong call.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Call, Key, key_of_base58, programs::RAYDIUM_AMM};

/// Bytes written by a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Place in the trace's calls.
    pub call: usize,
    pub data: Vec<u8>,
}

/// The binary data in `lines`, in order: `Program data: ` of Anchor's events, and Raydium's own `ray_log`.
pub fn written(calls: &[Call<'_>], lines: &[String]) -> Vec<Written> {
    let mut found = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut next = 0;
    for line in lines {
        let Some(rest) = line.strip_prefix("Program ") else {
            if line.starts_with("Log truncated") {
                break;
            }
            continue;
        };
        if let Some(data) = rest.strip_prefix("data: ") {
            push(&mut found, open.last(), data);
        } else if let Some(text) = rest.strip_prefix("log: ") {
            let writer = open
                .last()
                .filter(|call| calls[**call].program == Some(RAYDIUM_AMM));
            if let (Some(data), Some(call)) = (text.strip_prefix("ray_log: "), writer) {
                push(&mut found, Some(call), data);
            }
        } else if let Some((program, depth)) = begun(rest) {
            let fits = |call: &Call<'_>| {
                call.program == Some(program)
                    && call
                        .stack_height
                        .is_none_or(|height| usize::from(height) == depth)
            };
            // Precompiles are called without a line; everything else is called in the order of the trace.
            let Some(ahead) = calls
                .get(next..)
                .and_then(|rest| rest.iter().position(fits))
            else {
                break;
            };
            if depth != open.len() + 1 {
                break;
            }
            open.push(next + ahead);
            next += ahead + 1;
        } else if rest.ends_with(" success") || rest.contains(" failed") {
            open.pop();
        }
    }
    found
}

/// `ID invoke [depth]`.
fn begun(rest: &str) -> Option<(Key, usize)> {
    let (program, depth) = rest.split_once(" invoke [")?;
    let depth = depth.strip_suffix(']')?.parse().ok()?;
    Some((key_of_base58(program)?, depth))
}

/// One event is one piece: others of the line belong to programs that log several, and are not events.
fn push(found: &mut Vec<Written>, call: Option<&usize>, data: &str) {
    if let (Some(call), Ok(data)) = (call, BASE64_STANDARD.decode(data)) {
        found.push(Written { call: *call, data });
    }
}
