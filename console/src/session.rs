//! Sessions: from a login until a logout, half an hour without use, twelve hours, or a change of the password.
//!
//! Why here: kept as records, so that a browser stays logged in when another replica answers. The record's name is the SHA-256
//! of the cookie's value, so that nobody who reads records has a session. Which credential it began with is in it: a password
//! that is changed, or a user that is deleted and made again, ends all sessions of before. `check` is pure. Route in: a cookie,
//! a record. Route out: who it is; records.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    answer::Refusal,
    clock, hash,
    records::{Kind, Record, Records},
    serve::State,
    users::{User, UserName},
};

/// Without use for so long, in seconds, it ends.
pub const IDLE: u64 = 30 * 60;
/// It ends so long after the login, in seconds, whatever its use.
pub const LONGEST: u64 = 12 * 3600;
/// Its use is written down so often, in seconds: not at each request.
const WRITE_EVERY: u64 = 60;
/// Sessions of one user; a further login ends the one that was used longest ago.
const MOST: usize = 16;
/// Between two rounds that delete the records of sessions and tokens that have ended.
const SWEEP: Duration = Duration::from_secs(10 * 60);

/// What is kept of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub user: UserName,
    /// The credential of the user at the login.
    pub credential: String,
    /// Seconds since 1970: when it began.
    pub began: u64,
    /// Seconds since 1970: when it was last used.
    pub used: u64,
}

/// What a valid session asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// Nothing.
    AsItIs,
    /// Its use is to be written down.
    Write,
}

impl Session {
    /// Whether it is valid at `now` for the user as he is now; `None` if it has ended.
    pub fn check(&self, user: Option<&User>, now: u64) -> Option<Valid> {
        let user = user.filter(|user| !user.disabled)?;
        if user.credential != self.credential || now >= self.ends() {
            return None;
        }
        let unwritten = now.saturating_sub(self.used);
        Some(if unwritten >= WRITE_EVERY { Valid::Write } else { Valid::AsItIs })
    }

    /// When it ends if it is not used again, in seconds since 1970.
    pub fn ends(&self) -> u64 {
        (self.used + IDLE).min(self.began + LONGEST)
    }
}

/// The name of the record of a cookie's value.
pub fn id(secret: &str) -> String {
    // 160 bits; a Secret's name has room for no more with its prefix in one DNS label.
    hash::sha256(secret.as_bytes())[..40].to_owned()
}

/// Begins one; answers the cookie's value.
pub async fn begin(records: &dyn Records, user: &User, now: u64) -> Result<String, Refusal> {
    let secret = hash::secret().map_err(Refusal::internal)?;
    let session =
        Session { user: user.name.clone(), credential: user.credential.clone(), began: now, used: now };
    records.create(Record::new(Kind::Session, &id(&secret), &session)?).await?;
    for name in surplus(&records.list(Kind::Session), &user.name) {
        records.delete(Kind::Session, &name).await?;
    }
    Ok(secret)
}

/// Names of those of `user` that are too many, least used first.
fn surplus(all: &[Record], user: &UserName) -> Vec<String> {
    let mut own: Vec<(u64, &str)> = all
        .iter()
        .filter_map(|record| Some((record.read::<Session>()?, record.name.as_str())))
        .filter(|(session, _)| session.user == *user)
        .map(|(session, name)| (session.used, name))
        .collect();
    own.sort_unstable();
    let many = own.len().saturating_sub(MOST);
    own.into_iter().take(many).map(|(_, name)| name.to_owned()).collect()
}

/// Writes down that a session is used. That another replica was faster is as good; a failure costs nothing but its idle end.
pub async fn touch(records: &dyn Records, mut record: Record, mut session: Session, now: u64) {
    session.used = now;
    let Ok(data) = serde_json::to_value(&session) else { return };
    record.data = data;
    if let Err(error) = records.replace(record).await {
        tracing::debug!("a session's use: {error}");
    }
}

/// Deletes records of what has ended, until dropped.
pub async fn sweep(state: Arc<State>) {
    loop {
        tokio::time::sleep(SWEEP).await; // until the next round is due
        for (kind, name) in ended(&*state.records, clock::now()) {
            if let Err(error) = state.records.delete(kind, &name).await {
                tracing::warn!("deleting a {} that has ended: {error}; trying again later", kind.word());
            }
        }
    }
}

/// Sessions and tokens that have ended, second factors of users that are gone.
fn ended(records: &dyn Records, now: u64) -> Vec<(Kind, String)> {
    let user = |name: &UserName| User::of(records, name);
    let sessions = records.list(Kind::Session).into_iter().filter(|record| {
        record
            .read::<Session>()
            .is_none_or(|session| session.check(user(&session.user).as_ref(), now).is_none())
    });
    let tokens = records.list(Kind::Token).into_iter().filter(|record| {
        record
            .read::<crate::token::Token>()
            .is_none_or(|token| !token.is_valid(user(&token.user).as_ref(), now))
    });
    let factors = records.list(Kind::Factor).into_iter().filter(|record| {
        // One that cannot be read stays: it lets nobody in, and an administrator removes it.
        record
            .read::<crate::second::Factor>()
            .is_some_and(|factor| user(&factor.user).is_none_or(|user| user.created != factor.of))
    });
    sessions.chain(tokens).chain(factors).map(|record| (record.kind, record.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::fake::Fake;
    use crate::testing::user;

    fn session(began: u64, used: u64) -> Session {
        let user = user("alice");
        Session { user: user.name, credential: user.credential, began, used }
    }

    #[test]
    fn a_session_ends_half_an_hour_after_its_last_use_and_twelve_hours_after_the_login() {
        let alice = user("alice");
        let check = |session: &Session, now| session.check(Some(&alice), now);
        assert_eq!(check(&session(1000, 1000), 1000), Some(Valid::AsItIs));
        assert_eq!(check(&session(1000, 1000), 1059), Some(Valid::AsItIs));
        assert_eq!(check(&session(1000, 1000), 1060), Some(Valid::Write));
        assert_eq!(check(&session(1000, 1000), 1000 + IDLE - 1), Some(Valid::Write));
        assert_eq!(check(&session(1000, 1000), 1000 + IDLE), None);
        let used = 1000 + LONGEST - 10;
        assert_eq!(check(&session(1000, used), used + 9), Some(Valid::AsItIs));
        assert_eq!(check(&session(1000, used), used + 10), None, "however much it is used");
    }

    #[test]
    fn a_session_ends_with_the_password_with_the_user_and_while_he_is_disabled() {
        let (alice, session) = (user("alice"), session(1000, 1000));
        assert_eq!(session.check(None, 1000), None);
        let changed = User { credential: "another".into(), ..alice.clone() };
        assert_eq!(session.check(Some(&changed), 1000), None);
        let disabled = User { disabled: true, ..alice };
        assert_eq!(session.check(Some(&disabled), 1000), None);
    }

    #[tokio::test]
    async fn a_seventeenth_session_ends_the_one_that_was_used_longest_ago() {
        let (records, alice) = (Fake::default(), user("alice"));
        let mut secrets = Vec::new();
        for now in 0..17 {
            secrets.push(begin(&records, &alice, now).await.unwrap());
        }
        begin(&records, &user("bob"), 0).await.unwrap();
        assert!(records.get(Kind::Session, &id(&secrets[0])).is_none());
        assert!(records.get(Kind::Session, &id(&secrets[1])).is_some());
        assert_eq!(records.list(Kind::Session).len(), 17);
        assert!(records.list(Kind::Session).iter().all(|record| !secrets.contains(&record.name)));
    }

    #[tokio::test]
    async fn what_has_ended_is_deleted_and_what_is_valid_stays() {
        let (records, alice) = (Fake::default(), user("alice"));
        records.create(Record::new(Kind::User, "alice", &alice).unwrap()).await.unwrap();
        let kept = begin(&records, &alice, 5000).await.unwrap();
        let old = begin(&records, &alice, 1000).await.unwrap();
        let nobodys = begin(&records, &user("bob"), 5000).await.unwrap();
        let gone = crate::second::Factor::new(&user("bob")).unwrap();
        records.create(Record::new(Kind::Factor, "bob", &gone).unwrap()).await.unwrap();
        let own = crate::second::Factor::new(&alice).unwrap();
        records.create(Record::new(Kind::Factor, "alice", &own).unwrap()).await.unwrap();
        let mut names: Vec<String> = ended(&records, 5001).into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        let mut expected = [id(&old), id(&nobodys), "bob".to_owned()];
        expected.sort_unstable();
        assert_eq!(names, expected);
        let record = records.get(Kind::Session, &id(&kept)).unwrap();
        touch(&records, record.clone(), record.read().unwrap(), 6000).await;
        let touched: Session = records.get(Kind::Session, &id(&kept)).unwrap().read().unwrap();
        assert_eq!(touched.used, 6000);
    }

    #[tokio::test]
    async fn a_login_that_cannot_be_written_down_is_refused() {
        let records = Fake::default();
        records.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        let refused = begin(&records, &user("alice"), 0).await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (503, "writing it: etcd has no space left"));
    }
}
