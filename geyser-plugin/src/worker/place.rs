//! Placing a numbered record: into Kafka, else into the spill, else waiting for either.

use super::*;

impl<O: Outlet> Worker<O> {
    /// Into Kafka, else into the spill, else waits for either. A value that is too large for one record goes in chunks.
    /// Returns true when Kafka has nothing to say of it any more: it is on disk, or given up.
    pub(super) fn place(&mut self, record: &Numbered<'_>) -> bool {
        if record.value.len() <= CHUNK_BYTES_MAX {
            return self.place_one(record);
        }
        let mut buffer = std::mem::take(&mut self.chunk);
        let mut live = Vec::new();
        let mut any_settled = false;
        for chunk in chunks_of(record.kind, record.value).into_iter().flatten() {
            // The client gave the first chunks back while this one waited: then all of them are on disk.
            if still_placed(&Arc::clone(&self.around.handoff), record.live()).is_none() {
                any_settled = true;
                live.clear();
                break;
            }
            buffer.clear();
            chunk.write(&mut buffer);
            let settled = self.place_one(&Numbered {
                kind: Kind::Chunk,
                sequence: record.sequence + u64::from(chunk.index()),
                value: &buffer,
                last: chunk.index() + 1 == chunk.count(),
                ..*record
            });
            any_settled |= settled;
            if !settled {
                live.push(chunk.index());
            }
        }
        self.chunk = buffer;
        any_settled && self.keep_chunks(record, &live)
    }

    /// Some chunks of a value are with Kafka's client, the others on disk. The client's go there as well: one value is in one
    /// place, and a chunk that is there twice is taken once.
    pub(super) fn keep_chunks(&mut self, record: &Numbered<'_>, live: &[u32]) -> bool {
        if live.is_empty() {
            return true;
        }
        let Some(spill) = &mut self.spill else {
            return false;
        };
        let first = record.sequence;
        let placed = Placed {
            output: record.output,
            lane: record.lane,
            kind: record.kind,
            slot: record.slot,
            sequence: first,
            key: record.key,
            value: record.value,
        };
        let outputs = self.around.handoff.outputs();
        placing::frames(
            &placed,
            outputs,
            self.around.source,
            &mut self.chunk,
            |frame| {
                let sequence = ObservedHeader::decode(frame.header).map(|header| header.sequence.0);
                match sequence {
                    Ok(sequence) if live.contains(&((sequence - first) as u32)) => {
                        spill.append_beyond(frame)
                    }
                    _ => Ok(()),
                }
            },
        )
        .is_ok()
    }

    pub(super) fn place_one(&mut self, record: &Numbered<'_>) -> bool {
        let (topic, partition) = self.around.handoff.outputs()[record.output].place(record.lane);
        let header = ObservedHeader {
            kind: record.kind,
            slot: Slot(record.slot),
            source: self.around.source,
            sequence: Sequence(record.sequence),
        }
        .encode();
        let mut since = None;
        let mut refusals = 0;
        loop {
            let spilling = self.spill.as_ref().is_some_and(|spill| !spill.is_empty());
            // Kafka has not acknowledged all that came from the disk: what it were given now would be younger than that, and when
            // it is taken back, or the validator killed, it goes before what is on disk. So it waits for the acknowledgement.
            let draining = !spilling && !self.finished.is_empty();
            if !spilling && !draining && !self.leaving && !self.is_crowded() {
                match self.send(topic, partition, &header, record) {
                    Ok(()) => return false,
                    Err(SendError::QueueFull) => {}
                    Err(SendError::Fatal(reason)) => {
                        refusals += 1;
                        if refusals >= REFUSALS_MAX {
                            self.give_up(record, &reason);
                            return true;
                        }
                    }
                }
            }
            let since: &mut Instant = since.get_or_insert_with(Instant::now);
            let patient = !spilling
                && !self.leaving
                && self.deadline.is_none()
                && (draining || since.elapsed() < PATIENCE)
                && !self.around.handoff.is_pressed();
            if !patient {
                self.take_back();
                // With its first chunks, all of the value went to disk.
                if record.kind == Kind::Chunk
                    && still_placed(&Arc::clone(&self.around.handoff), record.live()).is_none()
                {
                    return true;
                }
                if self.spill_record(topic, partition, &header, record) {
                    return true;
                }
            }
            if self.leaving {
                if record.kind != Kind::Seal && record.last {
                    self.around
                        .counters
                        .lost_one(LossReason::Unload, record.kind);
                }
                return true;
            }
            if self.around.stop.load(Ordering::Acquire) {
                let within = self.around.stop_within;
                let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + within);
                self.leaving = Instant::now() >= deadline;
            }
            self.note_losses();
            if self.drain(BATCH) == 0 {
                thread::sleep(WAITING_NAP);
            }
            self.retire();
            self.show();
        }
    }

    /// The ring fills though records are handed on: what Kafka does not acknowledge in time makes room on disk instead.
    pub(super) fn is_crowded(&self) -> bool {
        self.spill.is_some() && self.around.handoff.is_crowded()
    }

    /// While Kafka is away, what its client holds would keep everything behind it in the ring. So the client gives it back,
    /// and it goes to disk before what comes after it.
    pub(super) fn take_back(&mut self) {
        let now = Instant::now();
        let first = self.around.handoff.records.get(self.records.released);
        let is_in_the_way = self.records.released != self.records.next
            && first.is_some_and(|first| first.is_expecting());
        let stuck = self.outlet.in_flight() > 0
            && (is_in_the_way
                && self.moved.elapsed() >= STUCK
                && self.silence.had_its_time(now, STUCK)
                || self.silence.is_over(now, SILENT));
        if !stuck || self.leaving || self.spill.is_none() {
            return;
        }
        self.moved = now;
        self.close_client();
        self.replace_failed();
        self.retire();
    }

    /// It gives back what it holds, and the next record goes to a new one.
    pub(super) fn close_client(&mut self) {
        self.outlet.close();
        self.silence.client_closed(Instant::now());
    }

    pub(super) fn send(
        &mut self,
        topic: ObservedTopic,
        partition: u32,
        header: &[u8],
        record: &Numbered<'_>,
    ) -> Result<(), SendError> {
        if !self.outlet.is_ready() {
            return Err(SendError::QueueFull);
        }
        let ring = self.around.handoff.ring(record.ring);
        // Before it is sent: the report may come first.
        let Some(held) = ring.get(record.number) else {
            return Err(SendError::Fatal("it is not in the ring any more".into()));
        };
        held.expect();
        let tag = Tag::Live(record.live());
        let sent = self.outlet.try_send(
            record.output,
            topic,
            partition,
            record.key,
            header,
            record.value,
            tag,
        );
        if sent.is_err() {
            ring.settle(record.number);
        }
        sent
    }

    pub(super) fn spill_record(
        &mut self,
        topic: ObservedTopic,
        partition: u32,
        header: &[u8; ObservedHeader::LENGTH],
        record: &Numbered<'_>,
    ) -> bool {
        let Some(spill) = &mut self.spill else {
            return false;
        };
        let counters = &self.around.counters;
        let frame = Frame {
            // Below 8.
            output: record.output as u8,
            topic,
            partition,
            header,
            key: record.key,
            value: record.value,
        };
        match spill.append(frame) {
            Ok(()) => {
                if record.kind == Kind::Seal {
                    counters.spilled_seals.add(1);
                } else if record.last {
                    counters.spilled.add(1);
                }
                true
            }
            Err(error) => {
                if matches!(error, SpillError::Io(..)) {
                    counters.spill_errors.add(1);
                }
                // Once a minute: this happens for every record while it lasts.
                if self
                    .spill_complained
                    .is_none_or(|at| at.elapsed() > Duration::from_secs(60))
                {
                    self.spill_complained = Some(Instant::now());
                    log::error!(target: crate::LOG_TARGET,
                        "heliograph: {error}; Kafka is away as well, so records will be lost and counted"
                    );
                }
                false
            }
        }
    }

    pub(super) fn give_up(&mut self, record: &Numbered<'_>, reason: &str) {
        complain(record.kind, record.slot, reason);
        self.around.counters.kafka_errors.add(1);
        if record.last {
            self.lost_after_numbering(record.kind, record.slot, record.lane);
        }
    }
}
