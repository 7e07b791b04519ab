//! Whatever bytes there are: the readers of headers, seals, chunks, spill segments and of the memory that a killed instance
//! left answer, and what they take they would write again.

#![no_main]

use std::{fs, path::PathBuf, sync::Arc, sync::OnceLock};

use bytes::Bytes;
use event_schema::{
    CanonicalHeader, CanonicalSeal, Gap, Kind, ObservedHeader, ObservedTopic, Pubkey, Seal,
    Sequence, Slot, SourceId,
    chunk::{Piece, chunks_of_size},
    reassembly::Reassembler,
};
use geyser_plugin::{
    counters::Counters,
    handoff::Handoff,
    lane::Lanes,
    observation::{Fact, Front, Outputs},
    placing, recovery,
    shared_memory::{SharedMemory, Sizes},
    spill::{Frame, Spill},
};
use libfuzzer_sys::{
    arbitrary::{self, Unstructured},
    fuzz_target,
};
use prost::Message;
use tempfile::TempDir;

const LANES: Lanes = Lanes {
    accounts: 2,
    transactions: 2,
    slots: 1,
    first: 0,
};

fuzz_target!(|data: &[u8]| {
    // Bytes that end too early are no case.
    let _ = one(&mut Unstructured::new(data));
});

fn one(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    match u.int_in_range(0..=5)? {
        0 => headers(u.bytes(u.len())?),
        1 => messages(u.bytes(u.len())?),
        2 => chunks(u)?,
        3 => sets_of_chunks(u)?,
        4 => segments(u)?,
        _ => memory(u)?,
    }
    Ok(())
}

fn headers(bytes: &[u8]) {
    if let Ok(header) = ObservedHeader::decode(bytes) {
        assert_eq!(ObservedHeader::decode(&header.encode()), Ok(header));
    }
    if let Ok(header) = CanonicalHeader::decode(bytes) {
        assert_eq!(CanonicalHeader::decode(&header.encode()), Ok(header));
    }
}

fn messages(bytes: &[u8]) {
    fn again<T: Message + Default + PartialEq>(bytes: &[u8]) {
        if let Ok(message) = T::decode(bytes) {
            assert!(T::decode(message.encode_to_vec().as_slice()).is_ok_and(|m| m == message));
        }
    }
    again::<Seal>(bytes);
    again::<CanonicalSeal>(bytes);
    again::<Gap>(bytes);
}

/// Foreign chunks, alone and one after another.
fn chunks(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut reassembler = Reassembler::new();
    while !u.is_empty() {
        let kind = Kind::ALL[u.int_in_range(0..=Kind::ALL.len() - 1)?];
        let (slot, position) = (Slot(u.arbitrary()?), u.arbitrary()?);
        let value = Bytes::from(u.arbitrary::<Vec<u8>>()?);
        let _ = Piece::read(&value);
        reassembler.push(kind, slot, position, &value);
    }
    reassembler.break_off();
    Ok(())
}

/// A value in chunks of which some bytes are changed: it comes out as it was, or not at all.
fn sets_of_chunks(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (size, first) = (u.int_in_range(1..=64)?, u.arbitrary::<u32>()?.into());
    let (at, mask): (usize, u8) = (u.arbitrary()?, u.arbitrary()?);
    let value = u.bytes(u.len())?;
    // What fits into one record is written whole, never as a set of one.
    let Some(chunks) = chunks_of_size(Kind::Account, value, size)
        .ok()
        .filter(|chunks| chunks.len() > 1)
    else {
        return Ok(());
    };
    let mut written = Vec::new();
    for chunk in chunks {
        let mut record = Vec::new();
        chunk.write(&mut record);
        written.push(record);
    }
    let total: usize = written.iter().map(Vec::len).sum();
    if let Some(byte) = written.iter_mut().flatten().nth(at % total.max(1)) {
        *byte ^= mask;
    }
    let mut reassembler = Reassembler::new();
    for (position, record) in (first..).zip(written) {
        let pushed = reassembler.push(Kind::Chunk, Slot(7), position, &record.into());
        if let Some(whole) = pushed.whole
            && whole.kind == Kind::Account
        {
            assert_eq!(whole.value, value);
        }
    }
    Ok(())
}

/// In memory, as the queue of a plugin is.
fn folder() -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let builder = |dir| tempfile::Builder::new().prefix("fuzz").tempdir_in(dir);
        builder("/dev/shm")
            .or_else(|_| builder("/tmp"))
            .expect("a folder")
    });
    let folder = folder.path().to_owned();
    for entry in fs::read_dir(&folder).expect("it is there").flatten() {
        let _ = fs::remove_file(entry.path());
    }
    folder
}

fn header(kind: Kind, sequence: u64) -> [u8; ObservedHeader::LENGTH] {
    ObservedHeader {
        kind,
        slot: Slot(7),
        source: SourceId {
            validator: Pubkey([3; 32]),
            instance: 5,
        },
        sequence: Sequence(sequence),
    }
    .encode()
}

/// A segment of foreign bytes, and one of ours with some changed; what is appended afterwards is read whatever they are.
fn segments(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let dir = folder();
    let mut spill = Spill::open(&dir, 1 << 20).expect("an empty folder");
    for sequence in 0..u.int_in_range(0..=4)? {
        let value: Vec<u8> = u.arbitrary()?;
        append(&mut spill, sequence, &value);
    }
    drop(spill);
    let segment = fs::read_dir(&dir).expect("it is there").flatten();
    let segment = segment
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "seg"));
    if let Some(path) = segment {
        let mut bytes = fs::read(&path).expect("a segment");
        change(u, &mut bytes)?;
        fs::write(&path, bytes).expect("room");
    }
    let mut foreign: Vec<u8> = u.arbitrary()?;
    if u.arbitrary()? {
        foreign.splice(0..0, *b"HELIOSP1");
    }
    fs::write(dir.join("1234.seg"), foreign).expect("room");
    let mut spill = Spill::open(&dir, 1 << 20).expect("the folder");
    append(&mut spill, 99, b"ours");
    assert_eq!(drained(&mut spill).as_deref(), Some(&b"ours"[..]));
    assert!(spill.is_empty());
    Ok(())
}

fn append(spill: &mut Spill, sequence: u64, value: &[u8]) {
    let frame = Frame {
        output: 0,
        topic: ObservedTopic::Accounts,
        partition: 1,
        header: &header(Kind::Account, sequence),
        key: &[1; 32],
        value,
    };
    spill.append_beyond(frame).expect("room");
}

/// The value that was read last.
fn drained(spill: &mut Spill) -> Option<Vec<u8>> {
    let mut finished = Vec::new();
    let mut last = None;
    while let Some(frame) = spill.peek(&mut finished) {
        let _ = ObservedHeader::decode(frame.header);
        last = Some(frame.value.to_vec());
        spill.advance();
    }
    for segment in &finished {
        spill.delete(segment);
    }
    last
}

/// Changes, cuts or lengthens.
fn change(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> arbitrary::Result<()> {
    for _ in 0..u.int_in_range(0..=8)? {
        let at = u.int_in_range(0..=bytes.len().max(1) - 1)?;
        let new: Vec<u8> = u.arbitrary()?;
        for (place, byte) in bytes.iter_mut().skip(at).zip(new) {
            *place = byte;
        }
    }
    if u.ratio(1, 8)? {
        let length = u.int_in_range(0..=2 * bytes.len())?;
        bytes.resize(length, 0);
    }
    Ok(())
}

/// The memory of a killed instance, with some of its bytes changed.
fn memory(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let dir = folder();
    let path = dir.join("queue");
    let sizes = Sizes {
        records: 16,
        record_bytes: 8192,
        seals: 4,
        seal_bytes: 1024,
    };
    let source = SourceId::default();
    let memory = Arc::new(SharedMemory::create(&path, sizes, source, &[LANES], 0).expect("room"));
    let counters = Arc::new(Counters::new(Arc::clone(&memory)));
    let handoff = Handoff::new(&memory, Box::new([LANES]), counters);
    let facts = [
        Fact::Account,
        Fact::Transaction,
        Fact::Deshred,
        Fact::ContactInfo,
        Fact::Entry {
            index: 1,
            hash: [1; 32],
        },
    ];
    for _ in 0..u.int_in_range(0..=8)? {
        let value: Vec<u8> = u.arbitrary()?;
        let front = Front {
            slot: u.arbitrary()?,
            fact: *u.choose(&facts)?,
            recorded: Outputs(1),
            seen: Outputs(1),
            key: &[5; 32],
        };
        handoff.offer(front, value.len(), |out| out.extend_from_slice(&value));
    }
    placing::keep_seal(
        &handoff.seals,
        0,
        handoff.outputs()[0].of_slot(3),
        3,
        b"seal",
    );
    let held = handoff.records.len() as u64 + 1;
    drop((handoff, memory));
    let mut bytes = fs::read(&path).expect("the memory");
    let before = bytes.clone();
    change(u, &mut bytes)?;
    let changed = bytes != before;
    fs::write(&path, bytes).expect("room");

    let mut spill = Spill::open(&dir, 1 << 20).expect("an empty folder");
    let recovered = recovery::recover(&path, &[LANES], Some(&mut spill)).expect("nobody has it");
    if !changed {
        assert_eq!((recovered.records, recovered.lost), (held, 0));
    }
    let mut frames = 0;
    let mut finished = Vec::new();
    while let Some(frame) = spill.peek(&mut finished) {
        assert!(LANES.at(frame.topic, frame.partition).is_some());
        assert!(ObservedHeader::decode(frame.header).is_ok());
        frames += 1;
        spill.advance();
    }
    assert!(frames >= recovered.records);
    Ok(())
}
