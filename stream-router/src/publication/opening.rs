//! A life begins: the state that earlier ones left, and where to read on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use event_log::{EventLog, ReaderSpec, Start, TransactionalWriter};
use event_schema::{Gap, GapReason, ObservedTopic};
use tracing::warn;

use super::{Publication, Settings, batch::Pending};
use crate::{
    account_state::AccountStates,
    canonical::CanonicalWriter,
    observation::Lane,
    router::{Effect, Router},
    state::StateReader,
};

impl Publication {
    /// Takes over: fences an older router of the same id and continues from its state.
    pub async fn open(log: &dyn EventLog, settings: Settings) -> anyhow::Result<Self> {
        settings.make_topics(log).await?;
        let writer = log.transactional_writer(&settings.transactional_id).await?;
        Self::open_with(log, settings, writer).await
    }

    /// Continues from the state that the writer's making has closed: no older router can add to it.
    pub async fn open_with(
        log: &dyn EventLog,
        settings: Settings,
        writer: Box<dyn TransactionalWriter>,
    ) -> anyhow::Result<Self> {
        let mut router = Router::new(settings.limits);
        let state = read_state(log, &settings.topics.router_state).await?;
        let restored = state.restore(settings.topics.router_state.clone(), &mut router)?;
        let canonical =
            CanonicalWriter::new(settings.topics.clone(), settings.partitions.canonical);
        let histories = restored
            .earlier
            .blocks
            .iter()
            .map(|restored| (restored.block, restored.history));
        let accounts = if settings.accounts_topic.enabled {
            let mut watermarks = Vec::new();
            for partition in 0..settings.partitions.canonical {
                let topic = &settings.topics.canonical;
                watermarks.push(log.watermarks(topic, partition).await?);
            }
            Some(AccountStates::new(
                &settings,
                &watermarks,
                restored.accounts,
                &restored.earlier.blocks,
            ))
        } else {
            None
        };
        let mut publication = Self {
            settings,
            router,
            accounts,
            canonical,
            state: restored.writer,
            writer: Some(writer),
            next: BTreeMap::new(),
            committed: restored.positions.clone(),
            pending: Pending::default(),
            histories: histories.collect(),
            restored: restored.earlier,
            found: Vec::new(),
            unsent: None,
            dead_letters: 0,
        };
        publication.find_starts(log, &restored.positions).await?;
        Ok(publication)
    }

    /// Where to read, and a gap for what the log no longer holds.
    async fn find_starts(
        &mut self,
        log: &dyn EventLog,
        stored: &BTreeMap<Lane, i64>,
    ) -> anyhow::Result<()> {
        for topic in ObservedTopic::ALL {
            for partition in 0..self.settings.partitions_of(topic) {
                let lane = Lane { topic, partition };
                let name = self.settings.topics.observed(topic).clone();
                let (low, _) = log.watermarks(&name, partition).await?;
                let wanted = stored.get(&lane).copied();
                if let Some(wanted) = wanted.filter(|wanted| *wanted < low) {
                    let detail = format!(
                        "{name}/{partition}: offsets {wanted} to {} were removed by retention before they were read",
                        low - 1
                    );
                    warn!(%detail, "raise the observed topics' retention");
                    let gap = Gap {
                        records: (low - wanted) as u64,
                        reason: GapReason::MissingRecords as i32,
                        detail,
                        ..Gap::default()
                    };
                    let effect = Effect::Gap(gap.clone());
                    self.tell_gap(&effect, &gap);
                    self.found.push(effect);
                }
                self.next
                    .insert(lane, wanted.map_or(low, |wanted| wanted.max(low)));
            }
        }
        Ok(())
    }
}

async fn read_state(log: &dyn EventLog, topic: &Arc<str>) -> anyhow::Result<StateReader> {
    let mut reader = log
        .reader(ReaderSpec {
            partitions: vec![(topic.clone(), 0, Start::Earliest)],
            read_committed: true,
        })
        .await
        .context("reading the router's state")?;
    let mut state = StateReader::default();
    loop {
        let records = reader.poll(10_000, Duration::from_millis(100)).await?;
        let at_end = records.is_empty();
        for record in records {
            state.push(record);
        }
        if at_end && reader.lag().await? == 0 {
            return Ok(state);
        }
    }
}
