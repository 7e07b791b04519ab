//! Accounts filters told apart by the account's state: each is listed once, under its rarest condition.

use std::collections::BTreeMap;

use event_schema::proto::geyser::SubscribeUpdateAccountInfo;
use foldhash::HashMap;
use spl_generic_token::{token::GenericTokenAccount, token_2022};

use super::{
    accounts::{AccountTest, Lamports, Memcmp},
    cuckoo::{Cuckoo, Probe},
    keys::{Key, key},
    postings::{At, Postings, PostingsMap},
};

/// An account update on its way through the index.
#[derive(Debug)]
pub struct Subject<'a> {
    pub info: &'a SubscribeUpdateAccountInfo,
    pub key: Option<&'a Key>,
    /// Of the seed last asked for: nearly all sets have the same.
    probe: Option<(u64, Probe)>,
}

impl<'a> Subject<'a> {
    pub fn new(info: &'a SubscribeUpdateAccountInfo) -> Self {
        Self {
            info,
            key: key(&info.pubkey),
            probe: None,
        }
    }

    pub fn is_in(&mut self, cuckoo: &Cuckoo) -> bool {
        let Some(key) = self.key else {
            return false;
        };
        let probe = match self.probe {
            Some((seed, probe)) if seed == cuckoo.seed => probe,
            _ => Probe::new(cuckoo.seed, key),
        };
        self.probe = Some((cuckoo.seed, probe));
        cuckoo.contains(&probe)
    }
}

type ByBytes = HashMap<Box<[u8]>, Postings>;

#[derive(Debug, Default)]
pub struct StateIndex {
    /// By offset and length.
    memcmp: BTreeMap<(usize, usize), ByBytes>,
    lamports: HashMap<u64, Postings>,
    datasize: HashMap<usize, Postings>,
    lamports_below: BTreeMap<u64, Postings>,
    lamports_above: BTreeMap<u64, Postings>,
    token_account: Postings,
    /// By whether a signature must be there.
    signed: [Postings; 2],
    /// Walked for every account.
    open: Postings,
}

/// The condition a filter is listed under.
#[derive(Debug)]
enum Axis<'a> {
    Memcmp(&'a Memcmp),
    Lamports(u64),
    Datasize(usize),
    LamportsBelow(u64),
    LamportsAbove(u64),
    TokenAccount,
    Signed(bool),
    Open,
}

impl<'a> Axis<'a> {
    fn of(test: &'a AccountTest) -> Self {
        let memcmp = test
            .memcmp
            .iter()
            .filter(|memcmp| !memcmp.bytes.is_empty())
            .max_by_key(|memcmp| memcmp.bytes.len());
        if let Some(memcmp) = memcmp {
            return Self::Memcmp(memcmp);
        }
        let lamports =
            |wanted: fn(Lamports) -> Option<Self>| test.lamports.iter().copied().find_map(wanted);
        let equal = lamports(|lamports| match lamports {
            Lamports::Equal(amount) => Some(Self::Lamports(amount)),
            _ => None,
        });
        let range = || {
            lamports(|lamports| match lamports {
                Lamports::Below(amount) => Some(Self::LamportsBelow(amount)),
                Lamports::Above(amount) => Some(Self::LamportsAbove(amount)),
                _ => None,
            })
        };
        equal
            .or(test.datasize.map(Self::Datasize))
            .or_else(range)
            .or(test.token_account.then_some(Self::TokenAccount))
            .or(test.signed.map(Self::Signed))
            .unwrap_or(Self::Open)
    }
}

/// Whether a filter has no condition on the account's state.
pub fn is_open(test: &AccountTest) -> bool {
    matches!(Axis::of(test), Axis::Open)
}

impl StateIndex {
    pub fn list(&mut self, test: &AccountTest, at: At) {
        match Axis::of(test) {
            Axis::Memcmp(Memcmp { offset, bytes }) => self
                .memcmp
                .entry((*offset, bytes.len()))
                .or_default()
                .list(bytes.clone(), at),
            Axis::Lamports(amount) => self.lamports.list(amount, at),
            Axis::Datasize(size) => self.datasize.list(size, at),
            Axis::LamportsBelow(amount) => self.lamports_below.list(amount, at),
            Axis::LamportsAbove(amount) => self.lamports_above.list(amount, at),
            Axis::TokenAccount => self.token_account.push(at),
            Axis::Signed(signed) => self.signed[usize::from(signed)].push(at),
            Axis::Open => self.open.push(at),
        }
    }

    pub fn unlist(&mut self, test: &AccountTest, at: At) {
        match Axis::of(test) {
            Axis::Memcmp(Memcmp { offset, bytes }) => {
                let group = (*offset, bytes.len());
                if let Some(filters) = self.memcmp.get_mut(&group) {
                    filters.unlist(bytes, at);
                    if filters.is_empty() {
                        self.memcmp.remove(&group);
                    }
                }
            }
            Axis::Lamports(amount) => self.lamports.unlist(&amount, at),
            Axis::Datasize(size) => self.datasize.unlist(&size, at),
            Axis::LamportsBelow(amount) => self.lamports_below.unlist(&amount, at),
            Axis::LamportsAbove(amount) => self.lamports_above.unlist(&amount, at),
            Axis::TokenAccount => self.token_account.remove(at),
            Axis::Signed(signed) => self.signed[usize::from(signed)].remove(at),
            Axis::Open => self.open.remove(at),
        }
    }

    /// Every filter whose listed condition the account meets, once.
    pub fn visit<'a>(
        &self,
        subject: &mut Subject<'a>,
        each: &mut impl FnMut(&mut Subject<'a>, At),
    ) {
        let info = subject.info;
        let mut all = |subject: &mut Subject<'a>, postings: Option<&Postings>| {
            for at in postings.into_iter().flat_map(Postings::as_slice) {
                each(subject, *at);
            }
        };
        for ((offset, length), filters) in &self.memcmp {
            if let Some(part) = Memcmp::part(&info.data, *offset, *length) {
                all(subject, filters.get(part));
            }
        }
        all(subject, self.lamports.get(&info.lamports));
        all(subject, self.datasize.get(&info.data.len()));
        if let Some(more) = info.lamports.checked_add(1) {
            for postings in self.lamports_below.range(more..).map(|(_, list)| list) {
                all(subject, Some(postings));
            }
        }
        for postings in self
            .lamports_above
            .range(..info.lamports)
            .map(|(_, list)| list)
        {
            all(subject, Some(postings));
        }
        if !self.token_account.is_empty() && token_2022::Account::valid_account_data(&info.data) {
            all(subject, Some(&self.token_account));
        }
        all(
            subject,
            Some(&self.signed[usize::from(info.txn_signature.is_some())]),
        );
        all(subject, Some(&self.open));
    }

    pub fn is_empty(&self) -> bool {
        self.memcmp.is_empty()
            && self.lamports.is_empty()
            && self.datasize.is_empty()
            && self.lamports_below.is_empty()
            && self.lamports_above.is_empty()
            && self.token_account.is_empty()
            && self.signed.iter().all(Postings::is_empty)
            && self.open.is_empty()
    }
}
