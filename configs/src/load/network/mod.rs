//! `[network]`: servers, proxy, authorities, and the links with their addresses.
//!
//! Route in: the table. Route out: [`Network`] whose links passed [`sheaf_links::rules`], each problem with its line.

mod links;

use super::{ELSEWHERE, each_once, plain, values};
use crate::diagnose::Report;
use crate::node::{Network, Proxy};
use crate::spanned::{At, Table};
use crate::syntax;
use sheaf_links::{IpNet, Kind, LinkRef, Links, Place};

/// What was read, with the places that rules outside need.
pub(super) struct Read {
    pub config: Network,
    pub addresses: Vec<At<IpNet>>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let (report, places) = (table.report(), table.again());
    let dns = table.optional("dns", |value| value.texts(syntax::server_address)).unwrap_or_default();
    let search = table.optional("search", |value| value.texts(syntax::domain)).unwrap_or_default();
    let ntp = table.optional("ntp", |value| value.texts(syntax::host)).unwrap_or_default();
    let proxy = table.optional("proxy", |value| proxy(value.table()?));
    let authorities =
        table.optional("ca-certificates", |value| value.texts(syntax::certificates)).unwrap_or_default();
    let links = links::read(&mut table);
    table.finish(ELSEWHERE);
    each_once(report, &dns, Clone::clone);
    each_once(report, &search, Clone::clone);
    each_once(report, &ntp, |host| host.to_lowercase());
    each_once(report, &authorities, Clone::clone);
    // Some link could not be parsed and was reported: rules about the others would mislead.
    let links = links?;
    for kind in [Kind::Nic, Kind::Bond, Kind::Vlan, Kind::Bridge] {
        let is_empty = !links.all().any(|link| link.kind() == kind);
        if let Some(place) = places.place(kind.key()).filter(|_| is_empty) {
            place.wrong(
                report,
                "is empty",
                "remove the key: without links the node makes br0 over its only NIC",
            );
        }
    }
    judge(report, &places, &links);
    let addresses = addresses(&places, &links);
    let config = Network {
        dns: values(dns),
        search: values(search),
        ntp: values(ntp),
        proxy,
        ca_certificates: values(authorities),
        links: if links.is_empty() { Links::only_nic() } else { links },
    };
    Some(Read { config, addresses })
}

/// Reports what the rules find, in the line where it stands.
fn judge(report: &Report<'_>, places: &Table<'_, '_>, links: &Links) {
    for problem in sheaf_links::rules(links) {
        let at = problem.at.as_ref().map_or_else(|| places.at(), |at| place(places, at));
        let line = |other| format!(" (line {})", report.line(place(places, other).span.start));
        let other = problem.other.as_ref().map(line).unwrap_or_default();
        at.wrong(report, problem.what + &other, problem.remedy);
    }
}

fn place(places: &Table<'_, '_>, at: &Place) -> At<()> {
    places.place_of(&format!("{}[{}].{}", at.kind.key(), at.index, at.key))
}

fn addresses(places: &Table<'_, '_>, links: &Links) -> Vec<At<IpNet>> {
    let of = |link: LinkRef<'_>| {
        let all = link.addressing().addresses.iter().enumerate().map(|(index, net)| {
            let at = Place { kind: link.kind(), index: link.index, key: format!("addresses[{index}]") };
            place(places, &at).map(|()| *net)
        });
        all.collect::<Vec<_>>()
    };
    links.all().flat_map(of).collect()
}

fn proxy(mut table: Table<'_, '_>) -> Option<Proxy> {
    let (report, place) = (table.report(), table.at());
    let http = table.optional("http", |value| value.text(syntax::proxy));
    let https = table.optional("https", |value| value.text(syntax::proxy));
    let no_proxy = table.optional("no-proxy", |value| value.texts(syntax::no_proxy)).unwrap_or_default();
    let is_empty = table.place("http").is_none() && table.place("https").is_none();
    table.finish(ELSEWHERE);
    if is_empty {
        place.wrong(report, "names no proxy", "add http or https, or remove the table");
    }
    each_once(report, &no_proxy, |host| host.to_lowercase());
    Some(Proxy { http: plain(http), https: plain(https), no_proxy: values(no_proxy) })
}
