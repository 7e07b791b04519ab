//! `getBlock` replies as files: `localnet-SLOT.base64.json.zst`, one per block.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};

use crate::rpc::Rpc;

/// Files are small and written once: compress hard.
const ZSTD_LEVEL: i32 = 19;
/// `getBlocks` answers for at most this many slots at once.
const SLOTS_PER_CALL: u64 = 10_000;

pub async fn run(url: &str, from: u64, to: u64, out: &Path) -> anyhow::Result<()> {
    ensure!(from <= to, "--from {from} is after --to {to}");
    let rpc = Rpc::new(url);
    while rpc.slot("confirmed").await? < to {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let (mut files, mut bytes) = (0, 0);
    let mut begin = from;
    while begin <= to {
        let end = to.min(begin + SLOTS_PER_CALL - 1);
        for slot in rpc.blocks(begin, end).await? {
            let block = rpc.block(slot).await?;
            let packed = zstd::encode_all(block.get().as_bytes(), ZSTD_LEVEL)?;
            let file = out.join(format!("localnet-{slot}.base64.json.zst"));
            std::fs::write(&file, &packed).with_context(|| file.display().to_string())?;
            files += 1;
            bytes += packed.len();
        }
        begin = end + 1;
    }
    println!(
        "{}",
        serde_json::json!({"blocks": files, "bytes": bytes, "from": from, "to": to})
    );
    Ok(())
}
