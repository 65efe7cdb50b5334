//! Counters of the node and of its VMs, in Prometheus' text format.
//!
//! Why here: `/metrics/resource` is what `kubectl top` and autoscalers read, kubelet's names; `/metrics` adds libvirt and each
//! VM under KubeVirt's names, so that dashboards made for KubeVirt work. A counter that libvirt does not give is left out,
//! never 0. Route in: libvirt's counters, `/proc`, Pods. Route out: texts.

use super::devices;
use super::serve::State;
use crate::reconcile::blocking;
use crate::status::{EtcdSection, SnapshotLine};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use sheaf_api::names::{COMPUTE_CONTAINER, VM_NAME_LABEL};
use sheaf_host::libvirt::{DomainStats, VmHost};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Longest wait for libvirt: a scrape ends after 10 s by default.
const STATS_TIME: Duration = Duration::from_secs(8);
/// Ticks of `/proc/stat` in a second: Linux' USER_HZ.
const TICKS: f64 = 100.0;
const KIB: f64 = 1024.0;
const NANOSECOND: f64 = 1e-9;

/// A page of metrics.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// Begins a family: `counter` or `gauge`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the family that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
            let _ = write!(self.0, "{{{}}}", labels.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A VM with its counters.
struct Counted {
    namespace: String,
    name: String,
    pod: Option<String>,
    stats: DomainStats,
}

/// VMs of this node with their counters; `None` when libvirt does not answer. Domains that are not ours have no `_`.
async fn counted<V: VmHost>(state: &State<V>) -> Option<Vec<Counted>> {
    let stats = tokio::time::timeout(STATS_TIME, state.vms.stats()).await;
    let stats = stats.ok()?.inspect_err(|error| tracing::debug!("counters of domains: {error}")).ok()?;
    let pods: BTreeMap<(String, String), String> = state
        .pods
        .borrow()
        .objects
        .values()
        .filter_map(|pod: &std::sync::Arc<Pod>| {
            let vm = pod.metadata.labels.as_ref()?.get(VM_NAME_LABEL)?.clone();
            Some(((pod.metadata.namespace.clone()?, vm), pod.metadata.name.clone()?))
        })
        .collect();
    let count = |stats: DomainStats| {
        // A namespace holds no `_`.
        let (namespace, name) = stats.name.split_once('_')?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let pod = pods.get(&(namespace.clone(), name.clone())).cloned();
        Some(Counted { namespace, name, pod, stats })
    };
    Some(stats.into_iter().filter_map(count).collect())
}

/// What `/metrics/resource` answers.
pub async fn resource<V: VmHost>(state: &State<V>) -> String {
    let mut page = Page::default();
    let node =
        blocking(|| Ok((std::fs::read_to_string("/proc/stat")?, std::fs::read_to_string("/proc/meminfo")?)));
    let node =
        node.await.ok().and_then(|(stat, memory)| Some((cpu_seconds(&stat)?, memory_in_use(&memory)?)));
    let vms = counted(state).await;
    write_resource(&mut page, node, vms.as_deref());
    page.text()
}

fn write_resource(page: &mut Page, node: Option<(f64, f64)>, vms: Option<&[Counted]>) {
    if let Some((cpu, memory)) = node {
        page.family("node_cpu_usage_seconds_total", "counter", "CPU time of the node, guests included");
        page.sample("node_cpu_usage_seconds_total", &[], cpu);
        page.family("node_memory_working_set_bytes", "gauge", "Memory in use that cannot be reclaimed");
        page.sample("node_memory_working_set_bytes", &[], memory);
    }
    let of_pods: Vec<(&Counted, &str)> =
        vms.unwrap_or_default().iter().filter_map(|vm| Some((vm, vm.pod.as_deref()?))).collect();
    let cpu = |vm: &Counted| vm.stats.number("cpu.time").map(|time| time as f64 * NANOSECOND);
    let memory = |vm: &Counted| vm.stats.number("balloon.rss").map(|rss| rss as f64 * KIB);
    type Of<'a> = &'a dyn Fn(&Counted) -> Option<f64>;
    let families: [(&str, &str, &str, Of, bool); 4] = [
        ("container_cpu_usage_seconds_total", "counter", "CPU time of the VM's QEMU", &cpu, true),
        ("container_memory_working_set_bytes", "gauge", "Memory of the VM's QEMU", &memory, true),
        ("pod_cpu_usage_seconds_total", "counter", "CPU time of the VM's QEMU", &cpu, false),
        ("pod_memory_working_set_bytes", "gauge", "Memory of the VM's QEMU", &memory, false),
    ];
    for (name, kind, help, value, is_container) in families {
        page.family(name, kind, help);
        for (vm, pod) in &of_pods {
            let Some(value) = value(vm) else { continue };
            let mut labels = vec![("namespace", vm.namespace.as_str()), ("pod", pod)];
            if is_container {
                labels.insert(0, ("container", COMPUTE_CONTAINER));
            }
            page.sample(name, &labels, value);
        }
    }
    page.family(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting metrics, 0 otherwise",
    );
    page.sample("resource_scrape_error", &[], f64::from(u8::from(vms.is_none() || node.is_none())));
}

/// CPU seconds in use since boot, of `/proc/stat`: all but idle and iowait. proc_stat(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let ticks: Vec<u64> =
        line.split_whitespace().take(8).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let all: u64 = ticks.iter().sum();
    Some(all.saturating_sub(idle) as f64 / TICKS)
}

/// Bytes in use that cannot be reclaimed, of `/proc/meminfo`. proc_meminfo(5).
fn memory_in_use(meminfo: &str) -> Option<f64> {
    let of = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(of("MemTotal")?.saturating_sub(of("MemAvailable")?) as f64 * KIB)
}

/// What `/metrics` answers.
pub async fn all<V: VmHost>(state: &State<V>, node: &str) -> String {
    let vms = counted(state).await;
    let mut page = Page::default();
    page.family("sheaf_libvirt_up", "gauge", "1 while libvirt answers");
    page.sample("sheaf_libvirt_up", &[], f64::from(u8::from(vms.is_some())));
    page.family("sheaf_pods", "gauge", "Pods bound to this node");
    page.sample("sheaf_pods", &[], state.pods.borrow().objects.len() as f64);
    match blocking(|| Ok(devices::read()?)).await {
        Ok(found) => devices::write(&mut page, &found),
        Err(error) => tracing::debug!("counters of disks and NICs: {error:#}"),
    }
    write_etcd(&mut page, &state.ctx.status.read().etcd);
    write_vms(&mut page, node, vms.as_deref().unwrap_or_default());
    page.text()
}

/// etcd of a control-plane node and its snapshots: what `etcd`, the controller, observed last.
fn write_etcd(page: &mut Page, etcd: &EtcdSection) {
    if !etcd.is_here {
        return;
    }
    let mut gauge = |name: &str, help: &str, value: f64| {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    };
    if etcd.quota > 0 {
        gauge("sheaf_etcd_db_size_bytes", "Size of etcd's database", etcd.bytes as f64);
        gauge("sheaf_etcd_db_in_use_bytes", "Part of it that holds something", etcd.bytes_in_use as f64);
        gauge("sheaf_etcd_db_quota_bytes", "Size at which etcd refuses writes", etcd.quota as f64);
        gauge("sheaf_etcd_alarms", "Alarms that are raised", etcd.alarms.len() as f64);
    }
    let bytes: u64 = etcd.snapshots.iter().map(|snapshot| snapshot.bytes).sum();
    gauge("sheaf_etcd_snapshots", "Snapshots of etcd on this node", etcd.snapshots.len() as f64);
    gauge("sheaf_etcd_snapshots_bytes", "What they take together", bytes as f64);
    let failed = f64::from(u8::from(etcd.last_failure.is_some()));
    gauge("sheaf_etcd_snapshot_failed", "1 if the last try to take one failed", failed);
    let taken = |snapshot: &SnapshotLine| snapshot.taken.parse::<Timestamp>().ok().map(|at| at.as_second());
    if let Some(newest) = etcd.snapshots.last().and_then(taken) {
        let help = "When the newest was taken, in seconds since 1970";
        gauge("sheaf_etcd_snapshot_newest_timestamp_seconds", help, newest as f64);
    }
}

/// Counters with one value a VM: KubeVirt's name, kind, libvirt's name, factor to KubeVirt's unit.
const PER_VM: [(&str, &str, &str, f64); 11] = [
    ("kubevirt_vmi_cpu_usage_seconds_total", "counter", "cpu.time", NANOSECOND),
    ("kubevirt_vmi_cpu_user_usage_seconds_total", "counter", "cpu.user", NANOSECOND),
    ("kubevirt_vmi_cpu_system_usage_seconds_total", "counter", "cpu.system", NANOSECOND),
    ("kubevirt_vmi_memory_resident_bytes", "gauge", "balloon.rss", KIB),
    ("kubevirt_vmi_memory_available_bytes", "gauge", "balloon.available", KIB),
    ("kubevirt_vmi_memory_unused_bytes", "gauge", "balloon.unused", KIB),
    ("kubevirt_vmi_memory_usable_bytes", "gauge", "balloon.usable", KIB),
    ("kubevirt_vmi_memory_domain_bytes", "gauge", "balloon.maximum", KIB),
    ("kubevirt_vmi_memory_actual_balloon_bytes", "gauge", "balloon.current", KIB),
    ("kubevirt_vmi_memory_swap_in_traffic_bytes", "gauge", "balloon.swap_in", KIB),
    ("kubevirt_vmi_memory_swap_out_traffic_bytes", "gauge", "balloon.swap_out", KIB),
];

/// Counters with one value a device.
const PER_DEVICE: [(&str, &str, &str, f64); 16] = [
    ("net", "kubevirt_vmi_network_receive_bytes_total", "rx.bytes", 1.0),
    ("net", "kubevirt_vmi_network_receive_packets_total", "rx.pkts", 1.0),
    ("net", "kubevirt_vmi_network_receive_errors_total", "rx.errs", 1.0),
    ("net", "kubevirt_vmi_network_receive_packets_dropped_total", "rx.drop", 1.0),
    ("net", "kubevirt_vmi_network_transmit_bytes_total", "tx.bytes", 1.0),
    ("net", "kubevirt_vmi_network_transmit_packets_total", "tx.pkts", 1.0),
    ("net", "kubevirt_vmi_network_transmit_errors_total", "tx.errs", 1.0),
    ("net", "kubevirt_vmi_network_transmit_packets_dropped_total", "tx.drop", 1.0),
    ("block", "kubevirt_vmi_storage_iops_read_total", "rd.reqs", 1.0),
    ("block", "kubevirt_vmi_storage_read_traffic_bytes_total", "rd.bytes", 1.0),
    ("block", "kubevirt_vmi_storage_read_times_seconds_total", "rd.times", NANOSECOND),
    ("block", "kubevirt_vmi_storage_iops_write_total", "wr.reqs", 1.0),
    ("block", "kubevirt_vmi_storage_write_traffic_bytes_total", "wr.bytes", 1.0),
    ("block", "kubevirt_vmi_storage_write_times_seconds_total", "wr.times", NANOSECOND),
    ("block", "kubevirt_vmi_storage_flush_requests_total", "fl.reqs", 1.0),
    ("block", "kubevirt_vmi_storage_flush_times_seconds_total", "fl.times", NANOSECOND),
];

/// Most devices of one kind that are counted: a VM has at most 32 disks.
const MOST_DEVICES: u64 = 64;

fn write_vms(page: &mut Page, node: &str, vms: &[Counted]) {
    for (name, kind, key, factor) in PER_VM {
        page.family(name, kind, &format!("libvirt's {key}"));
        for vm in vms {
            if let Some(number) = vm.stats.number(key) {
                let labels = [("node", node), ("namespace", &*vm.namespace), ("name", &*vm.name)];
                page.sample(name, &labels, number as f64 * factor);
            }
        }
    }
    for (group, name, key, factor) in PER_DEVICE {
        page.family(name, "counter", &format!("libvirt's {group}.<number>.{key}"));
        let label = if group == "net" { "interface" } else { "drive" };
        for vm in vms {
            let count = vm.stats.number(&format!("{group}.count")).unwrap_or(0).min(MOST_DEVICES);
            for device in 0..count {
                let number = vm.stats.number(&format!("{group}.{device}.{key}"));
                let called = vm.stats.text(&format!("{group}.{device}.name"));
                if let (Some(number), Some(called)) = (number, called) {
                    let labels =
                        [("node", node), ("namespace", &*vm.namespace), ("name", &*vm.name), (label, called)];
                    page.sample(name, &labels, number as f64 * factor);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> Counted {
        let numbers =
            [("cpu.time", 2_500_000_000), ("balloon.rss", 4), ("net.count", 1), ("net.0.rx.bytes", 7)];
        let stats = DomainStats {
            name: "shop_web".into(),
            numbers: numbers.map(|(name, number)| (name.to_owned(), number)).into(),
            texts: [("net.0.name".to_owned(), "vm\"0".to_owned())].into(),
        };
        Counted {
            namespace: "shop".into(),
            name: "web".into(),
            pod: Some("virt-launcher-web-1".into()),
            stats,
        }
    }

    #[test]
    fn a_counter_has_kubevirts_name_and_unit_and_one_that_libvirt_lacks_is_left_out() {
        let mut page = Page::default();
        write_vms(&mut page, "n1", &[vm()]);
        let text = page.text();
        let labels = r#"node="n1",namespace="shop",name="web""#;
        assert!(
            text.contains(&format!("\nkubevirt_vmi_cpu_usage_seconds_total{{{labels}}} 2.5\n")),
            "{text}"
        );
        assert!(text.contains(&format!("\nkubevirt_vmi_memory_resident_bytes{{{labels}}} 4096\n")), "{text}");
        let nic = format!("kubevirt_vmi_network_receive_bytes_total{{{labels},interface=\"vm\\\"0\"}} 7\n");
        assert!(text.contains(&nic), "{text}");
        assert!(!text.contains("kubevirt_vmi_memory_unused_bytes{"), "{text}");
    }

    #[test]
    fn top_reads_node_pod_and_container_and_whether_something_is_missing() {
        let mut page = Page::default();
        write_resource(&mut page, Some((1.5, 4096.0)), Some(&[vm()]));
        let text = page.text();
        for line in [
            "node_cpu_usage_seconds_total 1.5",
            "node_memory_working_set_bytes 4096",
            r#"container_cpu_usage_seconds_total{container="compute",namespace="shop",pod="virt-launcher-web-1"} 2.5"#,
            r#"pod_memory_working_set_bytes{namespace="shop",pod="virt-launcher-web-1"} 4096"#,
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        let mut page = Page::default();
        write_resource(&mut page, Some((1.5, 4096.0)), None);
        assert!(page.text().contains("resource_scrape_error 1\n"));
    }

    #[test]
    fn a_control_plane_node_counts_its_snapshots_and_a_worker_has_no_etcd() {
        let mut page = Page::default();
        write_etcd(&mut page, &EtcdSection::default());
        assert_eq!(page.text(), "");
        let line =
            |bytes, taken: &str| SnapshotLine { bytes, taken: taken.into(), ..SnapshotLine::default() };
        let etcd = EtcdSection {
            is_here: true,
            bytes: 4096,
            quota: 8192,
            snapshots: vec![line(1, "2020-09-13T06:26:40Z"), line(2, "2020-09-13T12:26:40Z")],
            last_failure: Some("no space".into()),
            ..EtcdSection::default()
        };
        let mut page = Page::default();
        write_etcd(&mut page, &etcd);
        let text = page.text();
        for line in [
            "sheaf_etcd_db_size_bytes 4096",
            "sheaf_etcd_db_quota_bytes 8192",
            "sheaf_etcd_alarms 0",
            "sheaf_etcd_snapshots 2",
            "sheaf_etcd_snapshots_bytes 3",
            "sheaf_etcd_snapshot_failed 1",
            "sheaf_etcd_snapshot_newest_timestamp_seconds 1600000000",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_nodes_own_numbers_come_from_proc() {
        assert_eq!(cpu_seconds("cpu  100 0 50 1000 200 0 0 50 30 0\ncpu0 …"), Some(2.0));
        assert_eq!(memory_in_use("MemTotal:  10 kB\nMemFree: 1 kB\nMemAvailable:   4 kB\n"), Some(6.0 * KIB));
        assert_eq!((cpu_seconds("nothing"), memory_in_use("")), (None, None));
    }
}
