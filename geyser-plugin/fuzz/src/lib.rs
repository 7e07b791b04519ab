//! What the fuzz targets are made of: reports drawn from a fuzzer's bytes, and the plain way to encode them.

#[path = "../../src/encode/plain.rs"]
pub mod plain;
pub mod report;
