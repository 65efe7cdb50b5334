//! Which keys sign the next release (`keys.json`), and how one list of keys follows another.
//!
//! Why here: installer, agent and the builder's command line must mean the same by "enough signatures". The rules are those of
//! root metadata in TUF (specification §5.3): version N+1 counts when enough keys of version N and of itself signed it, so
//! that a key is replaced without touching a node. No more of TUF is here: a manifest says itself until when it is good.
//! Route in: the bytes of `keys.json`, the keys that the running software holds. Route out: [`Keys`] to verify a manifest with,
//! or why there are none; [`Chain`] for the commands that write it. Pure, but for [`Keys::trusted_at`].

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use sheaf_config::manifest::KEYS;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Format of one version.
pub const FORMAT: u32 = 1;
/// Most keys of one version, and most signatures of one text: more than people who sign, and a bound on what is verified.
const MOST: usize = 16;
/// Lines of a minisign signature.
const LINES: usize = 4;

/// The keys of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// [`FORMAT`]
    pub format: u32,
    /// 1 and up; 0 is the single key of `release.pub`, from before there was `keys.json`.
    pub version: u64,
    /// How many of the keys must sign.
    pub threshold: usize,
    /// Public keys, as the second line of a minisign file has them.
    pub keys: Vec<String>,
}

/// One version as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// [`Keys`] as JSON: exactly the text that was signed.
    pub keys: String,
    /// Minisign signatures, one after the other.
    pub signatures: String,
}

/// Every version from the first on: `keys.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain(pub Vec<Signed>);

/// Why keys are refused.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file is something else.
    #[error("{KEYS} is not understood ({0})")]
    NotUnderstood(#[from] serde_json::Error),
    /// A version contradicts itself.
    #[error("{KEYS}: version {version} {what}")]
    Wrong {
        /// Which.
        version: u64,
        /// What is wrong.
        what: String,
    },
    /// A version was not signed by enough keys.
    #[error("{KEYS}: version {version} has {have} of {need} signatures by the keys of version {by}")]
    Threshold {
        /// Which.
        version: u64,
        /// Keys that signed it.
        have: usize,
        /// How many must.
        need: usize,
        /// Whose keys they are.
        by: u64,
    },
    /// It ends before what is known already.
    #[error("{KEYS} ends with version {newest}, and version {known} is known here already")]
    Older {
        /// Its newest version.
        newest: u64,
        /// The version that is trusted.
        known: u64,
    },
    /// The keys that are trusted cannot be read.
    #[error("{}: cannot be used as the keys of releases: {what}", .path.display())]
    Own {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Who signed something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers {
    /// IDs of known keys whose signature verifies.
    pub known: BTreeSet<String>,
    /// IDs of keys that are not known.
    pub unknown: BTreeSet<String>,
    /// IDs of known keys whose signature does not verify.
    pub wrong: BTreeSet<String>,
}

/// A text that is not signatures.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotSignatures(String);

impl Keys {
    /// The single key of `release.pub`, whose text is `file`.
    pub fn of_single(file: &str) -> Option<Self> {
        let key = file.lines().nth(1)?.trim().to_owned();
        PublicKey::from_base64(&key).ok()?;
        Some(Self { format: FORMAT, version: 0, threshold: 1, keys: vec![key] })
    }

    /// What software trusts that has `release.pub` at `path`: the newest version in the `keys.json` beside it, else that key.
    /// Both are believed: who can change them can change the program too.
    pub fn trusted_at(path: &Path) -> Result<Self, KeysError> {
        let own = |path: &Path, what: String| KeysError::Own { path: path.to_owned(), what };
        let chain = path.with_file_name(KEYS);
        match std::fs::read(&chain) {
            Ok(bytes) => Chain::parse(&bytes)?.newest().map_err(|error| own(&chain, error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = std::fs::read_to_string(path).map_err(|error| own(path, error.to_string()))?;
                Self::of_single(&text).ok_or_else(|| own(path, "it is not a minisign public key".into()))
            }
            Err(error) => Err(own(&chain, error.to_string())),
        }
    }

    /// Checks that it can be met.
    fn checked(self) -> Result<Self, KeysError> {
        let distinct: BTreeSet<_> = self.keys.iter().map(|key| id(key)).collect();
        let what = match () {
            () if self.format != FORMAT => format!("has format {}, this program reads {FORMAT}", self.format),
            () if self.version == 0 => "is 0; they begin with 1".into(),
            () if self.keys.len() > MOST => {
                format!("has {} keys; at most {MOST} are possible", self.keys.len())
            }
            () if self.keys.iter().any(|key| PublicKey::from_base64(key).is_err()) => {
                "has a key that is not a minisign public key".into()
            }
            () if distinct.len() != self.keys.len() => "has the same key twice".into(),
            () if self.threshold == 0 || self.threshold > self.keys.len() => {
                format!("asks for {} of {} keys", self.threshold, self.keys.len())
            }
            () => return Ok(self),
        };
        Err(KeysError::Wrong { version: self.version, what })
    }

    /// Which keys signed `bytes`. A key counts once, however often it signed.
    pub fn signers(&self, bytes: &[u8], signatures: &str) -> Result<Signers, NotSignatures> {
        let mut signers = Signers::default();
        let lines: Vec<_> = signatures.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() || lines.len() > MOST * LINES {
            return Err(NotSignatures(format!("it has {} lines", lines.len())));
        }
        for lines in lines.chunks(LINES) {
            let signature =
                Signature::decode(&lines.join("\n")).map_err(|error| NotSignatures(error.to_string()))?;
            let signed_by = lines.get(1).map(|line| id(line)).unwrap_or_default();
            match self.keys.iter().find(|key| id(key) == signed_by).map(|key| PublicKey::from_base64(key)) {
                // Prehashed signatures only: the legacy form cannot be checked without keeping all in memory.
                Some(Ok(key)) if key.verify(bytes, &signature, false).is_ok() => {
                    signers.known.insert(signed_by)
                }
                Some(_) => signers.wrong.insert(signed_by),
                None => signers.unknown.insert(signed_by),
            };
        }
        Ok(signers)
    }

    /// Whether enough of them signed the version `signed`.
    fn accept(&self, version: u64, signed: &Signed) -> Result<(), KeysError> {
        let signers = match signed.signatures.trim().is_empty() {
            true => Signers::default(),
            false => self.signers(signed.keys.as_bytes(), &signed.signatures).map_err(|error| {
                KeysError::Wrong { version, what: format!("has no minisign signatures ({error})") }
            })?,
        };
        let (have, need) = (signers.known.len(), self.threshold);
        if have >= need {
            Ok(())
        } else {
            Err(KeysError::Threshold { version, have, need, by: self.version })
        }
    }

    /// The newest keys of `chain`, beginning from these: each version that follows must be signed by enough keys of the one
    /// before and by enough of its own.
    pub fn follow(&self, chain: &Chain) -> Result<Self, KeysError> {
        let mut trusted = self.clone();
        for (version, signed) in (1..).zip(&chain.0) {
            let next = signed.parse()?;
            let wrong = |what: &str| Err(KeysError::Wrong { version, what: what.into() });
            match () {
                () if next.version != version => return wrong(&format!("calls itself {}", next.version)),
                () if version < self.version => {}
                () if version == self.version && next != *self => {
                    return wrong("is another one than the one that is known here");
                }
                () if version == self.version => {}
                () => {
                    trusted.accept(version, signed)?;
                    next.accept(version, signed)?;
                    trusted = next;
                }
            }
        }
        let newest = chain.0.len() as u64;
        if newest < self.version {
            Err(KeysError::Older { newest, known: self.version })
        } else {
            Ok(trusted)
        }
    }
}

impl Signed {
    /// Its keys, checked.
    pub fn parse(&self) -> Result<Keys, KeysError> {
        serde_json::from_str::<Keys>(&self.keys)?.checked()
    }
}

impl Chain {
    /// Reads `keys.json`; nothing is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysError> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The keys of its last version, believed.
    pub fn newest(&self) -> Result<Keys, KeysError> {
        let none = || KeysError::Wrong { version: 1, what: "is missing".into() };
        self.0.last().ok_or_else(none)?.parse()
    }

    /// Whether each version but the first was signed by enough keys of the one before, and all by enough of their own. Whose
    /// keys must sign the first is known to nodes only.
    pub fn complete(&self) -> Result<Keys, KeysError> {
        let none = || KeysError::Wrong { version: 1, what: "is missing".into() };
        let (first, rest) = self.0.split_first().ok_or_else(none)?;
        let keys = first.parse()?;
        keys.accept(1, first)?;
        let all = Self(std::iter::once(first).chain(rest).cloned().collect());
        keys.follow(&all)
    }

    /// Puts `change` to the newest keys: in place while they lack signatures, else as a version of its own.
    pub fn change(&mut self, change: impl FnOnce(&mut Keys)) -> Result<Keys, KeysError> {
        let mut keys = self.newest()?;
        let is_open = self.complete().is_err();
        change(&mut keys);
        if is_open {
            self.0.pop();
        } else {
            keys.version += 1;
        }
        self.push(keys)
    }

    /// Adds `keys` as the newest version, not signed yet.
    pub fn push(&mut self, keys: Keys) -> Result<Keys, KeysError> {
        let keys = keys.checked()?;
        self.0.push(Signed { keys: serde_json::to_string(&keys)?, signatures: String::new() });
        Ok(keys)
    }
}

/// ID of a key or a signature in base64, as minisign prints it: `6C4F…`; empty for anything else.
pub fn id(base64: &str) -> String {
    let bytes = BASE64_STANDARD.decode(base64.trim()).unwrap_or_default();
    let id = bytes.get(2..10).and_then(|id| <[u8; 8]>::try_from(id).ok());
    id.map(|id| format!("{:016X}", u64::from_le_bytes(id))).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use minisign::KeyPair;

    pub(crate) fn pair() -> KeyPair {
        KeyPair::generate_unencrypted_keypair().unwrap()
    }

    pub(crate) fn sign(bytes: &[u8], by: &[&KeyPair]) -> String {
        let one = |pair: &&KeyPair| {
            minisign::sign(None, &pair.sk, io::Cursor::new(bytes), None, None).unwrap().into_string()
        };
        by.iter().map(one).collect()
    }

    pub(crate) fn keys(version: u64, threshold: usize, of: &[&KeyPair]) -> Keys {
        Keys { format: FORMAT, version, threshold, keys: of.iter().map(|pair| pair.pk.to_base64()).collect() }
    }

    pub(crate) fn signed(keys: &Keys, by: &[&KeyPair]) -> Signed {
        let text = serde_json::to_string(keys).unwrap();
        let signatures = sign(text.as_bytes(), by);
        Signed { keys: text, signatures }
    }

    fn follow(from: &Keys, chain: &[Signed]) -> Result<Keys, String> {
        from.follow(&Chain(chain.to_vec())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_replaced_by_a_version_that_old_and_new_keys_signed() {
        let [a, b, c] = [pair(), pair(), pair()];
        let (one, two) = (keys(1, 2, &[&a, &b]), keys(2, 2, &[&b, &c]));
        let chain = [signed(&one, &[&a, &b]), signed(&two, &[&a, &b, &c])];
        assert_eq!(follow(&one, &chain), Ok(two.clone()));
        assert_eq!(follow(&two, &chain), Ok(two.clone()), "what is known already is passed over");
        assert_eq!(Chain(chain.to_vec()).complete().unwrap(), two);
    }

    #[test]
    fn a_node_with_a_single_key_follows_a_first_version_that_this_key_signed() {
        let [old, a, b] = [pair(), pair(), pair()];
        let single = Keys::of_single(&old.pk.to_box().unwrap().into_string()).unwrap();
        let one = keys(1, 1, &[&a, &b]);
        assert_eq!(follow(&single, &[signed(&one, &[&old, &a])]), Ok(one.clone()));
        assert_eq!(
            follow(&single, &[signed(&one, &[&a, &b])]).unwrap_err(),
            "keys.json: version 1 has 0 of 1 signatures by the keys of version 0"
        );
        assert_eq!(
            follow(&single, &[signed(&one, &[&old])]).unwrap_err(),
            "keys.json: version 1 has 0 of 1 signatures by the keys of version 1"
        );
    }

    #[test]
    fn a_key_that_signs_twice_counts_once_and_a_foreign_one_never() {
        let [a, b, c, foreign] = [pair(), pair(), pair(), pair()];
        let (one, two) = (keys(1, 2, &[&a, &b]), keys(2, 1, &[&c]));
        let refused = "keys.json: version 2 has 1 of 2 signatures by the keys of version 1";
        for by in [&[&a, &a, &c][..], &[&a, &foreign, &c]] {
            assert_eq!(follow(&one, &[signed(&one, &[&a, &b]), signed(&two, by)]).unwrap_err(), refused);
        }
        let signers = one.signers(b"text", &sign(b"text", &[&a, &foreign])).unwrap();
        assert_eq!(signers.known, [id(&a.pk.to_base64())].into());
        assert_eq!(signers.unknown, [id(&foreign.pk.to_base64())].into());
        let signers = one.signers(b"changed", &sign(b"text", &[&a])).unwrap();
        assert_eq!((signers.known.len(), signers.wrong.len()), (0, 1));
    }

    #[test]
    fn versions_that_are_older_other_missing_or_misnumbered_are_refused() {
        let [a, b] = [pair(), pair()];
        let (one, two, three) = (keys(1, 1, &[&a]), keys(2, 1, &[&b]), keys(3, 1, &[&a]));
        let first = signed(&one, &[&a]);
        assert_eq!(
            follow(&two, std::slice::from_ref(&first)).unwrap_err(),
            "keys.json ends with version 1, and version 2 is known here already"
        );
        assert_eq!(
            follow(&one, &[signed(&keys(1, 1, &[&b]), &[&b])]).unwrap_err(),
            "keys.json: version 1 is another one than the one that is known here"
        );
        assert_eq!(
            follow(&one, &[first, signed(&three, &[&a])]).unwrap_err(),
            "keys.json: version 2 calls itself 3"
        );
        assert_eq!(
            follow(&one, &[]).unwrap_err(),
            "keys.json ends with version 0, and version 1 is known here already"
        );
    }

    #[test]
    fn keys_that_could_never_be_met_are_refused() {
        let a = pair();
        let refused = |keys: Keys| Chain::default().push(keys).unwrap_err().to_string();
        let case = |threshold, of: &[&KeyPair]| keys(1, threshold, of);
        assert_eq!(refused(case(0, &[&a])), "keys.json: version 1 asks for 0 of 1 keys");
        assert_eq!(refused(case(2, &[&a])), "keys.json: version 1 asks for 2 of 1 keys");
        assert_eq!(refused(case(1, &[&a, &a])), "keys.json: version 1 has the same key twice");
        assert_eq!(
            refused(Keys { version: 0, ..case(1, &[&a]) }),
            "keys.json: version 0 is 0; they begin with 1"
        );
        assert_eq!(
            refused(Keys { format: 2, ..case(1, &[&a]) }),
            "keys.json: version 1 has format 2, this program reads 1"
        );
        assert_eq!(
            refused(Keys { keys: vec!["RWQ".into()], ..case(1, &[&a]) }),
            "keys.json: version 1 has a key that is not a minisign public key"
        );
    }

    #[test]
    fn a_change_is_a_new_version_once_the_one_before_has_its_signatures() {
        let [a, b] = [pair(), pair()];
        let mut chain = Chain::default();
        chain.push(keys(1, 1, &[&a])).unwrap();
        let add = |keys: &mut Keys| keys.keys.push(b.pk.to_base64());
        assert_eq!(chain.change(add).unwrap(), keys(1, 1, &[&a, &b]), "nobody has signed it");
        chain.0[0].signatures = sign(chain.0[0].keys.as_bytes(), &[&a]);
        assert_eq!(chain.change(|keys| keys.threshold = 2).unwrap(), keys(2, 2, &[&a, &b]));
        assert_eq!(chain.0.len(), 2);
        assert_eq!(Chain::parse(&serde_json::to_vec(&chain).unwrap()).unwrap(), chain);
    }

    #[test]
    fn software_trusts_the_newest_keys_beside_it_else_its_single_key() {
        let [a, b] = [pair(), pair()];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("release.pub");
        let error = Keys::trusted_at(&path).unwrap_err().to_string();
        assert!(
            error.contains("release.pub: cannot be used as the keys of releases: No such file"),
            "{error}"
        );
        std::fs::write(&path, a.pk.to_box().unwrap().into_string()).unwrap();
        assert_eq!(Keys::trusted_at(&path).unwrap(), keys(0, 1, &[&a]));
        let chain = Chain(vec![signed(&keys(1, 1, &[&b]), &[&a, &b])]);
        std::fs::write(dir.path().join(KEYS), serde_json::to_vec(&chain).unwrap()).unwrap();
        assert_eq!(Keys::trusted_at(&path).unwrap(), keys(1, 1, &[&b]));
    }
}
