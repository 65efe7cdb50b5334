//! How many objects one node may have made: etcd is everybody's, and a ResourceQuota counts only within a namespace.
//!
//! Why here: an admission policy cannot count, but it can read who has reached a limit: the ConfigMap
//! `sheaf-system/node-limits`, the parameter of the policy `sheaf-node-limits` ([`crate::policy::node_limits`]). A node
//! that makes objects as fast as it can gets some hundred beyond its limit before it is stopped. Pure. Route in: names of
//! objects, the users of certificate requests. Route out: the record, by node.

use std::collections::BTreeMap;

/// What nodes make, with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    /// One for each disk: the largest shelves have some hundred.
    BlockDevice,
    /// One for each pool.
    StoragePool,
    /// One for each NodeNetworkPolicy.
    Enactment,
    /// Kubernetes deletes decided ones after an hour, open ones after a day.
    CertificateRequest,
}

impl Made {
    /// Most objects of one node.
    pub fn most(self) -> usize {
        match self {
            Self::BlockDevice => 512,
            Self::StoragePool => 64,
            Self::Enactment => 256,
            Self::CertificateRequest => 64,
        }
    }

    /// What people call it.
    fn plural(self) -> &'static str {
        match self {
            Self::BlockDevice => "BlockDevices",
            Self::StoragePool => "StoragePools",
            Self::Enactment => "NodeNetworkEnactments",
            Self::CertificateRequest => "CertificateSigningRequests",
        }
    }

    /// The node that made an object of this name: part of the name, by the rules of its kind. Names of nodes may hold dots,
    /// those of pools and policies not.
    pub fn node_of(self, name: &str) -> Option<&str> {
        match self {
            // <node>.<what the disk calls itself>, which holds no dot.
            Self::BlockDevice => name.rsplit_once('.').map(|(node, _)| node),
            // <pool>.<node>, <policy>.<node>
            Self::StoragePool | Self::Enactment => name.split_once('.').map(|(_, node)| node),
            Self::CertificateRequest => None,
        }
    }
}

/// Objects by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(String, Made), usize>);

impl Counts {
    /// One more of `node`.
    pub fn add(&mut self, node: &str, made: Made) {
        *self.0.entry((node.to_owned(), made)).or_default() += 1;
    }

    /// The record's data: nodes that reached a limit, with which.
    pub fn record(&self) -> BTreeMap<String, String> {
        let mut record: BTreeMap<String, String> = BTreeMap::new();
        for ((node, made), count) in self.0.iter().filter(|((_, made), count)| **count >= made.most()) {
            let text = record.entry(node.clone()).or_default();
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&format!("{count} {}, at most {}", made.plural(), made.most()));
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_at_a_limit_is_recorded_with_what_it_has_and_others_are_not() {
        let mut counts = Counts::default();
        (0..Made::StoragePool.most()).for_each(|_| counts.add("n2", Made::StoragePool));
        (1..Made::BlockDevice.most()).for_each(|_| counts.add("n1", Made::BlockDevice));
        assert_eq!(
            counts.record(),
            BTreeMap::from([("n2".to_owned(), "64 StoragePools, at most 64".to_owned())])
        );
        counts.add("n1", Made::BlockDevice);
        assert_eq!(counts.record()["n1"], "512 BlockDevices, at most 512");
    }

    #[test]
    fn whose_an_object_is_stands_in_its_name() {
        assert_eq!(Made::BlockDevice.node_of("n1.rack.serial-a"), Some("n1.rack"));
        assert_eq!(Made::StoragePool.node_of("default.n1.rack"), Some("n1.rack"));
        assert_eq!(Made::Enactment.node_of("storage.n1"), Some("n1"));
        assert_eq!(Made::StoragePool.node_of("odd"), None);
    }
}
