//! Controller `boots`: forgets the count of boots that were begun, once this one works.
//!
//! Why not at the health gate: that judges a new release, which the boot loader counts. What is counted here are boots that die in the
//! kernel, and a node whose agent runs for [`WORKS`] is not among them, nor one that is shut down in order. A node with a broken
//! libvirt would otherwise lose its good release after three restarts. Reads: boot.env. Owns: the sector of the count
//! (`release/src/records/boots.rs`), which its initrd writes. Never touches: counters of boot loaders.
//!
//! One round after that time, and one at shutdown. docs/decisions/0048 says why it is like this.

use crate::channels::Context;
use crate::paths::Paths;
use crate::reconcile::{self, Backoff, Next, Retries, Wakes, Woken, blocking};
use crate::reset::place;
use sheaf_host::disk::RawDisk;
use sheaf_release::records::boots;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The agent runs for so long before the boot counts as one that works: as long as a new release must be healthy.
pub const WORKS: Duration = Duration::from_secs(90);
/// Between two tries of what failed: a disk that does not answer.
const RETRY: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));

/// What wakes it besides time: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {}

struct Controller {
    paths: Arc<Paths>,
    start: Instant,
    failures: Retries<()>,
}

/// Runs until shutdown.
pub async fn run(ctx: Context) -> anyhow::Result<()> {
    let (handle, shutdown) = (ctx.controllers.register("boots"), ctx.shutdown.clone());
    let controller =
        Controller { paths: ctx.paths.clone(), start: Instant::now(), failures: Retries::new(RETRY) };
    reconcile::run(controller, Wakes::new(), handle, shutdown).await?;
    // An orderly end is none of those that are counted.
    forget(&ctx.paths).await
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let left = WORKS.saturating_sub(self.start.elapsed());
        if !left.is_zero() {
            return Next::after(left);
        }
        match forget(&self.paths).await {
            Ok(()) => Next::WOKEN,
            Err(error) => {
                tracing::warn!("boots of this release are still counted: {error:#}");
                self.failures.failed((), format!("{error:#}"));
                Next { after: self.failures.next(), waiting_for: None }
            }
        }
    }
}

async fn forget(paths: &Arc<Paths>) -> anyhow::Result<()> {
    let paths = paths.clone();
    blocking(move || {
        let (_, partition) = place(&paths)?;
        Ok(boots::clear(&RawDisk::open(&partition)?)?)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Controller as _;
    use sheaf_config::node::NodeConfig;
    use std::fs;
    use std::path::Path;

    const INSTALL: &str = "6b1f7a3e-93c2-4d55-8f10-012345678900";

    /// A node whose initrd has counted two boots.
    fn node(root: &Path) -> Paths {
        let paths = Paths::under(root);
        fs::create_dir_all(&paths.run).unwrap();
        fs::write(paths.boot_env(), format!("INSTALL_ID={INSTALL}\n")).unwrap();
        let (_, partition) = place(&paths).unwrap();
        fs::create_dir_all(partition.parent().unwrap()).unwrap();
        let mut bytes = vec![0; 1 << 20];
        let text = b"SHEAF-BOOTS 1 00ff 2\n###";
        bytes[boots::OFFSET as usize..][..text.len()].copy_from_slice(text);
        fs::write(&partition, bytes).unwrap();
        paths
    }

    fn counted(paths: &Paths) -> Option<u32> {
        let (_, partition) = place(paths).unwrap();
        boots::read(&RawDisk::open(&partition).unwrap()).unwrap().map(|boots| boots.count)
    }

    fn controller(paths: &Paths) -> Controller {
        Controller { paths: Arc::new(paths.clone()), start: Instant::now(), failures: Retries::new(RETRY) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_boot_works_when_the_agent_has_run_for_a_while_and_not_before() {
        let root = tempfile::tempdir().unwrap();
        let paths = node(root.path());
        let mut controller = controller(&paths);
        assert_eq!(controller.round(&Woken::start()).await, Next::after(WORKS));
        assert_eq!(counted(&paths), Some(2));
        tokio::time::advance(WORKS).await;
        assert_eq!(controller.round(&Woken::start()).await, Next::WOKEN);
        assert_eq!(counted(&paths), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_forgotten_is_tried_again() {
        let root = tempfile::tempdir().unwrap();
        let paths = node(root.path());
        let (_, partition) = place(&paths).unwrap();
        let away = partition.with_extension("away");
        fs::rename(&partition, &away).unwrap();
        let mut controller = controller(&paths);
        tokio::time::advance(WORKS).await;
        assert!(controller.round(&Woken::start()).await.after.is_some());
        fs::rename(&away, &partition).unwrap();
        assert_eq!(controller.round(&Woken::start()).await, Next::WOKEN);
        assert_eq!(counted(&paths), None);
    }

    #[tokio::test]
    async fn an_orderly_end_is_no_boot_that_died() {
        let root = tempfile::tempdir().unwrap();
        let paths = node(root.path());
        let (ctx, publish) = crate::channels::open(paths.clone(), NodeConfig::named("n1"));
        let running = tokio::spawn(run(ctx));
        tokio::task::yield_now().await;
        assert_eq!(counted(&paths), Some(2));
        publish.shutdown.send_replace(true);
        running.await.unwrap().unwrap();
        assert_eq!(counted(&paths), None);
    }
}
