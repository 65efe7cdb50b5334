//! A panic about one object stays with that object.
//!
//! Why here: a planner that panics on one Pod or volume would end the agent, and end it again two seconds later, for as
//! long as the object is there; every VM of the node would be without its agent. The release profile unwinds for this
//! (docs/decisions/0010). Route in: a closure that plans or does something for one object. Route out: its value, or
//! [`Panicked`], which is reported like any other failure of that object and retried with a backoff.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A panic: a bug, with its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bug in sheaf-agent: {0}")]
pub struct Panicked(pub String);

impl From<Box<dyn Any + Send>> for Panicked {
    fn from(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Self(text.unwrap_or("panic without a message").to_owned())
    }
}

/// Does `work` for one object. Give it only shared references or values that it owns: what it was changing when it
/// panicked must not be used afterwards.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(Panicked::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_about_one_object_leaves_the_plans_of_others() {
        let plan = |grace: i64| caught(|| 5_i64.clamp(0, if grace == 0 { -1 } else { grace }));
        let plans: Vec<_> = [9, 0, 3].into_iter().map(plan).collect();
        assert_eq!((&plans[0], &plans[2]), (&Ok(5), &Ok(3)));
        assert!(plans[1].as_ref().unwrap_err().to_string().starts_with("bug in sheaf-agent: "));
    }
}
