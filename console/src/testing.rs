//! What tests of several files begin with.

use crate::users::{User, UserName};

/// A user with a credential of its own.
pub fn user(name: &str) -> User {
    User {
        name: UserName::parse(name).unwrap(),
        password: None,
        external: None,
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
            // What the API server says of objects is JSON; of paths that it does not serve, it is not.
            let kind = if text.starts_with(['{', '[']) { "application/json" } else { "text/plain" };
            let mut answer = http::Response::new(kube::client::Body::from(text.into_bytes()));
            answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
            *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
            Ok::<_, Box<std::io::Error>>(answer)
        }
    });
    kube::Client::new(service, "default")
}

/// A replica of sheaf-controller, played: what is sent to it is read until `until`, then it does what `then` says.
pub struct PlayedController {
    /// What it does.
    pub then: Then,
    /// What was sent to it.
    pub sent: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

/// What a played controller does with a request.
#[derive(Clone, Debug)]
pub enum Then {
    /// Reads the whole body of so many bytes, and answers.
    Answer(usize, &'static str),
    /// Answers at once, and reads on.
    AnswerAtOnce(&'static str),
    /// Reads nothing but the head, and is silent.
    Stall,
    /// Closes the connection after the head.
    Break,
}

impl PlayedController {
    /// One that does `then`.
    pub fn new(then: Then) -> Self {
        Self { then, sent: std::sync::Arc::default() }
    }
}

impl crate::controllers::Controllers for PlayedController {
    fn connect(
        &self,
    ) -> futures::future::BoxFuture<'_, Result<Box<dyn crate::controllers::Stream>, crate::answer::Refusal>>
    {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        // Small: what is not taken waits.
        let (here, mut there) = tokio::io::duplex(1 << 10);
        let (then, sent) = (self.then.clone(), self.sent.clone());
        tokio::spawn(async move {
            let mut read = Vec::new();
            let end = b"\r\n\r\n";
            let head = loop {
                read.push(there.read_u8().await?);
                if read.ends_with(end) {
                    break read.len();
                }
            };
            match then {
                Then::Answer(bytes, text) => {
                    let mut buffer = vec![0; 4 << 10];
                    while read.len() < head + bytes {
                        let count = there.read(&mut buffer).await?;
                        if count == 0 {
                            break;
                        }
                        read.extend(&buffer[..count]);
                    }
                    sent.lock().unwrap().clone_from(&read);
                    there.write_all(text.as_bytes()).await?;
                }
                Then::AnswerAtOnce(text) => {
                    sent.lock().unwrap().clone_from(&read);
                    there.write_all(text.as_bytes()).await?;
                    tokio::io::copy(&mut there, &mut tokio::io::sink()).await?;
                }
                Then::Stall => std::future::pending().await,
                Then::Break => {}
            }
            Ok::<_, std::io::Error>(())
        });
        Box::pin(async move { Ok(Box::new(here) as Box<dyn crate::controllers::Stream>) })
    }
}

/// A console with alice, who has logged in, behind this API server and with this controller.
pub async fn with_alice(
    client: kube::Client,
    controller: PlayedController,
) -> (std::sync::Arc<crate::serve::State>, crate::caller::Caller) {
    use crate::records::{Kind, Record, Records as _, fake::Fake};
    use crate::{caller, serve, session};
    use std::sync::Arc;
    let records = Arc::new(Fake::default());
    let user = user("alice");
    records.create(Record::new(Kind::User, "alice", &user).unwrap()).await.unwrap();
    let secret = session::begin(&*records, &user, crate::clock::now()).await.unwrap();
    let state = serve::State {
        records,
        controllers: Arc::new(controller),
        ..serve::State::new(client, serve::Cluster::default())
    };
    let by = caller::By::Session(session::id(&secret));
    (Arc::new(state), caller::Caller { user: user.name, by, address: [192, 0, 2, 9].into() })
}
