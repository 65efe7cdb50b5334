//! The one door to work that blocks a thread.
//!
//! Why here: the agent has one thread for all its controllers, and the lease is renewed on it. Whatever runs a program,
//! waits for a lock of a file or reads much from a disk goes through here. Route in: a closure. Route out: its value.

use super::panics::Panicked;

/// Does `work`, which may block, on a thread of its own. Panics in it are an error.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => Err(Panicked::from(error.into_panic()).into()),
        // Only while the agent ends.
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_on_the_thread_is_an_error_with_its_message() {
        let error = blocking::<()>(|| panic!("no such slot: {}", 7)).await.unwrap_err();
        assert_eq!(error.to_string(), "bug in sheaf-agent: no such slot: 7");
    }
}
