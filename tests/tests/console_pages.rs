//! The pages in Chromium on the real control plane: users, storage, networks, images, machines, nodes and updates, by an administrator and
//! by users of one project.
//!
//! Why here: pages are tried against a server that plays the console (`npm run pages`), and a whole node shows a few of them
//! (`console_browser.rs`). Whether the objects of all others are what the API server, its policies and sheaf-controller take, and whether the
//! pages show what these then report, is shown here. etcd, API server, scheduler and controller manager are processes; sheaf-controller and
//! the console are the programs' own code in this one. Nodes are simulated (`sheaf_tests::fleet`): the agent's controllers on fakes of
//! disks, LVM, links and libvirt. So a machine is placed, prepared, started and stopped as on a node, and no guest ever runs in it;
//! nothing listens at a node's :10250, so there are no screens, journals, plots, pauses, resets and downloads
//! (`console_browser.rs`, `console_files.rs`, `operate.rs`), and no release is installed (`update.rs`). Route in: `console/web/test/real/cluster-*.test.ts`,
//! each of which continues where the one before ended. Route out: their exit codes; what kubectl says of it afterwards.

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use sheaf_agent::claim::by_hand;
use sheaf_host::links::Link;
use sheaf_tests::console::{Served, ask, code_in, node_config};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::fleet::machine::{Disk, Machine};
use sheaf_tests::fleet::{Cluster, Fleet};
use sheaf_tests::pages::Pages;
use sheaf_tests::played::cluster;
use std::sync::Arc;
use std::time::Duration;

/// Longest run of one file, on a machine that has other work.
const PAGES: Duration = Duration::from_secs(900);
/// A project beside `default`.
const PROJECT: &str = "shop";
/// An image on a server that nodes reach.
const IMAGE: &str = "https://images.example.org/small.raw";
const GB: u64 = 1_000_000_000;

/// What each node has: three disks, of which one has contents; a bridge that filters VLANs; two NICs, of which br0 has
/// the first.
fn machine(image: &[u8]) -> Machine {
    let disk = |path, serial, holds| Disk { path, serial, bytes: 100 * GB, holds };
    let bridge = |name: &str, vlan_aware| Link {
        name: name.into(),
        state: "up".into(),
        bridge_ports: Some(Vec::new()),
        vlan_aware,
        mtu: 1500,
        ..Link::default()
    };
    let nic = |name: &str, mac: &str| Link {
        name: name.into(),
        state: "up".into(),
        is_nic: true,
        permanent_mac: Some(mac.into()),
        mtu: 1500,
        ..Link::default()
    };
    let nics = [nic("eth0", "52:54:00:00:00:01"), nic("eth1", "52:54:00:00:00:02")];
    let bridges = [bridge("br0", false), bridge("br1", true), bridge("masq0", false)];
    Machine {
        disks: vec![
            disk("/dev/vda", "A", None),
            disk("/dev/vdb", "B", Some("ext4")),
            disk("/dev/vdc", "C", None),
        ],
        links: nics.into_iter().chain(bridges).collect(),
        files: [(IMAGE.to_owned(), image.to_vec())].into(),
        keeps_volumes: true,
    }
}

/// A control plane with three nodes, a project and a console.
struct Ground {
    on: Controlled,
    fleet: Fleet,
    console: Served,
    pages: Arc<Pages>,
}

impl Ground {
    async fn make() -> Result<Self> {
        let image: Vec<u8> = (0..1_u32 << 20).map(|at| (at % 251) as u8).collect();
        let sha256: String = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
        let on = cluster().await?;
        let mut fleet = Fleet::on(machine(&image))?;
        let plane = &on.plane;
        let to = Cluster {
            server: plane.server.clone(),
            ca_hash: plane.ca_hash.clone(),
            admin: on.client.clone(),
        };
        fleet.join(&to, 0..3, |_, _| ()).await?;
        // One that was there before anybody came to the console.
        let said = on.kubectl(&["create", "namespace", PROJECT])?;
        ensure!(said.contains("created"), "{said}");
        let console = Served::at(plane, (plane.near_address(), 0).into()).await?;
        ensure!(
            ask(&console.address, &[], "/")?.text().contains("<script"),
            "the console has no pages: make them by console/web/build"
        );
        let root = sheaf_machine::workspace()?;
        let code = by_hand::new(&plane.paths, &node_config()?).await?;
        wait("the console knows of the claim", async || {
            let asked = ask(&console.address, &[], "/console/claim");
            Ok(asked.is_ok_and(|answer| answer.text().contains("true")).then_some(()))
        })
        .await?;
        let pages = Pages::of(&root, &console.address, &root.join("target/sheaf/artefacts/console-pages"))?
            .given("SHEAF_CODE", code_in(&code)?)
            .given("SHEAF_IMAGE_URL", IMAGE)
            .given("SHEAF_IMAGE_SHA256", &sha256)
            .inside(plane.namespace());
        Ok(Self { on, fleet, console, pages: Arc::new(pages) })
    }

    /// Runs one file of pages; the console and the nodes go on meanwhile.
    async fn does(&mut self, file: &'static str) -> Result<()> {
        let pages = self.pages.clone();
        let done = tokio::task::spawn_blocking(move || pages.run(file, PAGES)).await?;
        done.with_context(|| format!("what the cluster had then:\n{}", self.is_there()))
    }

    /// What a page that waits may wait for.
    fn is_there(&self) -> String {
        let objects = ["get", "vm,vmi,pods,dv,pvc", "--all-namespaces", "--output=wide"];
        // Simulated nodes have this machine's disk, and take no VM while it is full.
        let nodes =
            ["get", "nodes", "--output=custom-columns=NODE:.metadata.name,TAINTS:.spec.taints[*].key"];
        let events = ["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"];
        let said = [&objects[..], &nodes[..], &events[..]].map(|asked| self.on.kubectl(asked));
        said.map(|said| said.unwrap_or_else(|error| format!("{error:#}"))).join("\n")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_do_on_a_real_control_plane_in_a_browser_what_they_say() -> Result<()> {
    let mut ground = Ground::make().await?;
    ground.does("cluster-people.test.ts").await?;
    let on = &ground.on;
    let bindings =
        on.kubectl(&["get", "rolebindings", "-A", "-l", "console.sheaf.dev/user=bob", "-o", "wide"])?;
    ensure!(bindings.contains(PROJECT) && bindings.contains("ClusterRole/edit"), "{bindings}");

    ground.does("cluster-storage.test.ts").await?;
    ground.does("cluster-keyboard.test.ts").await?;
    ground.does("cluster-machines.test.ts").await?;
    ground.does("cluster-changes.test.ts").await?;
    ground.fleet.check()?;
    ground.does("cluster-nodes.test.ts").await?;
    drop(ground.console);
    Ok(())
}
