//! What is remembered from one round to the next, and forgotten.
//!
//! Route in: what was observed, answers. Route out: [`Memory`] for the plan.
//!
//! [`Memory`]: crate::vms::plan::Memory

use super::Controller;
use super::ask::wanted_claims;
use crate::listed::Listed;
use crate::vms::api::Cluster;
use crate::vms::domain_xml::TAG_POD_UID;
use crate::vms::lookups::Key;
use crate::vms::record::Record;
use crate::vms::{interfaces, report};
use k8s_openapi::api::core::v1::Pod;
use sheaf_config::node::SERVICE_CIDR;
use sheaf_host::libvirt::{Domain, VmHost};
use std::collections::BTreeMap;

impl<V: VmHost, C: Cluster> Controller<V, C> {
    pub(super) fn remember(
        &mut self,
        now: i64,
        listed: &Listed<Pod>,
        domains: &[Domain],
        records: &BTreeMap<String, Record>,
        tails: BTreeMap<String, String>,
    ) {
        let mut alive: BTreeMap<&str, &Domain> = BTreeMap::new();
        for domain in domains {
            if let Some(uid) = domain.tags.get(TAG_POD_UID) {
                alive.insert(uid, domain);
                self.owners.insert(domain.uuid.clone(), uid.clone());
            }
        }
        let started = records.iter().filter(|(_uid, record)| record.started.is_some()).map(|(uid, _)| uid);
        let reported =
            listed.objects.iter().filter(|(_uid, pod)| report::was_started(pod)).map(|(uid, _)| uid);
        for uid in started.chain(reported) {
            if alive.contains_key(uid.as_str()) {
                self.memory.missing.remove(uid);
            } else {
                self.memory.missing.entry(uid.clone()).or_insert(now);
            }
        }
        self.memory.tails.extend(tails);
        self.remember_addresses(&alive, records);
        self.memory.told.retain(|(uuid, _), _| domains.iter().any(|domain| domain.uuid == *uuid));
        let known = |uid: &str| {
            listed.objects.contains_key(uid) || records.contains_key(uid) || alive.contains_key(uid)
        };
        self.memory.retain(known);
        let busy = &self.memory.busy;
        self.owners.retain(|_uuid, uid| known(uid) || busy.contains(uid));
        let claims = wanted_claims(listed);
        let is_domain = |uuid: &str| domains.iter().any(|domain| domain.uuid == uuid);
        let wanted = |key: &Key| match key {
            Key::Allocatable | Key::Filter | Key::ApiServers => true,
            Key::Claim(namespace, name) => claims.contains(&(namespace.clone(), name.clone())),
            Key::Agent(uuid) | Key::Arp(uuid) => is_domain(uuid),
            Key::Stop(uid) | Key::Credentials(uid) => known(uid),
        };
        self.answers.claims.retain(|claim, _| claims.contains(claim));
        self.answers.addresses.retain(|key, _| wanted(key));
        self.lookups.retain(wanted);
    }

    fn remember_addresses(&mut self, alive: &BTreeMap<&str, &Domain>, records: &BTreeMap<String, Record>) {
        // What was reported stays while the filter cannot be read.
        let Some(filter) = &self.answers.filter else { return };
        let services = self.ctx.config.borrow().cluster.as_ref().and_then(|cluster| cluster.service_cidr);
        let services = services.unwrap_or(SERVICE_CIDR);
        let network = self.ctx.network.borrow().clone();
        let reserved = |ip: &std::net::IpAddr| network.addresses.contains(ip) || services.contains(ip);
        for (uid, domain) in alive {
            // What was reported stays while the record is not read.
            let Some(record) = records.get(*uid) else { continue };
            let ports = record.ports.as_slice();
            let of = |key: Key| self.answers.addresses.get(&key).map(Vec::as_slice).unwrap_or_default();
            let (arp, agent) = (of(Key::Arp(domain.uuid.clone())), of(Key::Agent(domain.uuid.clone())));
            let observed = interfaces::observed(ports, &domain.nics, &filter.ports, arp, agent);
            self.memory.interfaces.insert((*uid).to_owned(), observed);
            let addresses = interfaces::of_pod(ports, reserved);
            if !addresses.is_empty() {
                self.memory.addresses.insert((*uid).to_owned(), addresses);
            }
        }
    }
}
