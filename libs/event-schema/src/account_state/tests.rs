use proptest::prelude::*;

use super::*;
use crate::chunk::chunks_of_size;

type Record = (Bytes, Bytes, Bytes);

fn account(number: u8) -> Pubkey {
    Pubkey([number; 32])
}

fn header(kind: Kind, slot: u64) -> Bytes {
    let header = CanonicalHeader {
        kind,
        slot: Slot(slot),
        blockhash: Blockhash([slot as u8; 32]),
        index: 0,
    };
    Bytes::copy_from_slice(&header.encode())
}

/// A state of so many bytes in chunks of 10; 10 and less are written whole. `before`: chunks of the state it replaces.
fn write(log: &mut Vec<Record>, number: u8, slot: u64, bytes: usize, before: u32) -> u32 {
    let value: Vec<u8> = (0..bytes).map(|at| at as u8 ^ slot as u8).collect();
    let mut count = 1;
    if bytes > 10 {
        let chunks = chunks_of_size(Kind::Account, &value, 10).unwrap();
        count = chunks.len() as u32;
        for chunk in chunks {
            let mut out = Vec::new();
            chunk.write(&mut out);
            let key = key_of(&account(number), chunk.index());
            log.push((key, header(Kind::Chunk, slot), out.into()));
        }
    } else {
        let key = key_of(&account(number), 0);
        log.push((key, header(Kind::Account, slot), value.into()));
    }
    for stale in count..before {
        let key = key_of(&account(number), stale);
        log.push((key, header(Kind::Account, slot), Bytes::new()));
    }
    count
}

fn end(log: &mut Vec<Record>, sequence: u64) {
    let as_of = AsOf {
        slot: sequence,
        sequence,
        ..AsOf::default()
    };
    log.push((
        Bytes::copy_from_slice(&AS_OF_KEY),
        header(Kind::Seal, sequence),
        as_of.encode_to_vec().into(),
    ));
}

fn fold(log: &[Record]) -> AccountStateReader<fn(&Pubkey, &AccountState) -> bool> {
    let all: fn(&Pubkey, &AccountState) -> bool = |_, _| true;
    let mut reader = AccountStateReader::new(1, all);
    for record in log {
        reader.push(0, record.clone()).unwrap();
    }
    reader
}

/// What a cleaner may do: of any prefix, records whose key comes again within the prefix `known` are gone.
fn compact(log: &[Record], clean: usize, known: usize) -> Vec<Record> {
    let later = |from: usize, key: &Bytes| log[from..known].iter().any(|(other, ..)| other == key);
    let kept = log
        .iter()
        .enumerate()
        .filter(|(at, (key, ..))| *at >= clean || *at >= known || !later(at + 1, key));
    kept.map(|(_, record)| record.clone()).collect()
}

proptest! {
    /// Whatever compaction has done, the state is the newest write of each account.
    #[test]
    fn compaction_changes_nothing(
        writes in prop::collection::vec((0u8..4, 0usize..45, any::<bool>()), 1..40),
        clean in 0usize..200,
        known in 0usize..200,
    ) {
        let mut log = Vec::new();
        let mut chunks = [1u32; 4];
        let mut expected: HashMap<Pubkey, (u64, usize)> = HashMap::new();
        for (slot, (number, bytes, close)) in (1..).zip(writes) {
            let before = chunks[number as usize];
            if close {
                for chunk in 0..before {
                    log.push((key_of(&account(number), chunk), header(Kind::Account, slot), Bytes::new()));
                }
                chunks[number as usize] = 1;
                expected.remove(&account(number));
            } else {
                // An empty value would be a tombstone.
                chunks[number as usize] = write(&mut log, number, slot, bytes + 1, before);
                expected.insert(account(number), (slot, bytes + 1));
            }
            end(&mut log, slot);
        }
        let known = known.min(log.len());
        let compacted = compact(&log, clean.min(known), known);
        for log in [&log, &compacted] {
            let reader = fold(log);
            let held: HashMap<Pubkey, (u64, usize)> = reader
                .accounts()
                .iter()
                .map(|(account, state)| (*account, (state.slot.0, state.value.len())))
                .collect();
            prop_assert_eq!(&held, &expected);
            prop_assert_eq!(reader.bytes(), expected.values().map(|(_, bytes)| bytes).sum::<usize>());
        }
    }

    #[test]
    fn foreign_bytes_never_panic(records in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>(), any::<Vec<u8>>()), 0..20)) {
        let mut reader = AccountStateReader::new(1, |_: &Pubkey, _: &AccountState| true);
        for (key, header, value) in records {
            let _ = reader.push(0, (key.into(), header.into(), value.into()));
        }
    }
}

#[test]
fn partitions_stop_at_one_common_end() {
    let mut reader = AccountStateReader::new(2, |_: &Pubkey, _: &AccountState| true);
    let transaction = |sequence: u64, number: u8| {
        let mut log = Vec::new();
        write(&mut log, number, sequence, 5, 1);
        end(&mut log, sequence);
        log
    };
    let push = |reader: &mut AccountStateReader<_>, partition, sequence, number| {
        for record in transaction(sequence, number) {
            reader.push(partition, record).unwrap();
        }
    };
    assert!(!reader.stop_at_newest(), "nothing was read");
    push(&mut reader, 0, 1, 10);
    push(&mut reader, 0, 2, 10);
    push(&mut reader, 1, 1, 20);
    assert!(reader.stop_at_newest());
    assert_eq!(reader.as_of(), None, "the other partition is behind");
    push(&mut reader, 0, 3, 10);
    push(&mut reader, 1, 2, 20);
    push(&mut reader, 1, 3, 20);
    assert_eq!(reader.as_of().unwrap().sequence, 2);
    let slots = |reader: &AccountStateReader<_>| {
        [10, 20].map(|number| reader.accounts()[&account(number)].slot.0)
    };
    assert_eq!(slots(&reader), [2, 2]);
    reader.release().unwrap();
    assert_eq!(slots(&reader), [3, 3]);
}

#[test]
fn an_account_that_no_longer_fits_goes() {
    let mut reader =
        AccountStateReader::new(1, |_: &Pubkey, state: &AccountState| state.value.len() > 3);
    let mut log = Vec::new();
    write(&mut log, 1, 1, 5, 1);
    reader.push(0, log.pop().unwrap()).unwrap();
    assert_eq!(reader.accounts().len(), 1);
    write(&mut log, 1, 2, 3, 1);
    reader.push(0, log.pop().unwrap()).unwrap();
    assert_eq!((reader.accounts().len(), reader.bytes()), (0, 0));
}
