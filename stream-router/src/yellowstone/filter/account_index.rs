//! Who gets an account update, at one commitment level.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use event_schema::proto::geyser::SubscribeUpdateAccountInfo;
use foldhash::HashMap;

use super::{
    SubscriberId,
    accounts::{AccountFilter, AccountTest, KeyChange},
    cuckoo::Cuckoo,
    keys::{Key, key},
    matches::{Match, settle},
    postings::{At, Postings, PostingsMap, Slab, tidy},
    slices::DataSlice,
    state_index::{StateIndex, Subject, is_open},
};

/// A filter is listed under each account it names. What it does not name by key (no accounts at all, or a cuckoo set) is
/// listed a second time: under each owner, else by state, else by the cuckoo set's seed.
#[derive(Debug, Default)]
pub struct AccountIndex {
    filters: Slab<Listed>,
    keys: HashMap<Key, Postings>,
    owners: HashMap<Key, OfOwner>,
    any_owner: StateIndex,
    /// Walked for every account, seed by seed.
    cuckoo: BTreeMap<u64, Postings>,
}

#[derive(Debug)]
struct Listed {
    subscriber: SubscriberId,
    head: Bytes,
    slices: Option<Arc<[DataSlice]>>,
    cuckoo: Option<Arc<Cuckoo>>,
    test: Arc<AccountTest>,
    /// It is its subscriber's only accounts filter, and an account finds it once at most.
    alone: bool,
}

/// Filters of one owner. Most have no other condition.
#[derive(Debug, Default)]
struct OfOwner {
    open: Postings,
    by_state: Option<Box<StateIndex>>,
}

impl AccountIndex {
    pub fn insert(
        &mut self,
        subscriber: SubscriberId,
        filter: &AccountFilter,
        slices: Option<Arc<[DataSlice]>>,
        only_one: bool,
    ) -> At {
        let AccountFilter {
            keys, cuckoo, test, ..
        } = filter;
        let at = self.filters.insert(Listed {
            subscriber,
            head: filter.head.clone(),
            slices,
            cuckoo: cuckoo.clone(),
            test: Arc::clone(test),
            alone: only_one && !(keys.is_some() && cuckoo.is_some()),
        });
        if let Some(keys) = keys {
            self.keys.reserve(keys.len());
            for key in keys.iter() {
                self.keys.list(*key, at);
            }
        }
        if keys.is_some() && cuckoo.is_none() {
            return at;
        }
        for owner in &test.owners {
            let owner = self.owners.entry(*owner).or_default();
            if is_open(test) {
                owner.open.push(at);
            } else {
                owner.by_state.get_or_insert_default().list(test, at);
            }
        }
        match cuckoo {
            _ if !test.owners.is_empty() => {}
            Some(cuckoo) if is_open(test) => self.cuckoo.list(cuckoo.seed, at),
            _ => self.any_owner.list(test, at),
        }
        at
    }

    /// `filter` as it was inserted, with the changes of its keys since.
    pub fn remove(&mut self, at: At, filter: &AccountFilter) {
        let AccountFilter {
            keys, cuckoo, test, ..
        } = filter;
        if self.filters.remove(at).is_none() {
            return;
        }
        if let Some(keys) = keys {
            for key in keys.iter() {
                self.keys.unlist(key, at);
            }
            tidy(&mut self.keys);
        }
        if keys.is_some() && cuckoo.is_none() {
            return;
        }
        for key in &test.owners {
            let Some(owner) = self.owners.get_mut(key) else {
                continue;
            };
            if is_open(test) {
                owner.open.remove(at);
            } else if let Some(by_state) = &mut owner.by_state {
                by_state.unlist(test, at);
                if by_state.is_empty() {
                    owner.by_state = None;
                }
            }
            if owner.open.is_empty() && owner.by_state.is_none() {
                self.owners.remove(key);
            }
        }
        tidy(&mut self.owners);
        match cuckoo {
            _ if !test.owners.is_empty() => {}
            Some(cuckoo) if is_open(test) => self.cuckoo.unlist(&cuckoo.seed, at),
            _ => self.any_owner.unlist(test, at),
        }
    }

    /// Of a filter that names accounts or has a cuckoo set.
    pub fn change_keys(&mut self, at: At, change: &KeyChange) {
        for key in &change.gone {
            self.keys.unlist(key, at);
        }
        tidy(&mut self.keys);
        for key in &change.new {
            self.keys.list(*key, at);
        }
        // A cuckoo filter may have had no keys until now.
        if let Some(listed) = self.filters.get_mut(at)
            && listed.cuckoo.is_some()
        {
            listed.alone = false;
        }
    }

    pub fn matches(&self, info: &SubscribeUpdateAccountInfo, out: &mut Vec<Match>) {
        let from = out.len();
        let mut settled = true;
        self.candidates(info, |subject, listed, by_key| {
            let test = &listed.test;
            // Unless it was found by key, its owner is the account's, or it has none.
            let passes = test.state_passes(info)
                && if by_key {
                    test.owner_passes(&info.owner)
                } else {
                    let cuckoo = listed.cuckoo.as_ref();
                    cuckoo.is_none_or(|cuckoo| subject.is_in(cuckoo))
                };
            if passes {
                settled &= listed.alone;
                out.push(Match {
                    subscriber: listed.subscriber,
                    head: listed.head.clone(),
                    slices: listed.slices.clone(),
                });
            }
        });
        if !settled {
            settle(out, from);
        }
    }

    /// All that an account brings up, and whether by its key.
    fn candidates<'a>(
        &self,
        info: &'a SubscribeUpdateAccountInfo,
        mut each: impl FnMut(&mut Subject<'a>, &Listed, bool),
    ) {
        let mut subject = Subject::new(info);
        let by_key = subject.key.and_then(|key| self.keys.get(key));
        for at in by_key.into_iter().flat_map(Postings::as_slice) {
            if let Some(listed) = self.filters.get(*at) {
                each(&mut subject, listed, true);
            }
        }
        let mut each = |subject: &mut Subject<'a>, at| {
            if let Some(listed) = self.filters.get(at) {
                each(subject, listed, false);
            }
        };
        if let Some(owner) = key(&info.owner).and_then(|owner| self.owners.get(owner)) {
            for at in owner.open.as_slice() {
                each(&mut subject, *at);
            }
            if let Some(by_state) = &owner.by_state {
                by_state.visit(&mut subject, &mut each);
            }
        }
        self.any_owner.visit(&mut subject, &mut each);
        for at in self.cuckoo.values().flat_map(Postings::as_slice) {
            each(&mut subject, *at);
        }
    }

    pub fn wanted(&self) -> bool {
        !self.filters.is_empty()
    }

    /// How many filters an account brings up, matching or not.
    #[cfg(test)]
    pub fn looked_at(&self, info: &SubscribeUpdateAccountInfo) -> usize {
        let mut count = 0;
        self.candidates(info, |_, _, _| count += 1);
        count
    }

    #[cfg(test)]
    pub fn holds_nothing(&self) -> bool {
        self.filters.is_empty()
            && self.keys.is_empty()
            && self.owners.is_empty()
            && self.any_owner.is_empty()
            && self.cuckoo.is_empty()
    }
}
