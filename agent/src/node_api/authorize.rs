//! Whether the one who asks may: the API server decides, by `nodes/<self>` and a subresource, as for a kubelet.
//!
//! Why here: kubelet's own table (`pkg/kubelet/server/auth.go`), with its second chance `proxy`. One difference: a stream is a
//! `create`, whatever its method; a kubelet takes the method of a WebSocket, GET, for reading (kubernetes/kubernetes#133515).
//! Route in: user, method, path. Route out: yes, or kubelet's 403 and 500.

use super::answer::Refusal;
use super::authenticate::User;
use super::cache::Cache;
use crate::api_server::Kube;
use http::{Method, StatusCode};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, ObjectMeta, PostParams};
use std::time::{Duration, Instant};

/// What was allowed stays so for this long: kubelet's `authorization.webhook.cacheAuthorizedTTL`.
const ALLOWED_TIME: Duration = Duration::from_secs(300);
/// What was denied: kubelet's `cacheUnauthorizedTTL`.
const DENIED_TIME: Duration = Duration::from_secs(30);

/// What is to be allowed: a verb, and subresources of which one suffices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Verb.
    pub verb: &'static str,
    /// Subresources of `nodes`, in the order in which they are tried.
    pub subresources: Vec<&'static str>,
}

/// What a request asks for; `is_stream` for consoles, displays, ports, exec and attach.
pub fn attributes(method: &Method, path: &str, is_stream: bool) -> Option<Attributes> {
    let verb = match *method {
        _ if is_stream => "create",
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return None,
    };
    let below =
        |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let mut subresources = Vec::new();
    for (root, fine) in
        [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")]
    {
        if below(root) {
            subresources.push(fine);
        }
    }
    let table = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    let coarse =
        table.into_iter().find(|(root, _)| below(root)).map_or("proxy", |(_, subresource)| subresource);
    subresources.push(coarse);
    Some(Attributes { verb, subresources })
}

/// Tells what users may.
#[derive(Default)]
pub struct Authorizer(Cache<(User, &'static str, &'static str), bool>);

impl Authorizer {
    /// Whether `user` may, of `node`.
    pub async fn allow(
        &self,
        kube: &Kube,
        node: &str,
        user: &User,
        attributes: &Attributes,
    ) -> Result<(), Refusal> {
        let Attributes { verb, subresources } = attributes;
        for subresource in subresources {
            let key = (user.clone(), *verb, *subresource);
            let allowed = match self.0.get(&key, Instant::now()) {
                Some(known) => known,
                None => {
                    let allowed = review(kube, node, user, verb, subresource).await?;
                    let time = if allowed { ALLOWED_TIME } else { DENIED_TIME };
                    self.0.put(key, allowed, Instant::now(), time);
                    allowed
                }
            };
            if allowed {
                return Ok(());
            }
        }
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, text))
    }
}

async fn review(
    kube: &Kube,
    node: &str,
    user: &User,
    verb: &str,
    subresource: &str,
) -> Result<bool, Refusal> {
    let spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
        resource_attributes: Some(ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.to_owned()),
            name: Some(node.to_owned()),
            ..ResourceAttributes::default()
        }),
        non_resource_attributes: None,
    };
    let review = SubjectAccessReview { metadata: ObjectMeta::default(), spec, status: None };
    let create = |joined: crate::api_server::Joined| async move {
        Api::<SubjectAccessReview>::all(joined.client).create(&PostParams::default(), &review).await
    };
    match kube.request(create).await {
        Ok(review) => Ok(review.status.is_some_and(|status| status.allowed && status.denied != Some(true))),
        Err(error) => {
            tracing::warn!("whether {} may {verb} nodes/{subresource} cannot be asked: {error}", user.name);
            let text = format!(
                "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                user.name
            );
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_kubelets_subresources_and_everything_else_is_proxy() {
        let of = |method, path: &str| {
            attributes(&method, path, false)
                .map(|found| format!("{} {}", found.verb, found.subresources.join(" ")))
        };
        for (method, path, expected) in [
            (Method::GET, "/metrics/resource", "get metrics"),
            (Method::GET, "/metrics", "get metrics"),
            (Method::GET, "/healthz", "get healthz proxy"),
            (Method::GET, "/pods", "get pods proxy"),
            (Method::GET, "/podsx", "get proxy"),
            (Method::GET, "/containerLogs/a/b/c", "get proxy"),
            (Method::PUT, "/vms/u/pause", "update proxy"),
            (Method::GET, "/", "get proxy"),
            (Method::GET, "/vms/u/../../metrics", "get proxy"),
        ] {
            assert_eq!(of(method, path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(of(Method::CONNECT, "/pods"), None);
    }

    #[test]
    fn a_stream_is_no_reading_though_a_websocket_begins_with_get() {
        let stream = attributes(&Method::GET, "/vms/u/console", true).unwrap();
        assert_eq!((stream.verb, stream.subresources), ("create", vec!["proxy"]));
    }
}
