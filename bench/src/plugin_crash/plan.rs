//! Pure: what is killed when. The same seed makes the same plan; what the processes are doing at that moment is theirs.

use rand::{Rng, SeedableRng, rngs::StdRng};

/// What happens between one start of the host and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// The host is killed while Kafka is well.
    Live { after_ms: u64 },
    /// The host is killed while, or shortly after, it loads the plugin.
    Loading { after_ms: u64 },
    /// The broker stands still; once the plugin spills, the host is killed.
    Spilling { after_ms: u64, return_late: bool },
    /// The broker stood still and goes on; the host is killed while the spill is drained.
    Draining { spilled_ms: u64, after_ms: u64 },
    /// The broker is killed; the host lives on, spills and drains.
    Broker { after_ms: u64, away_ms: u64 },
    /// The broker is killed, then the host.
    Both { after_ms: u64, away_ms: u64 },
}

impl Scene {
    /// Processes that are killed.
    pub fn kills(self) -> usize {
        match self {
            Self::Both { .. } => 2,
            _ => 1,
        }
    }

    pub fn kills_host(self) -> bool {
        !matches!(self, Self::Broker { .. })
    }
}

/// One scene, and how the host before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    pub scene: Scene,
    /// Queue and spill are so small that callbacks lose records.
    pub tiny: bool,
    /// The host executes again what was not rooted, as a validator that starts from its snapshot; else it goes on behind
    /// the slot in which the one before died, which nobody completes.
    pub again: bool,
}

/// Acts with `kills` kills.
pub fn acts(seed: u64, kills: usize) -> Vec<Act> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut acts: Vec<Act> = Vec::new();
    let mut left = kills;
    while left > 0 {
        let mut scene = scene(&mut random, acts.len());
        if scene.kills() > left {
            scene = Scene::Live { after_ms: 100 };
        }
        left -= scene.kills();
        let stalls = matches!(scene, Scene::Spilling { .. } | Scene::Both { .. });
        let lost_before = acts.last().is_some_and(|act: &Act| act.tiny);
        // What a killed host had lost is told by the next one's metrics, so that one must live to tell it.
        if lost_before && matches!(scene, Scene::Loading { .. }) {
            scene = Scene::Live { after_ms: 150 };
        }
        acts.push(Act {
            scene,
            tiny: stalls && random.random_bool(0.4),
            again: random.random_bool(0.5),
        });
    }
    acts
}

/// The first acts show every scene once, however few there are.
fn scene(random: &mut StdRng, nth: usize) -> Scene {
    let lot = match nth {
        0 => 0,
        1 => 50,
        2 => 70,
        3 => 96,
        4 => 40,
        _ => random.random_range(0..100),
    };
    match lot {
        0..34 => Scene::Live {
            after_ms: random.random_range(20..700),
        },
        34..48 => Scene::Loading {
            after_ms: random.random_range(0..350),
        },
        48..68 => Scene::Spilling {
            after_ms: random.random_range(0..500),
            return_late: random.random_bool(0.2),
        },
        68..90 => Scene::Draining {
            spilled_ms: random.random_range(100..1_200),
            after_ms: random.random_range(0..60),
        },
        90..95 => Scene::Broker {
            after_ms: random.random_range(50..500),
            away_ms: random.random_range(0..800),
        },
        _ => Scene::Both {
            after_ms: random.random_range(50..500),
            away_ms: random.random_range(0..800),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_its_kills_and_is_the_seeds() {
        for kills in [1, 8, 200] {
            let plan = acts(11, kills);
            assert_eq!(
                plan.iter().map(|act| act.scene.kills()).sum::<usize>(),
                kills
            );
            assert_eq!(plan, acts(11, kills));
        }
        assert_ne!(acts(11, 200), acts(12, 200));
    }

    #[test]
    fn nobody_dies_who_must_tell_of_losses() {
        for act in acts(5, 2_000).windows(2) {
            assert!(!act[0].tiny || !matches!(act[1].scene, Scene::Loading { .. }));
        }
    }
}
