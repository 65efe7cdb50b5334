//! API tokens: how a program acts as a user of the console.
//!
//! Why here: a program has no cookie and no password. A token is `sheaf_<id>_<secret>`; the record `<id>` has the SHA-256 of
//! the whole. It reaches what is proxied and the stream of changes, never users, passwords or tokens: one that is found makes
//! no further one. It ends with its time, its user, or a change of his password. Pure but for records.

use serde::{Deserialize, Serialize};

use crate::{
    answer::Refusal,
    hash,
    records::{Kind, Record, Records},
    users::{User, UserName},
};

/// Before the id: scanners for secrets in repositories find it.
const PREFIX: &str = "sheaf_";
/// Longest validity, in days.
pub const MOST_DAYS: u64 = 365;
/// Tokens of one user.
const MOST: usize = 32;
/// Characters of a label.
const LONGEST_LABEL: usize = 64;
/// Seconds of a day.
const DAY: u64 = 24 * 3600;

/// What is kept of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Whose.
    pub user: UserName,
    /// What for, in the words of its user.
    pub label: String,
    /// SHA-256 of the token.
    pub sha256: String,
    /// The credential of the user when it was made.
    pub credential: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub ends: u64,
}

impl Token {
    /// Whether it counts at `now`, for the user as he is now.
    pub fn is_valid(&self, user: Option<&User>, now: u64) -> bool {
        now < self.ends && user.is_some_and(|user| !user.disabled && user.credential == self.credential)
    }
}

/// Makes one; answers its id and the token, which is shown once.
pub async fn create(
    records: &dyn Records,
    user: &User,
    label: &str,
    days: u64,
    now: u64,
) -> Result<(String, String), Refusal> {
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(Refusal::invalid(format!("a token is valid for 1 to {MOST_DAYS} days")));
    }
    let label = label.trim();
    if label.is_empty() || label.chars().count() > LONGEST_LABEL || label.chars().any(char::is_control) {
        return Err(Refusal::invalid(format!(
            "say what the token is for, in at most {LONGEST_LABEL} characters"
        )));
    }
    if of(records, &user.name).len() >= MOST {
        return Err(Refusal::conflict(format!("there are {MOST} tokens already; delete one")));
    }
    let id: String =
        hash::random::<8>().map_err(Refusal::internal)?.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("{PREFIX}{id}_{}", hash::secret().map_err(Refusal::internal)?);
    let kept = Token {
        user: user.name.clone(),
        label: label.to_owned(),
        sha256: hash::sha256(token.as_bytes()),
        credential: user.credential.clone(),
        created: now,
        ends: now + days * DAY,
    };
    records.create(Record::new(Kind::Token, &id, &kept)?).await?;
    Ok((id, token))
}

/// Those of `user`, by id.
pub fn of(records: &dyn Records, user: &UserName) -> Vec<(String, Token)> {
    let all = records.list(Kind::Token).into_iter();
    let read = all.filter_map(|record| Some((record.name.clone(), record.read::<Token>()?)));
    read.filter(|(_, token)| token.user == *user).collect()
}

/// Whose `token` is, if it counts.
pub fn user(records: &dyn Records, token: &str, now: u64) -> Option<User> {
    let (id, _) = token.strip_prefix(PREFIX)?.split_once('_')?;
    if id.len() != 16 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let kept: Token = records.get(Kind::Token, id)?.read()?;
    let user = User::of(records, &kept.user);
    let counts =
        hash::same(&kept.sha256, &hash::sha256(token.as_bytes())) && kept.is_valid(user.as_ref(), now);
    user.filter(|_| counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{records::fake::Fake, testing::user as person};

    #[tokio::test]
    async fn a_token_is_its_users_until_its_end_and_no_other_text_is() {
        let (records, alice) = (Fake::default(), person("alice"));
        records.create(Record::new(Kind::User, "alice", &alice).unwrap()).await.unwrap();
        let (id, token) = create(&records, &alice, " backup ", 2, 1000).await.unwrap();
        assert!(token.starts_with(&format!("sheaf_{id}_")), "{token}");
        assert_eq!(user(&records, &token, 1000), Some(alice.clone()));
        assert_eq!(user(&records, &token, 1000 + 2 * DAY), None);
        let mut other = token.clone();
        other.pop();
        for refused in
            [other.as_str(), "", "sheaf_", &format!("sheaf_{id}_"), "sheaf_../users_x", &token[6..]]
        {
            assert_eq!(user(&records, refused, 1000), None, "{refused}");
        }
        let (_, kept) = of(&records, &alice.name).pop().unwrap();
        assert_eq!(kept.label, "backup");
        assert!(!kept.sha256.contains(&token[23..]));
        assert!(of(&records, &person("bob").name).is_empty());
        // A password that is changed ends it.
        let mut record = records.get(Kind::User, "alice").unwrap();
        record.data["credential"] = "another".into();
        records.replace(record).await.unwrap();
        assert_eq!(user(&records, &token, 1000), None);
    }

    #[tokio::test]
    async fn a_token_without_purpose_or_end_and_a_thirty_third_are_refused() {
        let (records, alice) = (Fake::default(), person("alice"));
        let refused =
            async |label: &str, days| create(&records, &alice, label, days, 0).await.unwrap_err().message;
        for days in [0, 366, u64::MAX] {
            assert_eq!(refused("x", days).await, "a token is valid for 1 to 365 days");
        }
        for label in ["", "  ", "a\nb", &"x".repeat(65)] {
            assert_eq!(refused(label, 1).await, "say what the token is for, in at most 64 characters");
        }
        for _ in 0..32 {
            create(&records, &alice, "x", 1, 0).await.unwrap();
        }
        assert_eq!(refused("x", 1).await, "there are 32 tokens already; delete one");
    }
}
