//! Users and passwords of registries, from Secrets of type `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`.
//!
//! Pure. Route in: what the image pull Secrets of a Pod hold. Route out: who asks a registry. Nothing here shows a password.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

use super::reference::DEFAULT_REGISTRY;

/// Keys of a Secret that hold such a file, the newer one first.
pub const KEYS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Who asks.
    pub user: String,
    password: String,
}

impl Login {
    /// Value of the header `Authorization` (RFC 7617).
    pub fn basic(&self) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Logins by registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins(Vec<(String, Login)>);

/// A Secret that holds no logins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a file of logins of registries; make it with kubectl create secret docker-registry")]
pub struct NoLogins;

#[derive(Deserialize)]
struct File {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Logins {
    /// Adds those of a Secret's value of `key`, one of [`KEYS`].
    pub fn add(&mut self, key: &str, value: &[u8]) -> Result<(), NoLogins> {
        let auths = match key == KEYS[0] {
            true => serde_json::from_slice::<File>(value).map(|file| file.auths),
            false => serde_json::from_slice(value),
        };
        for (server, entry) in auths.map_err(|_| NoLogins)? {
            if let Some(login) = entry.login() {
                self.0.push((place(&server), login));
            }
        }
        Ok(())
    }

    /// Adds one for all of `registry`.
    pub fn add_login(&mut self, registry: &str, user: &str, password: &str) {
        let login = Login { user: user.to_owned(), password: password.to_owned() };
        self.0.push((place(registry), login));
    }

    /// Who asks `registry` for `repository`: the entry that names most of both.
    pub fn of(&self, registry: &str, repository: &str) -> Option<&Login> {
        let image = format!("{registry}/{repository}");
        let covers = |place: &str| {
            image.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0
            .iter()
            .filter(|(place, _)| covers(place))
            .max_by_key(|(place, _)| place.len())
            .map(|(_, login)| login)
    }
}

impl Entry {
    fn login(self) -> Option<Login> {
        let coded = self.auth.and_then(|auth| {
            let text = String::from_utf8(BASE64_STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            Some(Login { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
        });
        coded.or_else(|| Some(Login { user: self.username?, password: self.password? }))
    }
}

/// `https://index.docker.io/v1/` is Docker Hub; of others scheme, version and the slash at the end do not count.
fn place(server: &str) -> String {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        bare => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn logins(auths: serde_json::Value) -> Logins {
        let mut logins = Logins::default();
        logins.add(KEYS[0], json!({"auths": auths}).to_string().as_bytes()).unwrap();
        logins
    }

    #[test]
    fn a_login_is_found_by_the_registry_however_its_secret_writes_it() {
        let coded = BASE64_STANDARD.encode("ann:p:w");
        let logins = logins(json!({
            "https://index.docker.io/v1/": {"auth": coded},
            "quay.io": {"username": "bob", "password": "pw"},
            "quay.io/team": {"username": "team", "password": "pw"},
            "empty.example": {},
        }));
        let user = |registry, repository| logins.of(registry, repository).map(|login| login.user.as_str());
        assert_eq!(user("docker.io", "library/debian"), Some("ann"));
        assert_eq!((user("quay.io", "other/a"), user("quay.io", "team/a")), (Some("bob"), Some("team")));
        assert_eq!(
            (user("quay.io", "teams/a"), user("quay.io.example", "a"), user("empty.example", "a")),
            (Some("bob"), None, None)
        );
        assert_eq!(
            logins.of("docker.io", "a/b").unwrap().basic(),
            format!("Basic {}", BASE64_STANDARD.encode("ann:p:w"))
        );
        assert!(!format!("{logins:?}").contains("pw"));
    }

    #[test]
    fn the_older_kind_of_secret_is_read_and_others_are_refused() {
        let mut logins = Logins::default();
        logins.add(KEYS[1], br#"{"quay.io": {"username": "bob", "password": "pw"}}"#).unwrap();
        assert_eq!(logins.of("quay.io", "a").unwrap().user, "bob");
        assert_eq!(logins.add(KEYS[0], b"{}"), Err(NoLogins));
        assert_eq!(logins.add(KEYS[1], b"secret"), Err(NoLogins));
    }
}
