//! Pure: what a subscriber asks for. Parameters are read with the types of Agave's own client crate, so that what it
//! accepts and how it refuses is what Solana clients know.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use solana_pubkey::Pubkey;
use solana_rpc_client_types::{
    config::{
        CommitmentConfig, RpcAccountInfoConfig, RpcProgramAccountsConfig,
        RpcSignatureSubscribeConfig, RpcTransactionLogsConfig, RpcTransactionLogsFilter,
        UiAccountEncoding, UiDataSliceConfig,
    },
    filter::{MemcmpEncodedBytes, RpcFilterType},
    request::MAX_GET_PROGRAM_ACCOUNT_FILTERS,
};
use spl_generic_token::{token::GenericTokenAccount, token_2022};

use crate::commitment::Standing;

/// When a subscriber wants to know. The order is that of certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Processed,
    Confirmed,
    Finalized,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Processed, Self::Confirmed, Self::Finalized];

    /// The level a block has reached; abandoned blocks reach none.
    pub fn reached(standing: Standing) -> Option<Self> {
        match standing {
            Standing::Processed => Some(Self::Processed),
            Standing::Confirmed => Some(Self::Confirmed),
            Standing::Finalized => Some(Self::Finalized),
            Standing::Abandoned => None,
        }
    }

    /// Finalized unless asked otherwise, as everywhere in Solana's RPC.
    fn asked(config: Option<CommitmentConfig>) -> Self {
        let config = config.unwrap_or_default();
        if config.is_processed() {
            Self::Processed
        } else if config.is_confirmed() {
            Self::Confirmed
        } else {
            Self::Finalized
        }
    }
}

/// How account data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    pub encoding: UiAccountEncoding,
    pub slice: Option<UiDataSliceConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogsOf {
    All,
    AllWithVotes,
    Mentions(Pubkey),
}

/// A validated subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Subscription {
    Account {
        pubkey: Pubkey,
        view: View,
        level: Level,
    },
    Program {
        program: Pubkey,
        filters: Vec<RpcFilterType>,
        view: View,
        level: Level,
    },
    Logs {
        of: LogsOf,
        level: Level,
    },
    Signature {
        signature: [u8; 64],
        received: bool,
        level: Level,
    },
    Slot,
    Root,
}

impl Subscription {
    /// The method of its notifications.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Account { .. } => "accountNotification",
            Self::Program { .. } => "programNotification",
            Self::Logs { .. } => "logsNotification",
            Self::Signature { .. } => "signatureNotification",
            Self::Slot => "slotNotification",
            Self::Root => "rootNotification",
        }
    }
}

/// A JSON-RPC error object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl RpcError {
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    pub fn parse_error() -> Self {
        Self::new(-32700, "Parse error")
    }

    pub fn invalid_request() -> Self {
        Self::new(-32600, "Invalid request")
    }

    pub fn method_not_found() -> Self {
        Self::new(-32601, "Method not found")
    }

    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub fn too_many_subscriptions() -> Self {
        Self::new(
            -32603,
            "Internal Error: Subscription refused. Node subscription limit reached",
        )
    }
}

/// What a method asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Subscribe(Box<Subscription>),
    Unsubscribe(u64),
}

/// Reads one call. `params` is `Value::Null` when the request had none.
pub fn ask(method: &str, params: Value) -> Result<Ask, RpcError> {
    let subscription = match method {
        "accountSubscribe" => account(arguments(params)?)?,
        "programSubscribe" => program(arguments(params)?)?,
        "logsSubscribe" => logs(arguments(params)?)?,
        "signatureSubscribe" => signature(arguments(params)?)?,
        "slotSubscribe" => {
            no_arguments(params)?;
            Subscription::Slot
        }
        "rootSubscribe" => {
            no_arguments(params)?;
            Subscription::Root
        }
        "accountUnsubscribe"
        | "programUnsubscribe"
        | "logsUnsubscribe"
        | "signatureUnsubscribe"
        | "slotUnsubscribe"
        | "rootUnsubscribe" => {
            let (id,) = read::<(u64,)>(params)?;
            return Ok(Ask::Unsubscribe(id));
        }
        _ => return Err(RpcError::method_not_found()),
    };
    Ok(Ask::Subscribe(Box::new(subscription)))
}

fn account(
    (pubkey, config): (String, Option<RpcAccountInfoConfig>),
) -> Result<Subscription, RpcError> {
    let config = config.unwrap_or_default();
    Ok(Subscription::Account {
        pubkey: key(&pubkey, "pubkey")?,
        view: view(&config),
        level: Level::asked(config.commitment),
    })
}

fn program(
    (pubkey, config): (String, Option<RpcProgramAccountsConfig>),
) -> Result<Subscription, RpcError> {
    let config = config.unwrap_or_default();
    let mut filters = config.filters.unwrap_or_default();
    if filters.len() > MAX_GET_PROGRAM_ACCOUNT_FILTERS {
        return Err(RpcError::invalid_params(format!(
            "Invalid params: Too many filters provided; max {MAX_GET_PROGRAM_ACCOUNT_FILTERS}"
        )));
    }
    for filter in &mut filters {
        filter.verify().map_err(|error| {
            RpcError::invalid_params(format!("Invalid params: Invalid param: {error:?}"))
        })?;
        // Decoded once here instead of at every account.
        if let RpcFilterType::Memcmp(memcmp) = filter
            && let Some(bytes) = memcmp.bytes().map(|bytes| bytes.into_owned())
        {
            *memcmp = solana_rpc_client_types::filter::Memcmp::new(
                memcmp.offset(),
                MemcmpEncodedBytes::Bytes(bytes),
            );
        }
    }
    Ok(Subscription::Program {
        program: key(&pubkey, "pubkey")?,
        filters,
        view: view(&config.account_config),
        level: Level::asked(config.account_config.commitment),
    })
}

fn logs(
    (filter, config): (RpcTransactionLogsFilter, Option<RpcTransactionLogsConfig>),
) -> Result<Subscription, RpcError> {
    let of = match filter {
        RpcTransactionLogsFilter::All => LogsOf::All,
        RpcTransactionLogsFilter::AllWithVotes => LogsOf::AllWithVotes,
        RpcTransactionLogsFilter::Mentions(keys) => match keys.as_slice() {
            [one] => LogsOf::Mentions(key(one, "mentions")?),
            _ => {
                return Err(RpcError::invalid_params(
                    "Invalid Request: Only 1 address supported",
                ));
            }
        },
    };
    Ok(Subscription::Logs {
        of,
        level: Level::asked(config.and_then(|config| config.commitment)),
    })
}

fn signature(
    (signature, config): (String, Option<RpcSignatureSubscribeConfig>),
) -> Result<Subscription, RpcError> {
    let config = config.unwrap_or_default();
    let signature: event_schema::Signature = signature.parse().map_err(|_| invalid("signature"))?;
    Ok(Subscription::Signature {
        signature: signature.0,
        received: config.enable_received_notification.unwrap_or_default(),
        level: Level::asked(config.commitment),
    })
}

fn view(config: &RpcAccountInfoConfig) -> View {
    View {
        encoding: config.encoding.unwrap_or(UiAccountEncoding::Binary),
        slice: config.data_slice,
    }
}

fn key(text: &str, thing: &str) -> Result<Pubkey, RpcError> {
    text.parse().map_err(|_| invalid(thing))
}

fn invalid(thing: &str) -> RpcError {
    RpcError::invalid_params(format!("Invalid Request: Invalid {thing} provided"))
}

/// One required argument and an optional configuration.
fn arguments<A: DeserializeOwned, C: DeserializeOwned>(
    params: Value,
) -> Result<(A, Option<C>), RpcError> {
    let count = match &params {
        Value::Array(values) => values.len(),
        Value::Null => 0,
        _ => return Err(RpcError::invalid_params("`params` should be an array")),
    };
    match count {
        0 => Err(RpcError::invalid_params(
            "`params` should have at least 1 argument(s)",
        )),
        1 => read::<(A,)>(params).map(|(first,)| (first, None)),
        2 => read(params),
        more => Err(RpcError {
            data: Some(Value::String(format!("\"Got: {more}\""))),
            ..RpcError::invalid_params("Invalid parameters: Expected from 1 to 2 parameters.")
        }),
    }
}

fn no_arguments(params: Value) -> Result<(), RpcError> {
    match params {
        Value::Null => Ok(()),
        Value::Array(values) if values.is_empty() => Ok(()),
        other => Err(RpcError {
            data: Some(Value::String(other.to_string())),
            ..RpcError::invalid_params("Invalid parameters: No parameters were expected")
        }),
    }
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    serde_json::from_value(params)
        .map_err(|error| RpcError::invalid_params(format!("Invalid params: {error}.")))
}

/// Whether an account's data passes all filters.
pub fn passes(filters: &[RpcFilterType], data: &[u8]) -> bool {
    filters.iter().all(|filter| match filter {
        RpcFilterType::DataSize(size) => data.len() as u64 == *size,
        RpcFilterType::Memcmp(memcmp) => memcmp.bytes_match(data),
        RpcFilterType::TokenAccountState => token_2022::Account::valid_account_data(data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";

    fn refusal(method: &str, params: Value) -> (i64, String) {
        let error = ask(method, params).expect_err("must be refused");
        (error.code, error.message)
    }

    #[test]
    fn defaults_are_those_of_the_validator() {
        let Ask::Subscribe(subscription) = ask("accountSubscribe", json!([KEY])).unwrap() else {
            panic!("a subscription");
        };
        assert_eq!(
            *subscription,
            Subscription::Account {
                pubkey: KEY.parse().unwrap(),
                view: View {
                    encoding: UiAccountEncoding::Binary,
                    slice: None
                },
                level: Level::Finalized,
            }
        );
    }

    #[test]
    fn every_filter_form_is_understood() {
        let params = json!([KEY, {
            "encoding": "base64+zstd", "commitment": "processed", "dataSlice": {"offset": 1, "length": 2},
            "filters": [{"dataSize": 165}, {"memcmp": {"offset": 0, "bytes": "3Mc6vR"}},
                {"memcmp": {"offset": 4, "bytes": "AQI=", "encoding": "base64"}}, "tokenAccountState"]
        }]);
        let Ask::Subscribe(subscription) = ask("programSubscribe", params).unwrap() else {
            panic!("a subscription");
        };
        let Subscription::Program { filters, level, .. } = *subscription else {
            panic!("a program subscription");
        };
        assert_eq!((filters.len(), level), (4, Level::Processed));
        let raw = json!([KEY, {"filters": [{"memcmp": {"offset": 1, "bytes": [1, 2]}}]}]);
        let Ask::Subscribe(subscription) = ask("programSubscribe", raw).unwrap() else {
            panic!("a subscription");
        };
        let Subscription::Program { filters, .. } = *subscription else {
            panic!("a program subscription");
        };
        assert!(passes(&filters, &[0, 1, 2]));
        assert!(!passes(&filters, &[1, 2]));
    }

    #[test]
    fn refusals_say_what_the_validator_says() {
        assert_eq!(refusal("voteSubscribe", json!([])).0, -32601);
        assert_eq!(
            refusal("accountSubscribe", json!(["nonsense"])),
            (-32602, "Invalid Request: Invalid pubkey provided".into())
        );
        assert_eq!(
            refusal("accountSubscribe", Value::Null).1,
            "`params` should have at least 1 argument(s)"
        );
        assert_eq!(
            refusal("accountSubscribe", json!({"pubkey": KEY})).1,
            "`params` should be an array"
        );
        assert_eq!(
            refusal("logsSubscribe", json!([{"mentions": [KEY, KEY]}])).1,
            "Invalid Request: Only 1 address supported"
        );
        assert_eq!(
            refusal("signatureSubscribe", json!([KEY])).1,
            "Invalid Request: Invalid signature provided"
        );
        assert_eq!(
            refusal("accountSubscribe", json!([true])).1,
            "Invalid params: invalid type: boolean `true`, expected a string."
        );
        assert_eq!(
            refusal("slotSubscribe", json!([1])).1,
            "Invalid parameters: No parameters were expected"
        );
        let five = json!([KEY, {"filters": [{"dataSize": 1}, {"dataSize": 1}, {"dataSize": 1}, {"dataSize": 1}, {"dataSize": 1}]}]);
        assert_eq!(
            refusal("programSubscribe", five).1,
            "Invalid params: Too many filters provided; max 4"
        );
        let long = json!([KEY, {"filters": [{"memcmp": {"offset": 0, "bytes": vec![0; 129]}}]}]);
        assert_eq!(
            refusal("programSubscribe", long).1,
            "Invalid params: Invalid param: DataTooLarge"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_parameters_panic(method in "(account|program|logs|signature|slot|root)(Subscribe|Unsubscribe)", text: String, number: u64) {
            for params in [json!(text), json!([text]), json!([number]), json!([text, {"filters": [text]}]), json!([{"mentions": [text]}])] {
                let _ = ask(&method, params);
            }
        }
    }
}
