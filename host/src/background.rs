//! Work that takes long and shall disturb nobody: a thread of its own at the lowest priority.
//!
//! Why here: a priority is an effect, and one of the thread that it was set in; threads that it starts inherit it. A
//! thread's priority for disks follows from its niceness (ioprio_set(2)). Route in: a closure. Route out: its value.

use futures::channel::oneshot::{self, Canceled};
use rustix::process::setpriority_process;
use std::future::Future;
use std::io;

/// The lowest.
const NICENESS: i32 = 19;

/// Runs `work` on a thread called `name`; its value comes by the future, an error when it panicked.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<impl Future<Output = Result<T, Canceled>> + Send> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Without it the work is done all the same.
        let _ = setpriority_process(None, NICENESS);
        let _ = sender.send(work());
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_work_has_the_lowest_priority_and_its_caller_keeps_its_own() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let of = || rustix::process::getpriority_process(None).unwrap();
        let inherited = move || (of(), std::thread::scope(|scope| scope.spawn(of).join().unwrap()));
        assert_eq!(spawn("test", inherited).unwrap().await.unwrap(), (19, 19));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
        assert!(spawn("test", || panic!("as told")).unwrap().await.is_err());
    }
}
