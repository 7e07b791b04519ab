//! Pure: the body of a `getMultipleAccounts` reply, checked against what was asked, and what it means.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use event_schema::{Pubkey, Slot};
use serde::Deserialize;

/// Keys of one request, as nodes bound them.
pub const KEYS_MAX: usize = 100;
/// The most data that an account may have, bytes.
const DATA_MAX: usize = 10 << 20;
/// Characters of a node's message that are passed on.
const MESSAGE_MAX: usize = 200;

/// An account as a node tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcAccount {
    pub lamports: u64,
    pub owner: Pubkey,
    pub data: Vec<u8>,
    pub executable: bool,
    pub rent_epoch: u64,
}

/// Accounts as of the end of a finalized slot, in the order in which they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcAccounts {
    pub as_of: Slot,
    /// `None`: there is no such account.
    pub accounts: Vec<Option<RpcAccount>>,
}

/// What a node says about accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountsReply {
    Told(RpcAccounts),
    /// It has not come as far as was asked for.
    NotYet(String),
    /// Fewer accounts may fit.
    TooLong(String),
    /// It is asked too often.
    TooMany(String),
    /// It answers something else than what was asked for: it is of no use for this.
    Unfit(String),
    /// It could not be asked, or did not answer.
    Failed(String),
}

#[derive(Deserialize)]
struct Envelope {
    result: Option<ResultBody>,
    error: Option<EnvelopeError>,
}

#[derive(Deserialize)]
struct EnvelopeError {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct ResultBody {
    context: Context,
    value: Vec<Option<JsonAccount>>,
}

#[derive(Deserialize)]
struct Context {
    slot: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAccount {
    lamports: u64,
    owner: String,
    /// The bytes, and how they are written.
    data: (String, String),
    executable: bool,
    rent_epoch: u64,
    space: Option<u64>,
}

/// `at_least`: the slot that was asked for as `minContextSlot`. `count`: keys that were asked for. Codes are those of
/// solana-rpc-client-api 4.2.2, and those that providers use for their limits.
pub fn read(body: &[u8], at_least: Slot, count: usize) -> AccountsReply {
    let envelope: Envelope = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(error) => return AccountsReply::Unfit(format!("its reply is not understood: {error}")),
    };
    if let Some(EnvelopeError { code, message }) = envelope.error {
        let message: String = message.chars().take(MESSAGE_MAX).collect();
        let said = format!("error {code}: {message}");
        return match code {
            // Minimum context slot not reached, node unhealthy.
            -32016 | -32005 => AccountsReply::NotYet(said),
            429 | -32429 => AccountsReply::TooMany(said),
            // Method not found, invalid params.
            -32601 | -32602 => AccountsReply::Unfit(format!(
                "{said}: it does not serve getMultipleAccounts with minContextSlot"
            )),
            _ => AccountsReply::Failed(said),
        };
    }
    let Some(ResultBody { context, value }) = envelope.result else {
        return AccountsReply::Unfit("a reply with neither a result nor an error".to_owned());
    };
    if context.slot < at_least.0 {
        return AccountsReply::Unfit(format!(
            "it answers as of slot {}, before slot {at_least} that was asked for: it does not keep minContextSlot",
            context.slot
        ));
    }
    if value.len() != count {
        return AccountsReply::Unfit(format!(
            "it answers {} accounts where {count} were asked for",
            value.len()
        ));
    }
    let mut accounts = Vec::with_capacity(count);
    for (index, account) in value.into_iter().enumerate() {
        match account.map(JsonAccount::account).transpose() {
            Ok(account) => accounts.push(account),
            Err(problem) => return AccountsReply::Unfit(format!("account {index}: {problem}")),
        }
    }
    AccountsReply::Told(RpcAccounts {
        as_of: Slot(context.slot),
        accounts,
    })
}

impl JsonAccount {
    fn account(self) -> Result<RpcAccount, String> {
        let (text, encoding) = self.data;
        if encoding != "base64" {
            return Err(format!(
                "its data is written in {encoding:?}, base64 was asked for"
            ));
        }
        let data = BASE64_STANDARD
            .decode(text)
            .map_err(|error| format!("data: {error}"))?;
        if data.len() > DATA_MAX {
            return Err(format!(
                "{} bytes of data are more than an account may have",
                data.len()
            ));
        }
        if self.space.is_some_and(|space| space != data.len() as u64) {
            return Err(format!(
                "{} bytes of data where it says {}",
                data.len(),
                self.space.unwrap_or_default()
            ));
        }
        let owner = self
            .owner
            .parse()
            .map_err(|error| format!("owner: {error}"))?;
        Ok(RpcAccount {
            lamports: self.lamports,
            owner,
            data,
            executable: self.executable,
            rent_epoch: self.rent_epoch,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "result": {"context": {"slot": 50, "apiVersion": "4.2.2"}, "value": [
            {"lamports": 7, "owner": "11111111111111111111111111111111", "data": ["AQID", "base64"],
             "executable": false, "rentEpoch": u64::MAX, "space": 3},
            null,
        ]}})
    }

    fn changed(change: impl FnOnce(&mut Value)) -> AccountsReply {
        let mut reply = good();
        change(&mut reply);
        read(reply.to_string().as_bytes(), Slot(50), 2)
    }

    #[test]
    fn a_good_reply_is_read() {
        let AccountsReply::Told(told) = changed(|_| ()) else {
            panic!("it is good");
        };
        assert_eq!(told.as_of, Slot(50));
        let account = told.accounts[0].as_ref().unwrap();
        assert_eq!((account.lamports, &account.data[..]), (7, &[1, 2, 3][..]));
        assert_eq!(
            (account.owner, account.rent_epoch),
            (Pubkey([0; 32]), u64::MAX)
        );
        assert_eq!(told.accounts[1], None);
    }

    #[test]
    fn what_was_not_asked_for_is_named() {
        let account = |reply: &mut Value| reply["result"]["value"][0].take();
        type Change = fn(&mut Value);
        let changes: [(Change, &str); 11] = [
            (
                |reply| reply["result"]["context"]["slot"] = json!(49),
                "does not keep minContextSlot",
            ),
            (
                |reply| drop(reply["result"]["value"].as_array_mut().unwrap().pop()),
                "1 accounts where 2",
            ),
            (
                |reply| reply["result"]["value"][0]["data"][1] = json!("base64+zstd"),
                "account 0: its data is written in",
            ),
            (
                |reply| reply["result"]["value"][0]["data"][0] = json!("*"),
                "account 0: data: ",
            ),
            (
                |reply| reply["result"]["value"][0]["space"] = json!(4),
                "3 bytes of data where it says 4",
            ),
            (
                |reply| reply["result"]["value"][0]["owner"] = json!("1"),
                "account 0: owner: ",
            ),
            (
                |reply| reply["result"]["value"][0]["lamports"] = json!(-1),
                "not understood",
            ),
            (
                |reply| reply["result"]["value"][0]["lamports"] = json!(1.5),
                "not understood",
            ),
            (
                |reply| reply["result"]["value"] = json!({}),
                "not understood",
            ),
            (
                |reply| reply["result"] = Value::Null,
                "neither a result nor an error",
            ),
            (|reply| *reply = json!([]), "not understood"),
        ];
        for (change, expected) in changes {
            let AccountsReply::Unfit(problem) = changed(change) else {
                panic!("{expected}");
            };
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
        let mut huge = good();
        let mut of_one = account(&mut huge);
        of_one["data"][0] = json!(BASE64_STANDARD.encode(vec![0; DATA_MAX + 1]));
        huge["result"]["value"][0] = of_one;
        let reply = read(huge.to_string().as_bytes(), Slot(50), 2);
        assert!(
            matches!(reply, AccountsReply::Unfit(problem) if problem.contains("more than an account"))
        );
    }

    #[test]
    fn error_codes_say_what_to_do() {
        let error = |code: i64| {
            changed(|reply| *reply = json!({"error": {"code": code, "message": "m".repeat(500)}}))
        };
        assert!(matches!(error(-32016), AccountsReply::NotYet(said) if said.len() < 250));
        assert!(matches!(error(429), AccountsReply::TooMany(_)));
        assert!(
            matches!(error(-32602), AccountsReply::Unfit(said) if said.contains("minContextSlot"))
        );
        assert!(matches!(error(-32603), AccountsReply::Failed(_)));
    }
}
