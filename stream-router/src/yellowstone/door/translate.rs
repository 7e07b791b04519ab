//! `SubscribeDeshred` and `SubscribeGossip` in terms of `Subscribe`: what is asked for, and what is sent. Pure.

use event_schema::proto::{
    Message,
    geyser::{
        SubscribeDeshredRequest, SubscribeRequest, SubscribeRequestFilterTransactions,
        SubscribeUpdate, SubscribeUpdateDeshred, SubscribeUpdateGossip,
        subscribe_update::UpdateOneof, subscribe_update_deshred, subscribe_update_gossip,
    },
};
use tonic::Status;

use super::codec::Call;
use crate::yellowstone::outbox::Frame;

/// The same filters, as those of executed transactions.
pub fn call(request: SubscribeDeshredRequest) -> Call {
    let transactions = request.deshred_transactions.into_iter();
    let transactions = transactions.map(|(name, filter)| {
        let filter = SubscribeRequestFilterTransactions {
            vote: filter.vote,
            account_include: filter.account_include,
            account_exclude: filter.account_exclude,
            account_required: filter.account_required,
            ..SubscribeRequestFilterTransactions::default()
        };
        (name, filter)
    });
    Call {
        request: SubscribeRequest {
            transactions: transactions.collect(),
            slots: request.slots,
            ping: request.ping,
            ..SubscribeRequest::default()
        },
        ..Call::default()
    }
}

pub fn deshred(frame: Result<Frame, Status>) -> Result<SubscribeUpdateDeshred, Status> {
    use subscribe_update_deshred::UpdateOneof::{Ping, Pong};
    let frame = frame?;
    let Some(said) = by_the_door(&frame) else {
        return read(frame);
    };
    Ok(SubscribeUpdateDeshred {
        created_at: said.created_at,
        update_oneof: match said.update_oneof {
            Some(UpdateOneof::Pong(pong)) => Some(Pong(pong)),
            _ => Some(Ping(Default::default())),
        },
        ..SubscribeUpdateDeshred::default()
    })
}

pub fn gossip(frame: Result<Frame, Status>) -> Result<SubscribeUpdateGossip, Status> {
    let frame = frame?;
    let Some(said) = by_the_door(&frame) else {
        return read(frame);
    };
    Ok(SubscribeUpdateGossip {
        created_at: said.created_at,
        update_oneof: Some(subscribe_update_gossip::UpdateOneof::Ping(
            Default::default(),
        )),
        ..SubscribeUpdateGossip::default()
    })
}

/// Pings and pongs are the door's, and messages of `Subscribe`; they have no tail.
fn by_the_door(frame: &Frame) -> Option<SubscribeUpdate> {
    if !frame.tail.is_empty() {
        return None;
    }
    SubscribeUpdate::decode(frame.body.clone()).ok()
}

fn read<T: Message + Default>(frame: Frame) -> Result<T, Status> {
    let bytes = [frame.head, frame.body, frame.tail].concat();
    // It was read before it came here.
    T::decode(bytes.as_slice()).map_err(|error| Status::internal(error.to_string()))
}
