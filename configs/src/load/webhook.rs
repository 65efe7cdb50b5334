//! `[[install.webhook]]`: servers that are called during an installation.
//!
//! Route in: the tables. Route out: [`Webhook`]s that give no secret away.

use super::{ELSEWHERE, plain};
use crate::diagnose::Report;
use crate::node::{Basic, Event, Method, Webhook};
use crate::spanned::{At, Table, wrong};
use crate::syntax;
use std::collections::BTreeMap;

const EVENTS: &[(&str, Event)] =
    &[("started", Event::Started), ("succeeded", Event::Succeeded), ("failed", Event::Failed)];
const METHODS: &[(&str, Method)] = &[("POST", Method::Post), ("PUT", Method::Put), ("GET", Method::Get)];

pub(super) fn read(report: &Report<'_>, tables: Vec<Table<'_, '_>>) -> Option<Vec<Webhook>> {
    let webhooks: Vec<_> = tables.into_iter().map(webhook).collect();
    let mut seen: Vec<&At<Webhook>> = Vec::new();
    for webhook in webhooks.iter().flatten() {
        if let Some(first) = seen.iter().find(|first| first.value == webhook.value) {
            let what = format!("is the webhook of line {} again", report.line(first.span.start));
            webhook.wrong(report, what, "remove one");
        }
        seen.push(webhook);
    }
    webhooks.into_iter().map(plain).collect()
}

fn webhook(mut table: Table<'_, '_>) -> Option<At<Webhook>> {
    let (report, place) = (table.report(), table.at());
    let url = table.required("url", "url = \"https://…\"", |value| value.text(syntax::webhook));
    let on = table.optional("on", |value| value.words(EVENTS));
    let method = table.optional("method", |value| value.one_of(METHODS));
    let headers = table.optional("headers", |value| {
        value.map(|key, text| {
            syntax::header_name(&key.value)?;
            syntax::header_value(text)
        })
    });
    let basic = table.optional("basic", |value| basic(value.table()?));
    let bearer = table.optional("bearer", |value| value.text(syntax::header_value));
    let ca = table.optional("ca", |value| value.text(syntax::certificates));
    let (basic_at, bearer_at) = (table.place("basic"), table.place("bearer"));
    let (headers_at, ca_at, on_at) = (table.place("headers"), table.place("ca"), table.place("on"));
    table.finish(ELSEWHERE);
    if let (Some(basic), Some(bearer)) = (&basic_at, &bearer_at) {
        let what = format!("cannot be combined with basic of line {}", report.line(basic.span.start));
        bearer.wrong(report, what, "keep one of them");
    }
    if url.as_ref().is_some_and(|url| url.value.starts_with("http://")) {
        for secret in [&basic_at, &bearer_at, &headers_at].into_iter().flatten() {
            secret.wrong(report, "would cross the network unencrypted", "write url = \"https://…\"");
        }
        if let Some(ca) = ca_at {
            ca.wrong(report, "needs encryption", "write url = \"https://…\", or remove it");
        }
    }
    if let (Some(on), Some(at)) = (&on, on_at) {
        if on.is_empty() {
            at.wrong(
                report,
                "is empty, so the webhook would never be called",
                "remove the key to be called for all events",
            );
        }
        for (index, event) in on.iter().enumerate() {
            if on[..index].iter().any(|earlier| earlier.value == event.value) {
                event.wrong(report, "is listed twice", "remove one");
            }
        }
    }
    let headers = headers.unwrap_or_default();
    let mut lower = BTreeMap::new();
    for (name, header) in &headers {
        if let Some(first) = lower.insert(name.to_lowercase(), name) {
            header.wrong(report, format!("is the header \"{first}\" again"), "keep one of them");
        }
    }
    let value = Webhook {
        url: url?.value,
        on: on.unwrap_or_default().into_iter().map(|at| at.value).collect(),
        method: plain(method).unwrap_or_default(),
        headers: headers.into_iter().map(|(name, at)| (name, at.value)).collect(),
        basic,
        bearer: plain(bearer),
        ca: plain(ca),
    };
    Some(place.map(|()| value))
}

fn basic(mut table: Table<'_, '_>) -> Option<Basic> {
    let user = table.required("user", "user = \"…\"", |value| {
        value.text(|text| match text.contains(':') || text.is_empty() || text.chars().any(char::is_control) {
            true => wrong("is not an user: RFC 7617 allows no colon in it", "write only the name"),
            false => Ok(text.to_owned()),
        })
    });
    let password = table.required("password", "password = \"…\"", |value| value.text(syntax::header_value));
    table.finish(ELSEWHERE);
    Some(Basic { user: user?.value, password: password?.value })
}
