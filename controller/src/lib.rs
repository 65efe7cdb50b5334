//! The cluster-wide half of Sheaf: what no single node may decide.
//!
//! It installs the API ([`install`]), turns VirtualMachines into instances ([`vm`]) and instances into placeholder
//! Pods that kube-scheduler binds ([`vmi`]), and approves the serving certificates of nodes ([`approve`]). One of
//! several runs at a time ([`leader`]). It has an identity of its own: a node's certificate may do none of this.
//! Route in: objects of the Kubernetes API. Route out: other objects of the Kubernetes API, nothing else.

pub mod approve;
pub mod install;
pub mod leader;
pub mod vm;
pub mod vmi;

use kube::api::ObjectMeta;
use std::time::Duration;

/// Before a reconciliation that failed is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("the API server could not {doing}")]
    Api {
        /// What it was asked.
        doing: &'static str,
        /// Its answer.
        source: kube::Error,
    },
}

impl Error {
    /// Names what was asked.
    pub(crate) fn api(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { doing, source }
    }
}

/// Whether the API server answered with HTTP status `code`.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Whether the object is being deleted.
pub(crate) fn is_deleted(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// Its finalizers with `name` among them, or without it; nothing when that is so already.
pub(crate) fn finalizers(meta: &ObjectMeta, name: &str, wanted: bool) -> Option<Vec<String>> {
    let mut all = meta.finalizers.clone().unwrap_or_default();
    let has = all.iter().any(|finalizer| finalizer == name);
    match (has, wanted) {
        (false, true) => all.push(name.to_owned()),
        (true, false) => all.retain(|finalizer| finalizer != name),
        _ => return None,
    }
    Some(all)
}
