//! Paths that are handed on, and tricks that are not.

use proptest::prelude::*;

use super::*;

fn refused(method: Method, path: &str) -> Refusal {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    match target(&method, path, query) {
        Ok(target) => panic!("{method} {path} becomes {target:?}"),
        Err(refusal) => refusal,
    }
}

const SHOP: &str = "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines";
const ACTS: &str = "/apis/subresources.kubevirt.io/v1/namespaces/shop";

#[test]
fn what_the_pages_need_is_handed_on_as_it_is() {
    for (method, path, is_stream) in [
        (Method::GET, "/apis/kubevirt.io/v1/virtualmachines".to_owned(), false),
        (Method::GET, format!("{SHOP}?limit=100&labelSelector=a%3Db"), false),
        (Method::POST, SHOP.to_owned(), false),
        (Method::PATCH, format!("{SHOP}/web?dryRun=All"), false),
        (Method::DELETE, format!("{SHOP}/web?propagationPolicy=Foreground"), false),
        (Method::PUT, format!("{ACTS}/virtualmachines/web/start"), false),
        (Method::PUT, format!("{ACTS}/virtualmachineinstances/web/pause"), false),
        (Method::GET, format!("{ACTS}/virtualmachineinstances/web/vnc/screenshot?moveCursor=true"), false),
        (Method::GET, format!("{ACTS}/virtualmachineinstances/web/vnc?preserveSession=false"), true),
        (Method::GET, format!("{ACTS}/virtualmachineinstances/web/console"), true),
        (Method::GET, "/api/v1/namespaces".to_owned(), false),
        (Method::GET, "/api/v1/namespaces/shop".to_owned(), false),
        (Method::POST, "/api/v1/namespaces/shop/secrets".to_owned(), false),
        (Method::PATCH, "/api/v1/namespaces/shop/persistentvolumeclaims/web-root".to_owned(), false),
        (Method::GET, "/api/v1/nodes/n1".to_owned(), false),
        (Method::GET, "/api/v1/nodes/n1/proxy/logs?query=sheaf-agent&tailLines=9&boot=-1".to_owned(), false),
        (Method::GET, "/api/v1/nodes/n1/proxy/logs/support-bundle.tar.gz".to_owned(), false),
        (Method::POST, "/apis/sheaf.dev/v1alpha1/nodeupdates".to_owned(), false),
        (Method::PATCH, "/api/v1/namespaces/sheaf-system/configmaps/node-identities".to_owned(), false),
        (Method::DELETE, "/apis/sheaf.dev/v1alpha1/nodeupdates/n1".to_owned(), false),
        (Method::POST, "/apis/storage.k8s.io/v1/storageclasses".to_owned(), false),
        (Method::DELETE, "/apis/sheaf.dev/v1alpha1/blockdevices/n1.serial-a".to_owned(), false),
        (Method::PATCH, "/apis/sheaf.dev/v1alpha1/nodenetworkpolicies/storage".to_owned(), false),
        (Method::GET, "/apis/sheaf.dev/v1alpha1/blockdevices/n1.serial-a".to_owned(), false),
        (Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(), false),
    ] {
        let (bare, query) =
            path.split_once('?').map_or((path.as_str(), None), |(path, query)| (path, Some(query)));
        assert_eq!(
            target(&method, bare, query),
            Ok(Target { path: path.clone(), is_stream }),
            "{method} {path}"
        );
    }
}

#[test]
fn what_a_node_answers_becomes_no_page_and_no_script_of_this_origin() {
    let answered = |kind: &'static str| {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
        answered(&headers).to_str().unwrap().to_owned()
    };
    for kind in ["text/html", "text/javascript", "image/svg+xml", "application/xhtml+xml", "text/css", ""] {
        assert_eq!(answered(kind), "application/octet-stream", "{kind}");
    }
    assert_eq!(answered("application/json"), "application/json");
    assert_eq!(answered("text/plain"), "text/plain; charset=utf-8");
    assert_eq!(answered("application/gzip"), "application/gzip");
    assert_eq!(super::answered(&HeaderMap::new()), "application/octet-stream");
}

#[test]
fn kinds_and_verbs_that_no_page_needs_are_not_offered() {
    for (method, path) in [
        (Method::GET, "/api/v1/namespaces/shop/secrets".to_owned()),
        (Method::GET, "/api/v1/namespaces/shop/secrets/a".to_owned()),
        (Method::GET, "/api/v1/secrets".to_owned()),
        (Method::PUT, "/api/v1/namespaces/shop/secrets/a".to_owned()),
        (Method::DELETE, "/api/v1/namespaces/shop/secrets/a".to_owned()),
        // Those of the cluster's own are made by the console itself, or not at all.
        (Method::POST, "/api/v1/namespaces/kube-system/secrets".to_owned()),
        (Method::POST, "/api/v1/namespaces/sheaf-console/secrets".to_owned()),
        // Of ConfigMaps one is changed, and none read.
        (Method::GET, "/api/v1/namespaces/sheaf-system/configmaps/node-identities".to_owned()),
        (Method::GET, "/api/v1/namespaces/sheaf-system/configmaps".to_owned()),
        (Method::DELETE, "/api/v1/namespaces/sheaf-system/configmaps/node-identities".to_owned()),
        (Method::PATCH, "/api/v1/namespaces/sheaf-system/configmaps/node-addresses".to_owned()),
        (Method::PATCH, "/api/v1/namespaces/shop/configmaps/node-identities".to_owned()),
        (Method::PUT, "/apis/sheaf.dev/v1alpha1/nodeupdates/n1".to_owned()),
        (Method::DELETE, "/apis/storage.k8s.io/v1/storageclasses/sheaf".to_owned()),
        (Method::PATCH, "/apis/storage.k8s.io/v1/storageclasses/sheaf".to_owned()),
        (Method::PATCH, "/apis/sheaf.dev/v1alpha1/nodeupdates/n1".to_owned()),
        (Method::POST, "/api/v1/namespaces/shop/persistentvolumeclaims".to_owned()),
        (Method::GET, "/api/v1/namespaces/shop/pods".to_owned()),
        (Method::POST, "/api/v1/namespaces/shop/pods".to_owned()),
        (Method::GET, "/api/v1/nodes/n1/proxy".to_owned()),
        (Method::GET, "/api/v1/nodes/n1/proxy/pods".to_owned()),
        (Method::GET, "/api/v1/nodes/n1/proxy/logs/auth.log".to_owned()),
        (Method::PUT, "/api/v1/nodes/n1/proxy/logs".to_owned()),
        (Method::GET, "/api/v1/namespaces/sheaf-system/services/sheaf-controller/proxy".to_owned()),
        (Method::PATCH, "/api/v1/nodes/n1".to_owned()),
        (Method::POST, "/api/v1/namespaces/shop/serviceaccounts/default/token".to_owned()),
        (Method::GET, "/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned()),
        (Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned()),
        (Method::GET, "/apis/apiregistration.k8s.io/v1/apiservices".to_owned()),
        (Method::GET, "/apis".to_owned()),
        (Method::GET, "/api".to_owned()),
        (Method::GET, "/api/v1".to_owned()),
        (Method::GET, "/version".to_owned()),
        (Method::GET, "/metrics".to_owned()),
        (Method::GET, "/logs/".trim_end_matches('/').to_owned()),
        (Method::GET, "/openapi/v3".to_owned()),
        (Method::GET, "/.well-known/openid-configuration".to_owned()),
        // All at once.
        (Method::DELETE, SHOP.to_owned()),
        (Method::DELETE, "/apis/kubevirt.io/v1/virtualmachines".to_owned()),
        // Of no namespace, or of one that is none.
        (Method::POST, "/apis/kubevirt.io/v1/virtualmachines".to_owned()),
        (Method::GET, "/apis/kubevirt.io/v1/namespaces/Shop/virtualmachines".to_owned()),
        (Method::GET, "/apis/sheaf.dev/v1alpha1/namespaces/shop/blockdevices".to_owned()),
        (Method::GET, "/apis/kubevirt.io/v1/virtualmachines/web".to_owned()),
        // Parts.
        (Method::PATCH, format!("{SHOP}/web/status")),
        (Method::GET, format!("{ACTS}/virtualmachineinstances/web/portforward/22")),
        (Method::GET, format!("{ACTS}/virtualmachines/web/start")),
        (Method::POST, format!("{ACTS}/virtualmachines/web/start")),
        (Method::PUT, format!("{ACTS}/virtualmachineinstances/web/vnc")),
        (Method::from_bytes(b"CONNECT").unwrap(), SHOP.to_owned()),
        (Method::OPTIONS, SHOP.to_owned()),
        (Method::HEAD, SHOP.to_owned()),
        (Method::TRACE, SHOP.to_owned()),
    ] {
        let refusal = refused(method.clone(), &path);
        assert_eq!(refusal.code, 404, "{method} {path}");
        assert_eq!(refusal.message, format!("the console does not offer {method} {path}"));
    }
}

#[test]
fn tricks_with_paths_are_refused() {
    let path = "a path has letters, digits, \"-\", \"_\", \".\" and \":\" between its slashes";
    for trick in [
        "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/../../../../../../api/v1/secrets",
        "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/..",
        "/apis/kubevirt.io/v1/namespaces/./virtualmachines",
        "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/%2e%2e/%2e%2e/secrets",
        "/apis/kubevirt.io/v1/namespaces/shop%2f..%2fother/virtualmachines",
        "/apis/kubevirt.io/v1/namespaces//virtualmachines",
        "//apis/kubevirt.io/v1/virtualmachines",
        "/apis/kubevirt.io/v1/virtualmachines/",
        "/apis/kubevirt.io/v1/virtualmachines;x=1",
        "/apis/kubevirt.io/v1\\virtualmachines",
        "/apis/kubevirt.io/v1/virtualmachines/a b",
        "/apis/kubevirt.io/v1/virtualmachines/a@b",
        "",
        "/",
    ] {
        assert_eq!(refused(Method::GET, trick).message, path, "{trick:?}");
    }
    for (query, message) in [
        ("watch=true", "the console does not hand on \"watch\" of a query"),
        ("limit=1&watch", "the console does not hand on \"watch\" of a query"),
        ("w%61tch=true", "the console does not hand on \"w%61tch\" of a query"),
        ("as=system:admin", "the console does not hand on \"as\" of a query"),
        ("limit=1&&", "the console does not hand on \"\" of a query"),
        ("labelSelector=a;watch=1", "the value of labelSelector must be percent-encoded"),
        ("labelSelector=a#b", "the value of labelSelector must be percent-encoded"),
    ] {
        assert_eq!(refused(Method::GET, &format!("{SHOP}?{query}")).message, message);
    }
    let long = format!("{SHOP}/{}", "a".repeat(LONGEST));
    assert_eq!(refused(Method::GET, &long).message, "the path is too long");
}

#[test]
fn of_a_browsers_headers_two_are_handed_on_and_only_known_values_of_them() {
    let mut from = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("impersonate-user", "system:admin"),
        ("x-remote-user", "admin"),
        ("x-forwarded-for", "127.0.0.1"),
        ("connection", "impersonate-user"),
        ("content-type", "application/merge-patch+json; charset=utf-8"),
        ("accept", "text/html"),
    ] {
        from.insert(name, HeaderValue::from_static(value));
    }
    let handed = headers(&from).unwrap();
    assert_eq!(handed.len(), 2);
    assert_eq!(handed[header::CONTENT_TYPE], "application/merge-patch+json");
    assert_eq!(handed[header::ACCEPT], "application/json");
    from.insert("content-type", HeaderValue::from_static("multipart/form-data"));
    assert_eq!(headers(&from).unwrap_err().message, "the console does not send \"multipart/form-data\"");
}

proptest! {
    #[test]
    fn whatever_is_handed_on_is_a_row_of_the_table(
        words in proptest::collection::vec(prop_oneof![
            Just("api".to_owned()), Just("apis".to_owned()), Just("v1".to_owned()), Just("namespaces".to_owned()),
            Just("kubevirt.io".to_owned()), Just("virtualmachines".to_owned()), Just("nodes".to_owned()),
            Just("secrets".to_owned()), Just("..".to_owned()), Just(String::new()), "[a-z%.]{1,6}",
        ], 0..9),
        method in prop_oneof![
            Just(Method::GET), Just(Method::POST), Just(Method::PUT), Just(Method::PATCH), Just(Method::DELETE)
        ],
    ) {
        let path = format!("/{}", words.join("/"));
        if let Ok(target) = target(&method, &path, None) {
            prop_assert!(!target.path.contains("..") && !target.path.contains('%') && !target.path.contains("//"));
            let known = table::ROWS.iter().any(|row| words.contains(&row.kind.to_owned()) && words.contains(&row.version.to_owned()));
            prop_assert!(known, "{}", target.path);
        }
    }
}

#[test]
fn what_is_said_to_be_offered_is_what_the_table_takes() {
    let all = offered("lab", "web");
    assert!(all.len() > 100, "{}", all.len());
    for (method, path) in &all {
        let rest = path.strip_prefix(PREFIX).unwrap();
        assert_eq!(target(method, rest, None).unwrap().path, rest, "{method} {path}");
    }
    let kinds: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(kinds.len(), all.len(), "each once");
}
