//! Tokens, hashes, keys.
//!
//! Route in: a text. Route out: the text in its one form. What may be a secret is never quoted.

use super::quoted;
use crate::node::Secret;
use crate::spanned::{Wrong, wrong};

/// A bootstrap token. Never quoted: the next best thing to a token is a token with one slip.
pub fn token(text: &str) -> Result<String, Wrong> {
    let part = |text: &str, length: usize| {
        text.len() == length && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    match text.split_once('.') {
        Some((id, secret)) if part(id, 6) && part(secret, 16) => Ok(text.to_owned()),
        _ => wrong(
            "is not a bootstrap token",
            "write 6, a dot and 16 lowercase letters or digits, as the join command on the first node's screen shows",
        ),
    }
}

/// `sha256:` and 64 hex digits: a CA pin.
pub fn ca_hash(text: &str) -> Result<String, Wrong> {
    let remedy = "write \"sha256:\" and 64 hex digits, as the join command on the first node's screen shows";
    match text.strip_prefix("sha256:") {
        Some(hex) if is_sha256(hex) => Ok(text.to_lowercase()),
        None if is_sha256(text) => {
            wrong(format!("{} lacks its prefix", quoted(text)), format!("write \"sha256:{text}\""))
        }
        _ => wrong(format!("{} is not a CA hash", quoted(text)), remedy),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// 64 hex digits, returned in lowercase letters.
pub fn sha256(text: &str) -> Result<String, Wrong> {
    if is_sha256(text) {
        return Ok(text.to_lowercase());
    }
    match text.strip_prefix("sha256:") {
        Some(hex) if is_sha256(hex) => wrong("has a prefix", format!("write \"{hex}\"")),
        _ if text.chars().all(|c| c.is_ascii_hexdigit()) => wrong(
            format!("has {} hex digits, a SHA-256 has 64", text.len()),
            "write what `sha256sum FILE` prints",
        ),
        _ => wrong(format!("{} is not a SHA-256", quoted(text)), "write what `sha256sum FILE` prints"),
    }
}

/// A public key in PEM.
pub fn public_key(text: &str) -> Result<String, Wrong> {
    use x509_cert::der::DecodePem;
    let remedy = "give the text of admin.pub, which `sheaf admin new DIR` makes";
    if text.contains("PRIVATE KEY") {
        return wrong("is a private key, which no node may have", format!("{remedy}, and make a new pair"));
    }
    match x509_cert::spki::SubjectPublicKeyInfoOwned::from_pem(text.trim()) {
        Ok(_) => Ok(format!("{}\n", text.trim())),
        Err(_) => wrong("is not a public key in PEM", remedy),
    }
}

/// One or more certificates in PEM.
pub fn certificates(text: &str) -> Result<String, Wrong> {
    use x509_cert::Certificate;
    const REMEDY: &str = "give the text between and with the lines BEGIN CERTIFICATE and END CERTIFICATE";
    if text.contains("PRIVATE KEY") {
        return wrong("holds a private key, which must stay on the authority", REMEDY);
    }
    match Certificate::load_pem_chain(text.trim().as_bytes()) {
        Ok(chain) if !chain.is_empty() => Ok(format!("{}\n", text.trim())),
        _ => wrong("is not a certificate in PEM", REMEDY),
    }
}

/// A certificate in PEM, then those that signed it.
pub fn certificate_chain(text: &str) -> Result<String, Wrong> {
    match text.contains("PRIVATE KEY") {
        true => wrong("holds a private key", "move the key to key of the same table"),
        false => certificates(text),
    }
}

/// A private key in PEM, as the console serves with. Never quoted.
pub fn private_key(text: &str) -> Result<Secret, Wrong> {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    if text.contains("ENCRYPTED") {
        return wrong(
            "has a passphrase, which nobody types on a node",
            "write what `openssl pkey -in FILE` prints",
        );
    }
    let key = PrivateKeyDer::from_pem_slice(text.trim().as_bytes());
    match key.map(|key| rustls::crypto::ring::sign::any_supported_type(&key)) {
        Ok(Ok(_)) => Ok(Secret(format!("{}\n", text.trim()))),
        Ok(Err(_)) => wrong(
            "is a key that TLS of the console does not take",
            "use an ECDSA key of P-256 or P-384, an Ed25519 key or an RSA key of 2048 bits or more",
        ),
        Err(_) => wrong("is not a private key in PEM", "write what `openssl pkey -in FILE` prints"),
    }
}

/// A public key of SSH, as it stands in authorized_keys without options.
pub fn ssh_key(text: &str) -> Result<String, Wrong> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    const REMEDY: &str = "give the one line of a file ~/.ssh/*.pub";
    /// What OpenSSH of the node takes.
    const KINDS: [&str; 7] = [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    let text = text.trim();
    if text.contains("PRIVATE KEY") {
        return wrong("is a private key, which no node may have", format!("{REMEDY}, and make a new pair"));
    }
    if text.chars().any(char::is_control) {
        return wrong("is more than one line", "write each key as a separate string");
    }
    let mut words = text.split_ascii_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !KINDS.contains(&kind) {
        return wrong(format!("does not start with a kind of SSH key ({})", KINDS.join(", ")), REMEDY);
    }
    // The key says its kind once more (RFC 4253 §6.6): a length in 4 bytes, the text. A key cut short differs.
    let bytes = STANDARD.decode(key).unwrap_or_default();
    let inner = bytes.get(4..4 + kind.len());
    let length = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
    if inner != Some(kind.as_bytes()) || !bytes.starts_with(&length) || bytes.len() < 4 + kind.len() + 4 + 32
    {
        return wrong(format!("is not a whole {kind} key"), REMEDY);
    }
    Ok(text.to_owned())
}

/// A hashed password, crypt(5). Never quoted: it may be the password itself.
pub fn password_hash(text: &str) -> Result<Secret, Wrong> {
    /// Methods that crypt(5) of Debian calls strong.
    const METHODS: [&str; 6] = ["$y$", "$gy$", "$7$", "$2b$", "$6$", "$5$"];
    let remedy = "write what `mkpasswd` (package whois) or `openssl passwd -6` prints";
    let inner = |c: char| c.is_ascii_graphic() && !":;*!\\".contains(c);
    if !text.starts_with('$') || !text.chars().all(inner) {
        return wrong("is not a hashed password", remedy);
    }
    let parts = text.split('$').filter(|part| !part.is_empty()).count();
    match METHODS.iter().any(|method| text.starts_with(method)) {
        true if parts >= 3 && text.len() >= 40 => Ok(Secret(text.to_owned())),
        true => wrong("is an incomplete hash", remedy),
        false => wrong("is hashed by a method that is weak or unknown", remedy),
    }
}
