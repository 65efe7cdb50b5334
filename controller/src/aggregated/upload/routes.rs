//! From method and path to what is asked of uploads. Pure.

use http::Method;

/// API group; CDI's.
pub const GROUP: &str = "upload.cdi.kubevirt.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// Paths to which clients send images: both answer once the volume is filled, and virtctl asks for the first before the second.
const PROXY: [&str; 4] =
    ["/v1beta1/upload-async", "/v1beta1/upload", "/v1alpha1/upload-async", "/v1alpha1/upload"];

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The resources of the group.
    Resources,
    /// A token for a claim of this namespace.
    Token {
        /// Namespace in the path.
        namespace: String,
    },
}

/// What `method` on `path` asks for; `None` is 404.
pub fn route(method: &Method, path: &str) -> Option<Route> {
    let rest = path.strip_prefix("/apis/upload.cdi.kubevirt.io/v1beta1")?;
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    match (parts.as_slice(), method) {
        ([], &Method::GET) => Some(Route::Resources),
        (["namespaces", namespace, "uploadtokenrequests"], &Method::POST) => {
            Some(Route::Token { namespace: (*namespace).to_owned() })
        }
        _ => None,
    }
}

/// Whether a client sends an image to `path`.
pub fn is_upload(path: &str) -> bool {
    PROXY.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_created_and_neither_read_nor_listed() {
        let of = |method: Method, path: &str| route(&method, &format!("/apis/upload.cdi.kubevirt.io{path}"));
        let token = "/v1beta1/namespaces/shop/uploadtokenrequests";
        assert_eq!(of(Method::POST, token), Some(Route::Token { namespace: "shop".into() }));
        assert_eq!(of(Method::GET, "/v1beta1"), Some(Route::Resources));
        for (method, path) in [
            (Method::GET, token),
            (Method::DELETE, token),
            (Method::POST, "/v1beta1/uploadtokenrequests"),
            (Method::POST, "/v1/namespaces/shop/uploadtokenrequests"),
        ] {
            assert_eq!(of(method, path), None, "{path}");
        }
    }

    #[test]
    fn images_are_sent_to_cdis_paths_and_archives_are_not() {
        assert!(is_upload("/v1beta1/upload") && is_upload("/v1beta1/upload-async"));
        for path in ["/v1beta1/upload-archive", "/v1beta1/upload/", "/upload", "/apis/upload.cdi.kubevirt.io"]
        {
            assert!(!is_upload(path), "{path}");
        }
    }
}
