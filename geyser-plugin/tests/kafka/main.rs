//! The plugin against a real broker: driven through the validator's trait, read back from the topics. One test, because
//! one broker is enough.

mod read_back;
#[path = "../validator/mod.rs"]
mod validator;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::GeyserPlugin;
use event_log::{EventLog, KafkaConfig, KafkaLog, TopicSpec};
use event_schema::{
    Kind, ObservedTopic, Seal, SourceId,
    proto::{
        Message as _,
        geyser::{
            SubscribeUpdate, SubscribeUpdateDeshred, SubscribeUpdateGossip,
            subscribe_update::UpdateOneof, subscribe_update_deshred::UpdateOneof as DeshredOneof,
            subscribe_update_gossip::UpdateOneof as GossipOneof,
        },
    },
};
use geyser_plugin::{Plugin, counters::Counters};
use local_services::{Kafka, KafkaOptions};

use read_back::{Partitions, assert_blocks, read_back, verify};
use validator::{ENTRIES, Size, run_slot};

/// For one block: its content, metadata, and four statuses.
fn callbacks(size: Size) -> u64 {
    size.transactions + size.accounts + ENTRIES + 1 + 4
}

const IDENTITIES: [&str; 2] = [
    "So11111111111111111111111111111111111111112",
    "Vote111111111111111111111111111111111111111",
];

fn write_config(dir: &Path, name: &str, identity: &str, brokers: &str, prefix: &str) -> String {
    let file = dir.join(format!("{name}.json"));
    let text = format!(
        "{{ // a test's
            libpath: 'unused.so', name: '{name}', validator_identity: '{identity}', topic_prefix: '{prefix}',
            kafka: {{ brokers: '{brokers}', options: {{ 'queue.buffering.max.messages': '500' }} }},
            partitions: {{ accounts: 3, transactions: 2, slots: 2 }}, metrics: {{ listen: '127.0.0.1:0' }},
        }}"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn loaded(config: &str) -> Plugin {
    let mut plugin = Plugin::default();
    plugin.on_load(config, false).unwrap();
    plugin
}

fn counters(plugin: &Plugin) -> Arc<Counters> {
    Arc::clone(&plugin.instance().unwrap().counters)
}

fn until(what: &str, counters: &Counters, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited too long until {what}: {counters:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_balance(counters: &Counters, callbacks: u64) {
    assert_eq!(counters.callbacks_total(), callbacks);
    let accounted = counters.delivered_total() + counters.spill_pending() + counters.lost_total();
    assert_eq!(accounted, callbacks, "{counters:?}");
}

fn scrape(plugin: &Plugin, path: &str) -> String {
    let mut stream =
        TcpStream::connect(plugin.instance().unwrap().metrics_address().unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Set: this process is a validator that runs slots through a plugin with the configuration named here, until it is killed.
const TO_BE_KILLED: &str = "HELIOGRAPH_TEST_TO_BE_KILLED";

#[test]
fn through_a_real_broker() {
    if let Ok(config) = std::env::var(TO_BE_KILLED) {
        let plugin = loaded(&config);
        for slot in 10.. {
            run_slot(
                &plugin,
                slot,
                Size {
                    transactions: 20,
                    accounts: 40,
                },
                false,
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = Kafka::start(KafkaOptions::default()).unwrap();
    let brokers = kafka.brokers();
    two_instances_in_one_process(dir.path(), &brokers);
    outputs_with_filters_of_their_own(dir.path(), &brokers);
    what_no_block_holds(dir.path(), &brokers);
    a_broker_killed_in_the_middle(dir.path(), &mut kafka);
    a_broker_that_is_absent_at_start(dir.path(), &mut kafka);
    a_topic_with_other_partitions_is_refused(dir.path(), &brokers);
}

fn two_instances_in_one_process(dir: &Path, brokers: &str) {
    let size = Size {
        transactions: 60,
        accounts: 150,
    };
    let mut plugins = [0, 1].map(|i| {
        loaded(&write_config(
            dir,
            &format!("two-{i}"),
            IDENTITIES[i],
            brokers,
            "two",
        ))
    });
    std::thread::scope(|scope| {
        for (i, plugin) in plugins.iter().enumerate() {
            scope.spawn(move || {
                for slot in 100..120 {
                    run_slot(plugin, slot, size, i == 1 && slot % 2 == 0);
                }
            });
        }
    });
    let sources: Vec<SourceId> = plugins
        .iter()
        .map(|plugin| plugin.instance().unwrap().source)
        .collect();
    for (i, plugin) in plugins.iter().enumerate() {
        let counters = counters(plugin);
        let expected = 20 * callbacks(size);
        until("all is delivered and sealed", &counters, || {
            counters.delivered_total() == expected && counters.seals_sealed.get() == 20
        });
        until("the queue is shown empty", &counters, || {
            counters.kafka_in_flight.get() == 0
        });
        let page = scrape(plugin, "/metrics");
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        let expected = format!("callbacks_total{{plugin=\"two-{i}\",kind=\"transaction\"}} 1200");
        assert!(page.contains(&expected), "{page}");
        assert!(scrape(plugin, "/other").starts_with("HTTP/1.1 404"));
    }
    for plugin in &mut plugins {
        let counters = counters(plugin);
        plugin.on_unload();
        assert_balance(&counters, 20 * callbacks(size));
        assert_eq!((counters.lost_total(), counters.panics.get()), (0, 0));
    }
    let read = read_back(brokers, "two");
    assert_eq!(read.len(), 2);
    for source in sources {
        assert_blocks(&verify(&read[&source]), 100..120, size);
    }
}

/// Deshredded transactions and contact info: off unless asked for, as Yellowstone's messages, and blocks are whole beside them.
fn what_no_block_holds(dir: &Path, brokers: &str) {
    let size = Size {
        transactions: 30,
        accounts: 20,
    };
    for (switches, resolved) in [
        ("", false),
        ("deshred: true, contact_info: true", false),
        (
            "deshred: true, deshred_transaction_alt_resolution: true, contact_info: true, filters: { contact_info: false }",
            true,
        ),
    ] {
        let on = !switches.is_empty();
        let file = write_config(dir, "beside", IDENTITIES[1], brokers, "beside");
        let text = fs::read_to_string(&file).unwrap();
        let end = text.rfind('}').unwrap();
        fs::write(&file, format!("{} {switches} }}", &text[..end])).unwrap();
        let mut plugin = loaded(&file);
        assert_eq!(
            [
                plugin.deshred_transaction_notifications_enabled(),
                plugin.deshred_transaction_alt_resolution_enabled(),
                plugin.contact_info_notifications_enabled()
            ],
            [on, resolved, on]
        );
        if !on {
            // Another plugin in the validator may have asked.
            validator::deshred(&plugin, 3, 1);
            validator::contact_info(&plugin, 3);
        }
        for slot in 50..60 {
            run_slot(&plugin, slot, size, false);
        }
        let counters = counters(&plugin);
        let source = plugin.instance().unwrap().source;
        until("all is delivered and sealed", &counters, || {
            counters.delivered_total() == counters.records_total()
                && counters.seals_sealed.get() == 10
        });
        plugin.on_unload();
        let beside = if on { 10 * (size.transactions + 2) } else { 0 };
        let filtered = if resolved { 20 } else { 0 };
        assert_eq!(counters.callbacks_total(), 10 * callbacks(size) + beside);
        assert_eq!(counters.filtered_total(), filtered);
        assert_eq!(counters.delivered_total(), counters.records_total());
        let read = &read_back(brokers, "beside")[&source];
        assert_blocks(&verify(read), 50..60, size);
        let of = |topic, kind| -> Vec<(u64, &[u8])> {
            let records = read.iter().filter(|((at, _), _)| *at == topic);
            records
                .flat_map(|(_, records)| records)
                .filter(|(header, _)| header.kind == kind)
                .map(|(header, value)| (header.slot.0, value.as_slice()))
                .collect()
        };
        let deshreds = of(ObservedTopic::Transactions, Kind::Deshred);
        assert_eq!(deshreds.len(), if on { 300 } else { 0 });
        for (slot, value) in deshreds {
            let update = SubscribeUpdateDeshred::decode(value).unwrap();
            let Some(DeshredOneof::DeshredTransaction(update)) = update.update_oneof else {
                panic!("{update:?}")
            };
            let transaction = update.transaction.unwrap();
            let index = transaction.completed_data_set_starting_shred_index;
            assert_eq!(update.slot, slot);
            let signature = validator::signature(slot, index.into());
            assert_eq!(transaction.signature, signature.as_ref());
            assert_eq!(
                transaction.loaded_writable_addresses.len(),
                usize::from(resolved)
            );
        }
        let infos = of(ObservedTopic::Slots, Kind::ContactInfo);
        assert_eq!(infos.len(), if on && !resolved { 20 } else { 0 });
        let mut nodes = std::collections::BTreeSet::new();
        for (slot, value) in infos {
            assert_eq!(slot, 0);
            match SubscribeUpdateGossip::decode(value).unwrap().update_oneof {
                Some(GossipOneof::Node(node)) => {
                    assert_eq!(node.gossip.as_deref(), Some("10.0.0.1:8001"));
                    assert_eq!(node.tpu_quic.as_deref(), Some("[::1]:8009"));
                    assert!(nodes.insert(node.pubkey));
                }
                // In one partition, so in the order in which it was reported.
                Some(GossipOneof::Removed(node)) => assert!(nodes.remove(&node.pubkey)),
                other => panic!("{other:?}"),
            }
        }
        assert!(nodes.is_empty());
    }
}

/// The first output has everything; the second two accounts, cut, and no transactions, until its filter changes.
fn outputs_with_filters_of_their_own(dir: &Path, brokers: &str) {
    let size = Size {
        transactions: 20,
        accounts: 50,
    };
    let account = |index: u64| {
        let mut pubkey = [1; 32];
        pubkey[..8].copy_from_slice(&index.to_le_bytes());
        event_schema::Pubkey(pubkey).to_string()
    };
    let with_filters = |filters: &str| {
        let file = write_config(dir, "outputs", IDENTITIES[0], brokers, "all");
        let text = fs::read_to_string(&file).unwrap();
        let end = text.rfind('}').unwrap();
        let outputs = format!(
            "outputs: [{{ topic_prefix: 'some', partitions: {{ accounts: 2, transactions: 1, slots: 1 }}, filters: {filters} }}] }}"
        );
        fs::write(&file, format!("{} {outputs}", &text[..end])).unwrap();
        file
    };
    let two = format!(
        "{{ accounts: {{ accounts: ['{}', '{}'] }}, transactions: {{ enabled: false }}, accounts_data_slice: [{{ offset: 0, length: 4 }}] }}",
        account(3),
        account(5)
    );
    let mut plugin = loaded(&with_filters(&two));
    let counters = counters(&plugin);
    for slot in 10..15 {
        run_slot(&plugin, slot, size, false);
    }
    // A mistake changes nothing.
    with_filters("{ accounts: { owners: ['no key'] } }");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(plugin.instance().unwrap().filters.current().number(), 0);
    with_filters(&two.replace(&account(5), &account(6)));
    until("the new filters are in force", &counters, || {
        counters.filter_generation.get() == 1
    });
    for slot in 15..20 {
        run_slot(&plugin, slot, size, false);
    }
    let source = plugin.instance().unwrap().source;
    plugin.on_unload();
    assert_eq!(counters.callbacks_total(), 10 * callbacks(size));
    // Copies of the second output: two accounts, the entries, metadata and statuses.
    assert_eq!(counters.copies.get(), 10 * (2 + ENTRIES + 1 + 4));
    assert_eq!(counters.filtered_total(), 0);
    assert_eq!(counters.delivered_total(), counters.records_total());
    let all = read_back(brokers, "all");
    assert_blocks(&verify(&all[&source]), 10..20, size);
    let some = read_back(brokers, "some");
    let accounts: Vec<(u64, String, usize)> = some[&source]
        .iter()
        .filter(|((topic, _), _)| *topic == ObservedTopic::Accounts)
        .flat_map(|(_, records)| records)
        .filter(|(header, _)| header.kind == Kind::Account)
        .map(|(header, value)| {
            let update = SubscribeUpdate::decode(value.as_slice()).unwrap();
            let Some(UpdateOneof::Account(update)) = update.update_oneof else {
                panic!("{update:?}")
            };
            let account = update.account.unwrap();
            let pubkey = event_schema::Pubkey::try_from(account.pubkey.as_slice()).unwrap();
            (header.slot.0, pubkey.to_string(), account.data.len())
        })
        .collect();
    assert_eq!(accounts.len(), 20);
    for (slot, pubkey, length) in accounts {
        let other = if slot < 15 { account(5) } else { account(6) };
        assert!(pubkey == account(3) || pubkey == other, "{slot} {pubkey}");
        assert_eq!(length, 4);
    }
    // Filtered transactions count towards a slot's completeness: every slot is sealed all the same.
    let sealed: std::collections::BTreeSet<u64> = some[&source]
        .values()
        .flatten()
        .filter(|(header, _)| header.kind == Kind::Seal)
        .map(|(header, value)| {
            let seal = Seal::decode(value.as_slice()).unwrap();
            assert_eq!((seal.transactions, seal.accounts), (size.transactions, 2));
            assert!(!seal.partial);
            header.slot.0
        })
        .collect();
    assert_eq!(sealed, (10..20).collect());
}

fn a_broker_killed_in_the_middle(dir: &Path, kafka: &mut Kafka) {
    let size = Size {
        transactions: 40,
        accounts: 100,
    };
    let brokers = kafka.brokers();
    let mut plugin = loaded(&write_config(
        dir,
        "killed",
        IDENTITIES[0],
        &brokers,
        "killed",
    ));
    let counters = counters(&plugin);
    for slot in 10..20 {
        run_slot(&plugin, slot, size, false);
    }
    until("the first blocks are there", &counters, || {
        counters.delivered_total() == 10 * callbacks(size)
    });
    for slot in 20..25 {
        run_slot(&plugin, slot, size, false);
    }
    kafka.kill();
    for slot in 25..60 {
        run_slot(&plugin, slot, size, false);
    }
    until("records are on disk", &counters, || {
        counters.spilled.get() > 1000 && counters.queue_records.get() == 0
    });
    assert!(counters.spill_bytes.get() > 0);
    kafka.restart().unwrap();
    for slot in 60..65 {
        run_slot(&plugin, slot, size, false);
    }
    until("all is delivered", &counters, || {
        counters.delivered_total() == 55 * callbacks(size)
    });
    until("the spill is empty", &counters, || {
        counters.spill_bytes.get() == 0 && counters.spill_pending() == 0
    });
    let source = plugin.instance().unwrap().source;
    plugin.on_unload();
    assert_balance(&counters, 55 * callbacks(size));
    assert_eq!(counters.lost_total(), 0);
    assert_blocks(
        &verify(&read_back(&brokers, "killed")[&source]),
        10..65,
        size,
    );
}

fn a_broker_that_is_absent_at_start(dir: &Path, kafka: &mut Kafka) {
    let size = Size {
        transactions: 10,
        accounts: 30,
    };
    let brokers = kafka.brokers();
    let config = write_config(dir, "absent", IDENTITIES[0], &brokers, "absent");
    kafka.kill();
    let orphaned = write_config(dir, "orphaned", IDENTITIES[0], &brokers, "orphaned");
    spill_until_killed(&orphaned, &dir.join("heliograph-spill/orphaned"));

    let start = Instant::now();
    let mut first = loaded(&config);
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "loading does not wait for Kafka"
    );
    for slot in 10..20 {
        run_slot(&first, slot, size, true);
    }
    let earlier = counters(&first);
    until("all is on disk", &earlier, || {
        earlier.spilled.get() == 10 * callbacks(size)
    });
    let source = first.instance().unwrap().source;
    // The validator stops before Kafka is back; what it spilled belongs to the next life.
    first.on_unload();
    assert_balance(&earlier, 10 * callbacks(size));
    assert_eq!((earlier.lost_total(), earlier.delivered_total()), (0, 0));

    let mut second = loaded(&config);
    let later = counters(&second);
    for slot in 20..25 {
        run_slot(&second, slot, size, true);
    }
    kafka.restart().unwrap();
    until("both lives are delivered", &later, || {
        later.delivered_total() == 5 * callbacks(size) && later.spill_bytes.get() == 0
    });
    the_next_life_delivers_what_the_killed_one_spilled(&orphaned, &brokers);
    let second_source = second.instance().unwrap().source;
    second.on_unload();
    assert_eq!((later.lost_total(), later.inherited_lost.get()), (0, 0));
    let read = read_back(&brokers, "absent");
    assert_blocks(&verify(&read[&source]), 10..20, size);
    assert_blocks(&verify(&read[&second_source]), 20..25, size);
}

fn spill_until_killed(config: &str, spill: &Path) {
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "through_a_real_broker", "--nocapture"])
        .env(TO_BE_KILLED, config)
        .spawn()
        .unwrap();
    let spilled = || -> u64 {
        let files = fs::read_dir(spill).into_iter().flatten().flatten();
        files
            .map(|file| file.metadata().map_or(0, |metadata| metadata.len()))
            .sum()
    };
    let start = Instant::now();
    // Several batches of the worker: seals come between them.
    while spilled() < 2_000_000 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the host spilled {} bytes",
            spilled()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL: no unloading, no flush.
    host.kill().unwrap();
    host.wait().unwrap();
}

fn the_next_life_delivers_what_the_killed_one_spilled(config: &str, brokers: &str) {
    let mut next = loaded(config);
    let counters = counters(&next);
    until("the inheritance is delivered", &counters, || {
        counters.inherited.get() > 0 && counters.spill_bytes.get() == 0
    });
    next.on_unload();
    let read = read_back(brokers, "orphaned");
    assert_eq!(read.len(), 1, "the killed life is the only source");
    let mut records = 0;
    for kept in read.values().flat_map(Partitions::values) {
        for (place, (header, _)) in kept.iter().enumerate() {
            assert_eq!(header.sequence.0, place as u64, "no hole");
        }
        assert!(kept.iter().any(|(header, _)| header.kind == Kind::Seal));
        records += kept.len() as u64;
    }
    assert_eq!(counters.inherited_lost.get(), 0);
    // The kill may have come between writing one to disk and taking note of that.
    let repeated = counters.inherited.get() - records;
    assert!(repeated <= 1, "{repeated}");
}

fn a_topic_with_other_partitions_is_refused(dir: &Path, brokers: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let spec = TopicSpec {
        name: "other.observed.accounts".into(),
        partitions: 7,
        compacted: false,
        config: Vec::new(),
        replication: 1,
    };
    let log = KafkaLog::new(KafkaConfig::new(brokers)).unwrap();
    runtime.block_on(log.ensure_topics(&[spec])).unwrap();
    let config = write_config(dir, "other", IDENTITIES[0], brokers, "other");
    let error = Plugin::default()
        .on_load(&config, false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("7 partitions but 3 are configured"),
        "{error}"
    );
}
