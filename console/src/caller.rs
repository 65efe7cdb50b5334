//! Who a request is from.
//!
//! Why here: cookie or token becomes a user in one place. Route in: headers, records. Route out: a [`Caller`], or none.

use std::net::IpAddr;

use http::{HeaderMap, header};

use crate::{
    cookie,
    records::{Kind, Records},
    session::{self, Session, Valid},
    token,
    users::{User, UserName},
};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose rights count.
    pub user: UserName,
    /// How it is known.
    pub by: By,
    /// Where from: the audit log of the API server has it.
    pub address: IpAddr,
}

/// How a caller is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A session: name of its record.
    Session(String),
    /// An API token.
    Token(String),
}

/// What a request carries to be known by. A token comes first: then the cookie, which a browser adds by itself, has no say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Of a browser.
    Cookie(&'a str),
    /// Of a program.
    Token(&'a str),
}

/// The credential of a request.
pub fn credential(headers: &HeaderMap) -> Option<Credential<'_>> {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => Some(Credential::Token(
            value.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).unwrap_or(""),
        )),
        None => cookie::read(headers).map(Credential::Cookie),
    }
}

/// Who has `credential` at `now`; writes down that a session is used when `uses`.
pub async fn identify(
    records: &dyn Records,
    credential: &Credential<'_>,
    address: IpAddr,
    now: u64,
    uses: bool,
) -> Option<Caller> {
    match credential {
        Credential::Token(text) => {
            let user = token::user(records, text, now)?.name;
            Some(Caller { user, by: By::Token((*text).to_owned()), address })
        }
        Credential::Cookie(secret) => {
            let id = session::id(secret);
            let record = records.get(Kind::Session, &id)?;
            let session: Session = record.read()?;
            let valid = session.check(User::of(records, &session.user).as_ref(), now)?;
            let user = session.user.clone();
            if uses && valid == Valid::Write {
                session::touch(records, record, session, now).await;
            }
            Some(Caller { user, by: By::Session(id), address })
        }
    }
}

impl Caller {
    /// Whether what it is known by still counts: asked while a stream is open.
    pub fn is_valid(&self, records: &dyn Records, now: u64) -> bool {
        match &self.by {
            By::Token(text) => token::user(records, text, now).is_some(),
            By::Session(id) => {
                records.get(Kind::Session, id).and_then(|record| record.read::<Session>()).is_some_and(
                    |session| session.check(User::of(records, &session.user).as_ref(), now).is_some(),
                )
            }
        }
    }

    /// Writes down that the session is used, when it is time.
    pub async fn used(&self, records: &dyn Records, now: u64) {
        let By::Session(id) = &self.by else { return };
        let Some(record) = records.get(Kind::Session, id) else { return };
        let Some(session) = record.read::<Session>() else { return };
        let valid = session.check(User::of(records, &session.user).as_ref(), now);
        if valid == Some(Valid::Write) {
            session::touch(records, record, session, now).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        records::{Record, fake::Fake},
        testing::user,
    };
    use http::HeaderValue;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_cookie_and_a_token_are_their_users_and_a_bad_token_is_not_saved_by_a_cookie() {
        let (records, alice) = (Fake::default(), user("alice"));
        records.create(Record::new(Kind::User, "alice", &alice).unwrap()).await.unwrap();
        let secret = session::begin(&records, &alice, 1000).await.unwrap();
        let (_, token) = token::create(&records, &alice, "x", 1, 1000).await.unwrap();
        let known =
            async |credential: &Credential<'_>| identify(&records, credential, HERE, 1000, true).await;
        let caller = known(&Credential::Cookie(&secret)).await.unwrap();
        assert_eq!(caller.user, alice.name);
        assert!(caller.is_valid(&records, 1000) && !caller.is_valid(&records, 1000 + session::IDLE));
        assert_eq!(known(&Credential::Token(&token)).await.unwrap().user, alice.name);
        assert_eq!(known(&Credential::Token(&secret)).await, None);
        assert_eq!(known(&Credential::Cookie(&token)).await, None);

        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie::set(&secret));
        assert_eq!(credential(&headers), Some(Credential::Cookie(&secret)));
        for (text, expected) in [("Bearer abc", "abc"), ("Basic abc", ""), ("bearer abc", "")] {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(text));
            assert_eq!(credential(&headers), Some(Credential::Token(expected)));
        }
    }

    #[tokio::test]
    async fn use_is_written_down_for_a_person_and_not_for_a_page_that_is_left_open() {
        let (records, alice) = (Fake::default(), user("alice"));
        records.create(Record::new(Kind::User, "alice", &alice).unwrap()).await.unwrap();
        let secret = session::begin(&records, &alice, 1000).await.unwrap();
        let used =
            || records.get(Kind::Session, &session::id(&secret)).unwrap().read::<Session>().unwrap().used;
        let cookie = Credential::Cookie(&secret);
        identify(&records, &cookie, HERE, 1100, false).await.unwrap();
        assert_eq!(used(), 1000);
        let caller = identify(&records, &cookie, HERE, 1100, true).await.unwrap();
        assert_eq!(used(), 1100);
        caller.used(&records, 1130).await;
        assert_eq!(used(), 1100, "not at each request");
        caller.used(&records, 1200).await;
        assert_eq!(used(), 1200);
    }
}
