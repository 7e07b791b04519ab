//! The plugin as a validator with interface 4.2 sees it: callbacks → records in the ring. Another interface version gets another
//! file like this one.
//!
//! No callback returns an error (the validator would log every one), waits, or lets a panic out.

mod hand_over;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    GeyserPlugin, GeyserPluginError, ReplicaAccountInfoVersions, ReplicaBlockInfoVersions,
    ReplicaContactInfoVersions, ReplicaDeshredTransactionInfoVersions, ReplicaEntryInfoVersions,
    ReplicaTransactionInfoVersions, Result, SlotStatus,
};
use event_schema::{Blockhash, Kind};

use self::hand_over::{
    contain, hand_over, hand_over_account, hand_over_beside, takers, unreadable,
};
use crate::{
    config::Config,
    counters::Counters,
    encode,
    filter::Filter,
    instance::Instance,
    observation::{Fact, Front, Life, Outputs},
};

/// In the header of what belongs to no slot.
const NO_SLOT: u64 = 0;

/// See the module.
#[derive(Default)]
pub struct Plugin {
    instance: Option<Instance>,
    wanted: Wanted,
}

/// What the configuration asks of the validator and of the callbacks.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    startup_accounts: bool,
    callback_times: bool,
    deshred: bool,
    lookup_tables: bool,
    contact_info: bool,
}

impl Wanted {
    fn by(config: &Config) -> Self {
        Self {
            startup_accounts: config.startup_accounts,
            callback_times: config.metrics.callback_times,
            deshred: config.deshred,
            lookup_tables: config.deshred_transaction_alt_resolution,
            contact_info: config.contact_info,
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeliographPlugin")
            .field("loaded", &self.instance.is_some())
            .finish()
    }
}

impl Plugin {
    /// What this instance has counted; `None` before `on_load` and after `on_unload`.
    pub fn counters(&self) -> Option<&Counters> {
        self.instance
            .as_ref()
            .map(|instance| instance.counters.as_ref())
    }

    /// The parts of the running instance, for tests and hosts that look inside.
    pub fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()
    }

    /// Counts the callback and runs it; a panic is contained, counted, and costs that callback's record.
    #[inline]
    fn observe(&self, kind: Kind, slot: u64, body: impl FnOnce(&Instance)) -> Result<()> {
        let Some(instance) = &self.instance else {
            return Ok(());
        };
        instance.handoff.records.approach();
        if instance.counters.callback(kind) && self.wanted.callback_times {
            let start = Instant::now();
            contain(instance, kind, slot, || body(instance));
            instance.counters.timed(kind, start.elapsed());
        } else {
            contain(instance, kind, slot, || body(instance));
        }
        Ok(())
    }

    /// Of the node with this identity.
    fn contact_info(&self, pubkey: &[u8], encode: impl FnOnce(&mut encode::Out<'_>)) -> Result<()> {
        if !self.wanted.contact_info {
            return Ok(());
        }
        self.observe(Kind::ContactInfo, NO_SLOT, |instance| {
            if pubkey.len() != 32 {
                return unreadable(instance, NO_SLOT, Fact::ContactInfo);
            }
            let filters = instance.filters.current().filters();
            hand_over_beside(
                instance,
                NO_SLOT,
                Fact::ContactInfo,
                pubkey,
                takers(filters, Filter::contact_info),
                || encode::CONTACT_INFO_MOST,
                encode,
            );
        })
    }
}

impl GeyserPlugin for Plugin {
    fn setup_logger(&self, logger: &'static dyn log::Log, level: log::LevelFilter) -> Result<()> {
        // This library has its own copy of the logging crate. A second instance finds it set already.
        if log::set_logger(logger).is_ok() {
            log::set_max_level(level);
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "heliograph"
    }

    fn on_load(&mut self, config_file: &str, is_reload: bool) -> Result<()> {
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let config = Config::load(Path::new(config_file)).map_err(|error| error.to_string())?;
            let instance = Instance::start(&config, Path::new(config_file))
                .map_err(|error| format!("{config_file}: {error}"))?;
            Ok::<_, String>((instance, Wanted::by(&config)))
        }))
        .unwrap_or_else(|_| {
            Err("a panic while loading; please report it with the lines above".into())
        });
        match loaded {
            Ok((instance, wanted)) => {
                log::info!(target: crate::LOG_TARGET,
                    "heliograph {} {}loaded, source {}",
                    env!("CARGO_PKG_VERSION"),
                    if is_reload { "re" } else { "" },
                    instance.source,
                );
                self.wanted = wanted;
                self.instance = Some(instance);
                Ok(())
            }
            Err(problem) => Err(GeyserPluginError::Custom(
                format!("heliograph: {problem}").into(),
            )),
        }
    }

    fn on_unload(&mut self) {
        let Some(mut instance) = self.instance.take() else {
            return;
        };
        let stopped = catch_unwind(AssertUnwindSafe(|| instance.stop()));
        let counters = &instance.counters;
        log::info!(target: crate::LOG_TARGET,
            "heliograph unloaded{}: {} callbacks, {} delivered, {} waiting in the spill, {} lost",
            if stopped.is_ok() {
                ""
            } else {
                " after a panic"
            },
            counters.callbacks_total(),
            counters.delivered_total(),
            counters.spill_pending(),
            counters.lost_total(),
        );
    }

    fn update_account(
        &self,
        account: ReplicaAccountInfoVersions<'_>,
        slot: u64,
        is_startup: bool,
    ) -> Result<()> {
        if is_startup && !self.wanted.startup_accounts {
            return Ok(());
        }
        let fact = if is_startup {
            Fact::StartupAccount
        } else {
            Fact::Account
        };
        self.observe(Kind::Account, slot, |instance| match account {
            ReplicaAccountInfoVersions::V0_0_3(account) if account.pubkey.len() == 32 => {
                let filters = instance.filters.current().filters();
                let recorded = takers(filters, |filter| filter.account(account));
                hand_over_account(instance, slot, fact, filters, recorded, account);
            }
            _ => unreadable(instance, slot, fact),
        })
    }

    fn notify_end_of_startup(&self) -> Result<()> {
        if let Some(instance) = &self.instance {
            contain(instance, Kind::Account, 0, || {
                let front = Front {
                    slot: 0,
                    fact: Fact::EndOfStartup,
                    recorded: Outputs::default(),
                    seen: instance.handoff.all(),
                    key: &[],
                };
                instance.handoff.offer(front, 0, |_| {});
            });
        }
        Ok(())
    }

    fn update_slot_status(
        &self,
        slot: u64,
        parent: Option<u64>,
        status: &SlotStatus,
    ) -> Result<()> {
        let life = match status {
            SlotStatus::FirstShredReceived | SlotStatus::Completed => Life::Announced,
            SlotStatus::CreatedBank => Life::Created,
            SlotStatus::Processed | SlotStatus::Confirmed => Life::Settled,
            SlotStatus::Rooted => Life::Rooted,
            SlotStatus::Dead(_) => Life::Dead,
        };
        self.observe(Kind::Slot, slot, |instance| {
            let filters = instance.filters.current().filters();
            hand_over(
                instance,
                slot,
                Fact::Status(life),
                &slot.to_be_bytes(),
                takers(filters, Filter::slots),
                || encode::slot_status_most(status),
                |out| encode::slot_status(out, slot, parent, status),
            );
        })
    }

    fn notify_transaction(
        &self,
        transaction: ReplicaTransactionInfoVersions<'_>,
        slot: u64,
    ) -> Result<()> {
        self.observe(Kind::Transaction, slot, |instance| match transaction {
            ReplicaTransactionInfoVersions::V0_0_3(info) => {
                let filters = instance.filters.current().filters();
                hand_over(
                    instance,
                    slot,
                    Fact::Transaction,
                    info.signature.as_ref(),
                    takers(filters, |filter| filter.transaction(info)),
                    || encode::transaction_most(info),
                    |out| encode::transaction(out, slot, info),
                );
            }
            _ => unreadable(instance, slot, Fact::Transaction),
        })
    }

    fn notify_entry(&self, entry: ReplicaEntryInfoVersions<'_>) -> Result<()> {
        let slot = match &entry {
            ReplicaEntryInfoVersions::V0_0_1(entry) => entry.slot,
            ReplicaEntryInfoVersions::V0_0_2(entry) => entry.slot,
        };
        self.observe(Kind::Entry, slot, |instance| match entry {
            ReplicaEntryInfoVersions::V0_0_2(entry) => {
                let filters = instance.filters.current().filters();
                let fact = Fact::Entry {
                    index: entry.index as u64,
                    // A hash of another length is recorded as it is, but ends no slot.
                    hash: entry.hash.try_into().unwrap_or_default(),
                };
                hand_over(
                    instance,
                    slot,
                    fact,
                    &slot.to_be_bytes(),
                    takers(filters, Filter::entries),
                    || encode::ENTRY_MOST + entry.hash.len(),
                    |out| encode::entry(out, entry),
                );
            }
            ReplicaEntryInfoVersions::V0_0_1(_) => unreadable(
                instance,
                slot,
                Fact::Entry {
                    index: 0,
                    hash: [0; 32],
                },
            ),
        })
    }

    fn notify_block_metadata(&self, block: ReplicaBlockInfoVersions<'_>) -> Result<()> {
        let slot = match &block {
            ReplicaBlockInfoVersions::V0_0_1(block) => block.slot,
            ReplicaBlockInfoVersions::V0_0_2(block) => block.slot,
            ReplicaBlockInfoVersions::V0_0_3(block) => block.slot,
            ReplicaBlockInfoVersions::V0_0_4(block) => block.slot,
        };
        self.observe(Kind::BlockMeta, slot, |instance| match block {
            ReplicaBlockInfoVersions::V0_0_4(block) => {
                let filters = instance.filters.current().filters();
                let fact = Fact::Block {
                    blockhash: block.blockhash.parse::<Blockhash>().unwrap_or_default().0,
                    transactions: block.executed_transaction_count,
                    entries: block.entry_count,
                };
                hand_over(
                    instance,
                    slot,
                    fact,
                    &slot.to_be_bytes(),
                    takers(filters, Filter::block_meta),
                    || encode::block_meta_most(block),
                    |out| encode::block_meta(out, block),
                );
            }
            _ => unreadable(
                instance,
                slot,
                Fact::Block {
                    blockhash: [0; 32],
                    transactions: 0,
                    entries: 0,
                },
            ),
        })
    }

    fn notify_deshred_transaction(
        &self,
        transaction: ReplicaDeshredTransactionInfoVersions<'_>,
        slot: u64,
    ) -> Result<()> {
        if !self.wanted.deshred {
            return Ok(());
        }
        self.observe(Kind::Deshred, slot, |instance| match transaction {
            ReplicaDeshredTransactionInfoVersions::V0_0_2(info) => {
                let filters = instance.filters.current().filters();
                hand_over_beside(
                    instance,
                    slot,
                    Fact::Deshred,
                    info.signature.as_ref(),
                    takers(filters, |filter| filter.deshred(info)),
                    || encode::deshred_most(info),
                    |out| encode::deshred(out, slot, info),
                );
            }
            ReplicaDeshredTransactionInfoVersions::V0_0_1(_) => {
                unreadable(instance, slot, Fact::Deshred);
            }
        })
    }

    fn notify_contact_info(
        &self,
        info: ReplicaContactInfoVersions<'_>,
        _is_startup: bool,
    ) -> Result<()> {
        let ReplicaContactInfoVersions::V0_0_1(info) = info;
        self.contact_info(info.pubkey, |out| encode::contact_info(out, info))
    }

    fn notify_contact_info_removed(&self, pubkey: &[u8]) -> Result<()> {
        self.contact_info(pubkey, |out| encode::contact_info_removed(out, pubkey))
    }

    fn account_data_notifications_enabled(&self) -> bool {
        true
    }

    fn account_data_snapshot_notifications_enabled(&self) -> bool {
        self.wanted.startup_accounts
    }

    fn transaction_notifications_enabled(&self) -> bool {
        true
    }

    fn entry_notifications_enabled(&self) -> bool {
        true
    }

    fn deshred_transaction_notifications_enabled(&self) -> bool {
        self.wanted.deshred
    }

    fn deshred_transaction_alt_resolution_enabled(&self) -> bool {
        self.wanted.lookup_tables
    }

    fn contact_info_notifications_enabled(&self) -> bool {
        self.wanted.contact_info
    }
}

#[cfg(test)]
mod tests;
