//! Renews the control plane's certificates and administrators' certificates while the node runs.
//!
//! Why here: a node may run for years between two starts, and kubeadm's certificates last one. Route in: time, and
//! the steps of [`super::control_plane`], which do nothing where there is nothing to do. Route out: those steps,
//! taken again; a failure is told and tried again, and never ends the node's membership.

use crate::cluster::failure::Failure;
use std::convert::Infallible;
use std::time::Duration;

/// When to look.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// Between two looks. Certificates are renewed when four months are left, so this may be long; it is short enough
    /// to fix what was deleted by hand (cluster-info, role bindings) within a working day.
    pub look: Duration,
    /// Before a step that failed is tried again.
    pub retry: Duration,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { look: Duration::from_secs(6 * 3600), retry: Duration::from_secs(5 * 60) }
    }
}

/// Looks forever. `again` takes the steps again.
pub async fn upkeep<F>(cadence: Cadence, mut again: impl FnMut() -> F) -> Infallible
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut pause = cadence.look;
    loop {
        tokio::time::sleep(pause).await; // until the next look is due
        pause = match again().await {
            Ok(()) => cadence.look,
            Err(failure) => {
                tracing::error!(
                    "renewing the control plane's certificates: {}: {:#}. Remedy: {}",
                    failure.step,
                    failure.cause,
                    failure.remedy
                );
                cadence.retry
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::create::kubeadm::ControlPlane;
    use crate::cluster::create::pki::tests::{YEAR, fake_kubeadm, plane, temporary};
    use std::time::SystemTime;

    #[tokio::test]
    async fn certificates_that_get_old_while_the_agent_runs_are_made_anew_after_a_failure_too() {
        let pki = temporary("upkeep");
        let run = fake_kubeadm();
        let plane: ControlPlane = plane();
        assert!(pki.ensure(&plane, &run, SystemTime::now()).unwrap());
        let first = std::fs::read(pki.file("apiserver.crt")).unwrap();
        // Each look finds the clock three months further; the second one fails.
        let mut looks = 0;
        let again = || {
            looks += 1;
            let result = match looks {
                2 => Err(Failure::new("a step", anyhow::anyhow!("no room"), "make room")),
                _ => pki
                    .ensure(&plane, &run, SystemTime::now() + looks * YEAR / 4)
                    .map(drop)
                    .map_err(|_| panic!()),
            };
            std::future::ready(result)
        };
        let cadence = Cadence { look: Duration::from_millis(2), retry: Duration::from_millis(1) };
        let renewed = async {
            while std::fs::read(pki.file("apiserver.crt")).unwrap() == first {
                tokio::time::sleep(Duration::from_millis(1)).await; // the next look at the file
            }
        };
        tokio::select! {
            never = upkeep(cadence, again) => match never {},
            done = tokio::time::timeout(Duration::from_secs(20), renewed) => done.expect("renewed in time"),
        }
        std::fs::remove_dir_all(&pki.dir).unwrap();
    }
}
