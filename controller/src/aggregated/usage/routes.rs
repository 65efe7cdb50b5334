//! From method and path to the metrics that are asked for. Pure.

use http::Method;

/// API group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The resources of the group.
    Resources,
    /// All nodes.
    Nodes,
    /// One node.
    Node(String),
    /// Pods of a namespace, or of all.
    Pods(Option<String>),
    /// One Pod: namespace and name.
    Pod(String, String),
}

/// What `method` on `path` asks for; `None` is 404.
pub fn route(method: &Method, path: &str) -> Option<Route> {
    let rest = path.strip_prefix("/apis/metrics.k8s.io/v1beta1")?;
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    if *method != Method::GET {
        return None;
    }
    match parts.as_slice() {
        [] => Some(Route::Resources),
        ["nodes"] => Some(Route::Nodes),
        ["nodes", name] => Some(Route::Node((*name).to_owned())),
        ["pods"] => Some(Route::Pods(None)),
        ["namespaces", namespace, "pods"] => Some(Route::Pods(Some((*namespace).to_owned()))),
        ["namespaces", namespace, "pods", name] => {
            Some(Route::Pod((*namespace).to_owned(), (*name).to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_top_asks_is_known_and_nothing_else() {
        let of = |path: &str| route(&Method::GET, &format!("/apis/metrics.k8s.io/v1beta1{path}"));
        assert_eq!(of(""), Some(Route::Resources));
        assert_eq!(of("/nodes/n1"), Some(Route::Node("n1".into())));
        assert_eq!(of("/pods"), Some(Route::Pods(None)));
        assert_eq!(of("/namespaces/shop/pods"), Some(Route::Pods(Some("shop".into()))));
        assert_eq!(of("/namespaces/shop/pods/p"), Some(Route::Pod("shop".into(), "p".into())));
        for path in ["/namespaces/shop/nodes", "/nodes/n1/x", "/namespaces"] {
            assert_eq!(of(path), None, "{path}");
        }
        assert_eq!(route(&Method::DELETE, "/apis/metrics.k8s.io/v1beta1/nodes"), None);
        assert_eq!(route(&Method::GET, "/apis/metrics.k8s.io/v1/nodes"), None);
    }
}
