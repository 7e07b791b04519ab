//! Who gets a transaction (or its status), at one commitment level.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;

use super::{
    SubscriberId,
    cuckoo::Probe,
    keys::{Key, KeySet},
    matches::{Match, settle},
    postings::{At, Postings, PostingsMap, Slab, tidy},
    transactions::{Expansion, TransactionFacts, TransactionFilter},
};

/// How many keys are looked at to choose where a filter is listed.
const WEIGHED_KEYS: usize = 64;

/// A filter is listed in one way: under its signature, under one required account, under each included account (and the
/// cuckoo set), or among those that ask for no account.
#[derive(Debug, Default)]
pub struct TransactionIndex {
    filters: Slab<Listed>,
    signatures: HashMap<[u8; 64], Postings>,
    by_account: [ByAccount; Expansion::ALL.len()],
    /// By what is asked of `vote` and `failed`: nothing, false, true.
    open: [[Postings; 3]; 3],
}

/// Filters whose accounts are looked for among the same keys of a transaction.
#[derive(Debug, Default)]
struct ByAccount {
    keys: HashMap<Key, Postings>,
    /// Walked for every account of every transaction, seed by seed.
    cuckoo: BTreeMap<u64, Postings>,
}

#[derive(Debug)]
struct Listed {
    subscriber: SubscriberId,
    filter: Arc<TransactionFilter>,
    under: Under,
    /// It is its subscriber's only filter here, and a transaction finds it once at most.
    alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    Signature([u8; 64]),
    Required(Key),
    Included,
    Open,
}

/// What brought a filter up.
#[derive(Debug, Clone, Copy)]
enum By<'a> {
    Signature,
    Account,
    /// What an account looks like under the set's seed: whether it is in the set remains to be seen.
    Cuckoo(&'a Probe),
    Nothing,
}

impl TransactionIndex {
    pub fn insert(
        &mut self,
        subscriber: SubscriberId,
        filter: &Arc<TransactionFilter>,
        only_one: bool,
    ) -> At {
        let under = self.best(filter);
        let found_once = match under {
            Under::Included => filter.include.len() == 1 && filter.cuckoo.is_none(),
            Under::Signature(_) | Under::Required(_) | Under::Open => true,
        };
        let at = self.filters.insert(Listed {
            subscriber,
            filter: Arc::clone(filter),
            under,
            alone: only_one && found_once,
        });
        let by_account = &mut self.by_account[filter.expansion as usize];
        match under {
            Under::Signature(signature) => self.signatures.list(signature, at),
            Under::Required(key) => by_account.keys.list(key, at),
            Under::Included => {
                by_account.keys.reserve(filter.include.len());
                for key in &filter.include {
                    by_account.keys.list(*key, at);
                }
                if let Some(cuckoo) = &filter.cuckoo {
                    by_account.cuckoo.list(cuckoo.seed, at);
                }
            }
            Under::Open => self.open_list(filter).push(at),
        }
        at
    }

    pub fn remove(&mut self, at: At) {
        let Some(Listed { filter, under, .. }) = self.filters.remove(at) else {
            return;
        };
        let by_account = &mut self.by_account[filter.expansion as usize];
        match under {
            Under::Signature(signature) => self.signatures.unlist(&signature, at),
            Under::Required(key) => by_account.keys.unlist(&key, at),
            Under::Included => {
                for key in &filter.include {
                    by_account.keys.unlist(key, at);
                }
                if let Some(cuckoo) = &filter.cuckoo {
                    by_account.cuckoo.unlist(&cuckoo.seed, at);
                }
            }
            Under::Open => self.open_list(&filter).remove(at),
        }
        tidy(&mut self.signatures);
        tidy(&mut self.by_account[filter.expansion as usize].keys);
    }

    /// Where fewest transactions will find the filter in vain. Accounts under which many are listed already (a token
    /// program, say) are in many transactions, or at least bring many filters up together: the least crowded place wins.
    fn best(&self, filter: &TransactionFilter) -> Under {
        if let Some(signature) = filter.signature {
            return Under::Signature(signature);
        }
        let keys = &self.by_account[filter.expansion as usize].keys;
        let crowd = |key: &Key| {
            keys.get(key)
                .map_or(0, |postings| postings.as_slice().len())
        };
        let required = filter
            .required
            .iter()
            .take(WEIGHED_KEYS)
            .map(|key| (crowd(key), key))
            .min();
        match required {
            None if filter.includes() => Under::Included,
            None => Under::Open,
            Some((crowded, key)) => {
                let weighable = filter.cuckoo.is_none() && filter.include.len() <= WEIGHED_KEYS;
                let included = |include: &KeySet| include.iter().map(crowd).sum::<usize>();
                if crowded > 0
                    && weighable
                    && !filter.include.is_empty()
                    && included(&filter.include) < crowded
                {
                    Under::Included
                } else {
                    Under::Required(*key)
                }
            }
        }
    }

    fn open_list(&mut self, filter: &TransactionFilter) -> &mut Postings {
        &mut self.open[asked(filter.vote)][asked(filter.failed)]
    }

    pub fn matches(&self, facts: &TransactionFacts<'_>, out: &mut Vec<Match>) {
        let from = out.len();
        let mut settled = true;
        self.candidates(facts, |listed, by| {
            let filter = &listed.filter;
            let included = match by {
                // By an account it includes; or it includes none.
                By::Account if listed.under == Under::Included => true,
                By::Nothing => true,
                By::Cuckoo(probe) => {
                    let cuckoo = filter.cuckoo.as_ref();
                    cuckoo.is_some_and(|cuckoo| cuckoo.contains(probe))
                }
                By::Account | By::Signature => filter.include_passes(facts.keys(filter.expansion)),
            };
            if included && filter.rest_passes(facts) {
                settled &= listed.alone;
                out.push(Match {
                    subscriber: listed.subscriber,
                    head: filter.head.clone(),
                    slices: None,
                });
            }
        });
        if !settled {
            settle(out, from);
        }
    }

    /// All that a transaction brings up, and by what.
    fn candidates(&self, facts: &TransactionFacts<'_>, mut each: impl FnMut(&Listed, By<'_>)) {
        let mut all = |postings: Option<&Postings>, by: By<'_>| {
            for at in postings.into_iter().flat_map(Postings::as_slice) {
                if let Some(listed) = self.filters.get(*at) {
                    each(listed, by);
                }
            }
        };
        all(self.signatures.get(facts.signature()), By::Signature);
        for (index, expansion) in self.by_account.iter().zip(Expansion::ALL) {
            if index.keys.is_empty() && index.cuckoo.is_empty() {
                continue;
            }
            for key in facts.keys(expansion) {
                all(index.keys.get(key), By::Account);
                for (seed, postings) in &index.cuckoo {
                    all(Some(postings), By::Cuckoo(&Probe::new(*seed, key)));
                }
            }
        }
        for vote in [0, asked(Some(facts.vote()))] {
            for failed in [0, asked(Some(facts.failed()))] {
                all(Some(&self.open[vote][failed]), By::Nothing);
            }
        }
    }

    pub fn wanted(&self) -> bool {
        !self.filters.is_empty()
    }

    /// How many filters a transaction brings up, matching or not.
    #[cfg(test)]
    pub fn looked_at(&self, facts: &TransactionFacts<'_>) -> usize {
        let mut count = 0;
        self.candidates(facts, |_, _| count += 1);
        count
    }

    #[cfg(test)]
    pub fn holds_nothing(&self) -> bool {
        self.filters.is_empty()
            && self.signatures.is_empty()
            && self
                .by_account
                .iter()
                .all(|index| index.keys.is_empty() && index.cuckoo.is_empty())
            && self.open.iter().flatten().all(Postings::is_empty)
    }
}

fn asked(what: Option<bool>) -> usize {
    match what {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    }
}
