//! Whether a transaction was committed, when the broker's answer to that question does not arrive as it was given.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use event_log::{Action, EventLog, KafkaConfig, KafkaLog, NewRecord, Start};
use local_services::{Kafka, KafkaOptions, free_port};
use parking_lot::Mutex;

use crate::suite;

/// Of the request that ends a transaction, in Kafka's protocol.
const END_TXN: [u8; 2] = 26_i16.to_be_bytes();
/// An error that no client has a rule for.
const UNKNOWN_SERVER_ERROR: [u8; 2] = (-1_i16).to_be_bytes();
/// Of an answer to it, behind the correlation id and the throttle time.
const ERROR_AT: usize = 8;

/// What becomes of the broker's next answers to "end the transaction".
#[derive(Debug, Default)]
struct Orders {
    /// So many are told as errors.
    falsify: AtomicUsize,
    /// So many do not arrive: the connection breaks instead.
    lose: AtomicUsize,
}

/// Stands between client and broker.
fn stand_between(port: u16, broker: u16) -> Arc<Orders> {
    let orders = Arc::new(Orders::default());
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let shared = Arc::clone(&orders);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", broker)))
            else {
                continue;
            };
            let asked = Arc::new(Mutex::new(HashSet::new()));
            let (from_client, to_broker) =
                (client.try_clone().unwrap(), broker.try_clone().unwrap());
            let noting = Arc::clone(&asked);
            thread::spawn(move || {
                pass(from_client, to_broker, |request| {
                    if request[..2] == END_TXN {
                        noting.lock().insert(request[4..8].to_vec());
                    }
                    true
                });
            });
            let orders = Arc::clone(&shared);
            thread::spawn(move || {
                pass(broker, client, |answer| {
                    if !asked.lock().remove(&answer[..4]) {
                        return true;
                    }
                    if take_one(&orders.falsify) {
                        answer[ERROR_AT..ERROR_AT + 2].copy_from_slice(&UNKNOWN_SERVER_ERROR);
                    }
                    !take_one(&orders.lose)
                });
            });
        }
    });
    orders
}

fn take_one(left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
        .is_ok()
}

/// Hands on frame by frame, until one is not to be handed on.
fn pass(mut from: TcpStream, mut to: TcpStream, mut edit: impl FnMut(&mut [u8]) -> bool) {
    let handed = (|| {
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            from.read_exact(&mut frame)?;
            if !edit(&mut frame) {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            to.write_all(&length)?;
            to.write_all(&frame)?;
        }
    })();
    let _: std::io::Result<()> = handed;
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_transaction_is_never_called_aborted() {
    let advertised = free_port();
    let options = KafkaOptions {
        advertised_port: Some(advertised),
        ..KafkaOptions::default()
    };
    let kafka = tokio::task::spawn_blocking(|| Kafka::start(options))
        .await
        .unwrap()
        .unwrap();
    let orders = stand_between(advertised, kafka.port());
    let log = KafkaLog::new(KafkaConfig::new(format!("127.0.0.1:{advertised}"))).unwrap();
    log.ensure_topics(&[suite::topic("outcome", 1)])
        .await
        .unwrap();
    let record = |name| -> Vec<NewRecord> { vec![suite::record("outcome", 0, name)] };

    let mut writer = log.transactional_writer("outcome").await.unwrap();
    writer.commit(record("a")).await.unwrap();

    // The client asks again until it has an answer, and the broker knows what it decided.
    orders.lose.store(1, Ordering::Release);
    writer.commit(record("b")).await.unwrap();
    assert_eq!(orders.lose.load(Ordering::Acquire), 0);

    // Asking again is not what the client does here. It would abort, and say that it did.
    orders.falsify.store(1, Ordering::Release);
    let error = writer.commit(record("c")).await.unwrap_err();
    assert_eq!(orders.falsify.load(Ordering::Acquire), 0);
    assert_eq!(error.action(), Action::Stop, "{error}");
    assert!(error.to_string().contains("not known"), "{error}");

    let mut next = log.transactional_writer("outcome").await.unwrap();
    next.commit(record("d")).await.unwrap();
    let mut reader = suite::reader(&log, "outcome", Start::Earliest, true).await;
    suite::only(&mut *reader, &["a", "b", "c", "d"]).await;
}
