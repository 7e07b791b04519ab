//! The worker's own promises, with an outlet that is away, slow, forgetful or refusing on command. Real Kafka: `tests/`.

mod bed;
mod beside_blocks;
mod large_values;
mod lives;
mod outage;
mod refusals;
