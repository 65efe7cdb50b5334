//! Keys, certificate requests and certificates.
//!
//! Why here: the only cryptography the agent does itself, in one page. Keys are ECDSA P-256. Route in: PEM and
//! names. Route out: PEM; nothing is read or written.

use anyhow::{Context as _, anyhow};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{Ia5String, OctetString};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, DecodePem, Encode, EncodePem};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, RequestBuilder};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

/// id-kp-clientAuth: the certificate identifies a client.
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// id-kp-serverAuth: the certificate identifies a server.
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// A certificate made here is valid from this long ago: for readers whose clock is behind, and for a maker whose hardware
/// clock runs in local time (at most 14 h ahead of UTC) until a time server steps it back.
pub const BACKDATE: Duration = Duration::from_secs(24 * 3600);

/// Validity of a CA: kubeadm's ten years.
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A private key.
#[derive(Clone)]
pub struct Key(p256::SecretKey);

impl Key {
    /// A new one from the kernel's random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; 32];
        loop {
            getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
            // All but 2^-32 of 32-byte strings are keys of P-256.
            if let Ok(key) = p256::SecretKey::from_slice(&bytes) {
                return Ok(Self(key));
            }
        }
    }

    /// Reads PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`, kubeadm's form).
    pub fn from_pem(pem: &str) -> anyhow::Result<Self> {
        let key = match block(pem, "EC PRIVATE KEY") {
            Some(sec1) => p256::SecretKey::from_sec1_pem(sec1).map_err(|error| anyhow!("{error}")),
            None => block(pem, "PRIVATE KEY")
                .ok_or_else(|| anyhow!("there is no PRIVATE KEY block"))
                .and_then(|pem| p256::SecretKey::from_pkcs8_pem(pem).map_err(|error| anyhow!("{error}"))),
        };
        key.map(Self).context("this is not a P-256 private key in PEM")
    }

    /// PKCS#8 in PEM.
    pub fn to_pem(&self) -> anyhow::Result<String> {
        Ok(self.0.to_pkcs8_pem(LineEnding::LF).map_err(|error| anyhow!("{error}"))?.to_string())
    }

    /// The public half as SubjectPublicKeyInfo in DER.
    pub fn public_der(&self) -> anyhow::Result<Vec<u8>> {
        Ok(self.0.public_key().to_public_key_der().map_err(|error| anyhow!("{error}"))?.into_vec())
    }

    /// The public half in PEM.
    pub fn public_pem(&self) -> anyhow::Result<String> {
        self.0.public_key().to_public_key_pem(LineEnding::LF).map_err(|error| anyhow!("{error}"))
    }

    /// A certificate request for `subject` in PEM, asking for these alternative names.
    pub fn request(
        &self,
        subject: &Subject,
        names: &[String],
        addresses: &[IpAddr],
    ) -> anyhow::Result<String> {
        let build = || -> Result<String, x509_cert::builder::Error> {
            let mut builder = RequestBuilder::new(subject.name()?)?;
            if !names.is_empty() || !addresses.is_empty() {
                let mut alternatives = Vec::new();
                for name in names {
                    alternatives.push(GeneralName::DnsName(Ia5String::new(name)?));
                }
                alternatives.extend(addresses.iter().map(|address| GeneralName::from(*address)));
                builder.add_extension(&SubjectAltName(alternatives))?;
            }
            let request = builder.build::<_, DerSignature>(&SigningKey::from(&self.0))?;
            Ok(request.to_pem(LineEnding::LF)?)
        };
        build().with_context(|| format!("certificate request for {}", subject.common_name))
    }
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// CN: Kubernetes' user.
    pub common_name: String,
    /// O: Kubernetes' groups.
    pub organisations: Vec<String>,
}

impl Subject {
    /// The node `name`.
    pub fn node(name: &str) -> Self {
        Self { common_name: format!("system:node:{name}"), organisations: vec!["system:nodes".into()] }
    }

    fn name(&self) -> Result<Name, x509_cert::der::Error> {
        let organisations = self.organisations.iter().map(|name| format!("O={name}"));
        // The text form lists the last part first.
        let parts: Vec<_> =
            std::iter::once(format!("CN={}", self.common_name)).chain(organisations).collect();
        Name::from_str(&parts.join(","))
    }
}

/// A CA that can sign.
pub struct Authority {
    certificate: Certificate,
    key: Key,
}

impl Authority {
    /// From the two PEM files kubeadm keeps.
    pub fn from_pem(certificate: &str, key: &str) -> anyhow::Result<Self> {
        Ok(Self { certificate: parse(certificate)?, key: Key::from_pem(key)? })
    }

    /// A CA called `common_name` that is valid from [`BACKDATE`] before `now`: certificate and key in PEM.
    pub fn create(common_name: &str, now: SystemTime) -> anyhow::Result<(String, String)> {
        let key = Key::generate()?;
        let subject = Subject { common_name: common_name.into(), organisations: Vec::new() };
        let certificate = root(&key, subject.name()?, now).context("making a CA")?;
        Ok((certificate, key.to_pem()?))
    }

    /// The same CA, same name and same key, so that what it signed stays signed and its pin stays; valid from
    /// [`BACKDATE`] before `now`. In PEM.
    pub fn reissue(&self, now: SystemTime) -> anyhow::Result<String> {
        root(&self.key, self.certificate.tbs_certificate().subject().clone(), now)
            .context("renewing the CA's certificate")
    }

    /// A client certificate in PEM for anyone who holds the private half of `public_der`, valid from [`BACKDATE`] before `now`
    /// until `valid` after it.
    pub fn issue_client(
        &self,
        subject: &Subject,
        public_der: &[u8],
        valid: Duration,
        now: SystemTime,
    ) -> anyhow::Result<String> {
        self.issue(subject, Vec::new(), CLIENT_AUTH, public_der, valid, now)
    }

    /// A certificate in PEM of the server that has these names, the first above all, and these addresses, for the holder of
    /// the private half of `public_der`.
    pub fn issue_server(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        public_der: &[u8],
        valid: Duration,
        now: SystemTime,
    ) -> anyhow::Result<String> {
        let common_name = names.first().context("a server has a name")?.clone();
        let subject = Subject { common_name, organisations: Vec::new() };
        let dns = names.iter().map(|name| {
            let name = Ia5String::new(name).with_context(|| format!("{name:?} is no DNS name"))?;
            anyhow::Ok(GeneralName::DnsName(name))
        });
        let ip = addresses.iter().map(|address| {
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            Ok(GeneralName::IpAddress(OctetString::new(bytes)?))
        });
        let alternatives = dns.chain(ip).collect::<anyhow::Result<_>>()?;
        self.issue(&subject, alternatives, SERVER_AUTH, public_der, valid, now)
    }

    fn issue(
        &self,
        subject: &Subject,
        alternatives: Vec<GeneralName>,
        usage: ObjectIdentifier,
        public_der: &[u8],
        valid: Duration,
        now: SystemTime,
    ) -> anyhow::Result<String> {
        let build = || -> Result<String, x509_cert::builder::Error> {
            let validity = Validity::new(Time::try_from(now - BACKDATE)?, Time::try_from(now + valid)?);
            let profile = Leaf {
                issuer: self.certificate.tbs_certificate().subject().clone(),
                subject: subject.name()?,
                alternatives,
                usage,
            };
            let key = SubjectPublicKeyInfo::from_der(public_der)?;
            let builder = CertificateBuilder::new(profile, serial()?, validity, key)?;
            let certificate = builder.build::<_, DerSignature>(&SigningKey::from(&self.key.0))?;
            Ok(certificate.to_pem(LineEnding::LF)?)
        };
        build().with_context(|| format!("certificate for {}", subject.common_name))
    }
}

/// A random serial number.
fn serial() -> Result<SerialNumber, x509_cert::builder::Error> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|_| x509_cert::builder::Error::MissingAttributes)?;
    serial[0] &= 0x7f; // a serial number is positive
    Ok(SerialNumber::new(&serial)?)
}

/// A certificate of `key` signed by itself, with the right to sign others.
fn root(key: &Key, name: Name, now: SystemTime) -> anyhow::Result<String> {
    let public = key.public_der()?;
    let build = || -> Result<String, x509_cert::builder::Error> {
        let validity = Validity::new(Time::try_from(now - BACKDATE)?, Time::try_from(now + CA_VALIDITY)?);
        let public = SubjectPublicKeyInfo::from_der(&public)?;
        let builder = CertificateBuilder::new(Root { name }, serial()?, validity, public)?;
        let certificate = builder.build::<_, DerSignature>(&SigningKey::from(&key.0))?;
        Ok(certificate.to_pem(LineEnding::LF)?)
    };
    Ok(build()?)
}

#[cfg(test)]
impl Authority {
    /// A CA of its own, and its two PEM files.
    pub fn of_tests() -> (Self, String, String) {
        let (certificate, key) = Self::create("tests", SystemTime::now()).unwrap();
        (Self::from_pem(&certificate, &key).unwrap(), certificate, key)
    }

    /// A certificate for `addresses`, and its key.
    pub fn leaf_of_tests(&self, addresses: &[IpAddr], valid: Duration) -> (String, String) {
        self.leaf_of_tests_at(addresses, valid, SystemTime::now())
    }

    /// The same, made at `now`.
    pub fn leaf_of_tests_at(
        &self,
        addresses: &[IpAddr],
        valid: Duration,
        now: SystemTime,
    ) -> (String, String) {
        let key = Key::generate().unwrap();
        let subject = Subject { common_name: "leaf".into(), organisations: Vec::new() };
        let alternatives = addresses.iter().map(|address| GeneralName::from(*address)).collect();
        let public = key.public_der().unwrap();
        let certificate = self.issue(&subject, alternatives, CLIENT_AUTH, &public, valid, now).unwrap();
        (certificate, key.to_pem().unwrap())
    }
}

/// What a certificate of this CA holds.
struct Leaf {
    issuer: Name,
    subject: Name,
    alternatives: Vec<GeneralName>,
    usage: ObjectIdentifier,
}

impl BuilderProfile for Leaf {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>, x509_cert::builder::Error> {
        let subject = tbs.subject();
        let mut extensions = vec![
            KeyUsage(FlagSet::from(KeyUsages::DigitalSignature)).to_extension(subject, &[])?,
            ExtendedKeyUsage(vec![self.usage]).to_extension(subject, &[])?,
            BasicConstraints { ca: false, path_len_constraint: None }.to_extension(subject, &[])?,
        ];
        if !self.alternatives.is_empty() {
            extensions.push(SubjectAltName(self.alternatives.clone()).to_extension(subject, &[])?);
        }
        Ok(extensions)
    }
}

/// What the certificate of a CA holds.
struct Root {
    name: Name,
}

impl BuilderProfile for Root {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.name.clone()
    }

    fn get_subject(&self) -> Name {
        self.name.clone()
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>, x509_cert::builder::Error> {
        let subject = tbs.subject();
        let usages = KeyUsages::DigitalSignature | KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        let mut basic =
            BasicConstraints { ca: true, path_len_constraint: None }.to_extension(subject, &[])?;
        basic.critical = true;
        Ok(vec![
            KeyUsage(usages).to_extension(subject, &[])?,
            basic,
            SubjectKeyIdentifier::try_from(key)?.to_extension(subject, &[])?,
        ])
    }
}

/// What the agent needs to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Start of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
    /// Its public key as SubjectPublicKeyInfo in DER.
    pub public_der: Vec<u8>,
    /// Its subject, `CN=…,O=…`.
    pub subject: String,
    /// Who signed it, in the same form.
    pub issuer: String,
    /// Addresses among its alternative names.
    pub addresses: Vec<IpAddr>,
    /// DNS names among its alternative names.
    pub names: Vec<String>,
}

/// Reads the first certificate of `pem`.
pub fn facts(pem: &str) -> anyhow::Result<Facts> {
    let certificate = parse(pem)?;
    let tbs = certificate.tbs_certificate();
    let (names, addresses) = sheaf_config::served::alternatives(&certificate);
    Ok(Facts {
        not_before: tbs.validity().not_before.to_system_time(),
        not_after: tbs.validity().not_after.to_system_time(),
        public_der: tbs.subject_public_key_info().to_der()?,
        subject: tbs.subject().to_string(),
        issuer: tbs.issuer().to_string(),
        addresses,
        names,
    })
}

/// What is in `certificate` (PEM), if `key` is its key, it is valid at `now` and is so for longer than `renew_before`.
pub fn whole(certificate: &str, key: &str, now: SystemTime, renew_before: Duration) -> Option<Facts> {
    let (facts, key) = (facts(certificate).ok()?, Key::from_pem(key).ok()?);
    let is_lasting = facts.not_before <= now && facts.not_after > now + renew_before;
    (is_lasting && key.public_der().ok()? == facts.public_der).then_some(facts)
}

/// Public key of a certificate request in PEM, as SubjectPublicKeyInfo in DER.
pub fn request_public_der(pem: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok(CertReq::from_pem(pem).context("this is not a certificate request")?.info.public_key.to_der()?)
}

/// SubjectPublicKeyInfo in DER of a `PUBLIC KEY` block.
pub fn public_key_der(pem: &str) -> anyhow::Result<Vec<u8>> {
    let pem = block(pem, "PUBLIC KEY").context("there is no PUBLIC KEY block")?;
    let key = SubjectPublicKeyInfo::<x509_cert::der::Any, x509_cert::der::asn1::BitString>::from_pem(pem);
    Ok(key.context("this is not a public key in PEM")?.to_der()?)
}

/// The first block `label` of `pem`, with its frame.
pub fn block<'a>(pem: &'a str, label: &str) -> Option<&'a str> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let start = pem.find(&begin)?;
    let length = pem[start..].find(&end)? + end.len();
    Some(&pem[start..start + length])
}

fn parse(pem: &str) -> anyhow::Result<Certificate> {
    let pem = block(pem, "CERTIFICATE").context("there is no CERTIFICATE block")?;
    Certificate::from_pem(pem).context("this is not a certificate in PEM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_its_request_carries_its_public_half() {
        let key = Key::generate().unwrap();
        let again = Key::from_pem(&key.to_pem().unwrap()).unwrap();
        let request = again.request(&Subject::node("n1"), &[], &[]).unwrap();
        assert_eq!(request_public_der(request.as_bytes()).unwrap(), key.public_der().unwrap());
        assert_eq!(public_key_der(&key.public_pem().unwrap()).unwrap(), key.public_der().unwrap());
    }

    #[test]
    fn a_request_without_alternative_names_asks_for_none_and_has_the_exact_subject() {
        let request = Key::generate().unwrap().request(&Subject::node("n1"), &[], &[]).unwrap();
        let request = CertReq::from_pem(request.as_bytes()).unwrap();
        assert_eq!(request.info.subject.to_string(), "CN=system:node:n1,O=system:nodes");
        let asks = |request: &CertReq| {
            // id-ce-subjectAltName in DER.
            request.to_der().unwrap().windows(3).any(|bytes| bytes == [0x55, 0x1d, 0x11])
        };
        assert!(!asks(&request));
        let named = Key::generate().unwrap().request(&Subject::node("n1"), &["n1".into()], &[]).unwrap();
        assert!(asks(&CertReq::from_pem(named.as_bytes()).unwrap()));
    }

    #[test]
    fn a_ca_is_valid_for_clocks_a_day_behind_and_made_anew_keeps_its_pin_and_what_it_signed() {
        let now = SystemTime::now();
        let (certificate, key) =
            Authority::create("kubernetes", now + Duration::from_secs(40 * 24 * 3600)).unwrap();
        let authority = Authority::from_pem(&certificate, &key).unwrap();
        assert!(facts(&certificate).unwrap().not_before > now, "made by a clock that was 40 days ahead");
        let again = authority.reissue(now).unwrap();
        let (old, new) = (facts(&certificate).unwrap(), facts(&again).unwrap());
        assert!(new.not_before <= now - (BACKDATE - Duration::from_secs(2)) && new.not_after > now);
        assert_eq!((old.public_der, old.subject), (new.public_der, new.subject));
    }

    #[test]
    fn garbage_is_no_key() {
        assert!(Key::from_pem("x").err().unwrap().to_string().contains("not a P-256 private key"));
    }
}

#[cfg(test)]
mod fuzz {
    use super::*;
    use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};

    /// What an API server answers to a certificate request, and a cluster's CA, are read before anything is believed.
    #[test]
    fn a_certificate_is_read_or_refused_whatever_it_is() {
        let (ca, key) =
            Authority::create("kubernetes", SystemTime::now() + Duration::from_secs(3600)).unwrap();
        let request = Key::generate().unwrap().request(&Subject::node("n1"), &["n1".into()], &[]).unwrap();
        sheaf_fuzz::fuzz("certificates", |random| {
            let text = [&ca, &key, &request][random.below(3)];
            let base64: Vec<&str> = text.lines().filter(|line| !line.starts_with('-')).collect();
            let mut der = STANDARD.decode(base64.concat()).unwrap();
            random.change(&mut der, &[]);
            let (first, last) = (text.lines().next().unwrap(), text.lines().last().unwrap());
            let encoded = STANDARD.encode(&der);
            let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            let mut pem = format!("{first}\n{}\n{last}\n", lines.join("\n"));
            if random.once_in(8) {
                pem =
                    random.changed(&pem, &["-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "\n"]);
            }
            let read = [
                facts(&pem).is_ok(),
                Authority::from_pem(&pem, &key).is_ok(),
                request_public_der(pem.as_bytes()).is_ok(),
                Key::from_pem(&pem).is_ok(),
            ];
            read.contains(&true)
        });
    }
}
