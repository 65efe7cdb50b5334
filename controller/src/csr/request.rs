//! Reads from a certificate signing request who asks for which names.
//!
//! Why here: the decision must rest on what would be signed, not on what the object says about it.
//! Route in: the request's PEM. Route out: [`Request`].

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use x509_cert::{
    der::{Decode, DecodePem, Encode},
    ext::pkix::{SubjectAltName, name::GeneralName},
    request::{CertReq, ExtensionReq},
};

/// Object identifiers, as RFC 5280 and RFC 2985 have them.
const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";
const EXTENSION_REQUEST: &str = "1.2.840.113549.1.9.14";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";

/// Largest request that is parsed: one with an RSA key and a hundred names is 4 KiB.
const LARGEST: usize = 64 << 10; // bytes

/// Who asks for which names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `sha256:<hex>` of the public key (SubjectPublicKeyInfo in DER). That the requester holds its private half is
    /// checked by the signer.
    pub key: String,
    /// CN.
    pub common_names: Vec<String>,
    /// O.
    pub organizations: Vec<String>,
    /// Attributes of the subject that are neither, by object identifier.
    pub other_subject: Vec<String>,
    /// Names in the subject alternative name.
    pub dns: Vec<String>,
    /// Addresses in it.
    pub addresses: Vec<IpAddr>,
    /// True if it holds anything else: mail addresses, URIs.
    pub other_names: bool,
}

/// A request that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a certificate request that sheaf-controller can read: {0}")]
pub struct Unreadable(String);

/// Reads `pem`.
pub fn read(pem: &[u8]) -> Result<Request, Unreadable> {
    let unreadable = |error: String| Unreadable(error);
    if pem.len() > LARGEST {
        return Err(unreadable(format!("it is larger than {LARGEST} bytes")));
    }
    let parsed = CertReq::from_pem(pem).map_err(|error| unreadable(error.to_string()))?;
    let key = parsed.info.public_key.to_der().map_err(|error| unreadable(error.to_string()))?;
    let hash = Sha256::digest(&key);
    let mut request = Request {
        key: format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        ..Request::default()
    };
    for attribute in parsed.info.subject.iter() {
        let value = String::from_utf8_lossy(attribute.value.value()).into_owned();
        match attribute.oid.to_string().as_str() {
            COMMON_NAME => request.common_names.push(value),
            ORGANIZATION => request.organizations.push(value),
            other => request.other_subject.push(other.to_string()),
        }
    }
    for attribute in parsed.info.attributes.iter().filter(|a| a.oid.to_string() == EXTENSION_REQUEST) {
        for value in attribute.values.iter() {
            let bytes = value.to_der().map_err(|error| unreadable(error.to_string()))?;
            let extensions = ExtensionReq::from_der(&bytes).map_err(|error| unreadable(error.to_string()))?;
            for extension in extensions.0.iter().filter(|e| e.extn_id.to_string() == SUBJECT_ALT_NAME) {
                let names = SubjectAltName::from_der(extension.extn_value.as_bytes())
                    .map_err(|error| unreadable(error.to_string()))?;
                names.0.iter().for_each(|name| add(&mut request, name));
            }
        }
    }
    Ok(request)
}

fn add(request: &mut Request, name: &GeneralName) {
    match name {
        GeneralName::DnsName(name) => {
            let text: &str = name.as_ref();
            request.dns.push(text.to_string());
        }
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            if let Ok(four) = <[u8; 4]>::try_from(bytes) {
                request.addresses.push(four.into());
            } else if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
                request.addresses.push(sixteen.into());
            } else {
                request.other_names = true;
            }
        }
        _ => request.other_names = true,
    }
}
