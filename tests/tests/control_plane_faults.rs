//! Faults of three control-plane nodes, one after the other, under a load of VM changes.
//!
//! Why here: only etcd, the API servers and the controllers themselves show that nothing is lost that was acknowledged, that one leads,
//! and that clients are answered. `SHEAF_FAULT_MINUTES` says how long faults come (5), `SHEAF_FAULT_SEED` repeats an order. Route in:
//! processes in three network namespaces on one bridge, the agent's own code. Route out: a table for docs/reliability.md, printed and
//! in `target/sheaf/faults.md`.

use anyhow::{Result, bail, ensure};
use sheaf_tests::faults::plan::{Order, minutes, seed};
use sheaf_tests::faults::report::Report;
use sheaf_tests::faults::rig::Rig;
use std::time::{Instant, SystemTime};

/// Strikes until the time is over.
async fn strike(rig: &mut Rig, report: &mut Report) -> Result<()> {
    let begin = Instant::now();
    let mut order = Order::new(report.seed);
    let judge = rig.judge.clone();
    while begin.elapsed() < minutes(std::env::var("SHEAF_FAULT_MINUTES").ok().as_deref())? {
        let kind = order.next_kind();
        let target = order.target(kind, rig.leading(kind).await);
        println!("{:>4.0} s: {kind}, of {}", begin.elapsed().as_secs_f64(), rig.name(target));
        let wrong = tokio::select! {
            wrong = judge.fails() => wrong,
            struck = rig.fault(kind, target, report) => match struck {
                Ok(()) => continue,
                Err(error) => format!("{error:#}"),
            },
        };
        bail!("{wrong}\nafter {} faults, SHEAF_FAULT_SEED={}\n{}", report.count(), report.seed, rig.tails());
    }
    report.lasted = begin.elapsed();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_one_member_loses_an_acknowledged_write_or_silences_clients_for_ten_seconds() -> Result<()>
{
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seed = seed(std::env::var("SHEAF_FAULT_SEED").ok().as_deref(), now)?;
    println!("SHEAF_FAULT_SEED={seed}");
    let mut rig = Rig::start().await?;
    rig.run();
    let mut report = Report::of(seed);
    strike(&mut rig, &mut report).await?;
    rig.finish(&mut report).await?;
    let text = report.markdown();
    println!("{text}");
    let folder = sheaf_machine::workspace()?.join("target/sheaf");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("faults.md"), &text)?;
    ensure!(report.failures.is_empty(), "{}\nSHEAF_FAULT_SEED={seed}", report.failures.join("\n"));
    Ok(())
}
