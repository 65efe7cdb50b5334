//! What the kernel's command line says to the installer: `sheaf.config=` and `sheaf.payload=`.
//!
//! Why strict: a misspelt argument would make the installer take another config than the one that was meant.
//! Route in: the text of /proc/cmdline. Route out: [`Arguments`], or the argument that is wrong and what to write.

use sheaf_host::trust::Fingerprint;

/// Arguments of the installer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Where the node config is.
    pub config: Option<ConfigArgument>,
    /// Release folder on a server; without it the release is on the medium.
    pub payload: Option<String>,
    /// The installer was started from the disk of a node, because no slot of it could be.
    pub recovery: bool,
    /// PARTUUID of the EFI system partition that it was started from.
    pub esp: Option<String>,
}

/// Where the node config is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigArgument {
    /// In the medium, whatever drive is labelled.
    Medium,
    /// On a server.
    Url(ConfigUrl),
}

/// A node config on a server, and why it can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigUrl {
    /// `https://…`, or `http://…` with a hash.
    pub url: String,
    /// SHA-256 of the file, hex.
    pub sha256: Option<String>,
    /// The server's certificate, in place of public authorities.
    pub certificate: Option<Fingerprint>,
}

/// An argument that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel argument {argument}: {reason}; {remedy}")]
pub struct ArgumentError {
    argument: String,
    reason: String,
    remedy: String,
}

fn wrong(argument: &str, reason: impl Into<String>, remedy: impl Into<String>) -> ArgumentError {
    ArgumentError { argument: argument.into(), reason: reason.into(), remedy: remedy.into() }
}

const CONFIG: &str = "sheaf.config";
const CONFIG_SHA256: &str = "sheaf.config.sha256";
const CONFIG_CERTIFICATE: &str = "sheaf.config.certificate";
const PAYLOAD: &str = "sheaf.payload";
const ESP: &str = "sheaf.esp";
const RECOVERY: &str = "sheaf.recovery";
/// All of them; the last two are written by boot loaders.
const KNOWN: [&str; 6] = [CONFIG, CONFIG_SHA256, CONFIG_CERTIFICATE, PAYLOAD, ESP, RECOVERY];

/// Reads the kernel's command line.
pub fn parse(line: &str) -> Result<Arguments, ArgumentError> {
    let mut given = std::collections::BTreeMap::new();
    for word in line.split_ascii_whitespace().filter(|word| word.starts_with("sheaf.")) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        if !KNOWN.contains(&name) {
            let known = KNOWN[..4].join(", ");
            return Err(wrong(name, "is unknown", format!("the installer knows {known}")));
        }
        let value = value.trim_matches('"');
        if value.is_empty() {
            return Err(wrong(name, "has no value", format!("write {name}=…")));
        }
        if given.insert(name, value).is_some_and(|before| before != value) {
            return Err(wrong(name, "is given twice", "leave one"));
        }
    }
    let config = config(&given)?;
    let payload = given.get(PAYLOAD).map(|url| (*url).to_owned());
    if let Some(url) = payload.as_ref().filter(|url| !is_http(url)) {
        return Err(wrong(
            PAYLOAD,
            format!("\"{url}\" is not a URL"),
            "write the http:// or https:// URL of a release folder",
        ));
    }
    let esp = given.get(ESP).map(|uuid| uuid.to_lowercase());
    Ok(Arguments { config, payload, recovery: given.contains_key(RECOVERY), esp })
}

fn config(given: &std::collections::BTreeMap<&str, &str>) -> Result<Option<ConfigArgument>, ArgumentError> {
    let proofs = [CONFIG_SHA256, CONFIG_CERTIFICATE];
    let proof = proofs.into_iter().find(|name| given.contains_key(name));
    let url = match given.get(CONFIG) {
        Some(url) if is_http(url) => (*url).to_owned(),
        other => {
            if let Some(proof) = proof {
                return Err(wrong(
                    proof,
                    "there is no URL to which it applies",
                    format!("write {CONFIG}=https://…"),
                ));
            }
            return match other {
                None => Ok(None),
                Some(&"medium") => Ok(Some(ConfigArgument::Medium)),
                Some(other) => Err(wrong(
                    CONFIG,
                    format!("\"{other}\" is neither a URL nor medium"),
                    format!("write {CONFIG}=https://… or {CONFIG}=medium"),
                )),
            };
        }
    };
    let sha256 = given.get(CONFIG_SHA256).map(|hash| hash.to_lowercase());
    if let Some(hash) = sha256.as_ref().filter(|hash| Fingerprint::parse(hash).is_none() || hash.len() != 64)
    {
        let reason = format!("\"{hash}\" is not a SHA-256");
        return Err(wrong(
            CONFIG_SHA256,
            reason,
            "write the 64 hex digits that `sha256sum node.toml` prints",
        ));
    }
    let certificate = given.get(CONFIG_CERTIFICATE).map(|text| {
        Fingerprint::parse(text.trim_start_matches("sha256:")).ok_or_else(|| {
            wrong(
                CONFIG_CERTIFICATE,
                format!("\"{text}\" is not the SHA-256 of a certificate"),
                "write what `openssl x509 -fingerprint -sha256 -noout -in server.crt` prints",
            )
        })
    });
    if url.starts_with("http://") && sha256.is_none() {
        return Err(wrong(
            CONFIG,
            format!("the file from {url} could be changed in transit"),
            format!("add {CONFIG_SHA256}=HASH (`sha256sum node.toml` prints it), or use https"),
        ));
    }
    Ok(Some(ConfigArgument::Url(ConfigUrl { url, sha256, certificate: certificate.transpose()? })))
}

fn is_http(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB";

    fn error(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn arguments_of_others_are_left_alone() {
        assert_eq!(parse("quiet console=ttyS0 sheaf=1 ip=dhcp").unwrap(), Arguments::default());
    }

    #[test]
    fn a_url_comes_with_what_proves_it() {
        let line = format!(
            "quiet sheaf.config=https://a/n.toml sheaf.config.sha256={HASH} sheaf.config.certificate=sha256:{HASH} \
             sheaf.payload=http://b/release/"
        );
        let arguments = parse(&line).unwrap();
        let Some(ConfigArgument::Url(url)) = arguments.config else { panic!() };
        assert_eq!((url.url.as_str(), url.sha256), ("https://a/n.toml", Some(HASH.to_lowercase())));
        assert_eq!(url.certificate, Some(Fingerprint([0xab; 32])));
        assert_eq!(arguments.payload.as_deref(), Some("http://b/release/"));
        assert_eq!(parse("sheaf.config=medium").unwrap().config, Some(ConfigArgument::Medium));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        let known =
            "the installer knows sheaf.config, sheaf.config.sha256, sheaf.config.certificate, sheaf.payload";
        assert_eq!(error("sheaf.confg=medium"), format!("kernel argument sheaf.confg: is unknown; {known}"));
        assert_eq!(
            error("sheaf.config="),
            "kernel argument sheaf.config: has no value; write sheaf.config=…"
        );
        assert_eq!(
            error("sheaf.config=medium sheaf.config=https://a/"),
            "kernel argument sheaf.config: is given twice; leave one"
        );
        assert_eq!(
            error("sheaf.config=ftp://a/n.toml"),
            "kernel argument sheaf.config: \"ftp://a/n.toml\" is neither a URL nor medium; write \
             sheaf.config=https://… or sheaf.config=medium"
        );
        assert_eq!(
            error("sheaf.config=http://a/n.toml"),
            "kernel argument sheaf.config: the file from http://a/n.toml could be changed in transit; add \
             sheaf.config.sha256=HASH (`sha256sum node.toml` prints it), or use https"
        );
        assert_eq!(
            error("sheaf.config=https://a/ sheaf.config.sha256=12"),
            "kernel argument sheaf.config.sha256: \"12\" is not a SHA-256; write the 64 hex digits that `sha256sum \
             node.toml` prints"
        );
        assert_eq!(
            error("sheaf.config=https://a/ sheaf.config.certificate=12"),
            "kernel argument sheaf.config.certificate: \"12\" is not the SHA-256 of a certificate; write what `openssl \
             x509 -fingerprint -sha256 -noout -in server.crt` prints"
        );
        assert_eq!(
            error(&format!("sheaf.config=medium sheaf.config.sha256={HASH}")),
            "kernel argument sheaf.config.sha256: there is no URL to which it applies; write sheaf.config=https://…"
        );
        assert_eq!(
            error("sheaf.payload=/release"),
            "kernel argument sheaf.payload: \"/release\" is not a URL; write the http:// or https:// URL of a release \
             folder"
        );
    }
}
