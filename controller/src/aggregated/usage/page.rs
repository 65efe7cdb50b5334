//! Reads a node's `/metrics/resource`.
//!
//! Why here: five families of Prometheus' text format, all that `kubectl top` shows; a library for the whole format would
//! bring more than it saves. A node writes this text, so nothing of it is trusted: what is not a number is left out. Pure.
//! Route in: a text. Route out: a [`Reading`].

use std::collections::BTreeMap;

use sheaf_api::agents::{label, sample};

/// Counters of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// CPU time since its start, in seconds.
    pub cpu: Option<f64>,
    /// Memory in use, in bytes.
    pub memory: Option<f64>,
}

/// What a node reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Of the node.
    pub node: Counters,
    /// Of its VMs, by namespace and name of their Pods.
    pub pods: BTreeMap<(String, String), Counters>,
}

/// Most Pods of one node that are read: more than a node takes.
const MOST_PODS: usize = 1000;

/// Reads it.
pub fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    for line in text.lines() {
        let Some((name, labels, value)) = sample(line) else { continue };
        let (is_cpu, is_pod) = match name {
            "node_cpu_usage_seconds_total" => (true, false),
            "node_memory_working_set_bytes" => (false, false),
            "pod_cpu_usage_seconds_total" => (true, true),
            "pod_memory_working_set_bytes" => (false, true),
            _ => continue,
        };
        let counters = if is_pod {
            let (Some(namespace), Some(pod)) = (label(labels, "namespace"), label(labels, "pod")) else {
                continue;
            };
            if reading.pods.len() >= MOST_PODS {
                continue;
            }
            reading.pods.entry((namespace.to_owned(), pod.to_owned())).or_default()
        } else {
            &mut reading.node
        };
        *if is_cpu { &mut counters.cpu } else { &mut counters.memory } = Some(value);
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_node_and_pods_are_read_and_what_is_no_number_is_left_out() {
        let reading = read(concat!(
            "# HELP node_cpu_usage_seconds_total CPU time\n",
            "node_cpu_usage_seconds_total 12.5\n",
            "node_memory_working_set_bytes NaN\n",
            "pod_cpu_usage_seconds_total{namespace=\"shop\",pod=\"virt-launcher-web-1\"} 3\n",
            "pod_memory_working_set_bytes{namespace=\"shop\",pod=\"virt-launcher-web-1\"} 4096\n",
            "pod_memory_working_set_bytes{namespace=\"shop\"} 1\n",
            "container_memory_working_set_bytes{container=\"compute\",namespace=\"shop\",pod=\"x\"} 4096\n",
            "nonsense\n{ 1\n -1\n",
        ));
        assert_eq!(reading.node, Counters { cpu: Some(12.5), memory: None });
        let pod = ("shop".to_owned(), "virt-launcher-web-1".to_owned());
        assert_eq!(reading.pods, [(pod, Counters { cpu: Some(3.0), memory: Some(4096.0) })].into());
    }

    #[test]
    fn whatever_a_node_answers_is_read_and_every_number_is_finite() {
        let whole = "node_cpu_usage_seconds_total 1.5\npod_memory_working_set_bytes{namespace=\"a\",pod=\"b\"} 4096\n";
        sheaf_fuzz::fuzz("metrics of a node", |random| {
            let reading = read(&random.changed(whole, &["1e999", "NaN", "}", "\"", "=", " ", "{pod=\""]));
            let all = reading.pods.values().chain([&reading.node]).flat_map(|of| [of.cpu, of.memory]);
            assert!(all.flatten().all(|value| value.is_finite() && value >= 0.0));
            reading.node.cpu.is_some() && !reading.pods.is_empty()
        });
    }
}
