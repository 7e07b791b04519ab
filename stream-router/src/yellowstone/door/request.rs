//! What a subscriber wants by one message. Pure.

use bytes::Bytes;
use event_schema::{Slot, proto::geyser::SubscribeRequest};

use super::codec::{AccountsChange, Call};
use crate::{access::Size, yellowstone::engine::Start};

/// Longer than any cursor we ever gave, bytes.
const CURSOR_BYTES_MAX: usize = 4_096;

/// Names of filters are cut to this many characters in errors: a status travels in HTTP headers.
const QUOTED_CHARS: usize = 48;

/// A message, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Replaces what the subscriber had.
    pub subscription: Option<Subscription>,
    pub changes: Vec<Change>,
    /// To be answered with the same number.
    pub ping: Option<i32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    pub request: SubscribeRequest,
    pub start: Start,
}

/// Keys to add to and remove from one `accounts` filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub filter: String,
    pub add: Vec<[u8; 32]>,
    pub remove: Vec<[u8; 32]>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(
        "`cursor` and `from_slot` exclude one another: send the cursor to resume exactly, or from_slot to start with a slot"
    )]
    CursorAndSlot,
    #[error(
        "`cursor` has {0} bytes; send one as it came with an update, at most {CURSOR_BYTES_MAX} bytes"
    )]
    CursorLength(usize),
    #[error(
        "`accounts_change` of filter {filter:?}: key {at} of `{field}` has {length} bytes; a public key has 32"
    )]
    KeyLength {
        filter: String,
        field: &'static str,
        at: usize,
        length: usize,
    },
}

impl Subscription {
    /// To nothing, from now on.
    pub fn nothing() -> Self {
        Self {
            request: SubscribeRequest::default(),
            start: Start::Now,
        }
    }
}

impl Wish {
    pub fn read(call: Call) -> Result<Self, RequestError> {
        let Call {
            request,
            cursor,
            accounts_change,
        } = call;
        let ping = request.ping.as_ref().map(|ping| ping.id);
        let alone = SubscribeRequest {
            ping: request.ping,
            ..SubscribeRequest::default()
        };
        // An empty message clears the subscription; one that only pings or changes accounts leaves it as it is.
        let only_beside = request == alone && cursor.is_none();
        let beside = ping.is_some() || !accounts_change.is_empty();
        let subscription = if only_beside && beside {
            None
        } else {
            let start = start(cursor, request.from_slot)?;
            Some(Subscription { request, start })
        };
        let changes = accounts_change
            .into_iter()
            .map(Change::read)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            subscription,
            changes,
            ping,
        })
    }
}

fn start(cursor: Option<Bytes>, from_slot: Option<u64>) -> Result<Start, RequestError> {
    match (cursor, from_slot) {
        (Some(_), Some(_)) => Err(RequestError::CursorAndSlot),
        (Some(cursor), None) if cursor.len() > CURSOR_BYTES_MAX => {
            Err(RequestError::CursorLength(cursor.len()))
        }
        (Some(cursor), None) => Ok(Start::Cursor(cursor)),
        (None, Some(slot)) => Ok(Start::Slot(Slot(slot))),
        (None, None) => Ok(Start::Now),
    }
}

impl Change {
    fn read(change: AccountsChange) -> Result<Self, RequestError> {
        let filter = change.filter;
        let keys = |field, keys: Vec<Bytes>| {
            keys.iter()
                .enumerate()
                .map(|(at, key)| {
                    <[u8; 32]>::try_from(&key[..]).map_err(|_| RequestError::KeyLength {
                        filter: filter.chars().take(QUOTED_CHARS).collect(),
                        field,
                        at,
                        length: key.len(),
                    })
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let add = keys("add", change.add)?;
        let remove = keys("remove", change.remove)?;
        Ok(Self {
            filter,
            add,
            remove,
        })
    }
}

impl Size {
    pub fn of(request: &SubscribeRequest) -> Self {
        let transactions = || {
            request
                .transactions
                .values()
                .chain(request.transactions_status.values())
        };
        let filters = request.accounts.len()
            + request.slots.len()
            + transactions().count()
            + request.blocks.len()
            + request.blocks_meta.len()
            + request.entry.len();
        let accounts = request
            .accounts
            .values()
            .map(|filter| filter.account.len() + filter.owner.len())
            .chain(transactions().map(|filter| {
                filter.account_include.len()
                    + filter.account_exclude.len()
                    + filter.account_required.len()
            }))
            .chain(
                request
                    .blocks
                    .values()
                    .map(|filter| filter.account_include.len()),
            )
            .sum();
        Self { filters, accounts }
    }
}

#[cfg(test)]
mod tests {
    use event_schema::proto::geyser::SubscribeRequestPing;

    use super::*;

    fn ping(id: i32) -> SubscribeRequest {
        SubscribeRequest {
            ping: Some(SubscribeRequestPing { id }),
            ..SubscribeRequest::default()
        }
    }

    fn call(request: SubscribeRequest) -> Call {
        Call {
            request,
            ..Call::default()
        }
    }

    #[test]
    fn a_ping_alone_changes_nothing() {
        let wish = Wish::read(call(ping(3))).unwrap();
        assert_eq!((wish.subscription, wish.ping), (None, Some(3)));
    }

    #[test]
    fn a_ping_beside_filters_is_both() {
        let mut request = ping(3);
        request.slots.insert("s".into(), Default::default());
        let wish = Wish::read(call(request)).unwrap();
        assert!(wish.subscription.is_some());
        assert_eq!(wish.ping, Some(3));
    }

    #[test]
    fn an_empty_message_is_a_subscription_to_nothing() {
        let wish = Wish::read(Call::default()).unwrap();
        assert_eq!(wish.subscription.unwrap().start, Start::Now);
    }

    #[test]
    fn starts() {
        let mut asked = call(SubscribeRequest {
            from_slot: Some(9),
            ..SubscribeRequest::default()
        });
        let start =
            |call: &Call| Wish::read(call.clone()).map(|wish| wish.subscription.unwrap().start);
        assert_eq!(start(&asked), Ok(Start::Slot(Slot(9))));
        asked.cursor = Some(Bytes::from_static(b"c"));
        assert_eq!(start(&asked), Err(RequestError::CursorAndSlot));
        asked.request.from_slot = None;
        assert_eq!(start(&asked), Ok(Start::Cursor(Bytes::from_static(b"c"))));
        asked.cursor = Some(vec![0; CURSOR_BYTES_MAX + 1].into());
        assert_eq!(start(&asked), Err(RequestError::CursorLength(4_097)));
    }

    #[test]
    fn a_key_of_the_wrong_length_is_named() {
        let change = AccountsChange {
            filter: "mine".into(),
            add: vec![Bytes::from_static(&[1; 32]), Bytes::from_static(&[1; 31])],
            remove: Vec::new(),
        };
        let asked = Call {
            accounts_change: vec![change],
            ..Call::default()
        };
        let error = Wish::read(asked).unwrap_err().to_string();
        assert!(
            error.contains("\"mine\"") && error.contains("key 1 of `add` has 31 bytes"),
            "{error}"
        );
    }

    #[test]
    fn sizes_count_every_kind() {
        let mut request = SubscribeRequest::default();
        request.accounts.entry("a".into()).or_default().account = vec![String::new(); 3];
        request.accounts.entry("a".into()).or_default().owner = vec![String::new(); 2];
        request
            .transactions
            .entry("t".into())
            .or_default()
            .account_include = vec![String::new()];
        request
            .transactions_status
            .entry("t".into())
            .or_default()
            .account_required = vec![String::new()];
        request
            .blocks
            .entry("b".into())
            .or_default()
            .account_include = vec![String::new()];
        request.blocks_meta.insert("m".into(), Default::default());
        request.entry.insert("e".into(), Default::default());
        request.slots.insert("s".into(), Default::default());
        let size = Size::of(&request);
        assert_eq!(
            size,
            Size {
                filters: 7,
                accounts: 8
            }
        );
    }
}
