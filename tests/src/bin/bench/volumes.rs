//! What a volume costs beyond what LVM itself takes: made by an object beside made by hand, filled by the agent beside
//! `curl | dd`.
//!
//! Why here: both sides work on one pool of one node, in turns. Route in: the first node's own pool `default`, an image
//! of random bytes. Its server runs on the node: on the emulator's user-mode network, which would be most of what is
//! measured, such a connection was seen to stand still after some 350 MB. Route out: medians in seconds, and their quotients.

use crate::kit::{BUSYBOX, Kit, RUN, mount};
use crate::{Report, median};
use anyhow::{Context as _, Result};
use kube::api::{Api, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use serde_json::{Value, json};
use sheaf_api::storage::LocalVolume;
use sheaf_api::storage::local_volume::VolumePhase;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::{Disk, ext4};
use sheaf_tests::harness::{Case, Cluster, READY};
use std::io::Read as _;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Volumes of each kind; odd, for the median.
const VOLUMES: usize = 7;
/// Images that each side brings in; odd. Each takes a minute or more under emulation.
const IMPORTS: usize = 1;
const IMAGE: u64 = 1024 * MIB;
/// One step of LVM takes seconds under emulation.
const STEP: Duration = Duration::from_secs(120);
/// 1 GiB, hashed by emulated processors.
const IMPORT: Duration = Duration::from_secs(580);

const URL: &str = "http://127.0.0.1:8000/image.raw";
/// As the agent calls it, and as an operator would: LVM finds the group's devices by itself.
const LVCREATE: &str = "lvcreate --yes --type thin --wipesignatures n --virtualsize 64m --name NAME --thinpool thin sheaf-default";
const BY_HAND: &str = "curl --silent --fail URL | dd of=/dev/sheaf-default/NAME bs=1M iflag=fullblock oflag=direct conv=fsync status=none";
const BY_HAND_CHECKED: &str =
    "curl --silent --fail URL | tee /dev/sheaf-default/NAME | sha256sum; sync /dev/sheaf-default/NAME";

impl Report {
    /// Volumes from their creation until they may be used.
    pub fn volumes(&mut self, case: &Case) -> Result<()> {
        let cluster = &with_pool(case)?;
        let command = format!(
            "{LVCREATE}; POST of a LocalVolume of 64 MiB, then a watch of it until status.phase is Ready (its device is there)"
        );
        let columns = format!("who | seconds, median of {VOLUMES} in turns | most | ÷ lvcreate");
        self.head("A volume from its creation until it may be used", &command, &columns);
        let (mut by_hand, mut by_object) = (vec![], vec![]);
        for number in 0..VOLUMES {
            by_hand.push(on_node(cluster, &LVCREATE.replace("NAME", &format!("hand-{number}")), STEP)?);
            let name = format!("object-{number}");
            by_object.push(until_ready(cluster, &volume(&name, 64, &json!({"blank": {}})), STEP)?);
            cluster.root(&format!("test -b /dev/sheaf-default/{name}"))?;
        }
        let base = median(by_hand.clone());
        self.quotients("`lvcreate` in a shell of the node", &by_hand, base);
        self.quotients("LocalVolume, from the request to the word Ready", &by_object, base);
        Ok(())
    }

    /// Images that are brought into volumes.
    pub fn import(&mut self, case: &Case) -> Result<()> {
        let mut cluster = with_pool(case)?;
        Kit::get(case)?.plug(case, &mut cluster.machine)?;
        let sha256 = serve(case, &mut cluster)?;
        let cluster = &cluster;
        // A node fetches nothing from itself, unless that is allowed.
        let allowed = json!({"spec": {"allow": [{"cidrs": ["127.0.0.1/32"], "ports": [8000]}]}}).to_string();
        cluster.operator.kubectl(&[
            "patch",
            "importpolicy",
            "default",
            "--type=merge",
            "--patch",
            &allowed,
        ])?;
        let command = format!(
            "busybox httpd -p 127.0.0.1:8000 (on the node); {BY_HAND}; {BY_HAND_CHECKED}; POST of a LocalVolume with source.http of URL and checksum, then a watch of it \
             until status.phase is Ready"
        );
        let columns = format!("who | seconds, median of {IMPORTS} in turns | most | ÷ `curl` and `dd`");
        self.head("An image of 1 GiB by http into a thin volume", &command, &columns);
        let source = json!({"http": {"url": URL, "checksum": format!("sha256:{sha256}")}});
        let (mut plain, mut checked, mut by_object) = (vec![], vec![], vec![]);
        for number in 0..IMPORTS {
            for (kind, script, times) in
                [("plain", BY_HAND, &mut plain), ("checked", BY_HAND_CHECKED, &mut checked)]
            {
                let name = format!("{kind}-{number}");
                on_node(cluster, &LVCREATE.replace("64m", "1g").replace("NAME", &name), STEP)?;
                let script =
                    script.replace("curl", &format!("{RUN} curl")).replace("URL", URL).replace("NAME", &name);
                times.push(on_node(cluster, &script, IMPORT)?);
                cluster.root(&format!("lvremove --yes sheaf-default/{name}"))?;
            }
            let name = format!("import-{number}");
            by_object.push(until_ready(cluster, &volume(&name, 1024, &source), IMPORT)?);
            cluster.operator.kubectl(&["delete", "--timeout=50s", "localvolume", &name])?;
        }
        let base = median(plain.clone());
        self.quotients("`curl` and `dd`", &plain, base);
        self.quotients("`curl`, written and hashed", &checked, base);
        self.quotients("LocalVolume: hashed, written and flushed", &by_object, base);
        Ok(())
    }

    fn quotients(&mut self, who: &str, times: &[f64], base: f64) {
        let most = times.iter().copied().fold(0.0, f64::max);
        let middle = median(times.to_vec());
        let [median, most, quotient] = [middle, most, middle / base].map(|number| format!("{number:.2}"));
        self.row(&[who, &median, &most, &quotient]);
    }
}

/// The first node, whose pool is ready.
pub fn with_pool(case: &Case) -> Result<Cluster> {
    let cluster = case.cluster()?;
    cluster.operator.wait("ready pool", &["storagepool", "default.node1"], READY, |pool| {
        (pool["status"]["phase"] == "Ready").then_some(())
    })?;
    Ok(cluster)
}

fn volume(name: &str, mib: u64, source: &Value) -> Value {
    json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": name},
        "spec": {"nodeName": "node1", "pool": "default", "sizeBytes": mib * MIB, "source": source},
    })
}

/// Seconds that `script` takes by the node's own clock.
fn on_node(cluster: &Cluster, script: &str, deadline: Duration) -> Result<f64> {
    let timed =
        format!("set -e; start=$(date +%s%N); {{ {script}; }} >/dev/null; echo @$(($(date +%s%N) - start))");
    let said = cluster.machine.shell().run(&timed, deadline)?;
    let (_, nanoseconds) = said.rsplit_once('@').with_context(|| format!("{script}: no time in {said:?}"))?;
    Ok(nanoseconds.trim().parse::<f64>()? / 1e9)
}

/// Seconds from the request that creates `volume` until the API server says that it is Ready.
fn until_ready(cluster: &Cluster, volume: &Value, deadline: Duration) -> Result<f64> {
    let volume: LocalVolume = serde_json::from_value(volume.clone())?;
    let name = volume.metadata.name.clone().unwrap_or_default();
    let is_ready = |volume: Option<&LocalVolume>| {
        let phase = volume.and_then(|volume| volume.status.as_ref()?.phase);
        phase == Some(VolumePhase::Ready)
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let kubeconfig = Kubeconfig::read_from(cluster.operator.kubeconfig_file())?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        if let Some(server) = cluster.operator.server() {
            config.cluster_url = server.parse()?;
        }
        let volumes: Api<LocalVolume> = Api::all(Client::try_from(config)?);
        // The connection is made before time counts.
        volumes.list_metadata(&kube::api::ListParams::default()).await?;
        let start = Instant::now();
        volumes.create(&PostParams::default(), &volume).await?;
        let waited = tokio::time::timeout(deadline, await_condition(volumes, &name, is_ready)).await;
        waited.with_context(|| format!("LocalVolume {name} is not Ready in {} s", deadline.as_secs()))??;
        Ok(start.elapsed().as_secs_f64())
    })
}

/// Puts an image of random bytes, which no zeros make shorter, on a server on the node; gives its SHA-256.
fn serve(case: &Case, cluster: &mut Cluster) -> Result<String> {
    let (folder, image) = (case.work().join("served"), case.work().join("served.ext4"));
    let file = folder.join("image.raw");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut bytes = std::fs::File::open("/dev/urandom")?.take(IMAGE);
    std::io::copy(&mut bytes, &mut std::fs::File::create(&file)?)
        .with_context(|| file.display().to_string())?;
    let sum = System.run(&Command::new("sha256sum").arg(&file))?.text();
    let (sha256, _) = sum.split_once(' ').context("sha256sum said no sum")?;
    std::fs::File::create(&image)?.set_len(IMAGE + 128 * MIB)?;
    ext4::make(&case.tools, &image, "served", Some(&folder))?;
    let script = "mkdir -p /run/served && mount -t ext4 -o ro \"$(findfs LABEL=served)\" /run/served";
    mount(&mut cluster.machine, &Disk::raw(image, "SERVED"), script)?;
    // Read once, so that all who come find it in memory.
    let start =
        format!("cat /run/served/image.raw >/dev/null; {BUSYBOX} httpd -p 127.0.0.1:8000 -h /run/served");
    cluster.machine.shell().run(&start, STEP)?;
    Ok(sha256.to_owned())
}
