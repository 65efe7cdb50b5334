//! Answers, and refusals in the shape of Kubernetes' `Status`.
//!
//! Why here: the page shows refusals of the API server and of the console alike, so both have one shape. Route in: values.
//! Route out: responses; [`crate::headers`] adds what every answer carries.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

/// A body that is known, or that comes from somewhere.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// A response.
pub type Answer = Response<Body>;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// One CamelCase word, as Kubernetes has them.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// Seconds after which another try is of use.
    pub retry_after: Option<u64>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), retry_after: None }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    /// 401 to who typed the right password: a code is missing.
    pub fn code_required(message: impl Into<String>) -> Self {
        Self::new(401, "CodeRequired", message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    /// 405.
    pub fn method(message: impl Into<String>) -> Self {
        Self::new(405, "MethodNotAllowed", message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 422: what was typed cannot be used.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 429, with the seconds to wait.
    pub fn too_many(seconds: u64) -> Self {
        let message = format!("too many attempts; try again in {seconds} s");
        Self { retry_after: Some(seconds), ..Self::new(429, "TooManyRequests", message) }
    }

    /// 503: the API server, or something else that may come back.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after: Some(2), ..Self::new(503, "ServiceUnavailable", message) }
    }

    /// What the API server answered, in its words.
    pub fn of_api(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            422 => "Invalid",
            429 => "TooManyRequests",
            _ => "InternalError",
        };
        Self::new(code, reason, message)
    }

    /// 500.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", error.to_string())
    }

    /// Its response.
    pub fn answer(&self) -> Answer {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": self.code, "reason": self.reason, "message": self.message,
        });
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = with_status(code, &status);
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

/// A body that is known.
pub fn known(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// 200 with JSON.
pub fn ok(value: &Value) -> Answer {
    with_status(StatusCode::OK, value)
}

/// JSON.
pub fn with_status(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(known(value.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// 204.
pub fn empty() -> Answer {
    let mut answer = Response::new(known(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_try_again() {
        let refusal = Refusal::too_many(8);
        assert_eq!(refusal.to_string(), "too many attempts; try again in 8 s");
        let answer = refusal.answer();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "8");
    }
}
