//! A Geyser plugin that writes down every callback, one JSON object per line, with the name of the thread that made it.
//!
//! Its configuration is the path of the file to write, or the word `refuse`, at which it refuses to load.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    GeyserPlugin, GeyserPluginError, ReplicaBlockInfoVersions, ReplicaEntryInfoVersions,
    ReplicaTransactionInfoVersions, Result, SlotStatus,
};
use serde_json::{Value, json};

#[derive(Debug, Default)]
struct RecordingPlugin {
    out: Mutex<Option<File>>,
    callbacks: AtomicU64,
}

impl RecordingPlugin {
    fn write(&self, mut line: Value) -> Result<()> {
        // The library has its own copy of std, which does not know the host's threads by name; the kernel does.
        let thread = std::fs::read_to_string("/proc/thread-self/comm")?;
        let mut out = self
            .out
            .lock()
            .map_err(|_| GeyserPluginError::SlotStatusUpdateError {
                msg: "another callback panicked".into(),
            })?;
        line["order"] = json!(self.callbacks.fetch_add(1, Ordering::Relaxed));
        line["thread"] = json!(thread.trim());
        if let Some(out) = out.as_mut() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

impl GeyserPlugin for RecordingPlugin {
    fn name(&self) -> &'static str {
        "recording"
    }

    fn on_load(&mut self, config_file: &str, _is_reload: bool) -> Result<()> {
        let config = std::fs::read_to_string(config_file)?;
        if config.trim() == "refuse" {
            return Err(GeyserPluginError::ConfigFileReadError {
                msg: "field out: told to refuse".into(),
            });
        }
        self.out = Mutex::new(Some(File::create(config.trim())?));
        Ok(())
    }

    fn on_unload(&mut self) {
        // Nobody is left to tell that the file could not be written.
        let _ = self.write(json!({"callback": "on_unload"}));
    }

    fn update_slot_status(
        &self,
        slot: u64,
        parent: Option<u64>,
        status: &SlotStatus,
    ) -> Result<()> {
        self.write(json!({
            "callback": "slot", "slot": slot, "parent": parent, "status": status.as_str(),
        }))
    }

    fn notify_transaction(
        &self,
        transaction: ReplicaTransactionInfoVersions,
        slot: u64,
    ) -> Result<()> {
        let ReplicaTransactionInfoVersions::V0_0_3(info) = transaction else {
            return Err(GeyserPluginError::TransactionUpdateError {
                msg: "not the version that Agave 4.2.2 passes".into(),
            });
        };
        self.write(json!({
            "callback": "transaction", "slot": slot, "index": info.index, "is_vote": info.is_vote,
            "signature": info.signature.to_string(), "fee": info.transaction_status_meta.fee,
        }))
    }

    fn notify_entry(&self, entry: ReplicaEntryInfoVersions) -> Result<()> {
        let ReplicaEntryInfoVersions::V0_0_2(info) = entry else {
            return Err(GeyserPluginError::SlotStatusUpdateError {
                msg: "not the version that Agave 4.2.2 passes".into(),
            });
        };
        self.write(json!({
            "callback": "entry", "slot": info.slot, "index": info.index,
            "transactions": info.executed_transaction_count, "start": info.starting_transaction_index,
        }))
    }

    fn notify_block_metadata(&self, block: ReplicaBlockInfoVersions) -> Result<()> {
        let ReplicaBlockInfoVersions::V0_0_4(info) = block else {
            return Err(GeyserPluginError::SlotStatusUpdateError {
                msg: "not the version that Agave 4.2.2 passes".into(),
            });
        };
        self.write(json!({
            "callback": "block", "slot": info.slot, "transactions": info.executed_transaction_count,
            "entries": info.entry_count, "blockhash": info.blockhash,
        }))
    }

    fn transaction_notifications_enabled(&self) -> bool {
        true
    }

    fn entry_notifications_enabled(&self) -> bool {
        true
    }
}

/// Called once by the host; ownership of the plugin passes to it.
#[unsafe(no_mangle)]
#[allow(improper_ctypes_definitions)]
pub extern "C" fn _create_plugin() -> *mut dyn GeyserPlugin {
    Box::into_raw(Box::new(RecordingPlugin::default()))
}
