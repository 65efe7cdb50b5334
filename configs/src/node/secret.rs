//! Text that is never shown.
//!
//! Why here: tokens, password hashes and headers pass through Debug, logs, `--json` and the plan; masking stands in
//! the type, so nobody can forget it. The one writer of `node.toml` lifts the mask for itself alone, on its own
//! thread and for the length of one call. Route in: `load`. Route out: [`Secret::reveal`], named so that a search
//! finds every place that uses a secret.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::cell::Cell;
use std::fmt;

/// What stands for a secret wherever one is shown.
const MASK: &str = "***";

thread_local! {
    /// Whether the writer of node.toml is at work on this thread.
    static CLEAR: Cell<bool> = const { Cell::new(false) };
}

/// Text that is never shown: not in Debug, Display, logs, status, nor where a config is serialised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(inline)]
pub struct Secret(pub String);

impl Secret {
    /// The text itself, for its one use.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{MASK}\"")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if CLEAR.get() { &self.0 } else { MASK })
    }
}

/// Runs `write` with secrets in the clear.
pub(super) fn in_the_clear<T>(write: impl FnOnce() -> T) -> T {
    /// Puts the mask back, also when `write` panics.
    struct Lifted(bool);
    impl Drop for Lifted {
        fn drop(&mut self) {
            CLEAR.set(self.0);
        }
    }
    let _lifted = Lifted(CLEAR.replace(true));
    write()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_everywhere_but_inside_the_writer_also_after_a_panic() {
        let secret = Secret("hush".into());
        assert_eq!((format!("{secret} {secret:?}"), secret.reveal()), ("*** \"***\"".into(), "hush"));
        assert_eq!(in_the_clear(|| serde_json::to_string(&secret).unwrap()), "\"hush\"");
        let broken = std::panic::catch_unwind(|| in_the_clear(|| panic!("a writer that fails")));
        assert!(broken.is_err());
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }
}
