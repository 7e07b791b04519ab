//! The real services Heliograph lives on, as child processes of this one: Kafka, PostgreSQL and the ClickHouse door.
//!
//! For `localnet` and for tests; a deployed service never uses it, it gets addresses. Everything binds to loopback, on a
//! free port unless told otherwise, writes its log to a file, counts as started when it answers its own protocol, and
//! dies with the process that started it, SIGKILL included. What a service needs is fetched once into [`cache_dir`] by
//! [`provision`].
//!
//! It does not configure the services of this workspace, other than the door, and it has no opinion about their data.

mod cache;
mod child;
mod door;
mod kafka;
mod kafka_probe;
mod ports;
mod postgres;
mod postgres_wire;
pub mod provision;
mod scratch;

pub use cache::{cache_dir, workspace_binary};
pub use child::{Child, ChildSpec};
pub use door::{ClickHouseDoor, DoorOptions};
pub use kafka::{Kafka, KafkaOptions};
pub use ports::{free_port, port_in_use};
pub use postgres::{Postgres, PostgresOptions};
