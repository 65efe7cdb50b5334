//! `[cluster]`: what makes a cluster and what joins one.
//!
//! Route in: the table. Route out: [`Cluster`] that has every key its mode needs and none of the other mode's.

use super::{ELSEWHERE, plain};
use crate::node::{Cidr, Cluster, ClusterMode, REDEEMED, Secret};
use crate::spanned::{Table, Wrong, wrong};
use crate::syntax;
use std::ops::RangeInclusive;

const MODES: &[(&str, ClusterMode)] = &[("create", ClusterMode::Create), ("join", ClusterMode::Join)];

/// Keys of one mode: the key, a line that shows it.
const JOIN_NEEDS: [(&str, &str); 3] = [
    ("server", "server = \"https://192.0.2.10:6443\""),
    ("token", "token = \"<6>.<16 letters or digits>\""),
    ("ca-hash", "ca-hash = \"sha256:…\""),
];
const CREATE_ONLY: [&str; 3] = ["sans", "admin-keys", "service-cidr"];
const JOIN_ONLY: [&str; 2] = ["server", "ca-hash"];

/// Prefix lengths of Service networks: kube-apiserver allows at most 20 bits of them, and fewer than 4 are no use.
const SERVICE_PREFIX_V4: RangeInclusive<u8> = 12..=28;
const SERVICE_PREFIX_V6: RangeInclusive<u8> = 108..=124;

/// What was read.
pub(super) struct Read {
    pub config: Cluster,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let (report, place) = (table.report(), table.at());
    let mode = table.required("mode", "mode = \"create\" or mode = \"join\"", |value| value.one_of(MODES));
    let server = table.optional("server", |value| value.text(syntax::server));
    let token = table.optional("token", |value| value.text(token_or_redeemed));
    let ca_hash = table.optional("ca-hash", |value| value.text(syntax::ca_hash));
    let sans = table.optional("sans", |value| value.texts(syntax::host));
    let admin_keys = table.optional("admin-keys", |value| value.texts(syntax::public_key));
    let service_cidr = table.optional("service-cidr", |value| value.text(service_network));
    let labels = table.optional("labels", |value| {
        value.map(|key, text| {
            syntax::label_key(&key.value)?;
            syntax::label_value(text)
        })
    });
    let mode = mode.map(|mode| mode.value);
    let foreign: &[&str] = match mode {
        Some(ClusterMode::Create) => &JOIN_ONLY,
        Some(ClusterMode::Join) => &CREATE_ONLY,
        None => &[],
    };
    for at in foreign.iter().filter_map(|key| table.place(key)) {
        let (this, other) =
            if mode == Some(ClusterMode::Create) { ("create", "join") } else { ("join", "create") };
        let what = format!("has no meaning in mode \"{this}\"");
        at.wrong(report, what, format!("remove it, or write mode = \"{other}\""));
    }
    for (key, example) in JOIN_NEEDS.iter().filter(|_| mode == Some(ClusterMode::Join)) {
        if table.place(key).is_none() {
            let remedy = format!("add {example}; the first node's screen shows all three");
            report.add(
                &place.span,
                &format!("{}.{key}", place.path),
                "is missing, mode \"join\" needs it",
                remedy,
            );
        }
    }
    table.finish(ELSEWHERE);
    let config = Cluster {
        mode: mode?,
        server: plain(server),
        token: plain(token).flatten(),
        ca_hash: plain(ca_hash),
        sans: sans.unwrap_or_default().into_iter().map(|at| at.value).collect(),
        admin_keys: admin_keys.unwrap_or_default().into_iter().map(|at| at.value).collect(),
        service_cidr: plain(service_cidr),
        labels: labels.unwrap_or_default().into_iter().map(|(key, at)| (key, at.value)).collect(),
    };
    Some(Read { config })
}

fn token_or_redeemed(text: &str) -> Result<Option<Secret>, Wrong> {
    if text == REDEEMED { Ok(None) } else { syntax::token(text).map(|token| Some(Secret(token))) }
}

fn service_network(text: &str) -> Result<Cidr, Wrong> {
    let network = syntax::network(text)?;
    let lengths = if network.ip.is_ipv4() { SERVICE_PREFIX_V4 } else { SERVICE_PREFIX_V6 };
    if lengths.contains(&network.prefix) {
        return Ok(network);
    }
    let what = format!("\"{text}\" is a network that Services can not use");
    wrong(what, format!("write a prefix length of {} to {}", lengths.start(), lengths.end()))
}
