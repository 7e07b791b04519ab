//! What each key may use: statements at a time, and sums over windows of time. Pure; the time is passed in.
//!
//! A statement is admitted when no window is used up, and pays when it ends: the engine tells only then what it read. What
//! is left of a window also bounds the statement itself, so a key overdraws by at most one statement per place it has
//! ([`Quota::concurrent_queries`]). Windows are aligned to the epoch, as a ClickHouse server's intervals are.

use std::{collections::HashMap, time::SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::{Kind, ServerError};

/// A template that users name; every key of a user is counted for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    pub name: String,
    /// 0: no limit.
    pub concurrent_queries: usize,
    pub windows: Vec<Window>,
}

/// Sums over one interval. 0 means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Window {
    pub seconds: u64,
    pub queries: u64,
    pub errors: u64,
    pub rows_read: u64,
    pub bytes_read: u64,
    pub rows_returned: u64,
    pub execution_seconds: u64,
}

/// What statements have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub queries: u64,
    pub errors: u64,
    pub rows_read: u64,
    pub bytes_read: u64,
    pub rows_returned: u64,
    pub execution_milliseconds: u64,
}

/// What a statement may still read and take, over all windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    pub rows_read: Option<Bound>,
    pub bytes_read: Option<Bound>,
    pub milliseconds: Option<Bound>,
}

/// The rest of the window that is nearest to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub rest: u64,
    pub most: u64,
    pub window_seconds: u64,
}

/// Whom usage is counted for: user and key.
pub type Holder = (String, String);

#[derive(Default)]
struct Account {
    running: usize,
    /// Number of the interval, and what was used in it; one per window of the template.
    used: Vec<(u64, Usage)>,
}

/// See the module.
#[derive(Default)]
pub struct Quotas {
    templates: HashMap<String, Quota>,
    accounts: Mutex<HashMap<Holder, Account>>,
}

impl Quotas {
    pub fn new(templates: &[Quota]) -> Self {
        let templates = templates
            .iter()
            .map(|quota| (quota.name.clone(), quota.clone()));
        Self {
            templates: templates.collect(),
            accounts: Mutex::default(),
        }
    }

    /// Takes a place for one statement, and says what it may use. To be followed by [`Quotas::release`].
    pub fn admit(
        &self,
        template: &str,
        holder: &Holder,
        now: SystemTime,
    ) -> Result<Left, ServerError> {
        let Some(quota) = self.templates.get(template) else {
            return Ok(Left::default());
        };
        let mut accounts = self.accounts.lock();
        let account = accounts.entry(holder.clone()).or_default();
        if quota.concurrent_queries > 0 && account.running >= quota.concurrent_queries {
            return Err(ServerError::new(
                Kind::TooManyQueries,
                format!(
                    "Too many simultaneous queries for user {}. Current: {}, maximum: {}",
                    holder.0, account.running, quota.concurrent_queries
                ),
            ));
        }
        account.turn_over(quota, now);
        let mut left = Left::default();
        for (window, (_, used)) in quota.windows.iter().zip(&account.used) {
            if let Some((resource, used, most)) = window.exhausted(used) {
                let used = used.to_string();
                return Err(exceeded(
                    template,
                    holder,
                    window.seconds,
                    now,
                    resource,
                    &used,
                    most,
                ));
            }
            left.tighten(window, used);
        }
        account.running += 1;
        for (_, used) in &mut account.used {
            used.queries += 1;
        }
        Ok(left)
    }

    /// Gives the place back and books the cost; `cost.queries` was booked on admission.
    pub fn release(&self, template: &str, holder: &Holder, cost: Usage, now: SystemTime) {
        let Some(quota) = self.templates.get(template) else {
            return;
        };
        let mut accounts = self.accounts.lock();
        let Some(account) = accounts.get_mut(holder) else {
            return;
        };
        account.running = account.running.saturating_sub(1);
        account.turn_over(quota, now);
        for (_, used) in &mut account.used {
            used.errors += cost.errors;
            used.rows_read += cost.rows_read;
            used.bytes_read += cost.bytes_read;
            used.rows_returned += cost.rows_returned;
            used.execution_milliseconds += cost.execution_milliseconds;
        }
    }

    /// The quota's own error for a statement that the engine stopped at what the quota had left.
    pub fn exceeded(
        &self,
        template: &str,
        holder: &Holder,
        resource: &str,
        bound: Bound,
        now: SystemTime,
    ) -> ServerError {
        let used = bound.most.saturating_sub(bound.rest);
        let used = format!("{used} and more than {} by this query", bound.rest);
        exceeded(
            template,
            holder,
            bound.window_seconds,
            now,
            resource,
            &used,
            bound.most,
        )
    }
}

impl Account {
    /// Forgets what belongs to an earlier interval.
    fn turn_over(&mut self, quota: &Quota, now: SystemTime) {
        self.used.resize(quota.windows.len(), (0, Usage::default()));
        for (window, (interval, used)) in quota.windows.iter().zip(&mut self.used) {
            let current = seconds(now) / window.seconds.max(1);
            if *interval != current {
                (*interval, *used) = (current, Usage::default());
            }
        }
    }
}

impl Window {
    /// Limits and what they limit, by the names a server uses.
    fn limits(&self, used: &Usage) -> [(&'static str, u64, u64); 6] {
        let milliseconds = self.execution_seconds.saturating_mul(1_000);
        [
            ("queries", used.queries, self.queries),
            ("errors", used.errors, self.errors),
            ("read_rows", used.rows_read, self.rows_read),
            ("read_bytes", used.bytes_read, self.bytes_read),
            ("result_rows", used.rows_returned, self.rows_returned),
            (
                "execution_time_ms",
                used.execution_milliseconds,
                milliseconds,
            ),
        ]
    }

    fn exhausted(&self, used: &Usage) -> Option<(&'static str, u64, u64)> {
        self.limits(used)
            .into_iter()
            .find(|(_, used, most)| *most > 0 && used >= most)
    }
}

impl Left {
    fn tighten(&mut self, window: &Window, used: &Usage) {
        let narrow = |bound: &mut Option<Bound>, used: u64, most: u64| {
            let rest = most.saturating_sub(used);
            if most > 0 && bound.is_none_or(|bound| rest < bound.rest) {
                *bound = Some(Bound {
                    rest,
                    most,
                    window_seconds: window.seconds,
                });
            }
        };
        narrow(&mut self.rows_read, used.rows_read, window.rows_read);
        narrow(&mut self.bytes_read, used.bytes_read, window.bytes_read);
        let most = window.execution_seconds.saturating_mul(1_000);
        narrow(&mut self.milliseconds, used.execution_milliseconds, most);
    }
}

fn exceeded(
    template: &str,
    (user, key): &Holder,
    window_seconds: u64,
    now: SystemTime,
    resource: &str,
    used: &str,
    most: u64,
) -> ServerError {
    let length = window_seconds.max(1);
    let end = (seconds(now) / length + 1) * length;
    let key = if key.is_empty() {
        String::new()
    } else {
        format!(" (key `{key}`)")
    };
    ServerError::new(
        Kind::QuotaExceeded,
        format!(
            "Quota for user `{user}`{key} for {window_seconds}s has been exceeded: {resource} = {used}/{most}. \
             Interval will end in {} s. Name of quota template: `{template}`",
            end - seconds(now)
        ),
    )
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
