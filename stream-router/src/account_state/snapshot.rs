//! The state first, then the stream: what a subscriber that asks for a snapshot gets before its first live update.
//!
//! The whole topic is read and folded, and what fits the subscriber's filters is kept; so it costs the same for one account
//! as for a million, and few are read at once. The state ends at a telling, from which the subscription goes on as with a
//! cursor: no write is missing between the two, and none is in both.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use event_log::{EventLog, LogReader, ReaderSpec, Start};
use event_schema::{
    AccountState, AccountStateReader, AsOf, Kind, Pubkey,
    proto::{
        Message,
        geyser::{SubscribeUpdate, subscribe_update::UpdateOneof},
    },
};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{info, warn};

use super::AccountsTopicConfig;
use crate::{
    observation,
    subscription::Level,
    yellowstone::{
        engine::{Scratch, Stamp, event},
        filter::{FilterIndex, Filters, SubscriberId},
        outbox::{Frame, Outbox},
        tips::Tips,
    },
};

const POLL: Duration = Duration::from_millis(100);
const RECORDS: usize = 4_000;
/// How long to wait for a state without blocks held back, and for the stream to get as far as the state.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
/// What an account costs besides its value, bytes.
const ACCOUNT_BYTES: usize = 160;
/// The only subscriber in its index.
const SELF: SubscriberId = 0;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "a snapshot is the confirmed state: subscribe with commitment confirmed, or without x-request-snapshot"
    )]
    Level,
    #[error(
        "the accounts that fit the filters take more than {mebibytes} MiB (accounts_topic.snapshot_mebibytes); narrow the filters"
    )]
    TooLarge { mebibytes: usize },
    #[error("the accounts topic holds no whole state yet; connect again")]
    Behind,
    #[error("the accounts topic cannot be read: {0}; connect again")]
    Log(#[from] event_log::Error),
}

/// Gives snapshots. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots(Arc<Inner>);

struct Inner {
    log: Arc<dyn EventLog>,
    topic: Arc<str>,
    partitions: u32,
    mebibytes: usize,
    permits: Semaphore,
}

impl Snapshots {
    pub fn new(log: Arc<dyn EventLog>, topic: Arc<str>, config: &AccountsTopicConfig) -> Self {
        Self(Arc::new(Inner {
            log,
            topic,
            partitions: config.partitions,
            mebibytes: config.snapshot_mebibytes,
            permits: Semaphore::new(config.snapshots_at_once),
        }))
    }

    /// Queues the accounts that fit the filters, at the subscriber's pace. Returns the telling after which its stream goes
    /// on: `tips` has reached it.
    pub async fn give(
        &self,
        filters: &Filters,
        outbox: &Outbox,
        tips: &Tips,
    ) -> Result<u64, SnapshotError> {
        if filters.level() != Level::Confirmed {
            return Err(SnapshotError::Level);
        }
        let mut index = FilterIndex::default();
        index.insert(SELF, filters.clone());
        // Closed only when the process ends.
        let permit = self.0.permits.acquire().await;
        let deadline = Instant::now() + PATIENCE;
        let (as_of, states) = self.0.read(&index, deadline).await?;
        drop(permit);
        info!(
            slot = as_of.slot,
            accounts = states.len(),
            "a subscriber gets a snapshot"
        );
        let stamp = Stamp::now();
        for state in states {
            for frame in frames(&index, &state, &stamp) {
                if !outbox.push_when_free(frame).await {
                    // Gone: it asks for nothing more.
                    return Ok(as_of.telling);
                }
            }
        }
        // What the log shows, the stream may be about to hear.
        let deadline = Instant::now() + PATIENCE;
        while tips
            .slot(Level::Confirmed)
            .is_none_or(|slot| slot.0 < as_of.slot)
        {
            if Instant::now() >= deadline {
                return Err(SnapshotError::Behind);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(as_of.telling)
    }
}

impl Inner {
    /// The state as of a block from which the stream can go on: none is held back.
    async fn read(
        &self,
        index: &FilterIndex,
        deadline: Instant,
    ) -> Result<(AsOf, Vec<AccountState>), SnapshotError> {
        let mut scratch = Scratch::default();
        let fits = |_: &Pubkey, state: &AccountState| !given(index, state, &mut scratch).is_empty();
        let mut states = AccountStateReader::new(self.partitions, fits);
        let mut reader = self.reader().await?;
        loop {
            self.read_on(reader.as_mut(), &mut states).await?;
            if states.stop_at_newest()
                && let Some(as_of) = self.stopped(reader.as_mut(), &mut states).await?
            {
                if as_of.held_back == 0 {
                    return Ok((as_of, states.into_accounts().into_values().collect()));
                }
                if let Err(error) = states.release() {
                    warn!(%error, "a record of the accounts topic is passed over");
                }
            }
            if Instant::now() >= deadline {
                return Err(SnapshotError::Behind);
            }
        }
    }

    async fn reader(&self) -> event_log::Result<Box<dyn LogReader>> {
        let all =
            (0..self.partitions).map(|partition| (self.topic.clone(), partition, Start::Earliest));
        let spec = ReaderSpec {
            partitions: all.collect(),
            read_committed: true,
        };
        self.log.reader(spec).await
    }

    /// To the end of every partition.
    async fn read_on<K: FnMut(&Pubkey, &AccountState) -> bool>(
        &self,
        reader: &mut dyn LogReader,
        states: &mut AccountStateReader<K>,
    ) -> Result<(), SnapshotError> {
        while !(self.take(reader, states).await? == 0 && reader.lag().await? == 0) {}
        Ok(())
    }

    /// Until every partition has stopped at the same transaction.
    async fn stopped<K: FnMut(&Pubkey, &AccountState) -> bool>(
        &self,
        reader: &mut dyn LogReader,
        states: &mut AccountStateReader<K>,
    ) -> Result<Option<AsOf>, SnapshotError> {
        loop {
            if let Some(as_of) = states.as_of() {
                return Ok(Some(as_of.clone()));
            }
            if self.take(reader, states).await? == 0 {
                // Not all partitions have a whole transaction yet.
                return Ok(None);
            }
        }
    }

    async fn take<K: FnMut(&Pubkey, &AccountState) -> bool>(
        &self,
        reader: &mut dyn LogReader,
        states: &mut AccountStateReader<K>,
    ) -> Result<usize, SnapshotError> {
        let records = reader.poll(RECORDS, POLL).await?;
        let count = records.len();
        for record in records {
            let position = record.position.clone();
            let parts = (record.key, record.header, record.value);
            if let Err(error) = states.push(position.partition, parts) {
                warn!(%position, %error, "a record of the accounts topic is passed over");
            }
        }
        let bytes = states.bytes() + states.accounts().len() * ACCOUNT_BYTES;
        if bytes > self.mebibytes << 20 {
            return Err(SnapshotError::TooLarge {
                mebibytes: self.mebibytes,
            });
        }
        Ok(count)
    }
}

/// What the subscriber gets of one account: the names of its filters, and the update.
fn given(index: &FilterIndex, state: &AccountState, scratch: &mut Scratch) -> Vec<(Bytes, Bytes)> {
    let mut given = Vec::new();
    let Ok(content) = observation::read_canonical(Kind::Account, state.slot, &state.value) else {
        return given;
    };
    let level = Level::Confirmed;
    event(
        index,
        level,
        state.slot,
        &content,
        scratch,
        |_, head, body| {
            given.push((head, body));
        },
    );
    given
}

fn frames(index: &FilterIndex, state: &AccountState, stamp: &Stamp) -> Vec<Frame> {
    let given = given(index, state, &mut Scratch::default());
    let mark = state.repaired();
    let frame = |(head, body)| Frame {
        head,
        body: match &mark {
            Some(mark) => mark.mark(&as_startup(body)),
            None => as_startup(body),
        },
        tail: stamp.tail(),
    };
    given.into_iter().map(frame).collect()
}

/// Marked as Yellowstone marks what a validator loaded before it followed the chain.
fn as_startup(body: Bytes) -> Bytes {
    let Ok(mut update) = SubscribeUpdate::decode(body.clone()) else {
        return body;
    };
    if let Some(UpdateOneof::Account(account)) = &mut update.update_oneof {
        account.is_startup = true;
    }
    update.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use event_schema::{
        Blockhash, Slot,
        account_state::repaired::{NO_WRITE, RepairedState},
        proto::geyser::{
            SubscribeRequest, SubscribeRequestAccountsDataSlice, SubscribeRequestFilterAccounts,
            SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
        },
    };

    use super::*;
    use crate::yellowstone::filter::FilterLimits;

    fn state(write: u32, mark: Option<&RepairedState>) -> AccountState {
        let update = SubscribeUpdate {
            update_oneof: Some(UpdateOneof::Account(SubscribeUpdateAccount {
                slot: 7,
                account: Some(SubscribeUpdateAccountInfo {
                    pubkey: vec![1; 32],
                    owner: vec![2; 32],
                    lamports: 3,
                    data: vec![9; 20],
                    ..SubscribeUpdateAccountInfo::default()
                }),
                ..SubscribeUpdateAccount::default()
            })),
            ..SubscribeUpdate::default()
        };
        let update = update.encode_to_vec();
        AccountState {
            slot: Slot(7),
            blockhash: Blockhash::default(),
            write,
            value: mark.map_or_else(|| update.clone().into(), |mark| mark.mark(&update)),
        }
    }

    #[test]
    fn a_subscriber_sees_which_states_no_source_told() {
        let mark = RepairedState {
            source: "rpc:node".into(),
            as_of_slot: 7,
            lost_slot: 5,
        };
        let filter = SubscribeRequestFilterAccounts::default();
        let mut request = SubscribeRequest {
            accounts: [("all".to_owned(), filter)].into(),
            commitment: Some(1),
            ..SubscribeRequest::default()
        };
        for slices in [0, 1] {
            let slice = SubscribeRequestAccountsDataSlice {
                offset: 1,
                length: 4,
            };
            request.accounts_data_slice = vec![slice; slices];
            let filters = Filters::compile(&request, &FilterLimits::default()).unwrap();
            let mut index = FilterIndex::default();
            index.insert(SELF, filters);
            let told = |state: &AccountState| {
                let frames = frames(&index, state, &Stamp::now());
                let [frame] = &frames[..] else {
                    panic!("one filter, one account");
                };
                let update: Bytes = [&frame.head[..], &frame.body, &frame.tail].concat().into();
                let plain = SubscribeUpdate::decode(update.clone()).unwrap();
                let Some(UpdateOneof::Account(account)) = plain.update_oneof else {
                    panic!("not an account");
                };
                assert!(account.is_startup);
                assert_eq!(plain.filters, ["all"]);
                assert_eq!(account.account.unwrap().data.len(), [20, 4][slices]);
                RepairedState::of(&update)
            };
            assert_eq!(told(&state(NO_WRITE, Some(&mark))), Some(mark.clone()));
            assert_eq!(told(&state(0, None)), None);
        }
    }
}
