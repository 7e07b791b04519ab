//! What validators would write into the observed topics of a chain that is known in full, and what readers of the canonical
//! topic must therefore see.
//!
//! ```text
//! chain (forks, seeds) ─▶ moments of each validator ─▶ source (sequences, chunks, seals) ─▶ observed topics
//!                                 contents ─┘  └▶ truth ─▶ audit ◀─ canonical topic ◀─ the real router
//! ```
//!
//! Transactions are recorded ones; accounts are those of the bench `plugin`, as many per transaction and of the same sizes;
//! entries and metadata follow from the block. A source numbers, cuts and seals as the plugin does.
//!
//! Reading order: [`chain`], [`contents`], [`prints`], [`source`] (what is written); [`truth`], [`audit`] (what must come out);
//! [`log`], [`services`].

pub mod audit;
pub mod chain;
pub mod contents;
pub mod log;
pub mod prints;
pub mod services;
pub mod source;
pub mod truth;
