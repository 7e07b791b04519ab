//! Pure: the canonical topic, as a reader through `SlotAssembler` sees it, against the truth.

use std::collections::{BTreeMap, HashMap};

use event_log::Record;
use event_schema::{CanonicalEvent, Commitment, Gap, Slot, SlotAssembler, SlotBlock};

use super::{
    chain::BlockName,
    prints::{self, Print},
    truth::{GapName, Truth},
};

/// Faults that are told in words.
const FAULTS_MAX: usize = 12;

/// All but the first three must be 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    pub blocks: u64,
    pub repaired_blocks: u64,
    pub events: u64,
    /// Of blocks that must be there.
    pub lost_blocks: u64,
    pub lost_events: u64,
    pub duplicated_events: u64,
    /// Events that came behind one that belongs after them; standings before their block.
    pub out_of_order_events: u64,
    /// Events, or whole blocks, that are not what was observed.
    pub foreign_events: u64,
    /// Standings that are missing, wrong, or told twice.
    pub wrong_standings: u64,
    /// Records that break the topic's contract.
    pub broken_records: u64,
    pub gaps: Gaps,
}

/// Holes that must be told, and those that were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    pub due: u64,
    /// With slot, source and number of records as they are.
    pub exact: u64,
    pub missing: u64,
    /// Told, but of another extent.
    pub inexact: u64,
    /// Of slots without a hole.
    pub unfounded: u64,
}

impl Findings {
    /// Rows that a sink would have wrongly, or lack.
    pub fn wrong_rows(&self) -> u64 {
        self.lost_events
            + self.duplicated_events
            + self.out_of_order_events
            + self.foreign_events
            + self.wrong_standings
            + self.broken_records
    }
}

/// One block as it was read.
#[derive(Debug, Default)]
struct Seen {
    /// Which of the true block's events came.
    events: Vec<bool>,
    standings: Vec<Commitment>,
    times: u64,
    /// Where it came first.
    offset: i64,
}

/// See the module.
pub struct Audit<'a> {
    truth: &'a Truth,
    assemblers: HashMap<u32, SlotAssembler>,
    seen: BTreeMap<BlockName, Seen>,
    gaps: BTreeMap<GapName, u64>,
    findings: Findings,
    /// Blocks and gaps that must still come, and required blocks whose fate is not sealed.
    waiting_blocks: u64,
    waiting_gaps: u64,
    waiting_fates: u64,
    faults: Vec<String>,
}

impl<'a> Audit<'a> {
    pub fn new(truth: &'a Truth) -> Self {
        let gaps = truth.gaps.values().filter(|gap| gap.unless.is_none());
        Self {
            truth,
            assemblers: HashMap::new(),
            seen: BTreeMap::new(),
            gaps: BTreeMap::new(),
            findings: Findings::default(),
            waiting_blocks: truth.required_blocks(),
            waiting_fates: truth.required_blocks(),
            waiting_gaps: gaps.count() as u64,
            faults: Vec::new(),
        }
    }

    /// Everything that must come has come. More may come that should not.
    pub fn is_complete(&self) -> bool {
        (self.waiting_blocks, self.waiting_fates, self.waiting_gaps) == (0, 0, 0)
    }

    /// The next record of its partition.
    pub fn add(&mut self, record: &Record) {
        let assembler = self
            .assemblers
            .entry(record.position.partition)
            .or_default();
        match assembler.push(record.position.offset, &record.header, &record.value) {
            Ok(None) => {}
            Ok(Some(CanonicalEvent::Block(block))) => self.block(&block),
            Ok(Some(CanonicalEvent::Gap { gap, .. })) => self.gap(&gap),
            Ok(Some(CanonicalEvent::Status {
                slot,
                blockhash,
                commitment,
                ..
            })) => self.standing(BlockName { slot, blockhash }, commitment),
            Err(error) => {
                self.findings.broken_records += 1;
                self.fault(format!("{}: {error}", record.position));
            }
        }
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    fn block(&mut self, block: &SlotBlock) {
        let name = BlockName {
            slot: block.slot,
            blockhash: block.blockhash,
        };
        let prints = prints_of(block);
        self.findings.blocks += 1;
        self.findings.events += prints.len() as u64;
        self.findings.repaired_blocks += u64::from(block.seal.repaired);
        let Some(truth) = self.truth.blocks.get(&name) else {
            self.findings.foreign_events += prints.len() as u64;
            self.fault(format!("{name}: nobody holds this block, or not whole"));
            return;
        };
        if !has_parent(block, truth.parent) {
            self.findings.foreign_events += 1;
            self.fault(format!("{name}: its parent is {}", truth.parent));
        }
        let before = self.findings;
        let seen = self.seen.entry(name).or_default();
        if seen.times == 0 {
            seen.events = vec![false; truth.prints.len()];
            seen.offset = block.first_offset;
            self.waiting_blocks -= u64::from(truth.required);
        }
        seen.times += 1;
        compare(&truth.prints, &prints, &mut seen.events, &mut self.findings);
        if self.findings != before || seen.times > 1 {
            let lacks = (0..).zip(&seen.events).filter(|(_, came)| !**came);
            let lacks: Vec<usize> = lacks.map(|(place, _)| place).take(8).collect();
            let (times, sources) = (seen.times, &block.seal.sources);
            let (first, here) = (seen.offset, block.first_offset);
            let foreign = (0..).zip(&prints);
            let foreign = foreign.filter(|(_, (_, print))| !truth.prints.contains(print));
            let foreign: Vec<usize> = foreign.map(|(place, _)| place).take(8).collect();
            self.fault(format!(
                "{name}: lacks its events {lacks:?} of {}, has others at {foreign:?} of {} accounts, {} transactions, {} \
                 entries; time {times}, from {sources:?}, at offset {here}, first at {first}",
                truth.prints.len(),
                block.accounts.len(),
                block.transactions.len(),
                block.entries.len(),
            ));
        }
    }

    fn standing(&mut self, name: BlockName, commitment: Commitment) {
        let Some(truth) = self.truth.blocks.get(&name) else {
            self.findings.wrong_standings += 1;
            self.fault(format!("{name}: {commitment:?}, a block that nobody holds"));
            return;
        };
        let seen = self.seen.entry(name).or_default();
        self.findings.out_of_order_events += u64::from(seen.times == 0);
        seen.standings.push(commitment);
        let is_final = truth.required && seen.standings == truth.fate();
        self.waiting_fates = self.waiting_fates.saturating_sub(u64::from(is_final));
    }

    fn gap(&mut self, gap: &Gap) {
        let name = (Slot(gap.first_slot), gap.source.clone());
        // Where every source has a hole, the block is also missed by the one above it.
        let holes = self.truth.gaps.range((name.0, String::new())..);
        let mut holes = holes.take_while(|((slot, _), _)| *slot == name.0);
        if gap.source.is_empty() && holes.next().is_some() {
            return;
        }
        let Some(due) = self.truth.gaps.get(&name) else {
            self.findings.gaps.unfounded += 1;
            self.fault(format!("no such hole: {gap:?}"));
            return;
        };
        if due.records != gap.records {
            self.fault(format!("{} records lack: {gap:?}", due.records));
        }
        if gap.last_slot != gap.first_slot || self.gaps.insert(name, gap.records).is_some() {
            self.findings.gaps.unfounded += 1;
        } else if due.unless.is_none() {
            self.waiting_gaps -= 1;
        }
    }

    /// What there is to say now.
    pub fn findings(&self) -> Findings {
        let mut findings = self.findings;
        for (name, truth) in &self.truth.blocks {
            match self.seen.get(name).filter(|seen| seen.times > 0) {
                Some(seen) => {
                    findings.lost_events +=
                        seen.events.iter().filter(|came| !**came).count() as u64;
                    findings.wrong_standings += u64::from(seen.standings != truth.fate());
                }
                None => {
                    findings.lost_blocks += u64::from(truth.required);
                    findings.lost_events += if truth.required {
                        truth.prints.len() as u64
                    } else {
                        0
                    };
                }
            }
        }
        for (name, truth) in &self.truth.gaps {
            let published = |block| self.seen.get(&block).is_some_and(|seen| seen.times > 0);
            let due = !truth.unless.is_some_and(published);
            let told = self.gaps.get(name);
            let gaps = &mut findings.gaps;
            gaps.due += u64::from(due);
            match told {
                Some(records) if due && *records == truth.records => gaps.exact += 1,
                Some(_) if due => gaps.inexact += 1,
                Some(_) => gaps.unfounded += 1,
                None => gaps.missing += u64::from(due),
            }
        }
        findings
    }

    /// In words, the first few.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        for (name, truth) in &self.truth.blocks {
            match self.seen.get(name).filter(|seen| seen.times > 0) {
                None if truth.required => faults.push(format!("{name}: was not published")),
                Some(seen) if seen.standings != truth.fate() => {
                    faults.push(format!("{name}: {:?}", seen.standings));
                }
                _ => {}
            }
        }
        let told = |name| self.gaps.contains_key(name);
        let silent = self.truth.gaps.iter();
        let silent = silent.filter(|(name, gap)| gap.unless.is_none() && !told(*name));
        faults.extend(silent.map(|((slot, source), gap)| {
            format!(
                "slot {slot}: {} records of {source} lack, not told",
                gap.records
            )
        }));
        faults.truncate(FAULTS_MAX);
        faults
    }

    /// Of everything that was published, in the order of the blocks: equal for equal output.
    pub fn digest(&self) -> String {
        let mut digest = blake3::Hasher::new();
        for (name, seen) in &self.seen {
            digest.update(&name.slot.0.to_le_bytes());
            digest.update(&name.blockhash.0);
            digest.update(&seen.times.to_le_bytes());
            digest.update(&[seen.events.iter().all(|came| *came).into()]);
            for standing in &seen.standings {
                digest.update(&[*standing as u8]);
            }
        }
        digest.finalize().to_hex()[..16].to_owned()
    }
}

/// What is in order among itself, and an event of it. Of a block that was put together from several sources, only the updates
/// of one account are: their write versions do not compare with those of others.
type Ordered = (u64, Print);

fn prints_of(block: &SlotBlock) -> Vec<Ordered> {
    let slot = block.slot.0;
    let accounts = block.accounts.iter().map(|update| {
        let group = match &update.account {
            Some(info) if block.seal.repaired => crc32fast::hash(&info.pubkey),
            _ => 0,
        };
        (1 + u64::from(group), prints::account(update))
    });
    let transactions = block.transactions.iter();
    let others = transactions
        .map(|info| prints::transaction(slot, info))
        .chain(block.entries.iter().map(prints::entry))
        .chain([prints::block_meta(&block.meta)]);
    accounts.chain(others.map(|print| (0, print))).collect()
}

fn has_parent(block: &SlotBlock, parent: BlockName) -> bool {
    block.seal.parent_slot == parent.slot.0 && block.seal.parent_blockhash == parent.blockhash.0
}

/// Notes which of the true events came, and how.
fn compare(truth: &[Print], read: &[Ordered], came: &mut [bool], findings: &mut Findings) {
    let same = truth.iter().eq(read.iter().map(|(_, print)| print));
    if same && !came.contains(&true) {
        came.fill(true);
        return;
    }
    let places: HashMap<Print, usize> = truth.iter().copied().zip(0..).collect();
    let mut due: HashMap<u64, usize> = HashMap::new();
    for (group, print) in read {
        let due = due.entry(*group).or_default();
        let Some(place) = places.get(print).copied() else {
            findings.foreign_events += 1;
            continue;
        };
        if std::mem::replace(&mut came[place], true) {
            findings.duplicated_events += 1;
        } else if place < *due {
            findings.out_of_order_events += 1;
        }
        *due = place.max(*due);
    }
}

#[cfg(test)]
mod tests;
