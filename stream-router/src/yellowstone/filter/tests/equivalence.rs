//! Any requests, any events, in any order: the index and the oracle agree.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::proto::{
    Message,
    geyser::{
        SlotStatus, SubscribeRequest, SubscribeUpdate, SubscribeUpdateAccountInfo,
        SubscribeUpdateTransactionInfo,
    },
};
use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::{
    super::{DataSlice, FilterIndex, FilterLimits, Filters, Match, SubscriberId, TransactionFacts},
    oracle::{Asked, any_of, own_keys},
    universe::{KEYS, accounts, key, requests, text, texts, transactions},
};
use crate::subscription::Level;

#[derive(Debug, Clone)]
enum Step {
    Insert(SubscriberId, Box<SubscribeRequest>),
    Remove(SubscriberId),
    Change(SubscriberId, String, Vec<usize>, Vec<usize>),
    Account(SubscribeUpdateAccountInfo),
    Transaction(Box<SubscribeUpdateTransactionInfo>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || subsequence((0..KEYS).collect::<Vec<_>>(), 0..4);
    let step = prop_oneof![
        4 => (0u64..5, requests().prop_map(Box::new)).prop_map(|(id, it)| Step::Insert(id, it)),
        1 => (0u64..5).prop_map(Step::Remove),
        3 => (0u64..5, "[abc]", some(), some())
            .prop_map(|(id, name, add, remove)| Step::Change(id, name, add, remove)),
        6 => accounts().prop_map(Step::Account),
        6 => transactions().prop_map(|it| Step::Transaction(Box::new(it))),
    ];
    vec(step, 1..40)
}

#[derive(Default)]
struct World {
    index: FilterIndex,
    asked: BTreeMap<SubscriberId, Asked>,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Insert(id, request) => {
                let filters = Filters::compile(&request, &FilterLimits::default()).unwrap();
                let asked = Asked::new(*request);
                assert_eq!(filters.level() as i32, asked.level());
                self.index.insert(id, filters);
                self.asked.insert(id, asked);
            }
            Step::Remove(id) => {
                self.index.remove(id);
                self.asked.remove(&id);
            }
            Step::Change(id, name, add, remove) => {
                let keys = |indices: &[usize]| indices.iter().copied().map(key).collect::<Vec<_>>();
                let done = self
                    .index
                    .change_accounts(id, &name, &keys(&add), &keys(&remove));
                let possible = self
                    .asked
                    .get_mut(&id)
                    .is_some_and(|asked| asked.change(&name, &texts(&add), &texts(&remove)));
                assert_eq!(done.is_ok(), possible, "{done:?}");
            }
            Step::Account(info) => self.agree(
                |index, level, out| index.account(level, &info, out),
                |asked| asked.account(&info),
                true,
            ),
            Step::Transaction(info) => {
                let facts = TransactionFacts::new(&info);
                self.agree(
                    |index, level, out| index.transaction(level, &facts, out),
                    |asked| asked.transaction(&info),
                    false,
                );
                self.agree(
                    |index, level, out| index.transaction_status(level, &facts, out),
                    |asked| asked.transaction_status(&info),
                    false,
                );
                self.blocks_agree(&info);
            }
        }
        self.agree(FilterIndex::block_meta, Asked::block_meta, false);
        self.agree(FilterIndex::entry, Asked::entry, false);
        for number in 0..7 {
            let status = SlotStatus::try_from(number).unwrap();
            let mut out = Vec::new();
            self.index.slot(status, &mut out);
            let expected = self.expected(None, |asked| asked.slot(status));
            assert_eq!(found(&out), expected, "{status:?}");
        }
        self.wants_agree();
    }

    /// At every level, in the shared index and in one of each subscriber alone.
    fn agree(
        &self,
        matches: impl Fn(&FilterIndex, Level, &mut Vec<Match>),
        names: impl Fn(&Asked) -> Vec<String>,
        sliced: bool,
    ) {
        for level in Level::ALL {
            // What is in the list already stays as it is.
            let earlier = Match {
                subscriber: 2,
                head: b"earlier".to_vec().into(),
                slices: None,
            };
            let mut out = vec![earlier.clone()];
            matches(&self.index, level, &mut out);
            assert_eq!(out.remove(0), earlier);
            let expected = self.expected(Some(level), &names);
            assert_eq!(found(&out), expected, "{level:?}");
            for found in &out {
                let asked = &self.asked[&found.subscriber].request.accounts_data_slice;
                let slices = asked.iter().map(|slice| DataSlice {
                    start: slice.offset as usize,
                    end: (slice.offset + slice.length) as usize,
                });
                let slices: Vec<_> = slices.filter(|_| sliced).collect();
                assert_eq!(found.slices.as_deref().unwrap_or_default(), slices);
            }
            let here = |asked: &Asked| asked.level() == level as i32;
            for (id, _) in self.asked.iter().filter(|(_, asked)| here(asked)) {
                let mut alone = FilterIndex::default();
                alone.insert(*id, self.index.filters(*id).unwrap().clone());
                let mut out = Vec::new();
                matches(&alone, level, &mut out);
                assert_eq!(found(&out).get(id), expected.get(id));
            }
        }
    }

    fn expected(
        &self,
        level: Option<Level>,
        names: impl Fn(&Asked) -> Vec<String>,
    ) -> BTreeMap<SubscriberId, Vec<String>> {
        self.asked
            .iter()
            .filter(|(_, asked)| level.is_none_or(|level| level as i32 == asked.level()))
            .map(|(id, asked)| (*id, names(asked)))
            .filter(|(_, names)| !names.is_empty())
            .collect()
    }

    fn blocks_agree(&self, info: &SubscribeUpdateTransactionInfo) {
        let facts = TransactionFacts::new(info);
        for level in Level::ALL {
            let mut out = Vec::new();
            self.index.blocks(level, &mut out);
            let mut seen = BTreeSet::new();
            for found in &out {
                let name = decoded(&found.head).remove(0);
                let asked = &self.asked[&found.subscriber];
                assert_eq!(asked.level(), level as i32);
                let sent = &asked.request.blocks[&name];
                let filter = &found.filter;
                let (list, set) = (&sent.account_include, &sent.cuckoo_account_include);
                assert_eq!(
                    filter.include_transactions,
                    sent.include_transactions != Some(false)
                );
                assert_eq!(filter.include_accounts, sent.include_accounts == Some(true));
                assert_eq!(filter.include_entries, sent.include_entries == Some(true));
                assert_eq!(
                    filter.wants_transaction(&facts),
                    filter.include_transactions && any_of(list, set, &own_keys(info))
                );
                for index in 0..KEYS {
                    let account = SubscribeUpdateAccountInfo {
                        pubkey: key(index).to_vec(),
                        ..SubscribeUpdateAccountInfo::default()
                    };
                    assert_eq!(
                        filter.wants_account(&account),
                        filter.include_accounts && any_of(list, set, &[text(index)].into())
                    );
                }
                assert!(seen.insert((found.subscriber, name)), "told twice");
            }
            let at_level = self.asked.values().filter(|it| it.level() == level as i32);
            let filters: usize = at_level.map(|asked| asked.request.blocks.len()).sum();
            assert_eq!(out.len(), filters);
        }
    }

    fn wants_agree(&self) {
        for level in Level::ALL {
            let wants = self.index.wants(level);
            let any = |asks: fn(&SubscribeRequest) -> bool| {
                let mut at_level = self.asked.values().filter(|it| it.level() == level as i32);
                at_level.any(|asked| asks(&asked.request))
            };
            assert_eq!(wants.accounts, any(|it| !it.accounts.is_empty()));
            assert_eq!(wants.transactions, any(|it| !it.transactions.is_empty()));
            assert_eq!(wants.statuses, any(|it| !it.transactions_status.is_empty()));
            assert_eq!(wants.entries, any(|it| !it.entry.is_empty()));
            assert_eq!(wants.block_meta, any(|it| !it.blocks_meta.is_empty()));
            assert_eq!(wants.blocks, any(|it| !it.blocks.is_empty()));
        }
    }
}

/// Who was found, with which names. Nobody is found twice, no name is told twice.
fn found(matches: &[Match]) -> BTreeMap<SubscriberId, Vec<String>> {
    let mut all = BTreeMap::new();
    for found in matches {
        let mut names = decoded(&found.head);
        names.sort();
        let before = all.insert(found.subscriber, names);
        assert_eq!(before, None, "{} is found twice", found.subscriber);
    }
    all
}

fn decoded(head: &[u8]) -> Vec<String> {
    SubscribeUpdate::decode(head).unwrap().filters
}

proptest! {
    #[test]
    fn the_index_is_the_oracle(steps in steps()) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
        }
        for id in 0..5 {
            world.take(Step::Remove(id));
        }
        prop_assert!(world.index.holds_nothing(), "{:?}", world.index);
    }

    /// Their names come in one head, each once.
    #[test]
    fn many_filters_of_one_subscriber(
        names in proptest::collection::btree_set("[a-z]{0,130}", 1..20),
        account in accounts(),
    ) {
        let names: Vec<String> = names.into_iter().filter(|name| name.len() <= 128).collect();
        let all = names.iter().map(|name| (name.clone(), Default::default()));
        let request = SubscribeRequest { accounts: all.collect(), ..SubscribeRequest::default() };
        let mut index = FilterIndex::default();
        index.insert(1, Filters::compile(&request, &FilterLimits::default()).unwrap());
        let mut out = Vec::new();
        index.account(Level::Processed, &account, &mut out);
        if names.is_empty() {
            prop_assert!(out.is_empty());
        } else {
            prop_assert_eq!(found(&out), BTreeMap::from([(1, names)]));
        }
    }
}
