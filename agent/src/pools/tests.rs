//! The controller on disks and a cluster in memory.

use super::controller::Intervals;
use super::*;
use crate::channels::{Contents, Disk, Disks, Facts, PoolPartition, Seen};
use crate::objects::testing::Memory;
use crate::paths::Paths;
use crate::reconcile::{Backoff, Registry};
use sheaf_api::storage::pool::{PoolPhase, StoragePool, StoragePoolStatus};
use sheaf_host::fakes::FakeLvm;
use sheaf_host::lvm::LvmReport as _;
use std::path::Path;
use std::time::Duration;

const GIB: u64 = 1 << 30;

fn disk(id: &str, device: &str) -> Disk {
    Disk {
        id: id.into(),
        facts: Facts { device: device.into(), serial: Some(id.into()), ..Facts::default() },
        device: Default::default(),
        links: Vec::new(),
        contents: Contents::Empty,
        signatures: Vec::new(),
        unreadable: None,
        uses: Vec::new(),
        health: Default::default(),
        is_ambiguous: false,
        duplicate_serial: false,
        pool_partition: None,
    }
}

fn boot() -> Disk {
    let partition = PoolPartition { device: "/dev/vda11".into(), contents: Contents::Empty };
    Disk { contents: Contents::System, pool_partition: Some(partition), ..disk("root", "/dev/vda") }
}

fn disks(disks: Vec<Disk>) -> Disks {
    let settings = disks.iter().map(|disk| (format!("n1.{}", disk.id), Default::default())).collect();
    Disks { observed: true, settings, synced: true, seen: Arc::new(Seen { disks, ..Seen::default() }) }
}

type InMemory = Arc<Memory<StoragePool, StoragePoolStatus>>;

/// The controller at work.
struct Bench {
    lvm: Arc<FakeLvm>,
    cluster: InMemory,
    ctx: Context,
    publish: crate::channels::Publish,
}

impl Bench {
    fn start(node_toml: &str, first: Disks) -> Self {
        let text = format!("version = 1\nsystem.hostname = \"n1\"\n{node_toml}");
        let config = sheaf_config::load::parse_node_config("n", &text).unwrap();
        let (ctx, mut publish) = crate::channels::open(Paths::under(Path::new("/nonexistent")), config);
        let lvm = Arc::new(FakeLvm::default());
        for device in ["/dev/vda11", "/dev/sda", "/dev/sdb"] {
            lvm.plug(device, 10 * GIB);
        }
        let cluster: InMemory = Memory::new(|object: &mut StoragePool, status| object.status = Some(status));
        let hosts = Hosts { lvm: lvm.clone(), scan: Arc::new(Notify::new()) };
        publish.disks.send_replace(first);
        let objects = cluster.listed.subscribe();
        let section = std::mem::replace(&mut publish.sections, crate::status::open().1).pools;
        let moment = Duration::from_millis(20);
        let retry = Backoff::new(5 * moment, 5 * moment);
        let intervals = Intervals { watch: moment, watch_closely: moment, retry };
        let wakes = wakes(&ctx, objects.clone());
        let controller =
            Controller::new(&ctx, publish.pools.clone(), section, hosts, cluster.clone(), objects, intervals);
        let handle = Registry::default().register("pools");
        tokio::spawn(reconcile::run(controller, wakes, handle, ctx.shutdown.clone()));
        Self { lvm, cluster, ctx, publish }
    }

    async fn until(&self, name: &str, holds: impl Fn(&StoragePoolStatus) -> bool) -> StoragePoolStatus {
        let status = |listed: &Listed<StoragePool>| listed.objects.get(name)?.status.clone();
        let mut listed = self.cluster.listed.subscribe();
        let found =
            listed.wait_for(|listed| status(listed).is_some_and(|status| holds(&status))).await.unwrap();
        status(&found).unwrap()
    }
}

#[tokio::test]
async fn a_node_makes_its_default_pool_of_the_boot_disks_partition_and_says_so() {
    let bench = Bench::start("", disks(vec![boot(), disk("a", "/dev/sda")]));
    let status = bench.until("default.n1", |status| status.phase == Some(PoolPhase::Ready)).await;
    assert_eq!(status.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["n1.root"]);
    assert_eq!(
        bench.cluster.listed.borrow().objects["default.n1"].metadata.labels.as_ref().unwrap()["sheaf.dev/pool"],
        "default"
    );
    let pool = bench.ctx.pools.borrow()[0].clone();
    assert_eq!((pool.group.as_str(), pool.is_usable, pool.is_full), ("sheaf-default", true, false));
    assert!(!bench.lvm.asked().iter().any(|asked| asked.contains("/dev/sda")), "{:?}", bench.lvm.asked());
    assert!(
        bench.cluster.recorded().contains(&"default.n1 PoolReady: 9.9 GiB for volumes".to_owned()),
        "{:?}",
        bench.cluster.recorded()
    );
}

#[tokio::test]
async fn a_full_pool_says_so_and_goes_on_when_a_device_is_added() {
    let config = "[[storage.pool]]\nname = \"fast\"\ndisks = [{ serial = \"a\" }]\n";
    let bench = Bench::start(config, disks(vec![disk("a", "/dev/sda"), disk("b", "/dev/sdb")]));
    bench.until("fast.n1", |status| status.phase == Some(PoolPhase::Ready)).await;
    bench.lvm.with_volume("sheaf-fast", "thin", |thin| {
        thin.data_percent = Some(100.0);
        thin.health = Some("out_of_data".into());
    });
    bench.until("fast.n1", |status| status.phase == Some(PoolPhase::Full)).await;
    assert!(bench.ctx.pools.borrow()[0].is_full);
    bench.cluster.change("fast.n1", |object| object.spec.devices = vec!["n1.b".into()]);
    let status = bench.until("fast.n1", |status| status.phase == Some(PoolPhase::Ready)).await;
    assert_eq!(status.data_percent.map(f64::round), Some(50.0));
    assert!(!bench.ctx.pools.borrow()[0].is_full);
    let told = bench.cluster.recorded();
    for expected in [
        "fast.n1 PoolFull: VMs that write to it are paused until it has space",
        "fast.n1 SpaceAgain: it has space again; paused VMs are resumed",
        "fast.n1 PoolGrown: from 9.9 GiB to 20 GiB",
    ] {
        assert!(told.contains(&expected.to_owned()), "{told:?}");
    }
}

#[tokio::test]
async fn a_step_that_fails_is_shown_and_tried_again() {
    let bench = Bench::start("", disks(vec![boot()]));
    bench.until("default.n1", |status| status.phase == Some(PoolPhase::Ready)).await;
    bench.lvm.fails("add_member");
    bench.publish.disks.send_replace(disks(vec![boot(), disk("a", "/dev/sda")]));
    bench.cluster.change("default.n1", |object| object.spec.devices = vec!["n1.a".into()]);
    let status = bench.until("default.n1", |status| status.phase == Some(PoolPhase::Degraded)).await;
    let ready = sheaf_api::conditions::find(&status.conditions, "Ready").unwrap().message.clone().unwrap();
    assert!(ready.contains("exit status: 5"), "{ready}");
    bench.lvm.recovers();
    bench
        .until("default.n1", |status| status.phase == Some(PoolPhase::Ready) && status.devices.len() == 2)
        .await;
}

#[tokio::test]
async fn a_group_that_no_pool_is_wanted_of_is_deactivated_and_nothing_of_it_is_removed() {
    let config = "[[storage.pool]]\nname = \"fast\"\ndisks = [{ serial = \"a\" }]\n";
    let bench = Bench::start(config, disks(vec![disk("a", "/dev/sda")]));
    bench.until("fast.n1", |status| status.phase == Some(PoolPhase::Ready)).await;
    let other =
        sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n").unwrap();
    bench.cluster.listed.send_modify(|listed| listed.objects.clear());
    bench.publish.config.send_replace(Arc::new(other));
    let mut pools = bench.ctx.pools.clone();
    pools.wait_for(Vec::is_empty).await.unwrap();
    assert_eq!(bench.lvm.asked().last().unwrap(), "deactivate sheaf-fast");
    assert_eq!(bench.lvm.groups().unwrap().groups.len(), 1);
}

#[tokio::test]
async fn a_pool_whose_only_disk_is_pulled_has_failed_and_is_deactivated_and_activated_when_it_is_back() {
    let config = "[[storage.pool]]\nname = \"fast\"\ndisks = [{ serial = \"a\" }]\n";
    let bench = Bench::start(config, disks(vec![disk("a", "/dev/sda")]));
    bench.until("fast.n1", |status| status.phase == Some(PoolPhase::Ready)).await;
    bench.cluster.change("fast.n1", |object| object.spec.devices = vec!["n1.a".into()]);
    bench.lvm.pull("/dev/sda");
    let mut without = disks(vec![]);
    without.settings.insert("n1.a".into(), Default::default());
    bench.publish.disks.send_replace(without);
    let status = bench.until("fast.n1", |status| status.phase == Some(PoolPhase::Failed)).await;
    let message = status.devices[0].message.clone().unwrap();
    assert!(message.contains("attached"), "{message}");
    // Anyone who lists volumes is not stopped by the devices that it had.
    assert!(matches!(bench.lvm.volumes("sheaf-fast"), Err(sheaf_host::lvm::LvmError::Unknown(_))));
    bench.lvm.plug_again("/dev/sda", "/dev/sdq", 10 << 30);
    bench.publish.disks.send_replace(disks(vec![disk("a", "/dev/sdq")]));
    bench.until("fast.n1", |status| status.phase == Some(PoolPhase::Ready)).await;
    let asked = bench.lvm.asked();
    assert!(asked.contains(&"deactivate sheaf-fast".to_owned()), "{asked:?}");
}
