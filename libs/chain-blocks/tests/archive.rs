//! Old Faithful archives: one made here, damage at every byte, and the recorded one.

use std::{fs::File, io::BufReader, path::PathBuf};

use chain_blocks::{ChainBlock, car::Archive, file};
use event_schema::proto::{Message as _, confirmed_block as proto};
use minicbor::{Encoder, data::Tag};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

type Cbor = Encoder<Vec<u8>>;

/// Writes nodes as an archive has them.
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn new() -> Self {
        let mut header = Encoder::new(Vec::new());
        header
            .map(2)
            .unwrap()
            .str("roots")
            .unwrap()
            .array(0)
            .unwrap();
        header.str("version").unwrap().u64(1).unwrap();
        let mut writer = Self { bytes: Vec::new() };
        writer.section(&header.into_writer());
        writer
    }

    fn section(&mut self, section: &[u8]) {
        let mut length = section.len();
        while length >= 0x80 {
            self.bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        self.bytes.push(length as u8);
        self.bytes.extend_from_slice(section);
    }

    fn node(&mut self, write: impl FnOnce(&mut Cbor)) -> [u8; 32] {
        let mut encoder = Encoder::new(Vec::new());
        write(&mut encoder);
        let body = encoder.into_writer();
        let digest: [u8; 32] = Sha256::digest(&body).into();
        self.section(&[&[1, 0x71, 0x12, 32][..], &digest, &body].concat());
        digest
    }

    /// Data in frames of at most `piece` bytes; the first is given back, to stand in its node.
    fn frames(&mut self, data: &[u8], piece: usize) -> (Vec<u8>, Vec<[u8; 32]>) {
        let (first, rest) = data.split_at(piece.min(data.len()));
        let pieces: Vec<&[u8]> = rest.chunks(piece.max(1)).collect();
        // The first links to two of them, the second of which links to the others.
        let (near, far) = pieces.split_at(pieces.len().min(2));
        let far: Vec<_> = far
            .iter()
            .map(|data| self.node(|e| frame(e, data, &[])))
            .collect();
        let mut links = Vec::new();
        for (index, data) in near.iter().enumerate() {
            let next = if index == 1 { far.clone() } else { Vec::new() };
            links.push(self.node(|e| frame(e, data, &next)));
        }
        (first.to_vec(), links)
    }

    fn block(&mut self, block: &ChainBlock, piece: usize) {
        let mut links = Vec::new();
        for info in &block.transactions {
            let wire = wire(info.transaction.as_ref().unwrap());
            let meta = info
                .meta
                .as_ref()
                .map(proto::TransactionStatusMeta::encode_to_vec);
            let meta = meta.map(|meta| zstd::encode_all(meta.as_slice(), 1).unwrap());
            let data = self.frames(&wire, piece);
            let meta = self.frames(&meta.unwrap_or_default(), piece);
            links.push(self.node(|e| {
                e.array(5).unwrap().u64(0).unwrap();
                frame(e, &data.0, &data.1);
                frame(e, &meta.0, &meta.1);
                e.u64(block.slot.0).unwrap().u64(info.index).unwrap();
            }));
        }
        let (early, late) = links.split_at(links.len() / 2);
        let entries = [(early, [1; 32]), (late, block.blockhash.0)].map(|(links, hash)| {
            self.node(|e| {
                e.array(4).unwrap().u64(1).unwrap().u64(12_500).unwrap();
                e.bytes(&hash).unwrap();
                list(e, links);
            })
        });
        let rewards = block.meta.rewards.clone().unwrap().encode_to_vec();
        let rewards = zstd::encode_all(rewards.as_slice(), 1).unwrap();
        let rewards = self.frames(&rewards, piece);
        let rewards = self.node(|e| {
            e.array(3)
                .unwrap()
                .u64(5)
                .unwrap()
                .u64(block.slot.0)
                .unwrap();
            frame(e, &rewards.0, &rewards.1);
        });
        self.node(|e| {
            e.array(6)
                .unwrap()
                .u64(2)
                .unwrap()
                .u64(block.slot.0)
                .unwrap();
            e.array(0).unwrap();
            list(e, &entries);
            e.array(3).unwrap().u64(block.parent_slot.0).unwrap();
            let time = block.meta.block_time.map_or(0, |time| time.timestamp);
            e.i64(time).unwrap();
            match &block.meta.block_height {
                Some(height) => e.u64(height.block_height).unwrap(),
                None => e.null().unwrap(),
            };
            link(e, &rewards);
        });
    }
}

fn link(e: &mut Cbor, digest: &[u8; 32]) {
    e.tag(Tag::new(42)).unwrap();
    e.bytes(&[&[0, 1, 0x71, 0x12, 32][..], digest].concat())
        .unwrap();
}

fn list(e: &mut Cbor, links: &[[u8; 32]]) {
    e.array(links.len() as u64).unwrap();
    links.iter().for_each(|digest| link(e, digest));
}

fn frame(e: &mut Cbor, data: &[u8], next: &[[u8; 32]]) {
    e.array(6).unwrap().u64(6).unwrap();
    e.null().unwrap().null().unwrap().null().unwrap();
    e.bytes(data).unwrap();
    list(e, next);
}

/// The bytes that were signed and sent.
fn wire(transaction: &proto::Transaction) -> Vec<u8> {
    let stored = solana_storage_proto::convert::generated::Transaction::decode(
        transaction.encode_to_vec().as_slice(),
    );
    let native = solana_transaction::versioned::VersionedTransaction::from(stored.unwrap());
    wincode::serialize(&native).unwrap()
}

/// Blocks of the repository, each the parent of the next.
fn carried(count: usize) -> Vec<ChainBlock> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../localnet/blocks");
    (89..89 + count)
        .map(|slot| {
            let name = format!("localnet-{slot}.base64.json.zst");
            let bytes = std::fs::read(folder.join(&name)).unwrap();
            let Ok(file::Content::Block(block)) = file::parse(&name, &bytes) else {
                panic!("{name}");
            };
            ChainBlock::try_from(block).unwrap()
        })
        .collect()
}

fn archive(blocks: &[ChainBlock], piece: usize) -> Vec<u8> {
    let mut writer = Writer::new();
    blocks.iter().for_each(|block| writer.block(block, piece));
    // A subset, as archives end.
    writer.node(|e| {
        e.array(4)
            .unwrap()
            .u64(3)
            .unwrap()
            .u64(0)
            .unwrap()
            .u64(9)
            .unwrap();
        e.array(0).unwrap();
    });
    writer.bytes
}

#[test]
fn blocks_come_back_whatever_their_frames() {
    let mut blocks = carried(6);
    // One whose execution nobody kept.
    let bare = blocks[2].transactions.first_mut().unwrap();
    bare.meta = None;
    for piece in [7, 100, 1 << 20] {
        let bytes = archive(&blocks, piece);
        let read: Vec<ChainBlock> = Archive::new(bytes.as_slice()).map(Result::unwrap).collect();
        assert_eq!(read.len(), blocks.len());
        for (index, (read, told)) in read.into_iter().zip(&blocks).enumerate() {
            let mut told = told.clone();
            if index == 0 {
                told.parent_blockhash = None;
                told.meta.parent_blockhash = String::new();
            }
            assert_eq!(read, told, "block {index}, frames of {piece} bytes");
        }
    }
}

#[test]
fn a_signature_over_other_bytes_is_refused() {
    let mut blocks = carried(1);
    let transaction = blocks[0].transactions[0].transaction.as_mut().unwrap();
    transaction.message.as_mut().unwrap().recent_blockhash = vec![9; 32];
    let bytes = archive(&blocks, 1 << 20);
    let error = Archive::new(bytes.as_slice()).next().unwrap().unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("block 89: transaction 0: signatures[0]"),
        "{text}"
    );
    assert!(
        text.contains("does not verify") && text.contains("Fetch the archive again"),
        "{text}"
    );
}

#[test]
fn every_cut_is_told_and_nothing_before_it_is_lost() {
    let blocks = carried(2);
    let bytes = archive(&blocks, 300);
    for end in (0..bytes.len()).step_by(97) {
        let read: Vec<_> = Archive::new(&bytes[..end]).collect();
        for (read, told) in read
            .iter()
            .filter_map(|read| read.as_ref().ok())
            .zip(&blocks)
        {
            assert_eq!(read.blockhash, told.blockhash);
        }
        // At the end of a section a cut looks like an end; anywhere else it is damage, told last.
        let broken = read.iter().position(Result::is_err);
        assert!(broken.is_none_or(|at| at + 1 == read.len()), "cut at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_changed_byte_is_never_believed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let blocks = carried(1);
        let mut bytes = archive(&blocks, 300);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        for read in Archive::new(bytes.as_slice()) {
            match read {
                // Within the header, or in the subset at the end.
                Ok(block) => prop_assert_eq!(block.transactions, blocks[0].transactions.clone()),
                Err(error) => prop_assert!(error.to_string().starts_with("byte ")),
            }
        }
    }

    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Archive::new(bytes.as_slice()).count();
    }
}

#[test]
fn the_first_blocks_of_mainnet() {
    let Some(data) = std::env::var_os("HELIOGRAPH_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED: HELIOGRAPH_DATA is not set; no recorded archive was read");
        return;
    };
    let file = File::open(data.join("blocks/mainnet-epoch0-part1.car")).unwrap();
    let blocks: Vec<ChainBlock> = Archive::new(BufReader::new(file))
        .map(Result::unwrap)
        .collect();
    let slots: Vec<u64> = blocks.iter().map(|block| block.slot.0).collect();
    assert_eq!(slots, (0..10).collect::<Vec<_>>());
    let transactions: usize = blocks.iter().map(|block| block.transactions.len()).sum();
    assert_eq!(transactions, 34);
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].parent_slot, pair[0].slot);
        assert_eq!(pair[1].parent_blockhash, Some(pair[0].blockhash));
    }
    let votes = blocks.iter().flat_map(|block| &block.transactions);
    assert!(votes.clone().all(|info| info.meta.is_none()));
    assert!(votes.clone().all(|info| info.is_vote));
}
