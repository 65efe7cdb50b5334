//! Faults of three control-plane nodes, one after the other, under a load of VM changes.
//!
//! Why here: only etcd, the API servers and the controllers themselves show that nothing is lost that was acknowledged, that one leads,
//! and that clients are answered. `SHEAF_FAULT_MINUTES` says how long faults come (5), `SHEAF_FAULT_SEED` repeats an order. Route in:
//! processes in three network namespaces on one bridge, the agent's own code. Route out: a table for docs/reliability.md, printed and
//! in `target/sheaf/faults.md`.

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{Api, DeleteParams};
use sheaf_api::VirtualMachine;
use sheaf_tests::faults::disk::EtcdDisk;
use sheaf_tests::faults::plan::{Kind, MEMBERS, Order, Program, minutes, seed};
use sheaf_tests::faults::report::Report;
use sheaf_tests::faults::rig::Rig;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

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
    let mut rig = Rig::start(MEMBERS).await?;
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

/// The rig itself: where a single fault must silence clients, it says so, and what is gone behind its back is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_member_the_rig_finds_the_silence_of_a_stopped_api_server_and_an_object_that_is_gone()
-> Result<()> {
    let mut rig = Rig::start(1).await?;
    rig.run();
    let mut report = Report::of(0);
    let stopped = Kind::Stop(Program::ApiServer);
    for kind in [Kind::Kill(Program::Controller), Kind::Kill(Program::Etcd), stopped] {
        rig.fault(kind, 0, &mut report).await?;
    }
    for what in ["reads", "writes"] {
        let found = report
            .failures
            .iter()
            .any(|failure| failure.starts_with(&format!("{stopped} (a), {what}: no answer for")));
        ensure!(
            found,
            "nobody was answered for {:?}, and no {what} are missed: {:?}",
            stopped.lasts(),
            report.failures
        );
    }
    rig.finish(&mut report).await?;
    println!("{}", report.markdown());
    ensure!(report.starts > 0 && report.leads > 1 && report.terms > 0, "{}", report.markdown());
    Api::<VirtualMachine>::default_namespaced(rig.client())
        .delete("last-0", &DeleteParams::default())
        .await?;
    let lost = format!("{:#}", rig.read_all().await.err().context("an object is gone, and nothing is lost")?);
    let expected = "an acknowledged write is lost, by the API server of a: VirtualMachine/last-0 is absent; acknowledged was write 2";
    ensure!(lost == expected, "{lost}");
    Ok(())
}

/// Writes some bytes to the disk itself: how long that took.
fn written(folder: &Path) -> std::io::Result<Duration> {
    let begin = Instant::now();
    let mut file = File::create(folder.join("written"))?;
    file.write_all(&[1; 16 << 10])?;
    file.sync_all()?;
    Ok(begin.elapsed())
}

#[test]
fn a_disk_of_the_rig_is_slow_frozen_and_full_when_it_is_told_so_and_as_before_afterwards() -> Result<()> {
    let disk = EtcdDisk::make()?;
    let least = || {
        (0..5).map(|_| written(&disk.at())).min_by_key(|took| took.as_ref().copied().unwrap_or(Duration::MAX))
    };
    let before = least().context("five were written")??;
    disk.slow(true)?;
    let slow = written(&disk.at())?;
    disk.slow(false)?;
    ensure!(slow > before + Duration::from_millis(250), "{slow:?} when it is slow, {before:?} before");
    let lasts = Duration::from_secs(3);
    let mut thaws = disk.freeze(lasts)?;
    let frozen = written(&disk.at())?;
    thaws.wait()?;
    ensure!(frozen > lasts / 2, "a frozen disk took a write within {frozen:?}");
    // Blocks of a file that is written again are free for a moment.
    std::fs::remove_file(disk.at().join("written"))?;
    disk.fill()?;
    let full = written(&disk.at()).err().context("a full disk took a write")?;
    ensure!(full.kind() == ErrorKind::StorageFull, "{full}");
    disk.empty()?;
    let after = least().context("five were written")??;
    ensure!(after < slow, "{after:?} afterwards, {slow:?} when it was slow");
    Ok(())
}
