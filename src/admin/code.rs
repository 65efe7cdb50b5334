//! `sheaf admin code`: a code by which one more person becomes an administrator in the console.
//!
//! Why here: a cluster that was made with `admin-keys` shows no code, and its console has no user yet. Who has a kubeconfig of an
//! administrator applies what this prints; the agents of the control plane do the rest. Route in: nothing. Route out: a Secret on
//! standard output, the code on standard error.

use anyhow::{Result, anyhow};
use sheaf_config::claim::{self, RANDOM, TRIES};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is shown beside the Secret.
fn words(code: &str) -> String {
    format!(
        "code: {code}\n\nIt is open once the Secret is applied: sheaf admin code | kubectl apply -f -\nOpen https://ADDRESS/ of a \
         control-plane node and enter it. It is valid for 24 hours, makes one administrator, and may be tried {TRIES} times.\n"
    )
}

/// A Secret of these random bytes, made at `now`, in seconds since 1970, and its code.
fn make(random: &[u8; RANDOM], now: u64) -> Result<(String, String)> {
    let (claim, code) = claim::of(random, now);
    Ok((format!("{:#}\n", claim.secret(None, true)?), code))
}

/// A Secret and its code.
pub fn new() -> Result<(String, String)> {
    let mut random = [0; RANDOM];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random numbers: {error}"))?;
    make(&random, SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Prints both.
pub fn run() -> Result<()> {
    let (secret, code) = new()?;
    print!("{secret}");
    eprint!("{}", words(&code));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;
    use sheaf_config::claim::Claim;

    #[test]
    fn the_secret_is_open_for_its_code_beside_administrators_and_does_not_hold_it() {
        let (secret, code) = make(b"01ABCDEF0123456789abcdef", 1_800_000_000).unwrap();
        assert!(!secret.contains(&code));
        let secret: Value = serde_json::from_str(&secret).unwrap();
        let metadata = &secret["metadata"];
        assert_eq!((&metadata["namespace"], &metadata["name"]), (&"sheaf-console".into(), &"claim".into()));
        assert_eq!(metadata["annotations"][claim::REQUESTED_ANNOTATION], "true");
        let record = STANDARD.decode(secret["data"][claim::KEY].as_str().unwrap()).unwrap();
        let record: Claim = serde_json::from_slice(&record).unwrap();
        assert!(record.is(&code) && record.is_open(1_800_000_000 + claim::LIFETIME - 1));
        assert!(!record.is_open(1_800_000_000 + claim::LIFETIME));
    }

    #[test]
    fn the_code_comes_with_what_is_to_be_done_with_it() {
        assert_eq!(
            words("01AB-23CD"),
            "code: 01AB-23CD\n\nIt is open once the Secret is applied: sheaf admin code | kubectl apply -f -\nOpen https://ADDRESS/ \
             of a control-plane node and enter it. It is valid for 24 hours, makes one administrator, and may be tried 10 times.\n"
        );
    }
}
