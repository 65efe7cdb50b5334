//! The same thing again and again: what fails once in twenty runs is found here and not in somebody's CI.
//!
//! `SHEAF_ROUNDS` says how often; without it, as often as `make test-all` can wait for.

use sheaf_tests::harness::{Case, case, field};

const VM: &str = include_str!("../../docs/examples/vm.yaml");

fn rounds() -> u32 {
    std::env::var("SHEAF_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5)
}

/// Every round is a machine of its own, restored: so each VM is the first of its node.
#[test]
fn the_first_vm_of_a_node_starts_every_time() {
    case("soak-first-vm", |case: &Case| {
        let mut failures = Vec::new();
        for round in 1..=rounds() {
            let begin = std::time::Instant::now();
            let started = case.cluster().and_then(|cluster| cluster.start_vm(VM, "wheat"));
            match started {
                Ok(up) => {
                    eprintln!(
                        "round {round}: {} s, guest {}",
                        begin.elapsed().as_secs(),
                        field(&up, "uptime")
                    )
                }
                Err(error) => {
                    eprintln!("round {round}: {} s: {error:#}", begin.elapsed().as_secs());
                    failures.push(round);
                }
            }
        }
        anyhow::ensure!(failures.is_empty(), "rounds {failures:?} of {} failed", rounds());
        Ok(())
    });
}
