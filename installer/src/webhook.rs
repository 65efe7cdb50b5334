//! Tells those whom `[[install.webhook]]` names how the installation goes.
//!
//! Why it never fails an installation: a node that is installed counts more than a note about it. Each call has a
//! deadline, and what came of it is said; who could not be told is a warning on every screen.
//! Route in: webhooks, an event, the document. Route out: calls.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sheaf_config::node::{Event, Identity, Method, Network, Webhook};
use sheaf_host::call::{Call, Request};
use sheaf_host::trust::Trust;
use sheaf_host::wait;
use std::time::Duration;

/// How long a server is tried.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For one webhook and event: what a person at the machine waits without asking why.
    pub whole: Duration,
    /// Of one call.
    pub one: Duration,
    /// Between two calls.
    pub pause: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { whole: Duration::from_secs(30), one: Duration::from_secs(10), pause: Duration::from_secs(2) }
    }
}

/// What is sent, as JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Document<'a> {
    /// Which event.
    pub event: Event,
    /// Version of the installer.
    pub installer: &'a str,
    /// Name and version of the release.
    pub release: &'a str,
    /// Name of the node.
    pub hostname: &'a str,
    /// What the machine says of itself.
    pub machine: &'a Identity,
    /// The disk: path and serial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Seconds that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// Calls every webhook that wants to hear of the document's event; `tell` hears what came of each: an error is a warning.
pub fn tell(
    webhooks: &[Webhook],
    network: &Network,
    document: &Document<'_>,
    call: &dyn Call,
    timeouts: Timeouts,
    tell: &dyn Fn(Result<&str, &str>),
) {
    let body = serde_json::to_vec(document).unwrap_or_default();
    for webhook in webhooks.iter().filter(|webhook| webhook.wants(document.event)) {
        match send(webhook, network, &body, call, timeouts) {
            Ok(status) => tell(Ok(&format!("Webhook {}: called (HTTP status {status})", webhook.url))),
            Err(why) => tell(Err(&format!("webhook {} could not be called: {why}", webhook.url))),
        }
    }
}

fn send(
    webhook: &Webhook,
    network: &Network,
    body: &[u8],
    call: &dyn Call,
    timeouts: Timeouts,
) -> Result<u16, String> {
    // The authority that is given; else the node's own, and the public ones: whichever signed the server's certificate.
    let mut trusts = Vec::new();
    match (&webhook.ca, network.ca_certificates.is_empty()) {
        (Some(ca), _) => trusts.push(Trust::Authorities(ca.clone())),
        (None, false) => {
            trusts.extend([Trust::Authorities(network.ca_certificates.join("\n")), Trust::Public])
        }
        (None, true) => trusts.push(Trust::Public),
    }
    let mut last = String::new();
    let sent = wait::until(timeouts.whole, timeouts.pause, || {
        for trust in &trusts {
            match call.call(&request(webhook, body, trust.clone(), timeouts.one)) {
                Ok(reply) if (200..300).contains(&reply.status) => return Some(Ok(reply.status)),
                // It heard us, and does not want it: asking again changes nothing.
                Ok(reply) if (400..500).contains(&reply.status) && reply.status != 429 => {
                    return Some(Err(format!("HTTP status {}", reply.status)));
                }
                Ok(reply) => last = format!("HTTP status {}", reply.status),
                Err(error) => {
                    last = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
                }
            }
        }
        None
    });
    sent.unwrap_or(Err(last))
}

fn request(webhook: &Webhook, body: &[u8], trust: Trust, deadline: Duration) -> Request {
    let mut headers: Vec<_> =
        webhook.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
    if let Some(basic) = &webhook.basic {
        let pair = STANDARD.encode(format!("{}:{}", basic.user, basic.password.reveal()));
        headers.push(("Authorization".into(), format!("Basic {pair}")));
    }
    if let Some(bearer) = &webhook.bearer {
        headers.push(("Authorization".into(), format!("Bearer {}", bearer.reveal())));
    }
    let (method, body) = match webhook.method {
        Method::Post => ("POST", body),
        Method::Put => ("PUT", body),
        // A GET carries nothing: the URL says it all.
        Method::Get => ("GET", &[][..]),
    };
    if !body.is_empty() {
        headers.push(("Content-Type".into(), "application/json".into()));
    }
    Request { method: method.into(), url: webhook.url.clone(), headers, body: body.to_vec(), trust, deadline }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeCall;

    const URL: &str = "https://inventory.example.org/sheaf";

    fn config(webhook: &str) -> sheaf_config::node::NodeConfig {
        let text = format!(
            "version = 1\nsystem.hostname = \"node-1\"\n[install]\ndisk = {{ serial = \"A\" }}\n\
             [[install.webhook]]\nurl = \"{URL}\"\n{webhook}"
        );
        sheaf_config::load::parse_node_config("node.toml", &text).unwrap()
    }

    fn told(webhook: &str, event: Event, call: &FakeCall) -> Vec<String> {
        let config = config(webhook);
        let machine = Identity { serial: Some("M1".into()), ..Identity::default() };
        let document = Document {
            event,
            installer: "0.1.0",
            release: "sheaf 0.1.0",
            hostname: "node-1",
            machine: &machine,
            disk: Some("/dev/vda, serial A".into()),
            seconds: None,
            reason: (event == Event::Failed).then_some("the disk is gone"),
        };
        let said = std::cell::RefCell::new(Vec::new());
        let timeouts = Timeouts {
            whole: Duration::from_millis(if call.is_silent() { 30 } else { 60_000 }),
            one: Duration::from_millis(5),
            pause: Duration::from_millis(1),
        };
        let webhooks = &config.install.as_ref().unwrap().webhooks;
        tell(webhooks, &config.network, &document, call, timeouts, &|text| {
            said.borrow_mut().push(text.map_or_else(|warning| format!("warning: {warning}"), str::to_owned));
        });
        said.into_inner()
    }

    #[test]
    fn a_webhook_is_told_in_json_with_its_headers_and_its_secret() {
        let call = FakeCall::default().answers(URL, 204, "");
        let webhook = "method = \"PUT\"\nheaders = { X-Rack = \"7\" }\nbearer = \"hush\"\n";
        let said = told(webhook, Event::Failed, &call);
        assert_eq!(said, [format!("Webhook {URL}: called (HTTP status 204)")]);
        let asked = &call.asked()[0];
        assert_eq!(asked.method, "PUT");
        assert!(asked.headers.contains(&("X-Rack".into(), "7".into())));
        assert!(asked.headers.contains(&("Authorization".into(), "Bearer hush".into())));
        let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!((&body["event"], &body["reason"]), (&"failed".into(), &"the disk is gone".into()));
        assert_eq!(body["machine"]["serial"], "M1");
    }

    #[test]
    fn basic_authentication_is_as_the_standard_says() {
        let call = FakeCall::default().answers(URL, 200, "");
        told("basic = { user = \"Aladdin\", password = \"open sesame\" }\n", Event::Started, &call);
        let header = ("Authorization".into(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into());
        assert!(call.asked()[0].headers.contains(&header));
    }

    #[test]
    fn only_events_that_were_asked_for_are_told() {
        let call = FakeCall::default().answers(URL, 200, "");
        assert!(told("on = [\"succeeded\"]\n", Event::Started, &call).is_empty());
        assert_eq!(told("on = [\"succeeded\"]\n", Event::Succeeded, &call).len(), 1);
    }

    #[test]
    fn a_server_that_comes_later_is_told_and_one_that_refuses_is_not_asked_again() {
        let call = FakeCall::default().answers_times(2, URL, 503, "").answers(URL, 200, "");
        assert_eq!(told("", Event::Started, &call), [format!("Webhook {URL}: called (HTTP status 200)")]);
        assert_eq!(call.asked().len(), 3);
        let call = FakeCall::default().answers(URL, 401, "");
        let said = told("", Event::Started, &call);
        assert_eq!(said, [format!("warning: webhook {URL} could not be called: HTTP status 401")]);
        assert_eq!(call.asked().len(), 1);
    }

    #[test]
    fn a_server_that_stays_away_is_given_up_at_the_deadline() {
        let said = told("", Event::Started, &FakeCall::default());
        assert_eq!(said, [format!("warning: webhook {URL} could not be called: connection refused")]);
    }

    #[test]
    fn the_authority_that_is_given_is_the_only_one_that_is_believed() {
        let call = FakeCall::default().answers(URL, 200, "");
        let ca = include_str!("../../configs/tests/ca.crt");
        told(&format!("ca = '''\n{ca}'''\n"), Event::Started, &call);
        assert!(matches!(&call.asked()[0].trust, Trust::Authorities(pem) if pem.trim() == ca.trim()));
    }
}
