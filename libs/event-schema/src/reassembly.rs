//! Pure: chunks as they stand in a partition → whole values, for readers that go through it in order.
//!
//! One [`Reassembler`] serves one partition of one source: a source's chunks stand together, and no two sources share a
//! sequence. It holds at most one unfinished set, of at most [`crate::chunk::VALUE_BYTES_MAX`] bytes. The stream router,
//! which tolerates records that come late, keeps [`Piece`]s by sequence instead and calls [`chunk::join`].

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::{
    chunk::{self, ChunkError, Piece},
    header::Kind,
    identity::Slot,
};

/// What a record made whole, and what it showed to be unusable. Both may be there: a record that interrupts a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassembled {
    pub whole: Option<Whole>,
    pub broken: Option<Broken>,
}

/// A value that is all here: a record that was written whole, or a finished set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub kind: Kind,
    pub value: Bytes,
    /// Of its records: sequences in an observed topic, indexes in the canonical one.
    pub positions: RangeInclusive<u64>,
}

/// Chunks that make no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunks {}-{}: {problem}", .positions.start(), .positions.end())]
pub struct Broken {
    /// The records that are lost by it, those that never came included.
    pub positions: RangeInclusive<u64>,
    pub problem: ChunkError,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reassembler {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    slot: Slot,
    first: u64,
    held: u64,
    pieces: Vec<Piece>,
}

impl Open {
    /// Position of the newest chunk held.
    fn last(&self) -> u64 {
        self.first
            .saturating_add((self.pieces.len() as u64).saturating_sub(1))
    }

    fn count(&self) -> u32 {
        self.pieces.first().map_or(0, |piece| piece.count)
    }

    fn holds(&self, slot: Slot, position: u64, piece: &Piece) -> bool {
        let at = position
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        slot == self.slot && at.and_then(|at| self.pieces.get(at)) == Some(piece)
    }
}

impl Reassembler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Position of the first chunk of the unfinished set: a reader that must see the value starts here.
    pub fn open_since(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.first)
    }

    /// Takes the next record of the partition and source, whatever its kind. `position`: its sequence, or its index in
    /// the canonical topic.
    pub fn push(&mut self, kind: Kind, slot: Slot, position: u64, value: &Bytes) -> Reassembled {
        if kind != Kind::Chunk {
            return Reassembled {
                broken: self.break_before(position),
                whole: Some(Whole {
                    kind,
                    value: value.clone(),
                    positions: position..=position,
                }),
            };
        }
        match Piece::read(value) {
            Ok(piece) => self.take(slot, position, piece),
            Err(problem) => self.refuse(position, problem),
        }
    }

    /// The stream ended, or goes on elsewhere: the unfinished set will not be finished.
    pub fn break_off(&mut self) -> Option<Broken> {
        self.break_before(0)
    }

    /// The set is over, because something else stands at `position`. What lies between belonged to it, as far as it
    /// would have reached.
    fn break_before(&mut self, position: u64) -> Option<Broken> {
        let open = self.open.take()?;
        let count = open.count();
        let end = open
            .first
            .saturating_add(u64::from(count).saturating_sub(1));
        let last = end.min(position.saturating_sub(1)).max(open.last());
        Some(Broken {
            positions: open.first..=last,
            problem: ChunkError::Interrupted {
                held: open.pieces.len() as u32,
                count,
            },
        })
    }

    fn take(&mut self, slot: Slot, position: u64, piece: Piece) -> Reassembled {
        let index = piece.index;
        if let Some(open) = &self.open
            && open.holds(slot, position, &piece)
        {
            // Read again; the set is as good as before.
            return broken(position..=position, ChunkError::Repeated { index });
        }
        if index == 0 {
            let broken = self.break_before(position);
            let open = self.open.insert(Open {
                slot,
                first: position,
                held: 0,
                pieces: Vec::with_capacity(piece.count as usize),
            });
            let whole = add(open, piece);
            return self.finish(broken, whole);
        }
        let Some(open) = &mut self.open else {
            let count = piece.count;
            return broken(
                position..=position,
                ChunkError::NoBeginning { index, count },
            );
        };
        let expected = open.pieces.len() as u32;
        let continues = slot == open.slot
            && open.last().checked_add(1) == Some(position)
            && index == expected
            && open.pieces.first().is_some_and(|first| first.fits(&piece));
        if !continues {
            return self.refuse(position, ChunkError::Order { expected, index });
        }
        let whole = add(open, piece);
        self.finish(None, whole)
    }

    fn finish(
        &mut self,
        broken: Option<Broken>,
        whole: Option<Result<Whole, Broken>>,
    ) -> Reassembled {
        match whole {
            None => Reassembled {
                whole: None,
                broken,
            },
            Some(Ok(whole)) => {
                self.open = None;
                Reassembled {
                    whole: Some(whole),
                    broken,
                }
            }
            Some(Err(own)) => {
                self.open = None;
                Reassembled {
                    whole: None,
                    broken: Some(match broken {
                        Some(before) => Broken {
                            positions: *before.positions.start()..=*own.positions.end(),
                            problem: own.problem,
                        },
                        None => own,
                    }),
                }
            }
        }
    }

    /// The record is unusable, and so is the set it should have continued.
    fn refuse(&mut self, position: u64, problem: ChunkError) -> Reassembled {
        let (first, last) = self.open.take().map_or((position, position), |open| {
            (open.first.min(position), position.max(open.last()))
        });
        broken(first..=last, problem)
    }
}

/// `None` while the set is unfinished.
fn add(open: &mut Open, piece: Piece) -> Option<Result<Whole, Broken>> {
    let (kind, count, total) = (piece.kind, piece.count, piece.total);
    open.held += piece.data.len() as u64;
    open.pieces.push(piece);
    let finished = open.pieces.len() as u32 == count;
    if !finished && open.held < total {
        return None;
    }
    let positions = open.first..=open.last();
    Some(match chunk::join(&open.pieces) {
        Ok(value) => Ok(Whole {
            kind,
            value,
            positions,
        }),
        Err(problem) => Err(Broken { positions, problem }),
    })
}

fn broken(positions: RangeInclusive<u64>, problem: ChunkError) -> Reassembled {
    Reassembled {
        whole: None,
        broken: Some(Broken { positions, problem }),
    }
}

#[cfg(test)]
mod tests;
