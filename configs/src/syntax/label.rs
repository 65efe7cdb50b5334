//! Names and labels of Kubernetes objects.
//!
//! Route in: a text. Route out: the text, which the API server takes from a node.

use super::host::{LABEL, is_dns_name, is_label};
use super::quoted;
use crate::diagnose::did_you_mean;
use crate::node::{Effect, Taint};
use crate::spanned::{Wrong, wrong};

/// Name of an image: a file name, and the last part of a label's key.
pub fn image_name(text: &str) -> Result<String, Wrong> {
    let good = text.len() <= LABEL && text.split('.').all(is_label);
    if good {
        return Ok(text.to_owned());
    }
    let rule =
        "write lowercase letters, digits, '-' and '.', at most 63, with a letter or digit at both ends";
    wrong(format!("{} is not an image name", quoted(text)), rule)
}

/// Key of a Node label that an operator may give.
pub fn label_key(text: &str) -> Result<(), Wrong> {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_is_good = prefix.is_none_or(|prefix| is_dns_name(prefix) && prefix == prefix.to_lowercase());
    if !is_label_text(name) || name.is_empty() || !prefix_is_good {
        return wrong(format!("{} is not a label", quoted(text)), "write \"rack\" or \"example.org/rack\"");
    }
    let Some(prefix) = prefix else { return Ok(()) };
    let under = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if under("sheaf.dev")
        || under("kubevirt.io")
        || ["kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"].contains(&text)
    {
        return wrong(
            format!("\"{text}\" is set by the node itself"),
            "remove it, or choose a prefix of your own",
        );
    }
    // The API server's NodeRestriction admits these of the reserved domains, and refuses the whole Node otherwise.
    let admitted = under("kubelet.kubernetes.io")
        || (under("node.kubernetes.io") && !under("node-restriction.kubernetes.io"))
        || ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"].contains(&text);
    if (under("kubernetes.io") || under("k8s.io")) && !admitted {
        let remedy = "set it with kubectl after the node has joined, or choose a prefix of your own";
        return wrong(format!("a node may not set \"{text}\" on itself"), remedy);
    }
    Ok(())
}

/// Value of a label.
pub fn label_value(text: &str) -> Result<String, Wrong> {
    if is_label_text(text) {
        return Ok(text.to_owned());
    }
    let rule = "write at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends";
    wrong(format!("{} is not a label's value", quoted(text)), rule)
}

fn is_label_text(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= LABEL
            && text.chars().all(|c| ends(c) || "-_.".contains(c))
            && text.starts_with(ends)
            && text.ends_with(ends))
}

/// A taint: `key=value:Effect` or `key:Effect`.
pub fn taint(text: &str) -> Result<Taint, Wrong> {
    let example = "write \"dedicated=db:NoSchedule\"";
    let Some((head, effect)) = text.rsplit_once(':') else {
        return wrong(format!("{} has no effect", quoted(text)), example);
    };
    let (key, value) = head.split_once('=').unwrap_or((head, ""));
    let effects = [Effect::NoSchedule, Effect::PreferNoSchedule, Effect::NoExecute];
    let Some(effect) = effects.into_iter().find(|known| known.name() == effect) else {
        let meant = did_you_mean(effect, effects.map(Effect::name));
        let remedy = match meant {
            Some(meant) => format!("did you mean \"{head}:{meant}\"?"),
            None => "write NoSchedule, PreferNoSchedule or NoExecute behind the colon".into(),
        };
        return wrong(format!("{} has an unknown effect", quoted(text)), remedy);
    };
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_good = prefix.is_none_or(|prefix| is_dns_name(prefix) && prefix == prefix.to_lowercase());
    if name.is_empty() || !is_label_text(name) || !prefix_is_good {
        return wrong(format!("{} is not the key of a taint", quoted(key)), example);
    }
    label_value(value)?;
    // The cluster itself puts these on a node that is not ready, and takes them off again.
    if prefix == Some("node.kubernetes.io") || prefix == Some("node.cloudprovider.kubernetes.io") {
        return wrong(
            format!("\"{key}\" is set by the cluster itself"),
            "remove it, or choose a prefix of your own",
        );
    }
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect })
}

/// Name of a storage pool: one of a Kubernetes object.
pub fn pool_name(text: &str) -> Result<String, Wrong> {
    /// LVM keeps part of its 127 for names of its own volumes.
    const LONGEST: usize = 40;
    if is_label(text) && text.len() <= LONGEST {
        return Ok(text.to_owned());
    }
    let rule = format!("write lowercase letters, digits and hyphens, at most {LONGEST}");
    wrong(format!("{} is not the name of a pool", quoted(text)), rule)
}
