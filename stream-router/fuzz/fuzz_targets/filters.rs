//! A message of a Yellowstone subscriber, as bytes or drawn: it is refused in words that fit into a status, or its filters can
//! be asked, told a block, changed, and removed without a trace.

#![no_main]

use event_schema::{
    Slot,
    proto::{
        Message,
        geyser::{
            SlotStatus, SubscribeRequest, SubscribeRequestAccountsDataSlice,
            SubscribeRequestFilterAccounts, SubscribeRequestFilterAccountsFilter,
            SubscribeRequestFilterAccountsFilterLamports,
            SubscribeRequestFilterAccountsFilterMemcmp, SubscribeRequestFilterBlocks,
            SubscribeRequestFilterSlots, SubscribeRequestFilterTransactions, SubscribeUpdate,
            subscribe_request_filter_accounts_filter::Filter,
            subscribe_request_filter_accounts_filter_lamports::Cmp,
            subscribe_request_filter_accounts_filter_memcmp::Data,
        },
    },
};
use libfuzzer_sys::{
    arbitrary::{self, Unstructured},
    fuzz_target,
};
use stream_router::{
    subscription::Level,
    yellowstone::{
        door::codec::Call,
        engine::{Had, Item, Reached, Scratch, What, telling},
        filter::{FilterIndex, FilterLimits, Filters, Wants},
    },
};
use stream_router_fuzz::{block, key, signature};

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, bytes)) => {
            if let Ok(call) = Call::decode(bytes.to_vec().into()) {
                let changes = call.accounts_change.iter();
                let keys = changes.flat_map(|change| &change.add);
                let keys: Vec<[u8; 32]> = keys.filter_map(|key| key[..].try_into().ok()).collect();
                subscribe(&call.request, &keys);
            }
        }
        // Bytes that end too early are no case.
        Some((_, bytes)) => drop(drawn(&mut Unstructured::new(bytes))),
        None => {}
    }
});

fn subscribe(request: &SubscribeRequest, keys: &[[u8; 32]]) {
    let filters = match Filters::compile(request, &FilterLimits::default()) {
        Ok(filters) => filters,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 1_000, "{text}");
            return;
        }
    };
    let level = filters.level();
    let mut index = FilterIndex::default();
    index.insert(1, filters);
    tell(&index, level);
    for name in request.accounts.keys() {
        // It may be too many, or a filter that names none.
        let _ = index.change_accounts(1, name, keys, &keys[..keys.len() / 2]);
    }
    tell(&index, level);
    index.remove(1);
    for level in Level::ALL {
        assert_eq!(index.wants(level), Wants::default());
    }
}

fn tell(index: &FilterIndex, level: Level) {
    let block = block();
    let item = Item {
        number: 1,
        what: What::Reached(Reached {
            level,
            block: block.id,
            parent: Slot(9),
            offset: None,
            not_before: 0,
        }),
    };
    let mut scratch = Scratch::default();
    let told = telling(
        index,
        level,
        &item,
        Some(&block),
        0,
        &Had::default(),
        &mut scratch,
    );
    for delivery in told {
        let update = [delivery.head, delivery.body].concat();
        let update = SubscribeUpdate::decode(update.as_slice()).expect("ours");
        assert!(!update.filters.is_empty());
    }
    for status in [SlotStatus::SlotDead, SlotStatus::SlotCreatedBank] {
        index.slot(status, &mut Vec::new());
    }
}

fn drawn(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut request = SubscribeRequest {
        commitment: u
            .arbitrary::<Option<u8>>()?
            .map(|level| i32::from(level % 4)),
        ..SubscribeRequest::default()
    };
    for _ in 0..u.int_in_range(0..=3)? {
        let name = name(u)?;
        match u.int_in_range(0..=6)? {
            0 => drop(request.accounts.insert(name, accounts(u)?)),
            1 => drop(request.transactions.insert(name, transactions(u)?)),
            2 => drop(request.transactions_status.insert(name, transactions(u)?)),
            3 => {
                let filter = SubscribeRequestFilterSlots {
                    filter_by_commitment: u.arbitrary()?,
                    interslot_updates: u.arbitrary()?,
                };
                request.slots.insert(name, filter);
            }
            4 => drop(request.blocks.insert(name, blocks(u)?)),
            5 => drop(request.blocks_meta.insert(name, Default::default())),
            _ => drop(request.entry.insert(name, Default::default())),
        }
    }
    for _ in 0..u.int_in_range(0..=3)? {
        let (offset, length) = (number(u)?, number(u)?);
        let slice = SubscribeRequestAccountsDataSlice { offset, length };
        request.accounts_data_slice.push(slice);
    }
    let mut keys = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        keys.push([u.int_in_range(3..=9)?; 32]);
    }
    subscribe(&request, &keys);
    Ok(())
}

fn name(u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    Ok(match u.int_in_range(0..=7)? {
        0 => "x".repeat(u.int_in_range(100..=200)?),
        _ => u.int_in_range(0..=3u8)?.to_string(),
    })
}

/// Small, or anything.
fn number(u: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    if u.ratio(1, 4)? {
        u.arbitrary()
    } else {
        u.int_in_range(0..=200)
    }
}

fn keys(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<String>> {
    let mut keys = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        let byte = *u.choose(&[0, 4, 5, 6, 7, 8, 9, 200])?;
        keys.push(if u.ratio(1, 16)? {
            u.arbitrary()?
        } else {
            key(byte)
        });
    }
    Ok(keys)
}

fn accounts(u: &mut Unstructured<'_>) -> arbitrary::Result<SubscribeRequestFilterAccounts> {
    let mut filters = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        let filter = match u.int_in_range(0..=4)? {
            0 => Filter::Datasize(number(u)?),
            1 => Filter::TokenAccountState(u.arbitrary()?),
            2 => Filter::Lamports(SubscribeRequestFilterAccountsFilterLamports {
                cmp: match u.int_in_range(0..=4)? {
                    0 => None,
                    1 => Some(Cmp::Eq(number(u)?)),
                    2 => Some(Cmp::Ne(number(u)?)),
                    3 => Some(Cmp::Lt(number(u)?)),
                    _ => Some(Cmp::Gt(number(u)?)),
                },
            }),
            _ => Filter::Memcmp(SubscribeRequestFilterAccountsFilterMemcmp {
                offset: number(u)?,
                data: match u.int_in_range(0..=3)? {
                    0 => None,
                    1 => Some(Data::Bytes(u.arbitrary()?)),
                    2 => Some(Data::Base58(u.arbitrary()?)),
                    _ => Some(Data::Base64(u.arbitrary()?)),
                },
            }),
        };
        let filter = (!u.ratio(1, 16)?).then_some(filter);
        filters.push(SubscribeRequestFilterAccountsFilter { filter });
    }
    Ok(SubscribeRequestFilterAccounts {
        account: keys(u)?,
        owner: keys(u)?,
        filters,
        nonempty_txn_signature: u.arbitrary()?,
        ..SubscribeRequestFilterAccounts::default()
    })
}

fn transactions(u: &mut Unstructured<'_>) -> arbitrary::Result<SubscribeRequestFilterTransactions> {
    Ok(SubscribeRequestFilterTransactions {
        vote: u.arbitrary()?,
        failed: u.arbitrary()?,
        signature: u.ratio(1, 4)?.then(|| signature(1)),
        account_include: keys(u)?,
        account_exclude: keys(u)?,
        account_required: keys(u)?,
        ..SubscribeRequestFilterTransactions::default()
    })
}

fn blocks(u: &mut Unstructured<'_>) -> arbitrary::Result<SubscribeRequestFilterBlocks> {
    Ok(SubscribeRequestFilterBlocks {
        account_include: keys(u)?,
        include_transactions: u.arbitrary()?,
        include_accounts: u.arbitrary()?,
        include_entries: u.arbitrary()?,
        ..SubscribeRequestFilterBlocks::default()
    })
}
