//! The claim of an administrator: what a node's agent or `sheaf admin code` makes and the console takes.
//!
//! Why here: all three must mean the same by a code. Eight characters of Crockford's base 32 are 40 bits; with ten tries a guess
//! succeeds once in a hundred thousand million. What is kept is a salted SHA-256: who reads the Secret does not read the code, but
//! can search all codes within minutes, so the Secret is for administrators and the console alone. Pure. Route in: a code. Route
//! out: a [`Claim`], JSON at the key [`KEY`] of a Secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Characters of a code, hyphen apart.
pub const LENGTH: usize = 8;
/// Crockford's base 32: no I, L, O and U, so that none looks like another.
pub const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Codes that may be tried.
pub const TRIES: u32 = 10;
/// Seconds until a claim ends: a machine that is installed in the evening is claimed the next morning.
pub const LIFETIME: u64 = 24 * 3600;
/// Namespace of the Secret.
pub const NAMESPACE: &str = "sheaf-console";
/// Name of the Secret.
pub const SECRET: &str = "claim";
/// Key of the JSON in the Secret.
pub const KEY: &str = "record";
/// Annotation of the Secret: the node whose screens show the code.
pub const NODE_ANNOTATION: &str = "console.sheaf.dev/shown-on";
/// Annotation of the Secret: the claim was asked for (`sheaf-agent claim new`, `sheaf admin code`), so it stays though somebody
/// administers the cluster.
pub const REQUESTED_ANNOTATION: &str = "console.sheaf.dev/requested";

/// What is kept of an open claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Before the code, when it is hashed.
    pub salt: String,
    /// SHA-256 of salt and code, hexadecimal.
    pub sha256: String,
    /// Seconds since 1970.
    pub ends: u64,
    /// Codes that may still be tried.
    pub tries: u32,
}

impl Claim {
    /// What is kept of `code`, which is open from `now`, in seconds since 1970.
    pub fn new(code: &str, salt: String, now: u64) -> Self {
        let sha256 = hash(&salt, &plain(code));
        Self { salt, sha256, ends: now.saturating_add(LIFETIME), tries: TRIES }
    }

    /// Whether `code`, as people type it, is the one.
    pub fn is(&self, code: &str) -> bool {
        let code = plain(code);
        code.len() == LENGTH && self.sha256 == hash(&self.salt, &code)
    }

    /// The Secret that opens it. `shown_on`: the node whose screens show the code; `is_requested`: it is open beside administrators.
    pub fn secret(&self, shown_on: Option<&str>, is_requested: bool) -> Result<Value, serde_json::Error> {
        let mut annotations = Map::new();
        annotations.extend(shown_on.map(|node| (NODE_ANNOTATION.to_owned(), json!(node))));
        annotations.extend(is_requested.then(|| (REQUESTED_ANNOTATION.to_owned(), json!("true"))));
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": NAMESPACE, "annotations": annotations},
            // Not `stringData`: applying it again must take the place of what is there, tries included.
            "data": {KEY: STANDARD.encode(serde_json::to_vec(self)?)},
        }))
    }

    /// Whether it can be tried at `now`, in seconds since 1970.
    pub fn is_open(&self, now: u64) -> bool {
        now < self.ends && self.tries > 0
    }
}

fn hash(salt: &str, code: &str) -> String {
    Sha256::digest(format!("{salt}{code}")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random bytes that a code and its salt are made of.
pub const RANDOM: usize = LENGTH + 16;

/// The claim that opens at `now`, in seconds since 1970, and its code, of random bytes.
pub fn of(random: &[u8; RANDOM], now: u64) -> (Claim, String) {
    let (letters, salt) = random.split_at(LENGTH);
    let code = code(std::array::from_fn(|index| letters[index]));
    (Claim::new(&code, hex::encode(salt), now), code)
}

/// The code of random bytes, as it is shown: `XXXX-XXXX`.
fn code(random: [u8; LENGTH]) -> String {
    // 32 letters: no byte favours one.
    let letters = random.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    let (first, second) = letters.split_at(LENGTH / 2);
    format!("{}-{}", first.iter().collect::<String>(), second.iter().collect::<String>())
}

/// A code without hyphens and spaces, in capitals; what looks alike is one.
fn plain(code: &str) -> String {
    let letters =
        code.chars().filter(|letter| !matches!(letter, '-' | ' ')).map(|letter| letter.to_ascii_uppercase());
    letters
        .map(|letter| match letter {
            'O' => '0',
            'I' | 'L' => '1',
            letter => letter,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_however_people_type_it_and_no_other_is() {
        let claim = Claim::new("01AB-23CD", "salt".into(), 0);
        for typed in ["01AB23CD", "01ab-23cd", "O1AB 23CD", "oiab23cd", " 0lab-23cd "] {
            assert!(claim.is(typed), "{typed}");
        }
        for typed in ["", "01AB23C", "01AB23CDE", "01AB23CE", "0IAB23C\u{301}D"] {
            assert!(!claim.is(typed), "{typed}");
        }
    }

    #[test]
    fn a_claim_ends_with_its_time_and_with_its_tries() {
        let claim = Claim::new("01AB-23CD", "salt".into(), 1000);
        assert!(claim.is_open(1000 + LIFETIME - 1) && !claim.is_open(1000 + LIFETIME));
        assert!(!Claim { tries: 0, ..claim }.is_open(1000));
    }

    #[test]
    fn a_code_is_two_groups_of_four_letters_that_each_mean_themselves() {
        assert_eq!(code([0, 1, 10, 18, 31, 32, 255, 128]), "01AJ-Z0Z0");
        assert!(
            ALPHABET.iter().all(|letter| plain(&char::from(*letter).to_string()).as_bytes() == [*letter])
        );
    }
}
