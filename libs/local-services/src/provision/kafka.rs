//! Apache Kafka's jars from Maven Central.

use std::{path::PathBuf, process::Command};

use anyhow::Context;

use super::{Progress, Unit, once, run_measured};

const VERSION: &str = "4.4.0";
const JARS: u64 = 45;
// Of the version that Kafka's own dependency on slf4j-api resolves to; another one logs nothing.
const SLF4J: &str = "1.7.36";

/// The directory whose `libs/*.jar` are Kafka.
pub fn kafka(progress: &Progress) -> anyhow::Result<PathBuf> {
    let main_jar = format!("libs/kafka_2.13-{VERSION}.jar");
    once(
        &format!("kafka-{VERSION}"),
        |dir| dir.join(&main_jar).exists(),
        |dir| {
            let pom = dir.join("pom.xml");
            std::fs::write(&pom, project()).context("writing pom.xml")?;
            let libs = dir.join("libs");
            let mut maven = Command::new("mvn");
            maven
                .args(["-q", "-B", "-f"])
                .arg(&pom)
                .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
                .arg(format!("-DoutputDirectory={}", libs.display()));
            run_measured(
                &mut maven,
                &format!("fetching Kafka {VERSION} from Maven Central failed"),
                || {
                    let jars = std::fs::read_dir(&libs).map_or(0, |entries| entries.count() as u64);
                    progress.update(&format!("Kafka {VERSION}"), jars, JARS, Unit::Files);
                },
            )
        },
    )
}

fn project() -> String {
    let exclusions: String = ["log4j-slf4j-impl", "log4j-slf4j2-impl", "log4j-1.2-api"]
        .iter()
        .map(|name| {
            format!("<exclusion><groupId>org.apache.logging.log4j</groupId><artifactId>{name}</artifactId></exclusion>")
        })
        .collect();
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>heliograph.local</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
      <exclusions>{exclusions}</exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{SLF4J}</version></dependency>
  </dependencies>
</project>
"#
    )
}
