use event_schema::proto::confirmed_block::{
    CompiledInstruction, Message, MessageHeader, Transaction, TransactionError,
    TransactionStatusMeta,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use solana_rpc_client_types::config::{TransactionDetails, UiTransactionEncoding};

use super::*;
use crate::{encoding::ShownTransaction, subscription::TransactionView};

fn vote_transaction(data: Vec<u8>) -> SubscribeUpdateTransactionInfo {
    let message = Message {
        header: Some(MessageHeader {
            num_required_signatures: 1,
            num_readonly_signed_accounts: 0,
            num_readonly_unsigned_accounts: 1,
        }),
        account_keys: vec![vec![1; 32], vec![2; 32], VOTE_PROGRAM.to_bytes().to_vec()],
        recent_blockhash: vec![0; 32],
        instructions: vec![CompiledInstruction {
            program_id_index: 2,
            accounts: vec![1, 0, 0, 0],
            data,
        }],
        ..Default::default()
    };
    SubscribeUpdateTransactionInfo {
        signature: vec![9; 64],
        is_vote: true,
        transaction: Some(Transaction {
            signatures: vec![vec![9; 64]],
            message: Some(message),
        }),
        meta: Some(TransactionStatusMeta::default()),
        index: 0,
    }
}

/// The vote as Agave's parser reads it.
fn parsed_by_agave(info: &SubscribeUpdateTransactionInfo) -> Option<Value> {
    let view = TransactionView {
        encoding: UiTransactionEncoding::JsonParsed,
        details: TransactionDetails::Full,
        rewards: false,
        version_max: None,
    };
    let shown = ShownTransaction::new(Slot(7), &info.clone().into()).notification(view);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let shown = &shown["transaction"];
    let info = &shown["transaction"]["message"]["instructions"][0]["parsed"]["info"];
    let vote = ["vote", "voteStateUpdate", "towerSync"]
        .iter()
        .find_map(|member| info.get(member))?;
    let slots = match vote["slots"].as_array() {
        Some(slots) => json!(slots),
        None => vote["lockouts"]
            .as_array()
            .expect("lockouts")
            .iter()
            .map(|lockout| lockout["slot"].clone())
            .collect(),
    };
    (slots != json!([])).then(|| {
        json!({
            "votePubkey": info["voteAccount"],
            "slots": slots,
            "hash": vote["hash"],
            "timestamp": vote["timestamp"],
            "signature": shown["transaction"]["signatures"][0],
        })
    })
}

fn assert_read_as_agave_reads(data: Vec<u8>) -> Option<Value> {
    let info = vote_transaction(data);
    let ours = LandedVote::new(&info)
        .map(|vote| serde_json::from_str::<Value>(&vote.shown()).expect("JSON"));
    assert_eq!(ours, parsed_by_agave(&info));
    ours
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An instruction that votes for slots that ascend by these steps.
fn instruction(variant: u32, root: Option<u64>, steps: &[u64], timestamp: Option<i64>) -> Vec<u8> {
    let mut data = variant.to_le_bytes().to_vec();
    let slots = steps.iter().scan(root.unwrap_or(0), |slot, step| {
        *slot = slot.wrapping_add(*step);
        Some(*slot)
    });
    match variant {
        2 | 6 => {
            data.extend((steps.len() as u64).to_le_bytes());
            slots.for_each(|slot| data.extend(slot.to_le_bytes()));
        }
        8 | 9 => {
            data.extend((steps.len() as u64).to_le_bytes());
            for slot in slots {
                data.extend(slot.to_le_bytes());
                data.extend(3u32.to_le_bytes());
            }
            match root {
                None => data.push(0),
                Some(root) => {
                    data.push(1);
                    data.extend(root.to_le_bytes());
                }
            }
        }
        _ => {
            data.extend(root.unwrap_or(u64::MAX).to_le_bytes());
            varint(steps.len() as u64, &mut data);
            for step in steps {
                varint(*step, &mut data);
                data.push(2);
            }
        }
    }
    data.extend([7; 32]);
    match timestamp {
        None => data.push(0),
        Some(timestamp) => {
            data.push(1);
            data.extend(timestamp.to_le_bytes());
        }
    }
    if variant >= 14 {
        data.extend([8; 32]);
    }
    if matches!(variant, 6 | 9 | 13 | 15) {
        data.extend([9; 32]);
    }
    data
}

const VARIANTS: [u32; 8] = [2, 6, 8, 9, 12, 13, 14, 15];

#[test]
fn every_kind_of_vote_is_read() {
    for variant in VARIANTS {
        let vote = assert_read_as_agave_reads(instruction(variant, Some(90), &[10, 1], Some(-5)))
            .unwrap_or_else(|| panic!("variant {variant} votes"));
        assert_eq!(vote["slots"], json!([100, 101]));
        assert_eq!(vote["timestamp"], -5);
        assert_eq!(vote["votePubkey"], Pubkey::from([2; 32]).to_string());
        assert_eq!(
            assert_read_as_agave_reads(instruction(variant, None, &[], None)),
            None
        );
    }
    for variant in [0u32, 1, 3, 4, 5, 7, 10, 11, 16, 17, 18, 19] {
        assert_eq!(read_vote(&instruction(variant, None, &[1], None)), None);
    }
}

#[test]
fn failed_votes_are_none() {
    let mut info = vote_transaction(instruction(14, None, &[5], None));
    assert!(LandedVote::new(&info).is_some());
    info.meta = Some(TransactionStatusMeta {
        err: Some(TransactionError { err: vec![0; 4] }),
        ..Default::default()
    });
    assert_eq!(LandedVote::new(&info), None);
}

#[test]
fn a_vote_is_news_once_and_only_above_the_root() {
    let vote = |last: u64, hash: u8| LandedVote {
        voter: Pubkey::from([1; 32]),
        slots: vec![last - 1, last],
        hash: [hash; 32],
        timestamp: None,
        signature: vec![0; 64],
    };
    let mut told = ToldVotes::default();
    assert!(told.is_news(&vote(10, 1)));
    assert!(!told.is_news(&vote(10, 1)));
    assert!(told.is_news(&vote(10, 2)), "another block of the slot");
    told.rooted(Slot(10));
    assert!(!told.is_news(&vote(10, 3)));
    assert!(told.is_news(&vote(11, 3)));
    for slot in 12..2_000 {
        assert!(told.is_news(&vote(slot, 1)));
    }
    assert!(told.by_slot.len() <= ToldVotes::SLOTS_MAX);
}

proptest! {
    #[test]
    fn votes_are_read_as_agave_reads_them(
        variant in proptest::sample::select(&VARIANTS[..]),
        root in proptest::option::of(any::<u64>()),
        steps in proptest::collection::vec(prop_oneof![1u64..200, any::<u64>()], 0..9),
        timestamp: Option<i64>,
    ) {
        assert_read_as_agave_reads(instruction(variant, root, &steps, timestamp));
    }

    #[test]
    fn damaged_votes_are_read_as_agave_reads_them(
        variant in proptest::sample::select(&VARIANTS[..]),
        steps in proptest::collection::vec(1u64..2_000, 0..9),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
        whole: bool,
    ) {
        let mut data = instruction(variant, Some(5), &steps, Some(6));
        let at = at.index(data.len());
        data[at] = byte;
        if !whole {
            data.truncate(cut.index(data.len()));
        }
        assert_read_as_agave_reads(data);
    }
}
