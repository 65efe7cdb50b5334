//! Answers: empty ones, JSON, and errors as Kubernetes' own `errors` package makes them.
//!
//! Why here: virtctl prints the message of a `Status` and decides by its code; a refused WebSocket's message is lost unless
//! the content type is `application/json` and nothing more. Pure. Route in: what came of a request. Route out: a response.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use serde_json::{Value, json};

/// A response whose body is known.
pub type Answer = Response<Full<Bytes>>;

/// An error of a request, `metav1.Status` on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// One CamelCase word of Kubernetes.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Kind and name that it is about.
    pub about: Option<(&'static str, String)>,
}

/// Name of VMs in messages.
pub const VM: &str = "virtualmachine";
/// Name of instances in messages.
pub const VMI: &str = "virtualmachineinstance";

impl Refusal {
    /// The object is not in a state that allows it.
    pub fn conflict(kind: &'static str, name: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {kind}.kubevirt.io \"{name}\": {why}");
        Self { code: 409, reason: "Conflict", message, about: Some((kind, name.to_owned())) }
    }

    /// There is no such object.
    pub fn not_found(kind: &'static str, name: &str) -> Self {
        let message = format!("{kind}.kubevirt.io \"{name}\" not found");
        Self { code: 404, reason: "NotFound", message, about: Some((kind, name.to_owned())) }
    }

    /// There is no such claim.
    pub fn no_claim(name: &str) -> Self {
        let message = format!("persistentvolumeclaims \"{name}\" not found");
        Self { code: 404, reason: "NotFound", message, about: None }
    }

    /// The object would be one that the API server does not take.
    pub fn invalid(kind: &'static str, name: &str, why: &str) -> Self {
        Self { code: 422, reason: "Invalid", message: why.to_owned(), about: Some((kind, name.to_owned())) }
    }

    /// The request makes no sense.
    pub fn bad_request(why: impl std::fmt::Display) -> Self {
        Self { code: 400, reason: "BadRequest", message: why.to_string(), about: None }
    }

    /// Something that should work did not.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {why}");
        Self { code: 500, reason: "InternalError", message, about: None }
    }

    /// KubeVirt has it, this version of Sheaf has not.
    pub fn not_implemented(what: &str) -> Self {
        let message = format!("{what} is not supported by Sheaf; see docs/operate.md");
        Self { code: 501, reason: "NotImplemented", message, about: None }
    }

    /// Whoever asks did not prove who it is.
    pub fn unauthorized() -> Self {
        Self { code: 401, reason: "Unauthorized", message: "Unauthorized".into(), about: None }
    }

    /// The node refused, with this HTTP status and text.
    pub fn of_node(code: u16, text: &str) -> Self {
        let text = text.trim().to_owned();
        let reason = match code {
            400 => "BadRequest",
            404 => "NotFound",
            409 => "Conflict",
            501 => "NotImplemented",
            503 => "ServiceUnavailable",
            _ => return Self::internal(format!("the node answered with HTTP status {code}: {text}")),
        };
        Self { code, reason, message: text, about: None }
    }

    /// A request to the API server failed: its own refusals are passed on.
    pub fn of_api(error: kube::Error) -> Self {
        Self::internal(crate::object::chain(&error))
    }

    /// The response.
    pub fn answer(&self) -> Answer {
        let details = self
            .about
            .as_ref()
            .map(|(kind, name)| json!({"name": name, "group": "kubevirt.io", "kind": kind}));
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": details, "code": self.code,
        });
        json_with(StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &status)
    }
}

/// `value`, with status 200.
pub fn ok(value: &Value) -> Answer {
    json_with(StatusCode::OK, value)
}

/// Nothing but a status.
pub fn empty(code: StatusCode) -> Answer {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = code;
    response
}

/// A text, for clients that are no tools of Kubernetes.
pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A body of JSON that is text already.
pub fn raw(body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A PNG.
pub fn picture(file: Bytes) -> Answer {
    let mut response = Response::new(Full::new(file));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    response
}

fn json_with(code: StatusCode, value: &Value) -> Answer {
    let mut response = raw(Bytes::from(value.to_string()));
    *response.status_mut() = code;
    response
}
