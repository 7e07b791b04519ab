//! Load, unload and reload under traffic, as a validator's plugin manager does it: callbacks go on on their threads, hold
//! the plugin only while they call it, and the loader waits until none does before it takes the library away.

mod validator;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{GeyserPlugin, SlotStatus};
use event_log::{EventLog as _, KafkaConfig, KafkaLog, ReaderSpec, Start};
use event_schema::{Kind, ObservedHeader, ObservedTopic, SourceId, Topics};
use libloading::{Library, Symbol};
use local_services::{Kafka, KafkaOptions, free_port};
use validator::{Size, account, entry, metadata, run_slot, transaction};

const ROUNDS: u64 = 100;
/// Until then allocator, resolver and libraries settle what they keep.
const WARM_UP: u64 = 20;
const PREFIX: &str = "reload";

/// Beside the test's own executable.
fn library() -> PathBuf {
    let beside = env::current_exe().unwrap().parent().unwrap().to_owned();
    let found = [
        beside.join("libgeyser_plugin.so"),
        beside.join("../libgeyser_plugin.so"),
    ];
    found
        .iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("none of {found:?} exists"))
        .clone()
}

/// As the validator's: the plugin goes before its library.
struct Loaded {
    plugin: Box<dyn GeyserPlugin>,
    _library: Library,
}

impl Loaded {
    #[allow(unsafe_code, improper_ctypes_definitions)]
    fn new(path: &Path) -> Self {
        type Constructor = unsafe extern "C" fn() -> *mut dyn GeyserPlugin;
        // SAFETY: the library is this workspace's plugin, built together with this test.
        unsafe {
            let library = Library::new(path).unwrap();
            let constructor: Symbol<Constructor> = library.get(b"_create_plugin").unwrap();
            let plugin = Box::from_raw(constructor());
            Self {
                plugin,
                _library: library,
            }
        }
    }
}

/// What the validator's threads call through.
#[derive(Default)]
struct Manager {
    current: RwLock<Option<Arc<Loaded>>>,
    /// Callbacks of the current round that returned.
    returned: AtomicU64,
    /// Callbacks while no plugin was loaded.
    missed: AtomicU64,
}

impl Manager {
    /// One callback, or several, with the plugin of this moment.
    fn call(&self, callbacks: u64, body: impl FnOnce(&dyn GeyserPlugin)) {
        // The lock is for fetching alone, as the validator's swap.
        let current = self.current.read().unwrap().clone();
        match current {
            Some(loaded) => {
                body(loaded.plugin.as_ref());
                self.returned.fetch_add(callbacks, Ordering::Relaxed);
            }
            None => drop(self.missed.fetch_add(callbacks, Ordering::Relaxed)),
        }
    }

    fn load(&self, path: &Path, config: &str, is_reload: bool) {
        let mut loaded = Loaded::new(path);
        loaded
            .plugin
            .setup_logger(log::logger(), log::max_level())
            .unwrap();
        loaded.plugin.on_load(config, is_reload).unwrap();
        self.returned.store(0, Ordering::Relaxed);
        *self.current.write().unwrap() = Some(Arc::new(loaded));
    }

    /// Takes the plugin away and waits until no callback is in it.
    fn withdraw(&self) -> Loaded {
        let mut waiting = self.current.write().unwrap().take().unwrap();
        loop {
            match Arc::try_unwrap(waiting) {
                Ok(loaded) => return loaded,
                Err(still) => waiting = still,
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn unload(mut loaded: Loaded) {
    loaded.plugin.on_unload();
    drop(loaded);
}

/// One of the validator's threads, alive through all rounds.
fn drive(manager: &Manager, thread: u64, stop: &AtomicBool) {
    // Slots of their own, so that threads need not agree.
    for slot in (1_000_000 * thread + 1).. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let size = Size {
            transactions: 8,
            accounts: 24,
        };
        let status = |status: SlotStatus| {
            manager.call(1, |plugin| {
                plugin
                    .update_slot_status(slot, Some(slot - 1), &status)
                    .unwrap();
            });
        };
        status(SlotStatus::CreatedBank);
        for index in 0..size.accounts {
            manager.call(1, |plugin| account(plugin, slot, index));
        }
        for index in 0..size.transactions {
            manager.call(1, |plugin| transaction(plugin, slot, index));
        }
        for index in 0..validator::ENTRIES {
            manager.call(1, |plugin| entry(plugin, slot, index));
        }
        manager.call(1, |plugin| metadata(plugin, slot, size, false));
        status(SlotStatus::Processed);
        status(SlotStatus::Rooted);
        thread::sleep(Duration::from_millis(5));
    }
}

/// What the process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    threads: usize,
    files: usize,
    libraries: usize,
}

impl Held {
    fn now() -> Self {
        let count = |dir: &str| fs::read_dir(dir).unwrap().count();
        Self {
            threads: count("/proc/self/task"),
            files: count("/proc/self/fd"),
            libraries: mapped().len(),
        }
    }
}

/// Files of which code is mapped.
fn mapped() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut files: Vec<String> = maps
        .lines()
        .filter_map(|line| {
            let mut parts = line.split_whitespace();
            let executable = parts.nth(1)?.contains('x');
            let file = parts.nth(3)?;
            (executable && file.starts_with('/')).then(|| file.to_owned())
        })
        .collect();
    files.sort();
    files.dedup();
    files
}

fn resident_kib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Least squares, per step.
fn slope(values: &[f64]) -> f64 {
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) =
            values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        sum / count
    };
    let middle = (values.len() - 1) as f64 / 2.0;
    let average = mean(&mut values.iter().copied());
    let (over, under) = values
        .iter()
        .enumerate()
        .fold((0.0, 0.0), |(over, under), (x, y)| {
            let x = x as f64 - middle;
            (over + x * (y - average), under + x * x)
        });
    over / under
}

fn write_config(dir: &Path, brokers: &str, metrics: u16) -> String {
    let file = dir.join("plugin.json");
    let text = format!(
        "{{ libpath: 'unused', validator_identity: 'So11111111111111111111111111111111111111112', topic_prefix: '{PREFIX}',
            kafka: {{ brokers: '{brokers}' }}, partitions: {{ accounts: 2, transactions: 2, slots: 1 }},
            queue: {{ records: 8192, megabytes: 32 }}, metrics: {{ listen: '127.0.0.1:{metrics}' }} }}"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The plugin's own figures.
#[derive(Debug, PartialEq, Eq)]
struct Balance {
    callbacks: u64,
    delivered: u64,
    spilled: u64,
    lost: u64,
}

impl Balance {
    fn read(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let sum = |name: &str| -> u64 {
            let start = format!("heliograph_plugin_{name}{{");
            page.lines()
                .filter(|line| line.starts_with(&start) && !line.contains("kind=\"seal\""))
                .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                .sum()
        };
        Self {
            callbacks: sum("callbacks_total"),
            delivered: sum("delivered_total"),
            spilled: sum("spilled_total") - sum("drained_total"),
            lost: sum("lost_total"),
        }
    }

    fn holds(&self) -> bool {
        self.callbacks == self.delivered + self.spilled + self.lost
    }
}

/// How many observations every source has on the log; its sequences are checked on the way.
fn read_back(brokers: &str) -> BTreeMap<SourceId, u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let log = KafkaLog::new(KafkaConfig::new(brokers)).unwrap();
        let topics = Topics::new(PREFIX);
        let mut observations: BTreeMap<SourceId, u64> = BTreeMap::new();
        let mut next: BTreeMap<(SourceId, ObservedTopic, u32), u64> = BTreeMap::new();
        for topic in ObservedTopic::ALL {
            let name = topics.observed(topic);
            let partitions = (0..log.partitions(name).await.unwrap())
                .map(|partition| (Arc::clone(name), partition, Start::Earliest))
                .collect();
            let spec = ReaderSpec {
                partitions,
                read_committed: false,
            };
            let mut reader = log.reader(spec).await.unwrap();
            loop {
                let records = reader.poll(5000, Duration::from_millis(200)).await.unwrap();
                if records.is_empty() && reader.lag().await.unwrap() == 0 {
                    break;
                }
                for record in records {
                    let header = ObservedHeader::decode(&record.header).unwrap();
                    let place = next
                        .entry((header.source, topic, record.position.partition))
                        .or_default();
                    assert_eq!(
                        header.sequence.0, *place,
                        "no hole, no repetition: {header:?}"
                    );
                    *place += 1;
                    if header.kind != Kind::Seal {
                        *observations.entry(header.source).or_default() += 1;
                    }
                }
            }
        }
        observations
    })
}

#[test]
fn a_hundred_reloads_under_traffic_lose_nothing_and_leave_nothing_behind() {
    let begin = Instant::now();
    let kafka = Kafka::start(KafkaOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = write_config(dir.path(), &kafka.brokers(), port);
    let path = library();
    let manager = Manager::default();
    let stop = AtomicBool::new(false);
    let mut resident = Vec::new();
    // Per round: callbacks that returned, and those the plugin said were lost before it was told to go.
    let mut rounds = Vec::new();
    let mut settled = None;
    thread::scope(|scope| {
        for thread in 0..3 {
            let (manager, stop) = (&manager, &stop);
            scope.spawn(move || drive(manager, thread, stop));
        }
        // Threads must end when an assertion fails, or the scope would wait for ever.
        let _stop = StopOnDrop(&stop);
        for round in 0..ROUNDS {
            manager.load(&path, &config, round > 0);
            thread::sleep(Duration::from_millis(60));
            let loaded = manager.withdraw();
            let returned = manager.returned.load(Ordering::Relaxed);
            assert!(returned > 0, "round {round} had no traffic");
            let mut balance = Balance::read(port);
            assert_eq!(balance.callbacks, returned, "round {round}");
            // Every second time it is told to go with full hands; what it did with them is read from Kafka.
            if round % 2 == 0 {
                let start = Instant::now();
                while !balance.holds() {
                    assert!(
                        start.elapsed() < Duration::from_secs(10),
                        "round {round}: {balance:?}"
                    );
                    thread::sleep(Duration::from_millis(5));
                    balance = Balance::read(port);
                }
            }
            rounds.push((returned, balance.lost));
            unload(loaded);
            let held = Held::now();
            if round >= WARM_UP {
                let settled = *settled.get_or_insert(held);
                assert_eq!(held, settled, "after round {round}; mapped: {:?}", mapped());
            }
            resident.push(resident_kib());
        }
    });
    // What is kept for good, such as the allocator's holes, is found in the first half.
    let after = &resident[resident.len() / 2..];
    let growth = slope(after);
    eprintln!(
        "{ROUNDS} rounds in {:.1} s, {} callbacks, {} without a plugin; {settled:?}; {:.0} KiB resident, {growth:.1} KiB more per round",
        begin.elapsed().as_secs_f64(),
        rounds.iter().map(|(returned, _)| returned).sum::<u64>(),
        manager.missed.load(Ordering::Relaxed),
        after.last().unwrap(),
    );
    assert!(growth < 32.0, "{growth:.1} KiB per round: {after:?}");

    let sources = read_back(&kafka.brokers());
    // In the order of loading: the instance is the time of it.
    assert_eq!(sources.len(), rounds.len());
    for (round, ((source, observations), (returned, lost))) in
        sources.iter().zip(&rounds).enumerate()
    {
        assert_eq!(observations + lost, *returned, "round {round}, {source:?}");
    }
    eprintln!("read back after {:.1} s", begin.elapsed().as_secs_f64());
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_mapped(path: &Path) -> bool {
    let path = path.canonicalize().unwrap();
    mapped().iter().any(|file| Path::new(file) == path)
}

/// Whether the library asks never to be unmapped (`-z nodelete`).
fn stays(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap();
    let elf = object::read::elf::ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
    let dynamic = elf.elf_dynamic_table().unwrap();
    dynamic.iter().any(|entry| {
        entry.tag == object::elf::DT_FLAGS_1
            && entry.val & u64::from(object::elf::DF_1_NODELETE) != 0
    })
}

/// A destructor that the library left on a thread keeps it mapped until that thread ends (glibc counts them), and a new
/// file of the same name would not be loaded. The validator's threads live as long as it does: those that only call must
/// have none. The thread that loads has some, from starting threads and waiting for Kafka's first answer.
#[test]
fn callbacks_leave_no_destructor_on_the_threads_that_call() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path(), "127.0.0.1:1", 0);
    let path = library();
    let manager = Manager::default();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|thread| {
                let (manager, stop) = (&manager, &stop);
                scope.spawn(move || drive(manager, thread, stop))
            })
            .collect();
        let _stop = StopOnDrop(&stop);
        let loader = scope.spawn(|| {
            manager.load(&path, &config, false);
            thread::sleep(Duration::from_millis(200));
            let loaded = manager.withdraw();
            assert!(manager.returned.load(Ordering::Relaxed) > 100);
            unload(loaded);
        });
        loader.join().unwrap();
        // The next closing collects what nothing needs any more.
        drop(another_library());
        assert!(callers.iter().all(|caller| !caller.is_finished()));
        assert_eq!(is_mapped(&path), stays(&path), "{:?}", mapped());
    });
}

#[allow(unsafe_code)]
fn another_library() -> Library {
    // SAFETY: part of the C library, with nothing that runs when it is loaded.
    unsafe { Library::new("libutil.so.1") }.unwrap()
}

/// What the operators' guide says of upgrades without a restart.
#[test]
fn a_new_version_under_a_new_name_is_loaded_beside_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path(), "127.0.0.1:1", 0);
    let manager = Manager::default();
    for version in ["1.so", "2.so", "1.so"] {
        let path = dir.path().join(version);
        if !path.exists() {
            fs::copy(library(), &path).unwrap();
        }
        manager.load(&path, &config, true);
        assert!(is_mapped(&path), "{version}: {:?}", mapped());
        let size = Size {
            transactions: 10,
            accounts: 20,
        };
        manager.call(1, |plugin| run_slot(plugin, 7, size, false));
        assert_eq!(manager.returned.load(Ordering::Relaxed), 1);
        unload(manager.withdraw());
    }
}

/// Set: this process plays a running validator that is asked to load the library named here.
const PLAY_VALIDATOR: &str = "HELIOGRAPH_TEST_LOADS_BY_REQUEST";

#[test]
fn a_running_validator_that_does_not_fit_loses_one_thread_and_not_its_life() {
    if let Ok(path) = env::var(PLAY_VALIDATOR) {
        let loading = thread::Builder::new()
            .name("SolGeyserPluginRpc".into())
            .spawn(move || drop(Loaded::new(Path::new(&path))))
            .unwrap();
        thread::sleep(Duration::from_secs(1));
        assert!(
            !loading.is_finished(),
            "the request is answered with neither a plugin nor an end"
        );
        println!("the validator lives");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("host");
    let mut bytes = fs::read(env::current_exe().unwrap()).unwrap();
    let (ours, theirs) = (b"rustc version 1.95.0", b"rustc version 1.90.0");
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, ours).collect();
    assert!(
        !places.is_empty(),
        "the toolchain moved on: adapt this test"
    );
    for place in places {
        bytes[place..place + theirs.len()].copy_from_slice(theirs);
    }
    fs::write(&host, bytes).unwrap();
    fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new(&host)
        .args([
            "--exact",
            "a_running_validator_that_does_not_fit_loses_one_thread_and_not_its_life",
            "--nocapture",
        ])
        .env(PLAY_VALIDATOR, library())
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && stdout.contains("the validator lives"),
        "{stdout}{stderr}"
    );
    let line = stderr
        .lines()
        .find(|line| line.contains("plugin refused"))
        .unwrap();
    assert!(line.contains("1.90.0") && line.contains("1.95.0"), "{line}");
    assert!(stderr.contains("runs on without the plugin"), "{stderr}");
}
