//! The Yellowstone engine over the in-memory log, against what the canonical topic holds in the end: whatever subscribers
//! and routers do, every update comes once.

mod client;
mod rig;
mod websocket;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use event_schema::{Commitment, Gap, Slot};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{
    state::Earlier,
    subscription::Level,
    yellowstone::{
        cursor::Cursor,
        engine::{Command, News, Start},
        outbox::Ending,
    },
};
use tokio::sync::oneshot;

use crate::{
    chain::{History, TrueBlock},
    crash::Canonical,
};
pub use client::Extension;
use client::{Client, Seen, assert_same, expected};
use rig::{
    Rig, begin_life, filled_log, filled_log_of, filled_log_without, start_engine_that_remembers,
};

const QUIET: Duration = Duration::from_millis(150);

fn random_level(rng: &mut StdRng) -> Level {
    Level::ALL[rng.random_range(0..3)]
}

/// The rest comes, and the client has had everything.
async fn heard_all_once(rig: &mut Rig, mut client: Client, seed: u64) {
    rig.finish().await;
    while client.read(1_000, QUIET).await {}
    let expected = expected(&rig.canonical().await, client.level, Slot(0));
    assert!(!expected.is_empty());
    assert_same(client.got, &expected, client.level, seed);
}

/// A client that comes back with its cursor, while routers die and brokers go: no gap, no repetition, at any level.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_resumes_exactly() {
    for seed in 0..12 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log(rng).await;
        // Half of the time nothing fits into memory: then live tellings are read from the log.
        let recent = if rng.random_bool(0.5) { 0 } else { 1 << 30 };
        let mut rig = Rig::new(log, recent).await;
        let mut client = Client::new(random_level(rng));
        client
            .connect(&rig, Start::Cursor(Bytes::new()), 4_000)
            .await;
        // An empty cursor means "from now": the first must be there before anything is.
        while !rig.is_done() {
            rig.step(rng).await;
            client
                .read(rng.random_range(0..30), Duration::from_millis(2))
                .await;
            let cursor = Start::Cursor(client.cursor.clone());
            // Without a cursor there is nothing to resume from.
            let resumable = !client.cursor.is_empty();
            match rng.random_range(0..60) {
                0 | 1 if resumable => {
                    client.disconnect(&rig).await;
                    client.connect(&rig, cursor, 4_000).await;
                }
                2 if resumable => {
                    rig.restart(recent).await;
                    client.connect(&rig, cursor, 4_000).await;
                }
                3 => rig.next_life().await,
                _ => {}
            }
        }
        heard_all_once(&mut rig, client, seed).await;
    }
}

/// The engine has two queues: which of them it looks into first must not decide who hears a telling.
#[tokio::test]
async fn who_asks_before_a_telling_hears_it() {
    for seed in 0..16 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log(rng).await;
        let mut rig = Rig::new(log, 1 << 30).await;
        let mut client = Client::new(random_level(rng));
        // Until it has begun: from then on, nothing but this test runs until it waits.
        client.connect(&rig, Start::Now, 1 << 20).await;
        client.disconnect(&rig).await;
        tokio::task::yield_now().await;
        rig.absorb_all().await;
        client.ask(&rig, Start::Cursor(Bytes::new()), 1 << 30).await;
        rig.commit().await;
        heard_all_once(&mut rig, client, seed).await;
    }
}

/// What other routers told while this one had no log is more than it remembers: its subscribers must learn that.
#[tokio::test]
async fn who_cannot_be_told_everything_is_told_so() {
    let rng = &mut StdRng::seed_from_u64(3);
    let log = filled_log(rng).await;
    let mut rig = Rig::new(log, 1 << 30).await;
    // Another process.
    let (news, commands) = start_engine_that_remembers(&rig.log, 1 << 30, 4);
    rig.commands = commands;
    let nothing = News::Restored(Earlier::default());
    news.send(nothing).await.expect("an engine");
    let mut client = Client::new(Level::Confirmed);
    client
        .connect(&rig, Start::Cursor(Bytes::new()), 1 << 30)
        .await;
    rig.absorb_all().await;
    rig.publication.commit().await.expect("committed");
    // Kept to the end, or the engine would end first.
    let _life = begin_life(&rig.log, &news).await;
    let inbox = client.inbox.as_mut().expect("connected");
    let next = tokio::time::timeout(Duration::from_secs(10), inbox.next()).await;
    assert!(matches!(next, Ok(None)), "{next:?}");
    let ending = inbox.ending();
    let told = matches!(
        &ending,
        Ending::SlotUnavailable {
            first_available: Some(_)
        }
    );
    assert!(told, "{ending:?}");
}

/// A subscriber at processed that reads too slowly again and again: what it got early is not repeated, nothing is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_misses_nothing_and_gets_nothing_twice() {
    for seed in 100..112 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log(rng).await;
        let mut rig = Rig::new(log, 1 << 30).await;
        let mut client = Client::new(Level::Processed);
        client.connect(&rig, Start::Now, 3_000).await;
        while !rig.is_done() {
            rig.step(rng).await;
            if rng.random_bool(0.3) {
                client
                    .read(rng.random_range(0..60), Duration::from_millis(2))
                    .await;
            }
        }
        rig.finish().await;
        while client.read(1_000, QUIET).await {}
        let expected = expected(&rig.canonical().await, Level::Processed, Slot(0));
        let published: BTreeSet<u64> = expected
            .iter()
            .filter_map(|seen| match seen {
                Seen::Status(slot) => Some(*slot),
                _ => None,
            })
            .collect();
        // Of blocks that never became whole it may have got something, too.
        client.got.retain(|seen| match seen {
            Seen::Account(slot, ..)
            | Seen::Transaction(slot, ..)
            | Seen::Entry(slot, ..)
            | Seen::Block(slot, _)
            | Seen::BlockMeta(slot, _)
            | Seen::Status(slot) => published.contains(slot),
        });
        assert_same(client.got, &expected, client.level, seed);
    }
}

/// Old slots come from the log, at every level, and then the live ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_slots_come_from_the_log() {
    for seed in 200..212 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log(rng).await;
        let mut rig = Rig::new(log, 1 << 30).await;
        for _ in 0..rng.random_range(20..60) {
            rig.step(rng).await;
        }
        rig.commit().await;
        if rng.random_bool(0.5) {
            rig.restart(1 << 30).await;
        }
        let canonical = rig.canonical().await;
        let slots: Vec<Slot> = canonical.blocks.keys().map(|(slot, _)| *slot).collect();
        let Some(from) = slots.get(rng.random_range(0..slots.len().max(1))) else {
            continue;
        };
        let mut client = Client::new(random_level(rng));
        client.connect(&rig, Start::Slot(*from), 100_000).await;
        while !rig.is_done() {
            rig.step(rng).await;
            client.read(50, Duration::from_millis(1)).await;
        }
        rig.finish().await;
        while client.read(1_000, QUIET).await {}
        let canonical = rig.canonical().await;
        // What becomes whole later may lie below.
        client.got.retain(|seen| match seen {
            Seen::Account(slot, ..)
            | Seen::Transaction(slot, ..)
            | Seen::Entry(slot, ..)
            | Seen::Block(slot, _)
            | Seen::BlockMeta(slot, _)
            | Seen::Status(slot) => *slot >= from.0,
        });
        let expected = expected(&canonical, client.level, *from);
        assert_same(client.got, &expected, client.level, seed);
    }
}

/// Whoever listens hears of every gap once, with its extent, in its place: a cursor from before it repeats it, one from behind
/// it does not, also on a router that was not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_told_once_in_its_place() {
    let mut told = 0;
    for seed in 400..408 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log_without(rng, |block| block.id.slot.0 % 7 == 3).await;
        let mut rig = Rig::new(log, 1 << 30).await;
        let mut resuming = Client::new(random_level(rng));
        let from_now = Start::Cursor(Bytes::new());
        resuming.connect(&rig, from_now, 4_000).await;
        let mut live = Client::new(random_level(rng));
        live.id = 1_000;
        live.connect(&rig, Start::Now, 1 << 20).await;
        let mut killed = false;
        let mut log_ms = 0;
        while !rig.is_done() {
            rig.step(rng).await;
            if rng.random_bool(0.2) {
                log_ms += 500;
                rig.tick(log_ms).await;
            }
            resuming
                .read(rng.random_range(0..30), Duration::from_millis(2))
                .await;
            let resumable = !resuming.cursor.is_empty();
            let cursor = Start::Cursor(resuming.cursor.clone());
            match rng.random_range(0..60) {
                0 | 1 if resumable => {
                    resuming.disconnect(&rig).await;
                    resuming.connect(&rig, cursor, 4_000).await;
                }
                2 if resumable => {
                    rig.restart(1 << 30).await;
                    resuming.connect(&rig, cursor, 4_000).await;
                    killed = true;
                }
                3 => rig.next_life().await,
                _ => {}
            }
        }
        // A hole is told when it has been known for a while.
        rig.tick(log_ms).await;
        rig.finish().await;
        while resuming.read(1_000, QUIET).await {}
        let canonical = rig.canonical().await;
        let extents = |gaps: &[Gap]| {
            let extent = |gap: &Gap| (gap.first_slot, gap.last_slot, gap.records, gap.reason);
            let mut extents: Vec<_> = gaps.iter().map(extent).collect();
            extents.sort_unstable();
            extents
        };
        let gaps = extents(&canonical.gaps);
        told += gaps.len();
        assert_eq!(extents(&resuming.gaps), gaps, "seed {seed}");
        let expected = expected(&canonical, resuming.level, Slot(0));
        assert_same(resuming.got, &expected, resuming.level, seed);
        if !killed {
            while live.read(1_000, QUIET).await {}
            assert_eq!(extents(&live.gaps), gaps, "seed {seed}");
        }
        // Later ones hear of those that concern what they ask for.
        rig.restart(1 << 30).await;
        let from = *canonical.blocks.keys().map(|(slot, _)| slot).min().unwrap();
        let mut late = Client::new(random_level(rng));
        late.connect(&rig, Start::Slot(from), 100_000).await;
        while late.read(1_000, QUIET).await {}
        let mut concerned = canonical.gaps.clone();
        concerned.retain(|gap| gap.last_slot >= from.0);
        assert_eq!(extents(&late.gaps), extents(&concerned), "seed {seed}");
    }
    assert!(told > 8, "{told} gaps");
}

/// What is not in the log is refused with what there is.
#[tokio::test]
async fn a_slot_that_is_too_old_is_refused() {
    let rng = &mut StdRng::seed_from_u64(300);
    let log = filled_log(rng).await;
    let mut rig = Rig::new(log, 1 << 30).await;
    while !rig.is_done() {
        rig.step(rng).await;
    }
    rig.finish().await;
    let first = rig.canonical().await.blocks.keys().next().unwrap().0;
    let mut client = Client::new(Level::Processed);
    client.connect(&rig, Start::Slot(Slot(1)), 1_000).await;
    let inbox = client.inbox.as_mut().unwrap();
    let next = tokio::time::timeout(Duration::from_secs(10), inbox.next()).await;
    assert!(matches!(next, Ok(None)), "{next:?}");
    assert_eq!(
        inbox.ending(),
        stream_router::yellowstone::outbox::Ending::SlotUnavailable {
            first_available: Some(first.0)
        }
    );
    client
        .connect(&rig, Start::Cursor(Bytes::from_static(b"?")), 1_000)
        .await;
    let inbox = client.inbox.as_mut().unwrap();
    let next = tokio::time::timeout(Duration::from_secs(10), inbox.next()).await;
    assert!(matches!(next, Ok(None)), "{next:?}");
    assert!(matches!(
        inbox.ending(),
        stream_router::yellowstone::outbox::Ending::CursorUnusable(_)
    ));
}
