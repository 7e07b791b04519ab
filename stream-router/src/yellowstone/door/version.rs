//! What `GetVersion` says: the keys that Yellowstone's server gives.

use serde_json::json;

/// JSON text. The host's name is kept from strangers; `git` and `buildts` are known only to builds that were told.
pub fn version() -> String {
    json!({
        "version": {
            "package": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "proto": env!("YELLOWSTONE_PROTO_VERSION"),
            "solana": env!("SOLANA_VERSION"),
            "git": env!("BUILD_COMMIT"),
            "rustc": env!("RUSTC_VERSION_NUMBER"),
            "buildts": env!("BUILD_TIME"),
        },
        "extra": { "hostname": null },
    })
    .to_string()
}
