//! Statements that were printed lately: the engine's parser prints a text the same way every time, and programs send the same
//! few texts again and again. Asking it costs as much as a short statement itself.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::engine::Printed;

const STATEMENTS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Longer ones are sent once.
const BYTES_MAX: usize = 16 << 10;

/// See the module.
pub struct PrintedStatements(Mutex<LruCache<Vec<u8>, Printed>>);

impl Default for PrintedStatements {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(STATEMENTS_MAX)))
    }
}

impl PrintedStatements {
    /// `text` as `print` prints it, now or earlier. Errors are not kept, nor what has a secret.
    pub fn of<E>(
        &self,
        text: &[u8],
        print: impl FnOnce() -> Result<Printed, E>,
    ) -> Result<Printed, E> {
        if let Some(known) = self.0.lock().get(text) {
            return Ok(known.clone());
        }
        let printed = print()?;
        if text.len() <= BYTES_MAX && !printed.text.contains("[HIDDEN]") {
            self.0.lock().put(text.to_vec(), printed.clone());
        }
        Ok(printed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> Printed {
        Printed {
            hash: 1,
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_text_is_printed_once_unless_it_failed_or_has_a_secret() {
        let statements = PrintedStatements::default();
        let asked = std::cell::Cell::new(0);
        let of = |text: &str, answer: Result<Printed, ()>| {
            statements.of(text.as_bytes(), || {
                asked.set(asked.get() + 1);
                answer
            })
        };
        assert_eq!(
            of("select 1", Ok(printed("SELECT 1"))),
            Ok(printed("SELECT 1"))
        );
        assert_eq!(of("select 1", Err(())), Ok(printed("SELECT 1")));
        assert_eq!(asked.get(), 1);
        assert_eq!(of("selec", Err(())), Err(()));
        assert_eq!(of("selec", Err(())), Err(()));
        assert_eq!(asked.get(), 3);
        let secret = printed("CREATE USER a IDENTIFIED BY '[HIDDEN]'");
        assert_eq!(of("create user", Ok(secret.clone())), Ok(secret));
        assert_eq!(of("create user", Err(())), Err(()));
        let long = "x".repeat(BYTES_MAX + 1);
        assert!(of(&long, Ok(printed("x"))).is_ok() && of(&long, Err(())).is_err());
    }
}
