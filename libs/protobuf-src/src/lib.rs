//! The protoc that `solana-storage-proto`'s build script asks for.
//!
//! The crate published under this name compiles protobuf's C++ for it, about eight CPU-minutes in every profile. The same
//! program, prebuilt, is in `protoc-bin-vendored`, which `yellowstone-grpc-proto` brings anyway.
//!
//! *Does not* provide libprotobuf: nothing here links it.

use std::path::PathBuf;

/// Where protoc lies.
///
/// # Panics
///
/// On a platform for which `protoc-bin-vendored` has no program: set `PROTOC` there, then nobody asks this function.
pub fn protoc() -> PathBuf {
    protoc_bin_vendored::protoc_bin_path()
        .expect("no protoc for this platform: set the variable PROTOC to one")
}
