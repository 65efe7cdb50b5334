//! Whatever a node or a token's holder sends as a certificate request, the approver does not panic, does not hang, and
//! approves nothing that is not the requester's.
//!
//! Route in: true requests, changed at random: bytes of their DER and of their PEM. Route out: [`sheaf_fuzz`].

use k8s_openapi::ByteString;
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};
use serde_json::json;
use sheaf_controller::csr::decide::{CLIENT_SIGNER, Decision, SERVING_SIGNER, client, serving};
use sheaf_controller::csr::identities::Identities;
use sheaf_controller::csr::request::{self, Request};
use sheaf_controller::nodes::addresses::ControlPlane;
use sheaf_fuzz::{Random, fuzz};
use std::collections::BTreeMap;

/// Requests that openssl made: for a client certificate, for a serving certificate with names and addresses, by RSA.
const REQUESTS: [&str; 3] = [
    include_str!("../requests/client.pem"),
    include_str!("../requests/serving.pem"),
    include_str!("../requests/rsa.pem"),
];

fn der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    serde_json::from_value::<ByteString>(json!(text)).unwrap().0
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = serde_json::to_value(ByteString(der.to_vec())).unwrap().as_str().unwrap().to_owned();
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
        .into_bytes()
}

/// Changes a few bytes, cuts, doubles or inserts a piece.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + random.below(32)).min(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.byte(),
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => drop(bytes.drain(at..end)),
            _ => bytes.insert(at, *random.of(&[0x30, 0x31, 0x80, 0x82, 0xff, 0x0c, 0x16, 0x00])),
        }
    }
}

fn csr(user: &str, signer: &str, usage: &str) -> CertificateSigningRequest {
    let group = if user.starts_with("system:bootstrap:") { "system:bootstrappers" } else { "system:nodes" };
    serde_json::from_value(
        json!({"metadata": {}, "spec": {"request": "", "username": user, "groups": [group],
        "signerName": signer, "usages": ["digital signature", usage]}}),
    )
    .unwrap()
}

/// What must hold of every request that can be read.
fn check(request: &Request) {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": {"addresses": [
        {"type": "InternalIP", "address": "10.0.2.10"}, {"type": "InternalIP", "address": "10.0.2.11"}]}}))
    .unwrap();
    let claims = BTreeMap::from([("10.0.2.11".parse().unwrap(), vec!["n1".to_owned(), "n2".to_owned()])]);
    let plane = ControlPlane::default();
    let facts = serving::Facts { node: Some(&node), claims: &claims, plane: &plane };
    let answer = serving::decide(&csr("system:node:n1", SERVING_SIGNER, "server auth"), request, &facts);
    if answer == Decision::Approve {
        assert!(request.dns.iter().all(|name| name == "n1"), "{request:?}");
        assert!(request.addresses.iter().all(|address| address.to_string() == "10.0.2.10"), "{request:?}");
        assert_eq!(request.common_names, ["system:node:n1"]);
        assert_eq!(request.organizations, ["system:nodes"]);
    }
    let mut identities = Identities::default();
    identities.record("n1", "another key");
    for user in ["system:node:n1", "system:node:n2", "system:bootstrap:abcdef"] {
        let facts = client::Facts { identities: &identities, token: None, node_exists: true };
        let answer = client::decide(&csr(user, CLIENT_SIGNER, "client auth"), request, &facts);
        if answer == Decision::Approve {
            assert_eq!(request.common_names, [user], "{request:?}");
            assert_eq!(request.organizations, ["system:nodes"], "{request:?}");
            assert!(request.dns.is_empty() && request.addresses.is_empty() && !request.other_names);
        }
    }
}

#[test]
fn no_certificate_request_panics_the_approver_or_gets_what_is_not_its_own() {
    for text in REQUESTS {
        check(&request::read(text.as_bytes()).expect("openssl's request can be read"));
    }
    fuzz("certificate requests", |random| {
        let original = *random.of(&REQUESTS);
        let bytes = if random.once_in(8) {
            let mut bytes = original.as_bytes().to_vec();
            change(&mut bytes, random);
            bytes
        } else {
            let mut bytes = der(original);
            change(&mut bytes, random);
            pem(&bytes)
        };
        let Ok(request) = request::read(&bytes) else { return false };
        check(&request);
        true
    });
}
