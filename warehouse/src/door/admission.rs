//! A statement's way through its user's quota: a place and what is left on the way in, the bill on the way out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    config::ReaderLimits,
    error::ServerError,
    execute::Outcome,
    quota::{Bound, Holder, Left, Usage},
    server::Door,
    users::User,
};

/// A place that the user's quota gave to one statement. Dropped unused, it is given back.
pub struct Admission {
    door: Arc<Door>,
    template: String,
    holder: Holder,
    left: Left,
    paid: bool,
}

impl Admission {
    pub fn ask(door: &Arc<Door>, user: &User, key: &str) -> Result<Self, ServerError> {
        let holder = (user.name.clone(), key.to_owned());
        let left = door.quotas.admit(&user.quota, &holder, SystemTime::now())?;
        Ok(Self {
            door: door.clone(),
            template: user.quota.clone(),
            holder,
            left,
            paid: false,
        })
    }

    pub fn pay(mut self, outcome: &Outcome, elapsed: Duration) {
        self.paid = true;
        let cost = Usage {
            queries: 0,
            errors: u64::from(outcome.error.is_some()),
            rows_read: outcome.progress.read_rows,
            bytes_read: outcome.progress.read_bytes,
            rows_returned: outcome.progress.result_rows,
            execution_milliseconds: elapsed.as_millis() as u64,
        };
        let now = SystemTime::now();
        self.door
            .quotas
            .release(&self.template, &self.holder, cost, now);
    }

    /// The limits of one statement: the role's, tightened to what the quota has left.
    pub fn tighten(&self, mut limits: ReaderLimits) -> ReaderLimits {
        let narrow = |limit: &mut u64, bound: Option<u64>| {
            if let Some(bound) = bound.filter(|bound| *limit == 0 || bound < limit) {
                *limit = bound;
            }
        };
        let rest = |bound: Option<Bound>| bound.map(|bound| bound.rest);
        narrow(&mut limits.rows_read, rest(self.left.rows_read));
        narrow(&mut limits.bytes_read, rest(self.left.bytes_read));
        let seconds = rest(self.left.milliseconds).map(|rest| rest.div_ceil(1_000));
        narrow(&mut limits.seconds, seconds);
        limits
    }

    /// Gives an engine limit that stood for the quota the quota's name.
    pub fn rewording(
        &self,
        limits: &ReaderLimits,
    ) -> Box<dyn Fn(ServerError) -> ServerError + Send + 'static> {
        let of_quota = |limit: u64, bound: Option<Bound>, unit: u64| {
            bound.filter(|bound| bound.rest.div_ceil(unit) == limit)
        };
        let rows = of_quota(limits.rows_read, self.left.rows_read, 1);
        let bytes = of_quota(limits.bytes_read, self.left.bytes_read, 1);
        let time = of_quota(limits.seconds, self.left.milliseconds, 1_000);
        let (door, template) = (self.door.clone(), self.template.clone());
        let holder = self.holder.clone();
        Box::new(move |error| {
            let bound = match error.code {
                158 => rows.map(|bound| ("read_rows", bound)),
                307 => bytes.map(|bound| ("read_bytes", bound)),
                159 => time.map(|bound| ("execution_time_ms", bound)),
                _ => None,
            };
            match bound {
                Some((resource, bound)) => {
                    let now = SystemTime::now();
                    door.quotas
                        .exceeded(&template, &holder, resource, bound, now)
                }
                None => error,
            }
        })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.paid {
            self.door.quotas.release(
                &self.template,
                &self.holder,
                Usage::default(),
                SystemTime::now(),
            );
        }
    }
}
