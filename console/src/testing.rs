//! What tests of several files begin with.

use crate::users::{User, UserName};

/// A user with a credential of its own.
pub fn user(name: &str) -> User {
    User {
        name: UserName::parse(name).unwrap(),
        password: None,
        credential: format!("first-of-{name}"),
        disabled: false,
        created: 1,
    }
}

/// A client whose requests are answered by `play`: a status and a text, or an error of the connection.
pub fn api_server(
    play: impl Fn(&http::Request<kube::client::Body>) -> Result<(u16, String), String> + Send + Sync + 'static,
) -> kube::Client {
    let play = std::sync::Arc::new(play);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let played = play(&request);
        async move {
            let (code, text) = played.map_err(|error| Box::new(std::io::Error::other(error)))?;
            let mut answer = http::Response::new(kube::client::Body::from(text.into_bytes()));
            *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
            Ok::<_, Box<std::io::Error>>(answer)
        }
    });
    kube::Client::new(service, "default")
}
