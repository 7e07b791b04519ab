//! Reads Prometheus text: one figure is wanted of it.

use std::time::Duration;

/// How far the service behind this admin port is behind: the sum of its gauges whose names end in `lag_records`,
/// `lag` or `lag_offsets`. `None` when it has none or does not answer.
pub async fn lag(client: &reqwest::Client, port: u16) -> Option<f64> {
    let reply = client
        .get(format!("http://127.0.0.1:{port}/metrics"))
        .timeout(Duration::from_secs(3))
        .send()
        .await
        .ok()?;
    sum_of(&reply.text().await.ok()?, |name| {
        ["lag", "lag_records", "lag_offsets"]
            .iter()
            .any(|end| name.ends_with(end))
    })
}

fn sum_of(text: &str, wanted: impl Fn(&str) -> bool) -> Option<f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.split('{').next()?;
            wanted(name).then(|| value.parse::<f64>().ok())?
        })
        .reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::sum_of;

    #[test]
    fn labels_and_comments_do_not_disturb() {
        let text =
            "# HELP a_lag x\na_lag{partition=\"0\"} 3\na_lag{partition=\"1\"} 4\nb_total 9\n";
        assert_eq!(sum_of(text, |name| name.ends_with("lag")), Some(7.0));
        assert_eq!(sum_of(text, |name| name == "c"), None);
    }
}
