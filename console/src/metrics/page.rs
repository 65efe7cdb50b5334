//! Reads what an agent serves under `/metrics` and `/metrics/resource`.
//!
//! Why here: twelve families of Prometheus' text format; a node writes this text, so nothing of it is trusted: what is not a
//! number is left out, and machines are bounded. Pure. Route in: a text. Route out: [`Reading`].

use std::collections::BTreeMap;

use sheaf_api::agents::{label, sample};

use super::series::{Counters, MEMORY, NO_COUNTERS, PROCESSORS, READ, RECEIVED, SENT, WRITTEN};

/// Family, quantity, whether it is of a machine. The names are KubeVirt's, a kubelet's and node_exporter's
/// (`agent/src/node_api/metrics.rs`).
const FAMILIES: [(&str, usize, bool); 12] = [
    ("kubevirt_vmi_cpu_usage_seconds_total", PROCESSORS, true),
    ("kubevirt_vmi_memory_resident_bytes", MEMORY, true),
    ("kubevirt_vmi_storage_read_traffic_bytes_total", READ, true),
    ("kubevirt_vmi_storage_write_traffic_bytes_total", WRITTEN, true),
    ("kubevirt_vmi_network_receive_bytes_total", RECEIVED, true),
    ("kubevirt_vmi_network_transmit_bytes_total", SENT, true),
    ("node_cpu_usage_seconds_total", PROCESSORS, false),
    ("node_memory_working_set_bytes", MEMORY, false),
    ("node_disk_read_bytes_total", READ, false),
    ("node_disk_written_bytes_total", WRITTEN, false),
    ("node_network_receive_bytes_total", RECEIVED, false),
    ("node_network_transmit_bytes_total", SENT, false),
];

/// Most machines of one node that are read: more than a node runs.
const MOST: usize = 1000;

/// What a node counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The node itself.
    pub node: Counters,
    /// Its machines: `project/name`.
    pub machines: BTreeMap<String, Counters>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { node: NO_COUNTERS, machines: BTreeMap::new() }
    }
}

impl Reading {
    /// Adds what a page has. Several devices of one machine are one sum.
    pub fn read(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, labels, value)) = sample(line) else { continue };
            let Some((_, quantity, is_machine)) = FAMILIES.iter().find(|(family, ..)| *family == name) else {
                continue;
            };
            let counters = if *is_machine {
                let (Some(project), Some(machine)) = (label(labels, "namespace"), label(labels, "name"))
                else {
                    continue;
                };
                let key = format!("{project}/{machine}");
                if self.machines.len() >= MOST && !self.machines.contains_key(&key) {
                    continue;
                }
                self.machines.entry(key).or_insert(NO_COUNTERS)
            } else {
                &mut self.node
            };
            let counter = &mut counters[*quantity];
            *counter = if counter.is_nan() { value } else { *counter + value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_of_node_and_machines_are_read_and_devices_are_added() {
        let mut reading = Reading::default();
        let of = r#"node="n1",namespace="shop",name="web""#;
        reading.read(&format!(
            "# TYPE kubevirt_vmi_cpu_usage_seconds_total counter\n\
             kubevirt_vmi_cpu_usage_seconds_total{{{of}}} 2.5\n\
             kubevirt_vmi_network_receive_bytes_total{{{of},interface=\"vm0\"}} 7\n\
             kubevirt_vmi_network_receive_bytes_total{{{of},interface=\"vm\\\",name=\\\"db\"}} 5\n\
             kubevirt_vmi_memory_resident_bytes{{namespace=\"shop\"}} 9\n\
             kubevirt_vmi_memory_resident_bytes{{{of}}} NaN\n\
             node_disk_read_bytes_total{{device=\"sda\"}} 4\nnode_disk_read_bytes_total{{device=\"sdb\"}} 4\n\
             nonsense\n{{ 1\n -1\n"
        ));
        reading.read("node_cpu_usage_seconds_total 12.5\nnode_memory_working_set_bytes 4096\n");
        assert_eq!((reading.node[PROCESSORS], reading.node[MEMORY], reading.node[READ]), (12.5, 4096.0, 8.0));
        assert!(reading.node[SENT].is_nan());
        assert_eq!(reading.machines.keys().collect::<Vec<_>>(), ["shop/web"]);
        let web = reading.machines["shop/web"];
        assert_eq!((web[PROCESSORS], web[RECEIVED], web[MEMORY].is_nan()), (2.5, 12.0, true));
    }

    #[test]
    fn a_node_that_reports_ten_thousand_machines_has_a_thousand() {
        let mut reading = Reading::default();
        let line =
            |number| format!("kubevirt_vmi_cpu_usage_seconds_total{{namespace=\"a\",name=\"{number}\"}} 1\n");
        reading.read(&(0..10_000).map(line).collect::<String>());
        assert_eq!(reading.machines.len(), MOST);
    }

    proptest! {
        #[test]
        fn whatever_a_node_answers_is_read(text in "(node_cpu_usage_seconds_total|kubevirt_vmi_cpu_usage_seconds_total|[{}\",= 0-9a-z\\n]){0,40}") {
            let mut reading = Reading::default();
            reading.read(&text);
            prop_assert!(!reading.node[PROCESSORS].is_infinite());
        }
    }
}
