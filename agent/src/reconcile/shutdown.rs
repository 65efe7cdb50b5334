//! The end of the agent, as controllers see it.

use tokio::sync::watch;

/// Tells a controller to return.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// One, and what requests it.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the agent ends.
    pub async fn requested(&mut self) {
        // An error means that the runtime is gone, which is an end as well.
        let _ = self.0.wait_for(|end| *end).await;
    }

    /// Whether the agent is ending.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}
