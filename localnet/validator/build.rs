//! Lets the finished binary find the RocksDB it was linked against. `./heliograph` takes RocksDB from its official
//! Maven package instead of compiling it (a quarter of the validator's build) and says where by `ROCKSDB_LIB_DIR`.

fn main() {
    println!("cargo:rerun-if-env-changed=ROCKSDB_LIB_DIR");
    if let Ok(dir) = std::env::var("ROCKSDB_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
    }
}
