//! The controller on a machine and a cluster in memory.

use super::*;
use crate::objects::testing::Memory;
use crate::paths::Paths;
use crate::reconcile::Registry;
use sheaf_api::storage::device::{BlockDevice, BlockDeviceStatus, DeviceState, Wipe};
use sheaf_host::disks::Programs;
use sheaf_host::fakes::{FakeBlockNews, FakeLvm};
use sheaf_host::run::{Command, Output, Run, RunError};
use std::path::Path;
use std::sync::Mutex;

/// A machine whose disks a test plugs and pulls: device, serial, and what wipefs finds.
#[derive(Default)]
struct Machine {
    disks: Mutex<Vec<(String, String, Option<String>)>>,
}

impl Machine {
    fn disks(&self) -> std::sync::MutexGuard<'_, Vec<(String, String, Option<String>)>> {
        self.disks.lock().unwrap()
    }

    fn set(&self, disks: &[(&str, &str, Option<&str>)]) {
        let own = |(device, serial, mark): &(&str, &str, Option<&str>)| {
            ((*device).to_owned(), (*serial).to_owned(), mark.map(str::to_owned))
        };
        *self.disks() = disks.iter().map(own).collect();
    }
}

impl Run for Machine {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let device = command.args.last().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
        let mut disks = self.disks();
        let text = match command.program.to_str() {
            Some("lsblk") => {
                let disk = |(device, serial, _): &(String, String, Option<String>)| serde_json::json!({"path": device, "type": "disk", "size": 1_000_000_000, "serial": serial, "model": "Disk"});
                let all: Vec<_> = disks.iter().map(disk).collect();
                serde_json::json!({"blockdevices": all}).to_string()
            }
            Some("wipefs") if command.args.iter().any(|arg| arg == "--all") => {
                disks.iter_mut().filter(|disk| disk.0 == device).for_each(|disk| disk.2 = None);
                String::new()
            }
            Some("wipefs") => {
                let found = disks.iter().find(|disk| disk.0 == device).and_then(|disk| disk.2.clone());
                let mark = |kind| serde_json::json!({"device": device.trim_start_matches("/dev/"), "offset": "0x0", "type": kind});
                serde_json::json!({"signatures": found.map(mark).into_iter().collect::<Vec<_>>()}).to_string()
            }
            _ => String::new(),
        };
        Ok(Output { stdout: text.into_bytes(), stderr: Vec::new() })
    }
}

#[tokio::test]
async fn a_disk_is_shown_by_identity_erased_on_its_serial_and_missed_when_it_is_pulled() {
    let config =
        sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n").unwrap();
    let (ctx, publish) = crate::channels::open(Paths::under(Path::new("/nonexistent")), config);
    let cluster =
        Memory::<BlockDevice, BlockDeviceStatus>::new(|object, status| object.status = Some(status));
    let machine = Arc::new(Machine::default());
    machine.set(&[("/dev/sda", "A", Some("ext4")), ("/dev/sdb", "B", None)]);
    let news = Arc::new(FakeBlockNews::default());
    let hosts = Hosts {
        disks: Arc::new(Programs(machine.clone())),
        lvm: Arc::new(FakeLvm::default()),
        news: news.clone(),
        root: "/nonexistent".into(),
    };
    let scan = Arc::new(Notify::new());
    let objects = cluster.listed.subscribe();
    let wakes = wakes(&hosts, objects.clone(), scan.clone());
    let section = publish.sections.disks;
    let controller = Controller::new(&ctx, publish.disks, section, hosts, cluster.clone(), objects, scan);
    let handle = Registry::default().register("disks");
    let task = tokio::spawn(reconcile::run(controller, wakes, handle, ctx.shutdown.clone()));
    let mut listed = cluster.listed.subscribe();
    let state = |listed: &Listed<BlockDevice>, name: &str| {
        let status = listed.objects.get(name)?.status.clone()?;
        Some((status.state?, status.dev_path))
    };
    let active = |at: &str| Some((DeviceState::Active, Some(at.to_owned())));
    listed
        .wait_for(|l| {
            state(l, "n1.disk-a") == active("/dev/sda") && state(l, "n1.disk-b") == active("/dev/sdb")
        })
        .await
        .unwrap();

    // Other names in another order: the same disks.
    machine.set(&[("/dev/sda", "B", None), ("/dev/sdb", "A", Some("ext4"))]);
    news.tell();
    listed
        .wait_for(|l| {
            state(l, "n1.disk-a") == active("/dev/sdb") && state(l, "n1.disk-b") == active("/dev/sda")
        })
        .await
        .unwrap();
    assert_eq!(cluster.listed.borrow().objects.len(), 2);

    cluster.change("n1.disk-a", |object| object.spec.wipe = Some(Wipe { confirm_serial: "A".into() }));
    let wiped =
        |l: &Listed<BlockDevice>| l.objects["n1.disk-a"].status.as_ref().is_some_and(|s| s.wiped.is_some());
    listed.wait_for(wiped).await.unwrap();
    assert_eq!(machine.disks()[1].2, None);
    assert!(ctx.disks.borrow().seen.disks.iter().all(|disk| disk.refusal().is_none()));

    machine.set(&[("/dev/sda", "B", None)]);
    news.tell();
    listed.wait_for(|l| state(l, "n1.disk-a") == Some((DeviceState::Missing, None))).await.unwrap();
    assert_eq!(ctx.status.read().disks.last().unwrap().state, "Missing");
    assert!(
        cluster.recorded().iter().any(|told| told.starts_with("n1.disk-a DiskMissing: it is not attached"))
    );
    publish.shutdown.send_replace(true);
    task.await.unwrap().unwrap();
}
