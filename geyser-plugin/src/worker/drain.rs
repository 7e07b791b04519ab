//! What waits on disk, back to Kafka; and giving back what nobody needs any more.

use super::*;

impl<O: Outlet> Worker<O> {
    /// Hands spilled records to Kafka, oldest first; returns how many.
    pub(super) fn drain(&mut self, most: usize) -> usize {
        let mut drained = 0;
        let mut finished = Vec::new();
        if !self.outlet.is_ready() {
            return 0;
        }
        while drained < most {
            if self.silence.is_untried() && self.outlet.in_flight() >= TRIALS {
                break;
            }
            let Some(spill) = &mut self.spill else { break };
            let frame = spill.peek(&mut finished);
            for segment in finished.drain(..) {
                self.finished.push_back(Read {
                    segment,
                    start: self.segment_start,
                    end: self.drain_next,
                });
                self.segment_start = self.drain_next;
            }
            let Some(frame) = frame else { break };
            let number = self.drain_next;
            if !self.around.deliveries.drains().is_settled(number) {
                let record = read_frame(&frame, &self.around);
                // Known before it can be acknowledged.
                self.around
                    .deliveries
                    .drains()
                    .give(number, record.unwrap_or(UNREADABLE));
                let sent = match record {
                    Some(_) => self.outlet.try_send(
                        frame.output.into(),
                        frame.topic,
                        frame.partition,
                        frame.key,
                        frame.header,
                        frame.value,
                        Tag::Drained(number),
                    ),
                    None => Err(SendError::Fatal(format!(
                        "its partition {} of topic {:?} is not configured, or its header cannot be read",
                        frame.partition, frame.topic
                    ))),
                };
                match sent {
                    Ok(()) => {}
                    Err(SendError::QueueFull) => break,
                    Err(SendError::Fatal(reason)) => {
                        let settled = self.around.deliveries.drains().settle(number);
                        let drained = settled.unwrap_or(UNREADABLE);
                        complain(drained.kind, drained.slot, &reason);
                        self.around.counters.kafka_errors.add(1);
                        self.lost_from_the_spill(drained);
                    }
                }
            }
            if let Some(spill) = &mut self.spill {
                spill.advance();
            }
            self.drain_next += 1;
            drained += 1;
        }
        drained
    }

    /// Gives back what nobody needs any more: room in the rings, and segments of which Kafka has reported every record.
    pub(super) fn retire(&mut self) {
        self.silence.look(
            self.around.deliveries.acknowledged(),
            self.outlet.in_flight(),
            Instant::now(),
        );
        let handoff = &self.around.handoff;
        let released = handoff
            .records
            .release(self.records.released, self.records.next);
        if released != self.records.released || released == self.records.next {
            self.moved = Instant::now();
        }
        self.records.released = released;
        self.seals.released = handoff.seals.release(self.seals.released, self.seals.next);
        let Some(spill) = &mut self.spill else { return };
        let settled = self.around.deliveries.drains().settled_below();
        while self
            .finished
            .front()
            .is_some_and(|read| read.end <= settled)
        {
            if let Some(read) = self.finished.pop_front() {
                spill.delete(&read.segment);
            }
        }
    }
}

/// Stands for a frame that names no record; counted with those of earlier instances.
pub(super) const UNREADABLE: Drained = Drained {
    lane: None,
    kind: Kind::Gap,
    slot: 0,
    last: true,
};

/// Whose record a spilled frame is: this instance's, with its lane, or an earlier one's.
pub(super) fn read_frame(frame: &Frame<'_>, around: &Surroundings) -> Option<Drained> {
    let header = ObservedHeader::decode(frame.header).ok()?;
    let lanes = around.handoff.outputs().get(usize::from(frame.output))?;
    let lane = lanes.at(frame.topic, frame.partition)?;
    let own = header.source == around.source;
    let (kind, last) = match header.kind {
        Kind::Chunk => {
            let piece = Piece::read(&Bytes::copy_from_slice(frame.value)).ok()?;
            (piece.kind, piece.index + 1 == piece.count)
        }
        kind => (kind, true),
    };
    Some(Drained {
        kind,
        lane: own.then_some(lane),
        slot: header.slot.0,
        last,
    })
}
