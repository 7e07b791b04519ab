//! Pure: from claims and beats to "claim now" or "wait". Time is what the caller says.

use std::time::{Duration, Instant};

use super::{Claim, Identity, Notice};

/// A publisher that has held its lease for so many lease times is steady.
const STEADY_LEASES: u32 = 10;
/// After so many lives that failed soon, another router may try.
const FAILURES: u32 = 3;
/// The longest patience, as a power of two.
const DOUBLINGS_MAX: u32 = 4;

/// See the module.
#[derive(Debug)]
pub struct Watch {
    me: Identity,
    lease: Duration,
    newest: Option<Claim>,
    /// When the newest claim was first seen, and when its holder was last heard of.
    seen: Option<(Instant, Instant)>,
    /// How often this router took over and lost it again soon. Each time it waits twice as long before it does it again:
    /// two routers that are both too slow for the lease must not take turns for ever.
    lost_early: u32,
    /// Lives of this router in a row that failed soon, for reasons that another router may not have.
    failed_early: u32,
}

impl Watch {
    pub fn new(me: Identity, lease: Duration) -> Self {
        Self {
            me,
            lease,
            newest: None,
            seen: None,
            lost_early: 0,
            failed_early: 0,
        }
    }

    pub fn me(&self) -> &Identity {
        &self.me
    }

    /// The newest claim, whoever's.
    pub fn leader(&self) -> Option<&Claim> {
        self.newest.as_ref()
    }

    /// A record of the leadership topic, in order, read at `now`.
    pub fn push(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Claim(claim) => {
                let known = self.newest.as_ref();
                // A release repeats the turn of its claim.
                if known.is_none_or(|known| claim.turn >= known.turn) {
                    self.newest = Some(claim);
                    self.seen = Some((now, now));
                }
            }
            Notice::Beat(beat) => {
                let holder = self
                    .newest
                    .as_ref()
                    .map(|claim| (claim.turn, claim.by.life));
                if holder == Some((beat.turn, beat.life))
                    && let Some((since, heard)) = &mut self.seen
                {
                    *heard = now;
                    if now.duration_since(*since) >= self.lease * STEADY_LEASES {
                        self.lost_early = 0;
                    }
                }
            }
        }
    }

    /// Watching begins, or begins anew because the log did not answer: silence counts from here.
    pub fn begin(&mut self, now: Instant) {
        if let Some((_, heard)) = &mut self.seen {
            *heard = now;
        }
    }

    /// This router's claim was superseded after it had published for so long.
    pub fn lost_after(&mut self, held: Duration) {
        self.failed_early = 0;
        if held < self.lease * STEADY_LEASES {
            self.lost_early = (self.lost_early + 1).min(DOUBLINGS_MAX);
        }
    }

    /// This router stopped publishing, by an error, after so long.
    pub fn failed_after(&mut self, held: Duration) {
        let early = held < self.lease * STEADY_LEASES;
        self.failed_early = if early { self.failed_early + 1 } else { 0 };
    }

    /// How long to wait still; zero: claim. Call when the topic was read to its end.
    pub fn wait(&self, now: Instant) -> Duration {
        let (Some(claim), Some((_, heard))) = (&self.newest, self.seen) else {
            return Duration::ZERO;
        };
        if claim.released || self.is_mine(claim) {
            return Duration::ZERO;
        }
        self.patience()
            .saturating_sub(now.saturating_duration_since(heard))
    }

    /// Since the holder was last heard of.
    pub fn silence(&self, now: Instant) -> Duration {
        self.seen.map_or(Duration::MAX, |(_, heard)| {
            now.saturating_duration_since(heard)
        })
    }

    /// The claim that would follow.
    pub fn next_claim(&self) -> Claim {
        Claim {
            turn: self.newest.as_ref().map_or(1, |claim| claim.turn + 1),
            by: self.me.clone(),
            released: false,
        }
    }

    /// Of this life, or of an earlier one of this router, which is therefore gone. One that fails again and again lets the
    /// others go first.
    fn is_mine(&self, claim: &Claim) -> bool {
        self.failed_early < FAILURES
            && claim.by.name == self.me.name
            && claim.by.life <= self.me.life
    }

    /// Spread a little by name, so that two standbys seldom claim in the same moment.
    fn patience(&self) -> Duration {
        let spread = event_schema::partition_of(self.me.name.as_bytes(), 256);
        let lease = self.lease * (1 << self.lost_early);
        lease + self.lease * spread / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::Beat;

    const LEASE: Duration = Duration::from_secs(3);

    fn identity(name: &str, life: u64) -> Identity {
        Identity {
            name: name.to_owned(),
            life,
        }
    }

    fn claim(turn: u64, by: Identity, released: bool) -> Notice {
        Notice::Claim(Claim { turn, by, released })
    }

    fn beat(turn: u64, life: u64) -> Notice {
        Notice::Beat(Beat { turn, life })
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_router_need_not_wait_and_a_second_does() {
        let start = Instant::now();
        let mut watch = Watch::new(identity("b", 20), LEASE);
        assert_eq!(watch.wait(start), Duration::ZERO);
        watch.push(claim(1, identity("a", 10), false), start);
        assert!(watch.wait(start) >= LEASE);
        watch.push(beat(1, 10), start + seconds(2));
        assert!(watch.wait(start + seconds(4)) > Duration::ZERO);
        assert_eq!(watch.wait(start + seconds(6)), Duration::ZERO);
        assert_eq!(watch.next_claim().turn, 2);
    }

    #[test]
    fn whoever_ended_in_order_or_was_this_router_is_not_waited_for() {
        let start = Instant::now();
        let mut watch = Watch::new(identity("a", 20), LEASE);
        watch.push(claim(4, identity("a", 10), false), start);
        assert_eq!(watch.wait(start), Duration::ZERO, "an earlier life");
        watch.push(claim(5, identity("b", 30), false), start);
        assert!(watch.wait(start) > Duration::ZERO);
        watch.push(claim(5, identity("b", 30), true), start);
        assert_eq!(watch.wait(start), Duration::ZERO, "released");
        // Two routers by the same name are two routers all the same.
        watch.push(claim(6, identity("a", 30), false), start);
        assert!(watch.wait(start) > Duration::ZERO);
    }

    #[test]
    fn one_that_fails_again_and_again_lets_others_go_first() {
        let start = Instant::now();
        let mut watch = Watch::new(identity("a", 20), LEASE);
        watch.push(claim(1, identity("a", 20), false), start);
        for _ in 0..2 {
            watch.failed_after(seconds(1));
            assert_eq!(watch.wait(start), Duration::ZERO);
        }
        watch.failed_after(seconds(1));
        assert!(watch.wait(start) >= LEASE);
        assert_eq!(watch.wait(start + LEASE * 2), Duration::ZERO, "nobody did");
        watch.failed_after(LEASE * 20);
        assert_eq!(watch.wait(start), Duration::ZERO);
    }

    #[test]
    fn one_that_was_fenced_and_beats_on_is_not_heard() {
        let start = Instant::now();
        let mut watch = Watch::new(identity("c", 5), LEASE);
        watch.push(claim(1, identity("a", 10), false), start);
        watch.push(claim(2, identity("b", 20), false), start);
        for second in 1..=6 {
            watch.push(beat(1, 10), start + seconds(second));
            watch.push(claim(1, identity("a", 10), true), start + seconds(second));
        }
        assert_eq!(watch.leader().unwrap().by.name, "b");
        assert_eq!(watch.wait(start + seconds(6)), Duration::ZERO);
    }

    #[test]
    fn a_log_that_was_away_is_no_silence() {
        let start = Instant::now();
        let mut watch = Watch::new(identity("b", 20), LEASE);
        watch.push(claim(1, identity("a", 10), false), start);
        watch.begin(start + seconds(60));
        assert!(watch.wait(start + seconds(61)) > seconds(1));
    }

    /// Both are too slow for the lease, so each always seems dead to the other.
    #[test]
    fn two_slow_routers_take_turns_ever_more_rarely() {
        let mut now = Instant::now();
        let mut routers = [identity("a", 1), identity("b", 2)].map(|me| Watch::new(me, LEASE));
        let mut changes = Vec::new();
        let mut leader = 0;
        for _ in 0..12 {
            let claim = Notice::Claim(routers[leader].next_claim());
            for watch in &mut routers {
                watch.push(claim.clone(), now);
            }
            let other = 1 - leader;
            let held = routers[other].wait(now);
            now += held;
            changes.push(held);
            routers[leader].lost_after(held);
            leader = other;
        }
        assert!(changes[0] >= LEASE);
        // Their names spread them by up to a quarter of a lease.
        let grows = |turns: &[Duration]| turns[2] + LEASE / 4 >= turns[0];
        assert!(changes.windows(3).all(grows), "{changes:?}");
        assert!(
            changes[8..].iter().all(|held| *held >= LEASE * 8),
            "{changes:?}"
        );
        // One that beats for a while is trusted again.
        let turn = routers[0].leader().unwrap().turn;
        let life = routers[0].leader().unwrap().by.life;
        let waiting = leader;
        routers[waiting].push(beat(turn, life), now + LEASE * 10);
        assert!(routers[waiting].wait(now + LEASE * 10) < LEASE * 2);
    }
}
