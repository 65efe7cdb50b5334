//! What the screens and the status say of the console and its claim. Pure.
//!
//! Route in: [`Observed`], the certificate and the address of the console of this node. Route out: the section `console`, which has
//! no secret: the code is in a file that root alone reads.

use super::plan::Observed;
use crate::cluster::keys;
use crate::cluster::time::rfc3339;
use crate::status::ConsoleSection;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, SystemTime};

/// The section at `now`, in seconds since 1970.
pub fn section(observed: &Observed, url: &str, fingerprint: Option<String>, now: u64) -> ConsoleSection {
    let claim = observed.kept.as_ref().and_then(|kept| kept.claim.as_ref().map(|claim| (kept, claim)));
    let state = match claim {
        None if observed.is_administered => String::new(),
        None => "no code yet".into(),
        Some((_, claim)) if claim.tries == 0 => {
            "no tries are left: run `sheaf-agent claim new` on a control-plane node, or wait until "
                .to_owned()
                + &at(claim.ends)
        }
        Some((_, claim)) if claim.ends <= now => "the code has ended".into(),
        Some((kept, claim)) => {
            let place = match kept.node == observed.node {
                true => String::new(),
                false => format!("the code is on the screens of {}; ", kept.node),
            };
            format!("{place}valid until {}, {} tries", at(claim.ends), claim.tries)
        }
    };
    ConsoleSection {
        url: Some(url.to_owned()),
        fingerprint,
        claim: Some(state).filter(|state| !state.is_empty()),
    }
}

/// Seconds since 1970 as RFC 3339. What cannot be a time is the beginning.
pub(super) fn at(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    rfc3339(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Where browsers find the console that is beside the API server at `server`.
pub(super) fn url_of(server: &str) -> String {
    let host = server.strip_suffix(":6443").unwrap_or(server);
    format!("{host}/")
}

/// SHA-256 of a certificate in PEM, as browsers show it: `AB:CD:…`.
pub(super) fn fingerprint(pem: &str) -> Option<String> {
    let text: String =
        keys::block(pem, "CERTIFICATE")?.lines().filter(|line| !line.starts_with('-')).collect();
    let digest = Sha256::digest(STANDARD.decode(text).ok()?);
    let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Some(bytes.join(":"))
}

#[cfg(test)]
mod tests {
    use super::super::plan::Kept;
    use super::*;
    use crate::cluster::keys::Authority;
    use sheaf_config::claim::{Claim, LIFETIME};

    const NOW: u64 = 1_800_000_000;

    fn claim_of(observed: &Observed, now: u64) -> Option<String> {
        section(observed, "https://192.0.2.10/", None, now).claim
    }

    #[test]
    fn the_section_says_until_when_a_code_is_valid_and_where_it_is_and_never_the_code() {
        let claim = Claim::new("01AB-23CD", "salt".into(), NOW);
        let kept = Kept { claim: Some(claim), is_requested: false, node: "n1".into() };
        let here = Observed {
            node: "n1".into(),
            kept: Some(kept),
            code: Some("01AB-23CD".into()),
            ..Observed::default()
        };
        assert_eq!(claim_of(&here, NOW).unwrap(), "valid until 2027-01-16T08:00:00Z, 10 tries");
        assert!(!format!("{:?}", section(&here, "", None, NOW)).contains("01AB"));
        let elsewhere = Observed { node: "n2".into(), ..here.clone() };
        assert_eq!(
            claim_of(&elsewhere, NOW).unwrap(),
            "the code is on the screens of n1; valid until 2027-01-16T08:00:00Z, 10 tries"
        );
        assert_eq!(claim_of(&here, NOW + LIFETIME).unwrap(), "the code has ended");
        let mut guessed = here;
        guessed.kept.as_mut().unwrap().claim.as_mut().unwrap().tries = 0;
        assert_eq!(
            claim_of(&guessed, NOW).unwrap(),
            "no tries are left: run `sheaf-agent claim new` on a control-plane node, or wait until 2027-01-16T08:00:00Z"
        );
        assert_eq!(claim_of(&Observed::default(), NOW).unwrap(), "no code yet");
        assert_eq!(claim_of(&Observed { is_administered: true, ..Observed::default() }, NOW), None);
    }

    #[test]
    fn the_console_is_at_the_address_of_the_api_server_and_is_known_by_its_certificate() {
        assert_eq!(url_of("https://192.0.2.10:6443"), "https://192.0.2.10/");
        assert_eq!(url_of("https://[2001:db8::10]:6443"), "https://[2001:db8::10]/");
        let (pem, _) = Authority::create("x", SystemTime::now()).unwrap();
        let shown = fingerprint(&pem).unwrap();
        assert_eq!(shown.len(), 32 * 3 - 1);
        assert_eq!(fingerprint("no PEM"), None);
    }
}
