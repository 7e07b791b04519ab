//! `accountSubscribe` and `programSubscribe`.

use solana_pubkey::Pubkey;
use solana_rpc_client_types::{
    config::{
        RpcAccountInfoConfig, RpcProgramAccountsConfig, UiAccountEncoding, UiDataSliceConfig,
    },
    filter::{Memcmp, MemcmpEncodedBytes, RpcFilterType},
    request::MAX_GET_PROGRAM_ACCOUNT_FILTERS,
};
use spl_generic_token::{token::GenericTokenAccount, token_2022};

use super::{Level, RpcError, Subscription, arguments::key};

/// How account data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    pub encoding: UiAccountEncoding,
    pub slice: Option<UiDataSliceConfig>,
}

pub(super) fn account(
    (pubkey, config): (String, Option<RpcAccountInfoConfig>),
) -> Result<Subscription, RpcError> {
    let config = config.unwrap_or_default();
    Ok(Subscription::Account {
        pubkey: key(&pubkey, "pubkey")?,
        view: view(&config),
        level: Level::asked(config.commitment),
    })
}

pub(super) fn program(
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
            *memcmp = Memcmp::new(memcmp.offset(), MemcmpEncodedBytes::Bytes(bytes));
        }
    }
    let program: Pubkey = key(&pubkey, "pubkey")?;
    Ok(Subscription::Program {
        program,
        filters,
        view: view(&config.account_config),
        level: Level::asked(config.account_config.commitment),
    })
}

fn view(config: &RpcAccountInfoConfig) -> View {
    View {
        encoding: config.encoding.unwrap_or(UiAccountEncoding::Binary),
        slice: config.data_slice,
    }
}

/// Whether an account's data passes all filters.
pub fn passes(filters: &[RpcFilterType], data: &[u8]) -> bool {
    filters.iter().all(|filter| match filter {
        RpcFilterType::DataSize(size) => data.len() as u64 == *size,
        RpcFilterType::Memcmp(memcmp) => memcmp.bytes_match(data),
        RpcFilterType::TokenAccountState => token_2022::Account::valid_account_data(data),
    })
}
