use super::*;
use crate::proto::geyser::{SubscribeUpdateSlot, SubscribeUpdateTransaction};
use proptest::prelude::*;

const HASH: Blockhash = Blockhash([7; 32]);

fn update(update: UpdateOneof) -> Bytes {
    SubscribeUpdate {
        filters: vec![],
        update_oneof: Some(update),
        created_at: None,
    }
    .encode_to_vec()
    .into()
}

fn header(kind: Kind, slot: u64, index: u32) -> [u8; CanonicalHeader::LENGTH] {
    CanonicalHeader {
        kind,
        slot: Slot(slot),
        blockhash: HASH,
        index,
    }
    .encode()
}

/// The records of a block with `transactions` transactions.
fn block(slot: u64, transactions: u64) -> Vec<([u8; CanonicalHeader::LENGTH], Bytes)> {
    let mut values: Vec<(Kind, Bytes)> = (0..transactions)
        .map(|index| {
            let info = SubscribeUpdateTransactionInfo {
                signature: vec![index as u8; 64],
                index,
                ..Default::default()
            };
            let value = update(UpdateOneof::Transaction(SubscribeUpdateTransaction {
                transaction: Some(info),
                slot,
            }));
            (Kind::Transaction, value)
        })
        .collect();
    values.push((
        Kind::BlockMeta,
        update(UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
            slot,
            executed_transaction_count: transactions,
            ..Default::default()
        })),
    ));
    let seal = CanonicalSeal {
        slot,
        blockhash: HASH.0.to_vec(),
        transactions,
        ..Default::default()
    };
    values.push((Kind::Seal, seal.encode_to_vec().into()));
    values
        .into_iter()
        .enumerate()
        .map(|(index, (kind, value))| (header(kind, slot, index as u32), value))
        .collect()
}

#[test]
fn a_block_comes_out_whole_with_its_offsets() {
    let mut assembler = SlotAssembler::new();
    let mut events = Vec::new();
    for (offset, (header, value)) in block(5, 3).into_iter().enumerate() {
        events.extend(
            assembler
                .push(100 + offset as i64, &header, &value)
                .unwrap(),
        );
    }
    let [CanonicalEvent::Block(block)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((block.slot, block.blockhash), (Slot(5), HASH));
    assert_eq!((block.first_offset, block.next_offset), (100, 105));
    assert_eq!(block.transactions.len(), 3);
}

/// The records of a block with one account of `bytes` bytes, and the account.
fn oversize_block(
    slot: u64,
    bytes: usize,
) -> (
    Vec<([u8; CanonicalHeader::LENGTH], Bytes)>,
    SubscribeUpdateAccount,
) {
    let account = SubscribeUpdateAccount {
        slot,
        account: Some(crate::proto::geyser::SubscribeUpdateAccountInfo {
            data: (0..bytes).map(|at| (at / 3) as u8).collect(),
            ..Default::default()
        }),
        is_startup: false,
    };
    let value = update(UpdateOneof::Account(account.clone()));
    let mut values: Vec<(Kind, Bytes)> = crate::chunks_of(Kind::Account, &value)
        .unwrap()
        .map(|chunk| {
            let mut out = Vec::new();
            chunk.write(&mut out);
            (Kind::Chunk, out.into())
        })
        .collect();
    let meta = UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
        slot,
        ..Default::default()
    });
    values.push((Kind::BlockMeta, update(meta)));
    let seal = CanonicalSeal {
        slot,
        blockhash: HASH.0.to_vec(),
        accounts: 1,
        ..Default::default()
    };
    values.push((Kind::Seal, seal.encode_to_vec().into()));
    let records = values
        .into_iter()
        .enumerate()
        .map(|(index, (kind, value))| (header(kind, slot, index as u32), value));
    (records.collect(), account)
}

#[test]
fn an_oversize_value_comes_out_whole() {
    let (records, account) = oversize_block(5, 10 << 20);
    assert_eq!(records.len(), 14);
    let mut assembler = SlotAssembler::new();
    let mut blocks = Vec::new();
    for (offset, (header, value)) in records.iter().enumerate() {
        blocks.extend(assembler.push(offset as i64, header, value).unwrap());
    }
    let [CanonicalEvent::Block(block)] = blocks.as_slice() else {
        panic!("{} events", blocks.len());
    };
    assert!(block.accounts == [account]);
    assert_eq!((block.first_offset, block.next_offset), (0, 14));
}

#[test]
fn chunks_that_do_not_fit_give_the_block_up() {
    let (records, _) = oversize_block(5, 2 << 20);
    // A chunk whose value is another's, and a set that the metadata interrupts.
    let mut exchanged = records.clone();
    exchanged[1].1 = records[2].1.clone();
    let mut interrupted = records.clone();
    let index = interrupted[2].0[44];
    interrupted[2] = records[3].clone();
    interrupted[2].0[44] = index;
    for records in [exchanged, interrupted] {
        let mut assembler = SlotAssembler::new();
        let errors: Vec<AssemblyError> = records
            .iter()
            .filter_map(|(header, value)| assembler.push(0, header, value).err())
            .collect();
        assert!(
            matches!(errors[0], AssemblyError::Chunks { slot: Slot(5), .. }),
            "{errors:?}"
        );
        assert_eq!(assembler.open_since(), None);
    }
}

#[test]
fn a_start_in_the_middle_is_skipped_not_guessed() {
    let mut assembler = SlotAssembler::new();
    for (offset, (header, value)) in block(5, 3).into_iter().enumerate().skip(1) {
        assert_eq!(assembler.push(offset as i64, &header, &value), Ok(None));
    }
    assert_eq!(assembler.skipped(), 4);
}

#[test]
fn a_missing_record_gives_the_block_up_and_the_next_one_is_read() {
    let mut assembler = SlotAssembler::new();
    let mut records = block(5, 3);
    records.remove(1);
    records.extend(block(6, 1));
    let mut blocks = 0;
    let mut errors = 0;
    for (offset, (header, value)) in records.iter().enumerate() {
        match assembler.push(offset as i64, header, value) {
            Ok(Some(CanonicalEvent::Block(block))) => {
                assert_eq!(block.slot, Slot(6));
                blocks += 1;
            }
            Ok(_) => {}
            Err(_) => errors += 1,
        }
    }
    assert_eq!((blocks, errors), (1, 1));
}

#[test]
fn a_status_names_the_fork() {
    let value = update(UpdateOneof::Slot(SubscribeUpdateSlot {
        slot: 5,
        status: SlotStatus::SlotFinalized as i32,
        ..Default::default()
    }));
    let event = SlotAssembler::new()
        .push(9, &header(Kind::Status, 5, 0), &value)
        .unwrap();
    assert_eq!(
        event,
        Some(CanonicalEvent::Status {
            slot: Slot(5),
            blockhash: HASH,
            commitment: Commitment::Finalized,
            offset: 9,
        })
    );
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(records: Vec<(u8, u32, Vec<u8>)>) {
        let mut assembler = SlotAssembler::new();
        for (offset, (kind, index, value)) in records.into_iter().enumerate() {
            let mut header = header(Kind::Seal, 1, index % 3);
            header[1] = kind % 11;
            let _ = assembler.push(offset as i64, &header, &Bytes::from(value));
        }
    }
}
