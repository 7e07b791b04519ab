//! Named sessions: one engine session per `session_id`, used by one request at a time, closed when idle too long.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    error::{Kind, ServerError},
    request::SessionRef,
    server::{Backend, Door},
};
use crate::engine::Handle;

enum Entry {
    InUse,
    Idle { handle: Handle, until: Instant },
}

/// See the module. Keys carry the user's name, so that no user can enter another's session.
pub struct Sessions {
    entries: Mutex<HashMap<(String, String), Entry>>,
    max: usize,
}

impl Sessions {
    pub fn new(max: usize) -> Self {
        Self {
            entries: Mutex::new(HashMap::new()),
            max,
        }
    }

    /// Takes the session for one request. `Ok(None)`: it is new, and now reserved.
    pub fn take(
        &self,
        user: &str,
        session: &SessionRef,
        now: Instant,
    ) -> Result<Option<Handle>, ServerError> {
        let key = (user.to_owned(), session.id.clone());
        let mut entries = self.entries.lock();
        match entries.remove(&key) {
            Some(Entry::InUse) => {
                entries.insert(key, Entry::InUse);
                Err(ServerError::new(
                    Kind::SessionLocked,
                    format!("Session {} is locked by a concurrent client", session.id),
                ))
            }
            Some(Entry::Idle { handle, until }) if now < until => {
                entries.insert(key, Entry::InUse);
                Ok(Some(handle))
            }
            _ if session.must_exist => Err(ServerError::new(
                Kind::UnknownSession,
                format!("Session {} not found", session.id),
            )),
            _ if entries.len() >= self.max => Err(ServerError::new(
                Kind::TooManyQueries,
                format!(
                    "{} sessions are open, the most that limits.sessions allows; let idle ones time out or raise it",
                    self.max
                ),
            )),
            // An expired handle is dropped here, and the session starts anew.
            _ => {
                entries.insert(key, Entry::InUse);
                Ok(None)
            }
        }
    }

    /// Puts the session back after a request; without a handle it ends.
    pub fn put(&self, user: &str, session: &SessionRef, handle: Option<Handle>, now: Instant) {
        let key = (user.to_owned(), session.id.clone());
        let mut entries = self.entries.lock();
        match handle {
            Some(handle) => {
                let until = now + Duration::from_secs(session.timeout_seconds);
                entries.insert(key, Entry::Idle { handle, until });
            }
            None => {
                entries.remove(&key);
            }
        }
    }

    /// Takes out the sessions whose time is over.
    pub fn expired(&self, now: Instant) -> Vec<Handle> {
        let mut entries = self.entries.lock();
        let over: Vec<_> = entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Idle { until, .. } if *until <= now))
            .map(|(key, _)| key.clone())
            .collect();
        over.iter()
            .filter_map(|key| match entries.remove(key) {
                Some(Entry::Idle { handle, .. }) => Some(handle),
                _ => None,
            })
            .collect()
    }

    /// All idle sessions, for the end.
    pub fn drain(&self) -> Vec<Handle> {
        let mut entries = self.entries.lock();
        entries
            .drain()
            .filter_map(|(_, entry)| match entry {
                Entry::Idle { handle, .. } => Some(handle),
                Entry::InUse => None,
            })
            .collect()
    }
}

/// An engine session on loan to one call: out of the pool, or of a named session.
pub struct HeldSession {
    door: Arc<Door>,
    user: String,
    named: Option<SessionRef>,
    pub handle: Option<Handle>,
    returned: bool,
}

impl HeldSession {
    pub fn take(
        door: &Arc<Door>,
        user: &str,
        named: Option<SessionRef>,
    ) -> Result<Self, ServerError> {
        let handle = match &named {
            Some(session) => door.sessions.take(user, session, Instant::now())?,
            None => None,
        };
        Ok(Self {
            door: door.clone(),
            user: user.to_owned(),
            named,
            handle,
            returned: false,
        })
    }

    pub fn put_back(mut self, handle: Handle) {
        self.returned = true;
        match &self.named {
            Some(session) => self.door.sessions.put(
                &self.user,
                session,
                Some(handle).filter(|handle| !handle.abandoned),
                Instant::now(),
            ),
            None => {
                if let Backend::Engine(engine) = &self.door.backend {
                    engine.give_back(handle);
                }
            }
        }
    }
}

impl Drop for HeldSession {
    /// The call failed before it had an engine session, or its thread panicked: the named session ends.
    fn drop(&mut self) {
        if let Some(session) = self.named.as_ref().filter(|_| !self.returned) {
            self.door
                .sessions
                .put(&self.user, session, self.handle.take(), Instant::now());
        }
    }
}
