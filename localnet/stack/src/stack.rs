//! The wiring: what is started, in which order, and how it ends.

use std::time::Duration;

use anyhow::Context;
use event_log::{EventLog, KafkaConfig, KafkaLog};
use local_services::{
    ClickHouseDoor, DoorOptions, Kafka, KafkaOptions, Postgres, PostgresOptions, provision,
    workspace_binary,
};

use crate::{
    configs::{self, Wiring},
    layout::{Ports, RunDir, ServiceNote, State},
    progress,
    service::{Service, Until, check_binaries},
    source::{Plan, Source},
};

const DATABASE: &str = "heliograph";
const DRAIN_LIMIT: Duration = Duration::from_secs(15);

/// A running stack. Dropping it kills what [`Stack::stop`] has not stopped.
pub struct Stack {
    pub dir: RunDir,
    pub ports: Ports,
    pub client: reqwest::Client,
    // In the order of starting; fields are dropped in this order, `stop` goes the other way.
    pub source: Source,
    pub router: Service,
    pub ledger: Service,
    pub warehouse: Service,
    pub sender: Service,
    pub edge: Service,
    door: ClickHouseDoor,
    postgres: Postgres,
    kafka: Kafka,
}

impl Stack {
    /// Starts everything and returns when the services do their work. `say` gets one line per step.
    pub async fn start(
        dir: RunDir,
        ports: Ports,
        plan: &Plan,
        say: &progress::Say,
    ) -> anyhow::Result<Self> {
        check_binaries(&[
            "stream-router",
            "ledger-sink",
            "warehouse-sink",
            "warehouse-door",
            "tx-sender",
            "auth-edge",
            "replay-blocks",
        ])?;
        ports.check(plan.is_validator())?;
        provision_all(say)?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()?;

        say.step("starting Kafka, PostgreSQL and the ClickHouse engine");
        let (kafka, postgres, door) = start_stores(&dir, &ports)?;
        postgres.create_database(DATABASE)?;
        let wiring = Wiring {
            ports,
            brokers: kafka.brokers(),
            database_url: postgres.url(DATABASE),
        };

        // The validator first: the sender and the edge ask its RPC for the leader schedule and blockhashes.
        let source = Source::start(plan, &dir, &wiring, say).await?;

        say.step("starting the router, the sinks, the sender and the edge");
        let router = Service::start(
            &dir,
            "stream-router",
            &configs::router(&wiring),
            ports.router_admin,
        )?;
        let ledger = Service::start(
            &dir,
            "ledger-sink",
            &configs::ledger(&wiring),
            ports.ledger_admin,
        )?;
        let warehouse = Service::start(
            &dir,
            "warehouse-sink",
            &configs::warehouse(&wiring),
            ports.warehouse_admin,
        )?;
        let sender = Service::start(
            &dir,
            "tx-sender",
            &configs::sender(&wiring),
            ports.sender_admin,
        )?;
        let edge_data = dir.data("edge");
        std::fs::create_dir_all(&edge_data)?;
        let edge = Service::start(
            &dir,
            "auth-edge",
            &configs::edge(&wiring, &edge_data),
            ports.edge_admin,
        )?;
        let mut stack = Self {
            dir,
            ports,
            client,
            source,
            router,
            ledger,
            warehouse,
            sender,
            edge,
            door,
            postgres,
            kafka,
        };
        stack.save_state(plan)?;
        stack.wait_for_services(plan, say).await?;
        Ok(stack)
    }

    async fn wait_for_services(&mut self, plan: &Plan, say: &progress::Say) -> anyhow::Result<()> {
        // Without a validator there is nobody to send to: the sender and the edge live, and say what they miss.
        let outward = if plan.is_validator() {
            Until::Ready
        } else {
            Until::Alive
        };
        for (service, until) in [
            (&mut self.router, Until::Ready),
            (&mut self.ledger, Until::Ready),
            (&mut self.warehouse, Until::Ready),
            (&mut self.sender, outward),
            (&mut self.edge, outward),
        ] {
            let name = service.child.name().to_owned();
            service
                .wait(&self.client, until, |reason| {
                    say.waiting(&format!("{name}: {reason}"));
                })
                .await?;
            say.ready(&name);
        }
        Ok(())
    }

    pub fn save_state(&self, plan: &Plan) -> anyhow::Result<()> {
        self.dir.save(&State {
            pid: std::process::id(),
            source: plan.to_string(),
            ports: self.ports,
            services: self.notes(),
        })
    }

    fn notes(&self) -> Vec<ServiceNote> {
        let outside =
            |name: &str, pid: u32, log: std::path::PathBuf, admin: Option<u16>| ServiceNote {
                name: name.to_owned(),
                pid,
                log,
                admin,
            };
        let mut notes = vec![
            outside(
                "kafka",
                self.kafka.pid(),
                self.dir.data("kafka").join("kafka.log"),
                None,
            ),
            outside(
                "postgres",
                self.postgres.pid(),
                postgres_log(&self.postgres),
                None,
            ),
            outside(
                "warehouse-door",
                self.door.pid(),
                self.dir.data("door").join("door.log"),
                Some(self.ports.door_admin),
            ),
        ];
        notes.push(self.source.note());
        notes.extend(self.services().map(Service::note));
        notes
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        [
            &self.router,
            &self.ledger,
            &self.warehouse,
            &self.sender,
            &self.edge,
        ]
        .into_iter()
    }

    /// The first service that has ended although nobody asked it to.
    pub fn first_dead(&mut self) -> Option<anyhow::Error> {
        for child in [
            &mut self.router.child,
            &mut self.ledger.child,
            &mut self.warehouse.child,
            &mut self.sender.child,
            &mut self.edge.child,
            self.door.child(),
            self.postgres.child(),
            self.kafka.child(),
        ] {
            if let Some(status) = child.exit_status() {
                return Some(child.failure(&format!("ended unexpectedly ({status})")));
            }
        }
        self.source.failure()
    }

    pub fn log(&self) -> anyhow::Result<KafkaLog> {
        KafkaLog::new(KafkaConfig::new(self.kafka.brokers())).context("Kafka client")
    }

    /// The log behind the trait, for reading.
    pub fn event_log(&self) -> anyhow::Result<std::sync::Arc<dyn EventLog>> {
        Ok(std::sync::Arc::new(self.log()?))
    }

    pub fn database_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    pub fn clickhouse_url(&self) -> String {
        self.door.url()
    }

    /// Drains in the reverse order of starting, but for the source, which stops first so that nothing new comes.
    pub fn stop(&mut self, say: &progress::Say) {
        self.source.stop();
        for service in [
            &mut self.edge,
            &mut self.sender,
            &mut self.warehouse,
            &mut self.ledger,
            &mut self.router,
        ] {
            say.stopping(service.child.name());
            service.child.stop(DRAIN_LIMIT);
        }
        say.stopping("ClickHouse engine, PostgreSQL, Kafka");
        self.door.stop();
        self.postgres.stop();
        self.kafka.stop();
        self.dir.forget();
    }
}

/// Fetches what is missing: nothing at all on a machine that has run this before.
pub fn provision_all(say: &progress::Say) -> anyhow::Result<()> {
    let bars = say.provisioning();
    provision::system_packages(&provision::packages(), &bars)?;
    provision::postgres(&bars)?;
    provision::kafka(&bars)?;
    provision::libchdb(&bars)?;
    Ok(())
}

// Three independent starts of one to four seconds each, side by side.
fn start_stores(dir: &RunDir, ports: &Ports) -> anyhow::Result<(Kafka, Postgres, ClickHouseDoor)> {
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let kafka = scope.spawn(|| {
                Kafka::start(KafkaOptions {
                    dir: Some(dir.data("kafka")),
                    port: Some(ports.kafka),
                    ..KafkaOptions::default()
                })
            });
            let postgres = scope.spawn(|| {
                Postgres::start(PostgresOptions {
                    dir: Some(dir.data("postgres")),
                    port: Some(ports.postgres),
                })
            });
            let door = scope.spawn(|| {
                ClickHouseDoor::start(DoorOptions {
                    dir: Some(dir.data("door")),
                    port: Some(ports.clickhouse),
                    binary: Some(workspace_binary("warehouse-door")),
                    admin: Some(format!("127.0.0.1:{}", ports.door_admin)),
                })
            });
            let join = "a starting thread panicked";
            Ok((
                kafka.join().map_err(|_| anyhow::anyhow!(join))??,
                postgres.join().map_err(|_| anyhow::anyhow!(join))??,
                door.join().map_err(|_| anyhow::anyhow!(join))??,
            ))
        })
    })
}

fn postgres_log(postgres: &Postgres) -> std::path::PathBuf {
    postgres.data_dir().with_file_name("postgres.log")
}
