//! The key that signs the tokens of uploads: a Secret, made once by the replica that first needs it.
//!
//! Why here: whatever replica a client reaches must accept what another one signed. It is read once; an administrator who
//! deletes the Secret, to end all tokens, restarts the replicas. Route in: the Secret in `sheaf-system`. Route out: a
//! [`Key`].

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use sheaf_api::names::{SYSTEM_NAMESPACE, UPLOAD_KEY_SECRET};

use super::token::{KEY_BYTES, Key};
use crate::object::{RequestError, doing, ok_if_exists};

/// Name of the key in the Secret.
const FIELD: &str = "key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The kernel gave no random bytes.
    #[error("no random bytes for a key: {0}")]
    Random(getrandom::Error),
    /// It holds something else.
    #[error(
        "Secret {SYSTEM_NAMESPACE}/{UPLOAD_KEY_SECRET} has no field {FIELD} of at least {KEY_BYTES} bytes; delete the Secret, it \
         is made again"
    )]
    Malformed,
}

/// The key that all replicas share.
pub async fn shared(client: &Client) -> Result<Key, KeyError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let read =
        || async { secrets.get_opt(UPLOAD_KEY_SECRET).await.map_err(doing("reading the key of uploads")) };
    let found = match read().await? {
        Some(found) => Some(found),
        None => {
            let mut bytes = vec![0; KEY_BYTES];
            getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
            let made = Secret {
                metadata: ObjectMeta { name: Some(UPLOAD_KEY_SECRET.into()), ..ObjectMeta::default() },
                data: Some([(FIELD.into(), ByteString(bytes))].into()),
                ..Secret::default()
            };
            // Another replica may be faster: its key counts.
            ok_if_exists(secrets.create(&PostParams::default(), &made).await)
                .map_err(doing("making the key of uploads"))?;
            read().await?
        }
    };
    let bytes = found.and_then(|secret| secret.data?.remove(FIELD)).ok_or(KeyError::Malformed)?;
    Key::new(&bytes.0).ok_or(KeyError::Malformed)
}
