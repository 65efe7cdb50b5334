//! Passwords: argon2id.
//!
//! Why here: a hash that is found must cost its finder as much as may be (OWASP Password Storage: argon2id, 19 MiB, two
//! passes). That memory is why no more than two are computed at once: a flood of logins waits, and the program stays small.
//! A user that does not exist costs the same time as one that does. Route in: what was typed. Route out: a PHC string; yes or no.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::{answer::Refusal, hash};

/// KiB of memory for one.
const MEMORY: u32 = 19_456;
/// Passes over it.
const PASSES: u32 = 2;
/// At once.
const AT_ONCE: usize = 2;
/// Requests that wait for their turn; more are refused.
const WAITING: usize = 64;
/// Least length, in characters: NIST SP 800-63B-4 asks for 15 where a password is all there is, 8 beside a second factor.
const SHORTEST: usize = 12;
/// Most bytes: argon2 takes any, a request does not.
pub const LONGEST: usize = 256;

/// Computes and compares.
pub struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), places: Arc::new(Semaphore::new(WAITING)) }
    }
}

impl Passwords {
    /// The hash of a new password of `user`, as a PHC string.
    pub async fn hash(&self, user: &str, password: &str) -> Result<String, Refusal> {
        fits(user, password)?;
        let salt = hash::random::<16>().map_err(Refusal::internal)?;
        let password = password.to_owned();
        self.turn(move || compute(&password, &salt)).await?.map_err(Refusal::internal)
    }

    /// Whether `password` is that of `kept`; without one it is compared with nothing, which takes as long.
    pub async fn verify(&self, password: &str, kept: Option<String>) -> Result<bool, Refusal> {
        let password = password.to_owned();
        self.turn(move || match kept {
            Some(kept) => compare(&password, &kept),
            None => {
                // The work, not the result.
                let _ = compute(&password, b"of no user there");
                false
            }
        })
        .await
    }

    async fn turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let _place = self.places.clone().try_acquire_owned().map_err(|_| Refusal::too_many(2))?;
        let _turn = self.turns.clone().acquire_owned().await.map_err(Refusal::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)
    }
}

/// What a new password must be.
fn fits(user: &str, password: &str) -> Result<(), Refusal> {
    if password.chars().count() < SHORTEST {
        return Err(Refusal::invalid(format!("a password has at least {SHORTEST} characters")));
    }
    if password.len() > LONGEST {
        return Err(Refusal::invalid(format!("a password has at most {LONGEST} bytes")));
    }
    let mut characters = password.chars();
    let first = characters.next();
    if characters.all(|character| Some(character) == first) {
        return Err(Refusal::invalid("a password of one character again and again is guessed at once"));
    }
    if password.to_lowercase().contains(user) && password.chars().count() < SHORTEST + user.chars().count() {
        return Err(Refusal::invalid(format!(
            "a password that contains the user's name has {SHORTEST} characters besides"
        )));
    }
    Ok(())
}

fn argon2() -> Result<Argon2<'static>, argon2::Error> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(MEMORY, PASSES, 1, None)?))
}

fn compute(password: &str, salt: &[u8]) -> Result<String, String> {
    let argon2 = argon2().map_err(|error| error.to_string())?;
    let hash =
        argon2.hash_password_with_salt(password.as_bytes(), salt).map_err(|error| error.to_string())?;
    Ok(hash.to_string())
}

/// By the parameters that are in the string: they may be raised later.
fn compare(password: &str, kept: &str) -> bool {
    PasswordHash::new(kept)
        .is_ok_and(|kept| Argon2::default().verify_password(password.as_bytes(), &kept).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_which_is_argon2id_with_a_salt() {
        let passwords = Passwords::default();
        let one = passwords.hash("alice", "correct horse battery").await.unwrap();
        let other = passwords.hash("alice", "correct horse battery").await.unwrap();
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other);
        assert!(passwords.verify("correct horse battery", Some(one.clone())).await.unwrap());
        assert!(!passwords.verify("correct horse batterz", Some(one)).await.unwrap());
        assert!(!passwords.verify("correct horse battery", None).await.unwrap());
        assert!(!passwords.verify("correct horse battery", Some("damaged".into())).await.unwrap());
    }

    #[test]
    fn a_password_that_is_guessed_is_refused_with_the_reason() {
        let refused = |password: &str| fits("alice", password).unwrap_err().message;
        assert_eq!(refused("short"), "a password has at least 12 characters");
        assert_eq!(refused("ééééé"), "a password has at least 12 characters");
        assert_eq!(refused(&"x".repeat(257)), "a password has at most 256 bytes");
        assert_eq!(refused("aaaaaaaaaaaa"), "a password of one character again and again is guessed at once");
        assert_eq!(
            refused("Alice1234567"),
            "a password that contains the user's name has 12 characters besides"
        );
        assert_eq!(fits("alice", "correct horse"), Ok(()));
    }

    #[tokio::test]
    async fn a_flood_of_logins_is_refused_instead_of_being_computed_at_once() {
        let passwords = Passwords::default();
        let places = passwords.places.clone().acquire_many_owned(64).await.unwrap();
        let refused = passwords.verify("x", None).await.unwrap_err();
        assert_eq!(refused, Refusal::too_many(2));
        drop(places);
        assert_eq!(passwords.verify("x", None).await, Ok(false));
    }
}
