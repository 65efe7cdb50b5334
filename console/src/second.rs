//! The second factor of a user: codes of an authenticator app, and recovery codes for who has lost it.
//!
//! Why here: a record beside the user's, not in it: a console of the version before neither reads nor drops it when it writes the
//! user (decision 58). It belongs to the user that was created at [`Factor::of`]: one that is made again under the name begins
//! without. It counts once a code has confirmed it. Every code that is taken is written down before anybody is let in, by the
//! version that was read: so of two requests, or two consoles, with the same code one is refused. What people do with it is in
//! [`own`]. Route in: what was typed. Route out: yes or no, records.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    answer::Refusal,
    hash,
    records::{Kind, Record, RecordError, Records},
    totp,
    users::{User, UserName},
};

pub mod own;

/// Recovery codes of one user.
pub const RECOVERY: usize = 8;
/// Random bytes of one: 16 letters.
const RECOVERY_BYTES: usize = 10;
/// Longest text that is taken for a code.
const LONGEST: usize = 64;

/// To who has typed the right password and no code.
pub const ASKED: &str = "type the code of your authenticator app, or a recovery code";
/// To who has typed another.
pub const WRONG: &str = "the code is wrong, or was used already";

/// What is kept of one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// Whose.
    pub user: UserName,
    /// When that user was created.
    pub of: u64,
    /// The secret, as apps have it.
    pub secret: String,
    /// A code has shown that the app has the secret.
    pub confirmed: bool,
    /// The step of the last code that was taken; no code of it or before is taken again.
    pub last: u64,
    /// SHA-256 of the recovery codes that are left.
    pub recovery: Vec<String>,
}

/// Without the secret.
impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Factor({}, confirmed: {})", self.user, self.confirmed)
    }
}

impl Factor {
    /// A new one, with the secret that is shown.
    pub fn new(user: &User) -> Result<Self, Refusal> {
        let secret = hash::random::<{ totp::SECRET }>().map_err(Refusal::internal)?;
        let (name, secret) = (user.name.clone(), totp::base32(&secret));
        Ok(Self { user: name, of: user.created, secret, confirmed: false, last: 0, recovery: Vec::new() })
    }

    /// Takes `typed` at `now`, if it is a code: what is to be written down then.
    pub fn take(mut self, typed: &str, now: u64) -> Option<Self> {
        let typed: String =
            typed.chars().filter(|letter| !letter.is_whitespace() && *letter != '-').collect();
        if typed.len() > LONGEST {
            return None;
        }
        if typed.bytes().all(|byte| byte.is_ascii_digit()) {
            let secret = totp::from_base32(&self.secret)?;
            self.last = totp::step_of(&secret, &typed, now, self.last)?;
            return Some(self);
        }
        let kept = hash::sha256(typed.to_uppercase().as_bytes());
        let at = self.recovery.iter().position(|one| hash::same(one, &kept))?;
        self.recovery.remove(at);
        Some(self)
    }

    /// Confirmed, with new recovery codes, which are shown once.
    pub fn confirm(mut self) -> Result<(Self, Vec<String>), Refusal> {
        let mut codes = Vec::with_capacity(RECOVERY);
        for _ in 0..RECOVERY {
            let letters = totp::base32(&hash::random::<RECOVERY_BYTES>().map_err(Refusal::internal)?);
            self.recovery.push(hash::sha256(letters.as_bytes()));
            let groups: Vec<String> =
                letters.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four).into_owned()).collect();
            codes.push(groups.join("-"));
        }
        self.confirmed = true;
        Ok((self, codes))
    }
}

/// The factor of a user as he is now, with its record.
pub fn of(records: &dyn Records, user: &User) -> Option<(Record, Factor)> {
    let record = records.get(Kind::Factor, user.name.as_ref())?;
    let factor: Factor = record.read()?;
    (factor.of == user.created).then_some((record, factor))
}

/// Lets `user`, whose password was right, in or not: by `typed`, if he has a second factor.
pub async fn check(records: &dyn Records, user: &User, typed: Option<&str>, now: u64) -> Result<(), Refusal> {
    let Some((record, factor)) = of(records, user) else {
        // One that is there and cannot be read lets nobody in.
        return match records.get(Kind::Factor, user.name.as_ref()).map(|record| record.read::<Factor>()) {
            Some(None) => Err(Refusal::internal(
                "the record of the second factor is damaged; an administrator can remove it",
            )),
            _ => Ok(()),
        };
    };
    if !factor.confirmed {
        return Ok(());
    }
    let typed = typed.map(str::trim).filter(|typed| !typed.is_empty());
    let typed = typed.ok_or_else(|| Refusal::code_required(ASKED))?;
    let taken = factor.take(typed, now).ok_or_else(|| Refusal::unauthorized(WRONG))?;
    match write(records, record, &taken).await {
        Err(RecordError::Conflict) => Err(Refusal::unauthorized(WRONG)),
        written => Ok(written?),
    }
}

/// Writes a factor in the place of the one that was read.
async fn write(records: &dyn Records, mut record: Record, factor: &Factor) -> Result<(), RecordError> {
    record.data = serde_json::to_value(factor).map_err(|error| RecordError::Api(error.to_string()))?;
    records.replace(record).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{records::fake::Fake, testing::user};

    const NOW: u64 = 1_800_000_000;

    fn code_at(factor: &Factor, now: u64) -> String {
        totp::code(&totp::from_base32(&factor.secret).unwrap(), now / totp::STEP)
    }

    async fn with_factor() -> (Fake, User, Factor, Vec<String>) {
        let (records, alice) = (Fake::default(), user("alice"));
        let (factor, codes) = Factor::new(&alice).unwrap().confirm().unwrap();
        records.create(Record::new(Kind::Factor, "alice", &factor).unwrap()).await.unwrap();
        (records, alice, factor, codes)
    }

    #[tokio::test]
    async fn without_a_second_factor_or_before_it_is_confirmed_no_code_is_asked_for() {
        let (records, alice) = (Fake::default(), user("alice"));
        assert_eq!(check(&records, &alice, None, NOW).await, Ok(()));
        let pending = Factor::new(&alice).unwrap();
        records.create(Record::new(Kind::Factor, "alice", &pending).unwrap()).await.unwrap();
        assert_eq!(check(&records, &alice, None, NOW).await, Ok(()));
    }

    #[tokio::test]
    async fn a_code_is_asked_for_and_is_good_once() {
        let (records, alice, factor, _) = with_factor().await;
        for nothing in [None, Some(""), Some("  ")] {
            let refused = check(&records, &alice, nothing, NOW).await.unwrap_err();
            assert_eq!(
                (refused.code, refused.reason, refused.message.as_str()),
                (401, "CodeRequired", ASKED)
            );
        }
        let code = code_at(&factor, NOW);
        let spaced = format!("{} {}", &code[..3], &code[3..]);
        assert_eq!(check(&records, &alice, Some(&spaced), NOW).await, Ok(()));
        for (typed, now) in
            [(code.as_str(), NOW), (code.as_str(), NOW + 30), ("000000x", NOW), ("", NOW + 9_000_000)]
        {
            assert_eq!(check(&records, &alice, Some(typed), now).await.unwrap_err().code, 401, "{typed}");
        }
        assert_eq!(check(&records, &alice, Some(&code_at(&factor, NOW + 60)), NOW + 60).await, Ok(()));
    }

    #[tokio::test]
    async fn of_two_consoles_that_read_the_same_version_one_takes_the_code() {
        let (records, alice, factor, _) = with_factor().await;
        let (record, _) = of(&records, &alice).unwrap();
        let taken = factor.take(&code_at(&of(&records, &alice).unwrap().1, NOW), NOW).unwrap();
        write(&records, record.clone(), &taken).await.unwrap();
        assert!(matches!(write(&records, record, &taken).await, Err(RecordError::Conflict)));
    }

    #[tokio::test]
    async fn a_recovery_code_is_good_once_however_it_is_typed_and_none_is_kept() {
        let (records, alice, _, codes) = with_factor().await;
        assert_eq!(codes.len(), 8);
        assert!(codes.iter().all(|code| code.len() == 19), "{codes:?}");
        let kept = records.get(Kind::Factor, "alice").unwrap().data.to_string();
        assert!(codes.iter().all(|code| !kept.contains(&code.replace('-', ""))));
        let typed = codes[3].to_lowercase().replace('-', " ");
        assert_eq!(check(&records, &alice, Some(&typed), NOW).await, Ok(()));
        assert_eq!(check(&records, &alice, Some(&typed), NOW).await.unwrap_err().message, WRONG);
        assert_eq!(of(&records, &alice).unwrap().1.recovery.len(), 7);
        assert_eq!(check(&records, &alice, Some(&codes[4]), NOW).await, Ok(()));
    }

    #[tokio::test]
    async fn a_user_that_is_made_again_has_none_and_a_damaged_record_lets_nobody_in() {
        let (records, alice, ..) = with_factor().await;
        let again = User { created: 2, ..alice.clone() };
        assert_eq!(check(&records, &again, None, NOW).await, Ok(()));
        let mut record = records.get(Kind::Factor, "alice").unwrap();
        record.data = serde_json::json!({"of": 1});
        records.replace(record).await.unwrap();
        assert_eq!(check(&records, &alice, Some("123456"), NOW).await.unwrap_err().code, 500);
    }

    #[tokio::test]
    async fn a_code_that_cannot_be_written_down_lets_nobody_in() {
        let (records, alice, factor, _) = with_factor().await;
        records.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        let refused = check(&records, &alice, Some(&code_at(&factor, NOW)), NOW).await.unwrap_err();
        assert_eq!(refused.code, 503);
        assert!(!format!("{factor:?}").contains(&factor.secret));
    }
}
