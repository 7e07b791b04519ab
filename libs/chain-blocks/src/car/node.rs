//! Pure: sections as nodes. Fields stand in the order of Old Faithful's `ledger.ipldsch`, each node a list that begins with
//! its kind.

use minicbor::{Decoder, data::Type};

/// SHA-256 of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cid(pub [u8; 32]);

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Transaction(Transaction),
    Entry(Entry),
    Block(BlockNode),
    Rewards(Frame),
    Frame(Frame),
    /// A subset or an epoch: links to what was read already.
    Index,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    pub data: Frame,
    pub meta: Frame,
    pub slot: u64,
    pub index: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub hash: [u8; 32],
    pub transactions: Vec<Cid>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BlockNode {
    pub slot: u64,
    pub entries: Vec<Cid>,
    pub parent_slot: u64,
    pub time: Option<i64>,
    pub height: Option<u64>,
    pub rewards: Option<Cid>,
}

/// A piece of data, and where it goes on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    pub data: Vec<u8>,
    pub next: Vec<Cid>,
}

type Result<T> = std::result::Result<T, String>;

/// The header of an archive: version 1.
pub fn header(bytes: &[u8]) -> Result<()> {
    match version(&mut Decoder::new(bytes)) {
        Ok(Some(1)) => Ok(()),
        Ok(Some(other)) => Err(format!("a CAR archive of version {other}; known is 1")),
        _ => Err("not the header of a CAR archive".to_owned()),
    }
}

fn version(decoder: &mut Decoder<'_>) -> std::result::Result<Option<u64>, minicbor::decode::Error> {
    for _ in 0..decoder.map()?.unwrap_or(0) {
        if decoder.str()? == "version" {
            return decoder.u64().map(Some);
        }
        decoder.skip()?;
    }
    Ok(None)
}

/// A section as its name and its body. Known are CIDv1 with SHA-256.
pub fn cid(section: &[u8]) -> Result<(Cid, &[u8])> {
    // Version 1; a codec of one byte; SHA-256; 32 bytes of it.
    match section {
        [1, _, 0x12, 32, rest @ ..] if rest.len() >= 32 => {
            let (digest, body) = rest.split_at(32);
            Ok((digest_of(digest)?, body))
        }
        _ => Err("a section's name is no CIDv1 with SHA-256".to_owned()),
    }
}

pub fn node(body: &[u8]) -> Result<Node> {
    let mut reader = Reader(Decoder::new(body));
    let fields = reader.list("a node")?;
    let kind = reader.unsigned("a node's kind")?;
    let least = match kind {
        0 | 5 => 3,
        1 => 4,
        2 => 6,
        6 => 5,
        _ => 1,
    };
    if fields < least {
        return Err(format!("a node of kind {kind} with {fields} fields"));
    }
    match kind {
        0 => {
            let (data, meta) = (reader.frame()?, reader.frame()?);
            if fields < 4 {
                return Err("a transaction without its slot".to_owned());
            }
            let slot = reader.unsigned("a transaction's slot")?;
            let index = match fields {
                4 => None,
                _ => reader.optional_unsigned("a transaction's index")?,
            };
            Ok(Node::Transaction(Transaction {
                data,
                meta,
                slot,
                index,
            }))
        }
        1 => {
            reader.unsigned("an entry's hashes")?;
            let hash = reader.bytes("an entry's hash")?;
            let hash = hash
                .try_into()
                .map_err(|_| format!("an entry's hash has {} bytes", hash.len()))?;
            Ok(Node::Entry(Entry {
                hash,
                transactions: reader.links("an entry's transactions")?,
            }))
        }
        2 => {
            let slot = reader.unsigned("a block's slot")?;
            reader.skip("a block's shredding")?;
            let entries = reader.links("a block's entries")?;
            let about = reader.list("a block's metadata")?;
            if about < 2 {
                return Err(format!("a block's metadata has {about} fields"));
            }
            let parent_slot = reader.unsigned("a block's parent slot")?;
            let time = reader.signed("a block's time")?;
            let height = match about {
                2 => None,
                _ => reader.optional_unsigned("a block's height")?,
            };
            for _ in 3..about {
                reader.skip("a block's metadata")?;
            }
            Ok(Node::Block(BlockNode {
                slot,
                entries,
                parent_slot,
                time: Some(time).filter(|time| *time != 0),
                height,
                rewards: reader.link("a block's rewards")?,
            }))
        }
        3 | 4 => Ok(Node::Index),
        5 => {
            reader.unsigned("rewards' slot")?;
            Ok(Node::Rewards(reader.frame()?))
        }
        6 => Ok(Node::Frame(reader.frame_fields(fields)?)),
        other => Err(format!("a node of the unknown kind {other}")),
    }
}

fn digest_of(bytes: &[u8]) -> Result<Cid> {
    let digest = bytes.try_into();
    Ok(Cid(
        digest.map_err(|_| format!("a hash of {} bytes", bytes.len()))?
    ))
}

struct Reader<'b>(Decoder<'b>);

impl<'b> Reader<'b> {
    fn take<T>(
        &mut self,
        what: &str,
        read: impl FnOnce(&mut Decoder<'b>) -> std::result::Result<T, minicbor::decode::Error>,
    ) -> Result<T> {
        read(&mut self.0).map_err(|error| format!("{what}: {error}"))
    }

    /// The number of a list's fields.
    fn list(&mut self, what: &str) -> Result<u64> {
        let length = self.take(what, |decoder| decoder.array())?;
        length.ok_or_else(|| format!("{what}: a list without its length"))
    }

    fn unsigned(&mut self, what: &str) -> Result<u64> {
        self.take(what, |decoder| decoder.u64())
    }

    fn signed(&mut self, what: &str) -> Result<i64> {
        self.take(what, |decoder| decoder.i64())
    }

    fn bytes(&mut self, what: &str) -> Result<&'b [u8]> {
        self.take(what, |decoder| decoder.bytes())
    }

    fn skip(&mut self, what: &str) -> Result<()> {
        self.take(what, |decoder| decoder.skip())
    }

    fn optional_unsigned(&mut self, what: &str) -> Result<Option<u64>> {
        if self.is_null(what)? {
            self.skip(what)?;
            return Ok(None);
        }
        self.unsigned(what).map(Some)
    }

    fn is_null(&mut self, what: &str) -> Result<bool> {
        let next = self.take(what, |decoder| decoder.datatype())?;
        Ok(next == Type::Null)
    }

    /// `None`: a name that holds its (empty) data itself.
    fn link(&mut self, what: &str) -> Result<Option<Cid>> {
        // Tag 42, and a zero before the name.
        self.take(what, |decoder| decoder.tag())?;
        match self.bytes(what)? {
            [0, 1, _, 0, 0] => Ok(None),
            [0, 1, _, 0x12, 32, digest @ ..] => digest_of(digest).map(Some),
            _ => Err(format!("{what}: a link that is no CIDv1 with SHA-256")),
        }
    }

    fn links(&mut self, what: &str) -> Result<Vec<Cid>> {
        let mut links = Vec::new();
        for _ in 0..self.list(what)? {
            links.push(
                self.link(what)?
                    .ok_or_else(|| format!("{what}: an empty link"))?,
            );
        }
        Ok(links)
    }

    fn frame(&mut self) -> Result<Frame> {
        let fields = self.list("a data frame")?;
        if fields < 5 || self.unsigned("a data frame's kind")? != 6 {
            return Err("not a data frame where one must stand".to_owned());
        }
        self.frame_fields(fields)
    }

    /// After the kind: hash, index, total, data, and where it goes on.
    fn frame_fields(&mut self, fields: u64) -> Result<Frame> {
        for what in ["its hash", "its index", "its total"] {
            self.skip(what)?;
        }
        let data = self.bytes("a data frame")?.to_vec();
        let next = match fields {
            5 => Vec::new(),
            _ if self.is_null("a data frame")? => {
                self.skip("a data frame")?;
                Vec::new()
            }
            _ => self.links("a data frame")?,
        };
        Ok(Frame { data, next })
    }
}
