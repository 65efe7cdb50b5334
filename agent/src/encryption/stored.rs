//! What Secrets are encrypted with, as etcd has them.
//!
//! Why etcd is asked and not the API server: it decrypts all that it shows. kube-apiserver writes the name of provider and key
//! before each value (k8s.io/apiserver/pkg/server/options/encryptionconfig, `secretboxTransformerPrefixV1`). Route in: etcdctl's
//! JSON. Route out: [`Stored`].

use crate::etcd::program::{Etcd, Pair, pairs};
use sheaf_host::run::Run;
use std::collections::BTreeMap;

/// Where kube-apiserver keeps Secrets: the first key and the one after the last.
const SECRETS: (&str, &str) = ("/registry/secrets/", "/registry/secrets0");
/// Secrets that are read at once, of at most 1 MiB each.
const PAGE: usize = 16;
/// What begins a value that is encrypted, by any provider.
const ENCRYPTED: &[u8] = b"k8s:enc:";
/// The same by the one that is used here.
const SECRETBOX: &[u8] = b"k8s:enc:secretbox:v1:";

/// How many Secrets are encrypted with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// By the name of the key.
    pub by_key: BTreeMap<String, u64>,
    /// Not encrypted.
    pub plain: u64,
}

impl Stored {
    fn count(&mut self, value: &[u8]) {
        match key_of(value) {
            Some(name) => *self.by_key.entry(name).or_default() += 1,
            None => self.plain += 1,
        }
    }

    /// Those that are not encrypted with `name`.
    pub fn besides(&self, name: &str) -> u64 {
        let others = self.by_key.iter().filter(|(key, _)| *key != name).map(|(_, count)| count).sum::<u64>();
        others.saturating_add(self.plain)
    }
}

/// The name of the key that `value` is encrypted with.
fn key_of(value: &[u8]) -> Option<String> {
    let name = |rest: &[u8]| {
        let end = rest.iter().position(|byte| *byte == b':').unwrap_or(rest.len().min(64));
        String::from_utf8_lossy(&rest[..end]).into_owned()
    };
    match value.strip_prefix(SECRETBOX) {
        Some(rest) => Some(name(rest)),
        None => value.strip_prefix(ENCRYPTED).map(|rest| format!("of provider {}", name(rest))),
    }
}

/// Asks for every Secret, some at a time.
pub fn stored(etcd: &Etcd, run: &dyn Run) -> anyhow::Result<Stored> {
    let mut stored = Stored::default();
    let mut from = SECRETS.0.to_owned();
    loop {
        let page = pairs(&run.run(&etcd.range(&from, SECRETS.1, PAGE + 1))?.text())?;
        let more = page.len() > PAGE;
        // One more than a page is where the next begins: it is counted there.
        for Pair { value, .. } in page.iter().take(PAGE) {
            stored.count(value);
        }
        match page.into_iter().next_back() {
            Some(last) if more => from = last.key,
            _ => return Ok(stored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_by_what_kube_apiserver_writes_before_them() {
        let mut stored = Stored::default();
        for value in [
            &b"k8s:enc:secretbox:v1:k1-aa:\x00\xff"[..],
            b"k8s:enc:secretbox:v1:k2-bb:x",
            b"k8s:enc:secretbox:v1:k1-aa:y",
            b"k8s:enc:aescbc:v1:key1:z",
            b"k8s\x00\x0a\x0c",
            b"",
        ] {
            stored.count(value);
        }
        let by_key = [("k1-aa", 2), ("k2-bb", 1), ("of provider aescbc", 1)];
        let by_key = by_key.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(stored, Stored { by_key: by_key.into(), plain: 2 });
        assert_eq!((stored.besides("k1-aa"), stored.besides("k9")), (4, 6));
    }
}
