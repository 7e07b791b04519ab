//! The door of this build, over a data directory of its own.

use std::path::PathBuf;

use local_services::{ClickHouseDoor, DoorOptions};

pub async fn start_door() -> ClickHouseDoor {
    let door = tokio::task::spawn_blocking(|| {
        ClickHouseDoor::start(DoorOptions {
            binary: Some(PathBuf::from(env!("CARGO_BIN_EXE_warehouse-door"))),
            ..DoorOptions::default()
        })
    });
    door.await.unwrap().unwrap()
}
