//! Asks a registry, or the mirrors that an administrator put before it, for manifests and layers.
//!
//! Why here: the protocol of the OCI distribution specification, as far as a pull needs it. Everything that comes is named by its
//! SHA-256, so it does not matter which server gave it; only a tag is believed. Blocks: run it off the agent's thread.
//! Route in: a [`Reference`], [`Server`]s in the order in which they are asked. Route out: an [`Image`]; a layer in a file.

use super::challenge::Challenge;
use super::credentials::{Login, Logins};
use super::manifest::{self, Layer, Manifest, ManifestError};
use super::reference::{Digest, Reference, ReferenceError};
use crate::volumes::fill::pace::{Pace, WINDOW};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use sheaf_config::node::Registry;
use sheaf_host::fetch::access::Access;
use sheaf_host::fetch::policy::Policy;
use sheaf_host::fetch::{Fetch, FetchError, Rest, Source};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Longest answer with a token, in bytes.
const LONGEST_TOKEN: u64 = 64 << 10;

/// Why an image, or a part of it, is not here.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No server gave it.
    #[error("{image}: {}", each(.tried))]
    Servers {
        /// What was asked for.
        image: String,
        /// What became of each server that was asked.
        tried: Vec<FetchError>,
    },
    /// Its manifest cannot be used.
    #[error("{image}: {source}")]
    Manifest {
        /// The image.
        image: String,
        /// Why not.
        source: ManifestError,
    },
    /// A server gave something else than what was asked for.
    #[error("{url} gave a file of {found} instead of {wanted}")]
    OtherDigest {
        /// What was asked for.
        url: String,
        /// What it is.
        found: Digest,
        /// What it should be.
        wanted: Digest,
    },
    /// A server gave more than the manifest says.
    #[error("{url} gave more than the {bytes} bytes that it should have")]
    TooLong {
        /// What was asked for.
        url: String,
        /// Its length.
        bytes: u64,
    },
    /// It comes so slowly that it would keep others waiting.
    #[error("{url} sends less than 64 KiB a second; the next try resumes there")]
    Slow {
        /// What was asked for.
        url: String,
    },
    /// The connection broke.
    #[error("{url}: the connection broke; the next try resumes there")]
    Broken {
        /// What was asked for.
        url: String,
        /// How.
        source: io::Error,
    },
    /// The disk.
    #[error("{path} cannot be written; is the data partition full, read-only or damaged?")]
    Disk {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The agent ends, or nobody wants the image any more.
    #[error("stopped")]
    Stopped,
}

fn each(tried: &[FetchError]) -> String {
    let with_cause = |error: &FetchError| match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    tried.iter().map(with_cause).collect::<Vec<_>>().join("; ")
}

/// A server of an image: a mirror, or its registry.
#[derive(Clone, Debug)]
pub struct Server {
    /// `https://HOST/v2/` and the repository.
    base: String,
    /// Its name where logins are looked up.
    name: String,
    /// Whom it may lead to.
    policy: Arc<Policy>,
    /// Authorities, unless they are those of the node.
    ca: Option<String>,
}

/// The servers of `image` in the order in which they are asked. `policy` and `authorities` are for the registry itself: a
/// tenant named them.
pub fn servers(
    image: &Reference,
    configured: &[Registry],
    policy: &Arc<Policy>,
    authorities: Option<&String>,
) -> Vec<Server> {
    let registry = configured.iter().find(|one| one.name == image.registry);
    let ca = registry.and_then(|registry| registry.ca.clone());
    let mirrors = registry.map(|registry| registry.mirrors.as_slice()).unwrap_or_default();
    let of_mirror = |url: &String| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (host, path) =
            rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("{path}/")));
        Server {
            base: format!("{scheme}://{host}/v2/{path}{}", image.repository),
            name: host.to_owned(),
            policy: Arc::new(Policy::trusted()),
            ca: ca.clone(),
        }
    };
    let own = Server {
        base: format!("{}/v2/{}", image.server(), image.repository),
        name: image.registry.clone(),
        policy: policy.clone(),
        ca: authorities.cloned().or_else(|| ca.clone()),
    };
    mirrors.iter().map(of_mirror).chain([own]).collect()
}

/// An image as its registry has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest for this machine.
    pub digest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// Whether to stop: the agent ends, or nobody wants the image any more.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// One who pulls one image.
pub struct Client<'a> {
    fetch: &'a dyn Fetch,
    image: &'a Reference,
    logins: &'a Logins,
    /// Each with the header `Authorization` that it accepted last.
    servers: Vec<(Server, Option<String>)>,
    stop: Stop<'a>,
}

impl<'a> Client<'a> {
    /// For `image`, of `servers`.
    pub fn new(
        fetch: &'a dyn Fetch,
        image: &'a Reference,
        servers: Vec<Server>,
        logins: &'a Logins,
        stop: Stop<'a>,
    ) -> Self {
        let servers = servers.into_iter().map(|server| (server, None)).collect();
        Self { fetch, image, logins, servers, stop }
    }

    /// Which image it is, for this machine.
    pub fn resolve(&mut self) -> Result<Image, PullError> {
        let (digest, manifest) = self.manifest(&self.image.version(), self.image.digest.clone().as_ref())?;
        let (digest, manifest) = match manifest {
            Manifest::List(chosen) => self.manifest(&chosen.to_string(), Some(&chosen))?,
            manifest => (digest, manifest),
        };
        match manifest {
            Manifest::Image(layers) => Ok(Image { digest, layers }),
            Manifest::List(_) => Err(self.unusable(ManifestError::Kind("a list within a list".into()))),
        }
    }

    /// Brings `layer` into the file `part`, where an earlier try may have left its beginning; tells how many bytes are there.
    pub fn layer(&mut self, layer: &Layer, part: &Path, told: &dyn Fn(u64)) -> Result<(), PullError> {
        let disk = |source| PullError::Disk { path: part.display().to_string(), source };
        let open = File::options().read(true).write(true).create(true).truncate(false).open(part);
        let mut file = open.map_err(disk)?;
        let mut hash = Sha256::new();
        let mut here = copy(&mut file, &mut hash, self.stop).map_err(disk)?.ok_or(PullError::Stopped)?;
        let mut url = part.display().to_string();
        if here < layer.bytes {
            let (asked, mut rest) = self.get(&format!("blobs/{}", layer.digest), here)?;
            url = asked;
            if rest.from != here {
                // The server cannot begin in the middle.
                file.set_len(0).and_then(|()| file.rewind()).map_err(disk)?;
                (hash, here) = (Sha256::new(), 0);
            }
            let (mut piece, mut pace) = (vec![0; PIECE], Pace::over(WINDOW));
            loop {
                told(here);
                if (self.stop)() {
                    return Err(PullError::Stopped);
                }
                let asked = Instant::now();
                let read = match rest.reader.read(&mut piece) {
                    Ok(0) if here == layer.bytes => break,
                    Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                    read => read,
                };
                let read = read.map_err(|source| PullError::Broken { url: url.clone(), source })?;
                pace.note(asked.elapsed(), read as u64).map_err(|_| PullError::Slow { url: url.clone() })?;
                here += read as u64;
                if here > layer.bytes {
                    return Err(PullError::TooLong { url, bytes: layer.bytes });
                }
                file.write_all(&piece[..read]).map_err(disk)?;
                hash.update(&piece[..read]);
            }
        }
        let found = Digest::of_hash(hash);
        if found != layer.digest {
            // Whatever it is, the next try begins at the beginning.
            file.set_len(0).map_err(disk)?;
            return Err(PullError::OtherDigest { url, found, wanted: layer.digest.clone() });
        }
        Ok(())
    }

    /// The bytes of `layer` from the byte `from` on, as they come: the reader checks them.
    pub fn open(&mut self, layer: &Layer, from: u64) -> Result<Rest, PullError> {
        Ok(self.get(&format!("blobs/{}", layer.digest), from)?.1)
    }

    fn unusable(&self, source: ManifestError) -> PullError {
        PullError::Manifest { image: self.image.to_string(), source }
    }

    fn manifest(&mut self, version: &str, wanted: Option<&Digest>) -> Result<(Digest, Manifest), PullError> {
        let (url, rest) = self.get(&format!("manifests/{version}"), 0)?;
        let mut bytes = Vec::new();
        let read = rest.reader.take(manifest::LONGEST + 1).read_to_end(&mut bytes);
        read.map_err(|source| PullError::Broken { url: url.clone(), source })?;
        if bytes.len() as u64 > manifest::LONGEST {
            return Err(PullError::TooLong { url, bytes: manifest::LONGEST });
        }
        let found = Digest::of(&bytes);
        match wanted {
            Some(wanted) if *wanted != found => {
                Err(PullError::OtherDigest { url, found, wanted: wanted.clone() })
            }
            _ => Ok((found, manifest::read(&bytes).map_err(|source| self.unusable(source))?)),
        }
    }

    /// Asks one server after the other; the one that answers is asked first the next time.
    fn get(&mut self, what: &str, from: u64) -> Result<(String, Rest), PullError> {
        let mut tried = Vec::new();
        for at in 0..self.servers.len() {
            let (server, authorization) = &mut self.servers[at];
            let url = format!("{}/{what}", server.base);
            let login = self.logins.of(&server.name, &self.image.repository);
            match ask(self.fetch, server, authorization, login, &url, from) {
                Ok(rest) => {
                    self.servers[..=at].rotate_right(1);
                    return Ok((url, rest));
                }
                Err(error) => tried.push(error),
            }
        }
        Err(PullError::Servers { image: self.image.to_string(), tried })
    }
}

/// Asks `server` for `url`, and once more with what it wants to be shown.
fn ask(
    fetch: &dyn Fetch,
    server: &Server,
    authorization: &mut Option<String>,
    login: Option<&Login>,
    url: &str,
    from: u64,
) -> Result<Rest, FetchError> {
    let answer = fetch.fetch(&source(server, url, authorization.as_deref())?, from);
    let Err(FetchError::Unauthorized { url: shown, challenge }) = answer else { return answer };
    // A token that has ended, or none so far.
    let refused = FetchError::Unauthorized { url: shown, challenge: challenge.clone() };
    let answer = match challenge.as_deref().and_then(Challenge::parse) {
        Some(Challenge::Basic) => login.map(Login::basic),
        Some(Challenge::Bearer { realm, service, scope }) => {
            Some(token(fetch, server, login, &realm, service.as_deref(), scope.as_deref())?)
        }
        None => None,
    };
    *authorization = Some(answer.ok_or(refused)?);
    fetch.fetch(&source(server, url, authorization.as_deref())?, from)
}

fn source(server: &Server, url: &str, authorization: Option<&str>) -> Result<Source, FetchError> {
    let mut access = Access::default();
    access.accept(manifest::KINDS);
    if let Some(value) = authorization {
        let unusable =
            |_| FetchError::BadUrl { url: url.to_owned(), why: "its credentials cannot be sent in a header" };
        access.add_header("authorization", value.as_bytes()).map_err(unusable)?;
    }
    if let Some(pem) = &server.ca {
        access.trust(pem.clone());
    }
    Ok(Source { url: url.to_owned(), policy: server.policy.clone(), access: Arc::new(access) })
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The header `Authorization` by which `realm` lets us in; without a login what everybody may read.
fn token(
    fetch: &dyn Fetch,
    server: &Server,
    login: Option<&Login>,
    realm: &str,
    service: Option<&str>,
    scope: Option<&str>,
) -> Result<String, FetchError> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("service", service), ("scope", scope)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let joint = if realm.contains('?') { '&' } else { '?' };
    let url = format!("{realm}{joint}{}", query.finish());
    let host = |url: &str| url.split('/').nth(2).map(str::to_ascii_lowercase);
    // Authorities that vouch for a registry vouch for no other host.
    let ca = server.ca.clone().filter(|_| host(&url) == host(&server.base));
    let at_realm = Server { ca, ..server.clone() };
    let rest = fetch.fetch(&source(&at_realm, &url, login.map(Login::basic).as_deref())?, 0)?;
    let shown = sheaf_host::fetch::redacted(&url);
    let mut bytes = Vec::new();
    let read = rest.reader.take(LONGEST_TOKEN).read_to_end(&mut bytes);
    read.map_err(|source| FetchError::Reach { url: shown.clone(), source: source.into() })?;
    let token =
        serde_json::from_slice::<Token>(&bytes).ok().and_then(|answer| answer.token.or(answer.access_token));
    let token = token.ok_or(FetchError::BadUrl { url: shown, why: "it gives no token" })?;
    Ok(format!("Bearer {token}"))
}

/// Reads all of `file` into `hash`; how many bytes it is, or nothing when the agent ends.
fn copy(file: &mut File, hash: &mut Sha256, stop: Stop<'_>) -> io::Result<Option<u64>> {
    let (mut piece, mut bytes) = (vec![0; PIECE], 0);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(Some(bytes));
        }
        if stop() {
            return Ok(None);
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests;
