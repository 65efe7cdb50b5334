//! References of images: `quay.io/containerdisks/fedora:41`, `debian`, `registry.lan:5000/a/b@sha256:…`.
//!
//! Pure. Route in: `containerDisk.image` as a tenant wrote it. Route out: registry, repository, tag and digest, the defaults of
//! Docker filled in. Grammar: the OCI distribution specification, "Pulling manifests", and `distribution/reference`.

use std::fmt;

/// The registry of references that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Where the default registry answers: its name leads to a web site.
const DEFAULT_HOST: &str = "registry-1.docker.io";
/// Longest repository, as registries limit it.
const LONGEST: usize = 255;

/// SHA-256 of something, as registries write it: `sha256:` and 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads it.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (hex.len() == 64 && hex.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// That of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self::of_hash(Sha256::new_with_prefix(bytes))
    }

    /// That of what `hash` has read.
    pub fn of_hash(hash: sha2::Sha256) -> Self {
        use sha2::Digest as _;
        Self(format!("sha256:{}", hex::encode(hash.finalize())))
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Host with port, lowercase; `docker.io` where the reference names none.
    pub registry: String,
    /// `library/debian`.
    pub repository: String,
    /// The tag, `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// The digest of its manifest, or of its list of manifests.
    pub digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("image {text:?} {what}; write it as registry.example.org/repository:tag")]
pub struct ReferenceError {
    text: String,
    what: &'static str,
}

impl Reference {
    /// Reads `text`; a leading `docker://` is that of a DataVolume's URL.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |what| ReferenceError { text: text.to_owned(), what };
        let bare = text.strip_prefix("docker://").unwrap_or(text);
        let (named, digest) = match bare.split_once('@') {
            Some((named, digest)) => {
                let digest = Digest::parse(digest);
                (
                    named,
                    Some(digest.ok_or_else(|| wrong("has a digest that is not sha256: and 64 hex digits"))?),
                )
            }
            None => (bare, None),
        };
        // A colon before the last slash is that of a port.
        let (path, tag) = match named.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (named, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("has a tag that is not letters, digits, '.', '_' and '-'"));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if is_host(first) => (first.to_ascii_lowercase(), rest.to_owned()),
            _ => (DEFAULT_REGISTRY.to_owned(), path.to_owned()),
        };
        let registry = match registry.as_str() {
            "index.docker.io" | DEFAULT_HOST => DEFAULT_REGISTRY.to_owned(),
            _ => registry,
        };
        let repository = match registry == DEFAULT_REGISTRY && !repository.contains('/') {
            true => format!("library/{repository}"),
            false => repository,
        };
        if repository.len() > LONGEST || !repository.split('/').all(is_component) {
            return Err(wrong(
                "names no repository: lowercase letters and digits between '/', with '.', '_', '-' inside",
            ));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry, repository, tag, digest })
    }

    /// What its manifest is asked for by: its digest, otherwise its tag.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        }
    }

    /// Base URL of the registry itself.
    pub fn server(&self) -> String {
        let host = if self.registry == DEFAULT_REGISTRY { DEFAULT_HOST } else { &self.registry };
        format!("https://{host}")
    }
}

/// As people write it, with all that is implied.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether the first part of a path is a host: a name with a dot or a port, or `localhost`.
fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_name = name.split('.').all(|label| !label.is_empty() && label.bytes().all(inner));
    let is_ipv6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_ipv6 = is_ipv6.is_some_and(|name| name.parse::<std::net::Ipv6Addr>().is_ok());
    (text.contains(['.', ':']) || text == "localhost") && (is_name || is_ipv6) && port.is_none_or(is_port)
}

/// Letters and digits, and between them one '.', one or two '_', or any number of '-'.
fn is_component(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(is_word) && bytes.last().is_some_and(is_word);
    let separators = bytes.split(is_word).filter(|between| !between.is_empty());
    ends && separators
        .into_iter()
        .all(|between| matches!(between, b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-'))
}

/// `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && text.len() <= 128 && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_a_reference_leaves_out_is_dockers_default() {
        for (text, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:13", "docker.io/library/debian:13"),
            ("a/b", "docker.io/a/b:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("quay.io/containerdisks/fedora:41", "quay.io/containerdisks/fedora:41"),
            ("docker://quay.io/a/b", "quay.io/a/b:latest"),
            ("localhost/a", "localhost/a:latest"),
            (
                "registry:5000/kubevirt/cirros-container-disk-demo:devel",
                "registry:5000/kubevirt/cirros-container-disk-demo:devel",
            ),
            ("[2001:db8::1]:5000/a", "[2001:db8::1]:5000/a:latest"),
            ("Quay.IO/a/b__c-d--e.f:V1", "quay.io/a/b__c-d--e.f:V1"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
        let pinned = Reference::parse(&format!("quay.io/a/b:1@{SHA}")).unwrap();
        assert_eq!((pinned.version().as_str(), pinned.tag.as_deref()), (SHA, Some("1")));
        assert_eq!(Reference::parse(&format!("a@{SHA}")).unwrap().tag, None);
        assert_eq!(Reference::parse("debian").unwrap().server(), "https://registry-1.docker.io");
    }

    #[test]
    fn what_is_no_reference_is_refused_with_what_is_wrong() {
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A/b",
            "a:",
            "a: b",
            "a:-x",
            "quay.io/",
            "quay.io/a_-b",
            "a.b:0/c",
            "https://quay.io/a",
            "a@sha256:12",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "a/../b",
            "a?b",
            "quay.io/a/b:1 ",
            "é",
            "a/.b",
            "a/b...c",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        let long = format!("quay.io/{}", "a".repeat(256));
        assert!(Reference::parse(&long).is_err());
        assert_eq!(
            Reference::parse("quay.io/a:b:c").unwrap_err().to_string(),
            "image \"quay.io/a:b:c\" names no repository: lowercase letters and digits between '/', with '.', '_', '-' inside; \
             write it as registry.example.org/repository:tag"
        );
    }
}
