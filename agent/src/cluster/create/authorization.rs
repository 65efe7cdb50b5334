//! How the API server authorizes: kubeadm's Node and RBAC, and before them what no role can say: a node reads only objects
//! of its own, and the console impersonates its own users alone.
//!
//! Why here: RBAC knows no field selectors and the Node authorizer none of Sheaf's kinds; the API server's structured
//! configuration (AuthorizationConfiguration, `--authorization-config`) can say it in CEL. Its only kind of rule is a
//! webhook with conditions: exactly the requests that are forbidden match, and the webhook, sheaf-controller on this
//! machine, refuses whatever it is asked. Requests that are allowed never depend on it; while it is away, the forbidden
//! ones fail (`failurePolicy: Deny`). Route in: nothing. Route out: two files beside `control-plane.env`; neither is
//! secret.

use serde_json::{Value, json};
use sheaf_api::console;
use sheaf_api::names::{CONSOLE_IMPERSONATES_PATH, NODE_READS_ADDRESS, NODE_READS_PATH};
use sheaf_host::file::write_atomically;
use std::path::Path;

/// The configuration's file, which the unit of kube-apiserver names.
const CONFIGURATION: &str = "authorization.json";
/// Where the webhook for nodes is.
const WEBHOOK: &str = "node-reads.json";
/// Where the one for the console is.
const CONSOLE_WEBHOOK: &str = "console-impersonates.json";

/// Writes the files into `run`; true when one changed.
pub fn write(run: &Path) -> anyhow::Result<bool> {
    let (webhook, console) = (run.join(WEBHOOK), run.join(CONSOLE_WEBHOOK));
    let mut changed = false;
    for (path, value) in [
        (run.join(CONFIGURATION), configuration(&webhook, &console)),
        (webhook.clone(), connection("node-reads", NODE_READS_PATH)),
        (console.clone(), connection("console-impersonates", CONSOLE_IMPERSONATES_PATH)),
    ] {
        let text = format!("{value:#}\n");
        if !std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
            write_atomically(&path, text.as_bytes(), 0o644)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// A kubeconfig with the webhook's address: plain HTTP on the loopback, since it only ever refuses.
fn connection(name: &str, path: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": format!("http://{NODE_READS_ADDRESS}{path}")}}],
        "users": [], "contexts": [{"name": name, "context": {"cluster": name, "user": ""}}],
        "current-context": name,
    })
}

/// What the console must not impersonate: RBAC knows exact names alone, and its users come and go. All verbs that begin with
/// `impersonate` are meant: KEP-5284 has further ones.
fn impersonations() -> [String; 3] {
    let (identity, prefix, group) = (console::IDENTITY, console::USER_PREFIX, console::GROUP);
    [
        format!("request.user == '{identity}'"),
        "has(request.resourceAttributes) && request.resourceAttributes.verb.startsWith('impersonate')"
            .to_owned(),
        format!(
            "!(request.resourceAttributes.resource == 'users' && has(request.resourceAttributes.name) && \
             request.resourceAttributes.name.startsWith('{prefix}')) && \
             !(request.resourceAttributes.resource == 'groups' && has(request.resourceAttributes.name) && \
             request.resourceAttributes.name == '{group}')"
        ),
    ]
}

/// A webhook that refuses what matches all of `conditions`; nothing else is asked.
fn refuses(name: &str, connection: &Path, conditions: &[String]) -> Value {
    let conditions: Vec<Value> =
        conditions.iter().map(|expression| json!({"expression": expression})).collect();
    json!({
        "type": "Webhook", "name": name,
        "webhook": {
            "timeout": "3s",
            "failurePolicy": "Deny",
            "subjectAccessReviewVersion": "v1",
            "matchConditionSubjectAccessReviewVersion": "v1",
            // What matches is refused: there is nothing to remember.
            "cacheAuthorizedRequests": false,
            "cacheUnauthorizedRequests": false,
            "authorizedTTL": "1s", "unauthorizedTTL": "1s",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": connection},
            "matchConditions": conditions,
        },
    })
}

fn configuration(webhook: &Path, console: &Path) -> Value {
    let conditions = [
        "'system:nodes' in request.groups",
        "has(request.resourceAttributes) && request.resourceAttributes.group == 'sheaf.dev'",
        // What belongs to one node. Policies, and kinds to come without a node, are for all to read.
        "request.resourceAttributes.resource in ['blockdevices', 'storagepools', 'localvolumes', \
         'nodenetworkenactments', 'nodenetworkstates', 'nodeupdates', 'noderemovals', '*']",
        "request.resourceAttributes.verb in ['get', 'list', 'watch', 'deletecollection', '*']",
        // Not: selected by its own name.
        "!(has(request.resourceAttributes.fieldSelector) && \
         has(request.resourceAttributes.fieldSelector.requirements) && \
         request.resourceAttributes.fieldSelector.requirements.exists(r, r.key == 'spec.nodeName' && \
         r.operator == 'In' && r.values.size() == 1 && 'system:node:' + r.values[0] == request.user))",
        // Not: one object whose name holds the node's, as the kinds' own rules have it.
        "!(request.resourceAttributes.verb == 'get' && has(request.resourceAttributes.name) && \
         request.user.startsWith('system:node:') && \
         (request.resourceAttributes.resource in ['nodenetworkstates', 'nodeupdates', 'noderemovals'] ? \
            'system:node:' + request.resourceAttributes.name == request.user : \
          request.resourceAttributes.resource == 'blockdevices' ? \
            request.resourceAttributes.name.startsWith(request.user.substring(12) + '.') : \
          request.resourceAttributes.resource in ['storagepools', 'nodenetworkenactments'] && \
            request.resourceAttributes.name.endsWith('.' + request.user.substring(12))))",
    ];
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [
            refuses("node-reads", webhook, &conditions.map(str::to_owned)),
            refuses("console-impersonates", console, &impersonations()),
            {"type": "Node", "name": "node"},
            {"type": "RBAC", "name": "rbac"},
        ],
    })
}
