//! Unknown keys, with their place and the nearest known one: serde names a key but not where it is.

use serde_json::Value;

use super::Config;

/// serde names an unknown key but not where it is; this says both, and what may have been meant.
pub(super) fn refuse_unknown_keys(value: &Value) -> Result<(), (String, String)> {
    // The defaults know every key. Serialising plain data cannot fail.
    let known = serde_json::to_value(Config::default()).unwrap_or_default();
    walk(value, &known, "")
}

fn walk(value: &Value, known: &Value, path: &str) -> Result<(), (String, String)> {
    let (Value::Object(value), Value::Object(known)) = (value, known) else {
        return Ok(());
    };
    for (key, inner) in value {
        let at = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let Some(known_inner) = known.get(key) else {
            let nearest = known
                .keys()
                .min_by_key(|candidate| distance(key, candidate));
            let known_keys = known
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            let fix = match nearest.filter(|candidate| distance(key, candidate) <= 3) {
                Some(candidate) => format!("did you mean `{candidate}`? Known here: {known_keys}"),
                None => format!("remove it. Known here: {known_keys}"),
            };
            return Err((format!("unknown key `{at}`"), fix));
        };
        // Broker options are librdkafka's to know.
        if at != "kafka.options" {
            walk(inner, known_inner, &at)?;
        }
    }
    Ok(())
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substitute = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
