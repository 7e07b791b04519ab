//! `voteSubscribe`.

use event_schema::proto::confirmed_block::CompiledInstruction;

use super::*;

/// Votes for one slot, by the old instruction with the plain list.
fn vote(index: u64, voter: u8, slot: u64, failed: bool) -> Content {
    let error = failed.then(|| vec![0; 4]);
    let mut content = transaction(index, true, &[1, voter], error);
    change(&mut content, |info| {
        let message = info.transaction.as_mut().and_then(|it| it.message.as_mut());
        let message = message.expect("a message");
        let program = "Vote111111111111111111111111111111111111111"
            .parse::<Pubkey>()
            .expect("an address");
        message.account_keys.push(program.0.to_vec());
        let mut data = 2u32.to_le_bytes().to_vec();
        data.extend(1u64.to_le_bytes());
        data.extend(slot.to_le_bytes());
        data.extend([6; 32]);
        data.extend([1]);
        data.extend(1_700_000_000i64.to_le_bytes());
        message.instructions.push(CompiledInstruction {
            program_id_index: 2,
            accounts: vec![1],
            data,
        });
    });
    content
}

#[tokio::test]
async fn votes_that_landed_are_told_once() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    hall.ask(&mut client, "voteSubscribe", json!([])).await;
    hall.publish(block(
        10,
        vec![
            vote(0, 7, 9, false),
            vote(1, 8, 9, true),
            transaction(2, false, &[4], None),
        ],
    ));
    let told = client.next().await.expect("the vote that succeeded");
    assert_eq!(told["method"], "voteNotification");
    assert_eq!(
        told["params"]["result"],
        json!({"votePubkey": key(7), "slots": [9], "hash": Pubkey([6; 32]).to_string(),
            "timestamp": 1_700_000_000, "signature": Signature([1; 64]).to_string()})
    );
    assert_eq!(client.next().await, None);
    // Sent again, and by somebody else.
    hall.publish(block(11, vec![vote(0, 7, 9, false), vote(1, 8, 9, false)]));
    assert_eq!(client.result().await.expect("new")["votePubkey"], key(8));
    assert_eq!(client.next().await, None);
    // Votes for what is rooted come too late to mean anything.
    hall.fanout.effect(&Effect::Rooted(Slot(9)));
    hall.publish(block(12, vec![vote(0, 5, 9, false)]));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_stalled_subscriber_of_votes_delays_nobody() {
    let mut hall = Hall::new(WebSocketConfig {
        queue_items_max: 8,
        ..WebSocketConfig::default()
    });
    let (mut stalled, mut alive) = (hall.enter(1), hall.enter(2));
    for client in [&mut stalled, &mut alive] {
        hall.ask(client, "voteSubscribe", json!([])).await;
    }
    for slot in 1..=20 {
        hall.publish(block(slot, vec![vote(0, 7, slot, false)]));
        assert_eq!(alive.result().await.expect("told")["slots"], json!([slot]));
    }
    assert_eq!(
        stalled.inbox.end.try_recv(),
        Ok(GivenUp::Slow(
            "slow consumer: too many unsent notifications"
        ))
    );
}
