//! What is asked in the background, and when.
//!
//! Why here: each question are beside the reason to ask it. Route in: what was observed. Route out: [`Lookups`].
//!
//! [`Lookups`]: crate::vms::lookups::Lookups

use super::{Controller, RESYNC};
use crate::cluster::create::kubeadm;
use crate::listed::Listed;
use crate::reconcile::blocking;
use crate::vms::api::Cluster;
use crate::vms::domain_xml::TAG_POD_UID;
use crate::vms::facts::ClaimFact;
use crate::vms::filters::{self, masquerade};
use crate::vms::lookups::{Filter, Found, Key};
use crate::vms::record::Record;
use crate::vms::{admission, credentials, report};
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::libvirt::{Domain, Source, VmHost};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A claim that is not bound is asked for again after so many seconds.
const CLAIM: i64 = 2;

/// Secrets of credentials are read again after so many seconds: a kubelet takes as long to see that one changed.
const CREDENTIALS: i64 = 60;

/// QEMU's log is read again after so many seconds, while it does not tell why a VM ended.
const LOG: i64 = 2;

impl<V: VmHost, C: Cluster> Controller<V, C> {
    /// Asks for everything that others know and that is due.
    pub(super) fn ask(
        &mut self,
        now: i64,
        listed: &Listed<Pod>,
        domains: &[Domain],
        records: &BTreeMap<String, Record>,
    ) {
        let cluster = &self.cluster;
        self.lookups.ask(now, Key::Allocatable, RESYNC, || {
            let cluster = cluster.clone();
            async move { cluster.allocatable().await.map(|(all, config)| Found::Allocatable(all, config)) }
        });
        let hosts = &self.hosts;
        self.lookups.ask(now, Key::Filter, RESYNC, || {
            let hosts = hosts.clone();
            let read = move || {
                let list = |family, table| hosts.filter.table(family, table);
                Ok(Found::Filter(Box::new(Filter {
                    segment: hosts.segments.observe()?,
                    ports: filters::State::read(&list(filters::FAMILY, filters::TABLE)?),
                    forwarded: masquerade::State::read(&list(masquerade::FAMILY, masquerade::TABLE)?),
                })))
            };
            blocking(read)
        });
        let configured = self.ctx.config.borrow().cluster.as_ref().and_then(|cluster| cluster.server.clone());
        let mut servers = self.ctx.status.read().cluster.servers.clone();
        servers.extend(self.ctx.status.read().cluster.vips.iter().map(|vip| kubeadm::server(*vip)));
        servers.extend(configured);
        if !servers.is_empty() {
            self.lookups.ask(now, Key::ApiServers, RESYNC, || resolve(servers));
        }
        for (namespace, name) in wanted_claims(listed) {
            // A claim that is bound stays so, as long as the Pod that refers to it is there.
            if matches!(
                self.answers.claims.get(&(namespace.clone(), name.clone())),
                Some(ClaimFact::Volume(_))
            ) {
                continue;
            }
            self.lookups.ask(now, Key::Claim(namespace.clone(), name.clone()), CLAIM, || {
                let cluster = cluster.clone();
                async move { cluster.claim(&namespace, &name).await.map(Found::Claim) }
            });
        }
        for domain in domains.iter().filter(|domain| domain.tags.contains_key(TAG_POD_UID)) {
            let uuid = &domain.uuid;
            let sources = [(Key::Arp(uuid.clone()), Source::Arp), (Key::Agent(uuid.clone()), Source::Agent)];
            for (key, source) in
                sources.into_iter().filter(|(_, source)| domain.agent || *source == Source::Arp)
            {
                let vms = &self.hosts.vms;
                self.lookups.ask(now, key, RESYNC, || {
                    let (vms, uuid) = (vms.clone(), uuid.clone());
                    async move { Ok(Found::Addresses(vms.interfaces(&uuid, source).await?)) }
                });
            }
        }
        for uid in domains.iter().filter_map(|domain| domain.tags.get(TAG_POD_UID)) {
            let Some(pod) = listed.objects.get(uid).filter(|pod| !report::is_terminal(pod)) else { continue };
            let credentials = credentials::of(pod);
            if credentials.is_empty() {
                continue;
            }
            self.memory.credentials.entry(uid.clone()).or_default();
            self.lookups.ask(now, Key::Credentials(uid.clone()), CREDENTIALS, || {
                let (cluster, pod) = (cluster.clone(), pod.clone());
                async move {
                    let wanted = credentials::read(&*cluster, &pod, &credentials).await?;
                    Ok(Found::Credentials(Arc::new(wanted)))
                }
            });
        }
        let has_ended = |uid: &str| listed.objects.get(uid).is_some_and(|pod| report::says_ended(pod));
        let unknown = self.memory.missing.keys().filter(|uid| !self.memory.stops.contains_key(*uid));
        for uid in unknown.filter(|uid| !has_ended(uid)) {
            // It ended while the agent did not run, or its event is still on the way: the log says the same.
            let Some(name) = records.get(uid).map(|record| record.id().domain()) else { continue };
            let vms = &self.hosts.vms;
            self.lookups.ask(now, Key::Stop(uid.clone()), LOG, || {
                let vms = vms.clone();
                async move { Ok(Found::Stop(vms.recorded_stop(&name).await)) }
            });
        }
    }
}

/// Claims, by namespace and name, of Pods that are yet to start, and of disks that are added to VMs.
pub(super) fn wanted_claims(listed: &Listed<Pod>) -> Vec<(String, String)> {
    let is_waiting = |pod: &&Arc<Pod>| {
        let is_vm = admission::is_vm(pod) && !report::was_started(pod);
        (is_vm || admission::is_attachment(pod)) && !report::is_terminal(pod)
    };
    let of_pod = |pod: &Arc<Pod>| -> Vec<(String, String)> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
        claims.map(|claim| (namespace.clone(), claim.claim_name.clone())).collect()
    };
    listed.objects.values().filter(is_waiting).flat_map(of_pod).collect()
}

/// Addresses of the API servers at `servers`, `https://` URLs. One whose name cannot be resolved is an error only if none can.
async fn resolve(servers: Vec<String>) -> anyhow::Result<Found> {
    let (mut found, mut failed) = (BTreeSet::new(), None);
    for server in servers {
        let place = server.trim_start_matches("https://").trim_end_matches('/');
        let has_port = place.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let place = if has_port { place.to_owned() } else { format!("{place}:443") };
        match tokio::net::lookup_host(place).await {
            Ok(addresses) => found.extend(addresses.map(|address| address.ip())),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if found.is_empty() => Err(error.into()),
        _ => Ok(Found::ApiServers(found)),
    }
}
