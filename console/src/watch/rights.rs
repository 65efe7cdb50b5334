//! What a user may see, as the API server says.
//!
//! Why here: the console watches with rights of its own, so each object that leaves it is first asked about: may this user list
//! this kind in the whole cluster; if not, in this namespace? The answers of SelfSubjectAccessReviews, made as the user, are
//! kept for a quarter of a minute: a right that is withdrawn ends the stream within that time. Bounded. Route in: user, kind,
//! namespace. Route out: yes or no.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::Method;
use serde_json::json;

use super::Kind;
use crate::{
    answer::Refusal,
    caller::Caller,
    upstream::{As, Upstream},
};

/// How long an answer counts.
pub const KEPT: Duration = Duration::from_secs(15);
/// Most answers that are kept.
const MOST: usize = 50_000;

/// User, kind, namespace; without a namespace the whole cluster.
type Question = (String, &'static str, Option<Arc<str>>);

/// The answers.
#[derive(Default)]
pub struct Rights(Mutex<HashMap<Question, (bool, Instant)>>);

impl Rights {
    /// Whether `caller` may see objects of `kind` in `namespace`.
    pub async fn may_see(
        &self,
        upstream: &Upstream,
        caller: &Caller,
        kind: &'static Kind,
        namespace: Option<&Arc<str>>,
    ) -> Result<bool, Refusal> {
        if self.ask(upstream, caller, kind, None).await? {
            return Ok(true);
        }
        match namespace {
            Some(namespace) => self.ask(upstream, caller, kind, Some(namespace)).await,
            None => Ok(false),
        }
    }

    async fn ask(
        &self,
        upstream: &Upstream,
        caller: &Caller,
        kind: &'static Kind,
        namespace: Option<&Arc<str>>,
    ) -> Result<bool, Refusal> {
        let question = (caller.user.to_string(), kind.word, namespace.cloned());
        if let Some(answer) = self.kept(&question) {
            return Ok(answer);
        }
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let review = review(kind, namespace.map(|namespace| &**namespace));
        let answer = upstream.json(&As::caller(caller), Method::POST, path, Some(&review)).await?;
        let allowed = answer["status"]["allowed"].as_bool().unwrap_or(false);
        self.keep(question, allowed);
        Ok(allowed)
    }

    fn kept(&self, question: &Question) -> Option<bool> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(question).filter(|(_, at)| at.elapsed() < KEPT).map(|(answer, _)| *answer)
    }

    fn keep(&self, question: Question, answer: bool) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST {
            answers.retain(|_, (_, at)| at.elapsed() < KEPT);
            // All are young: the API server is asked again.
            if answers.len() >= MOST {
                answers.clear();
            }
        }
        answers.insert(question, (answer, Instant::now()));
    }
}

/// The question, as the API server takes it.
fn review(kind: &Kind, namespace: Option<&str>) -> serde_json::Value {
    let mut attributes =
        json!({"group": kind.group, "version": kind.version, "resource": kind.plural, "verb": "list"});
    if let Some(namespace) = namespace {
        attributes["namespace"] = json!(namespace);
        // A role in a namespace lets its user read the Namespace, not list all.
        if kind.plural == "namespaces" {
            attributes["verb"] = json!("get");
            attributes["name"] = json!(namespace);
        }
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::By, testing};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn caller(name: &str) -> Caller {
        Caller { user: testing::user(name).name, by: By::Session("x".into()), address: [192, 0, 2, 1].into() }
    }

    #[tokio::test]
    async fn a_user_sees_its_projects_the_api_server_is_asked_once_and_users_are_not_mixed_up() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        // alice may see everything, bob nothing: who asks is in the headers.
        let upstream = Upstream::new(testing::api_server(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            let allowed = request.headers()["impersonate-user"] == "console:alice";
            Ok((201, json!({"status": {"allowed": allowed}}).to_string()))
        }));
        let (rights, machines) = (Rights::default(), &super::super::KINDS[0]);
        let shop: Arc<str> = "shop".into();
        for _ in 0..3 {
            assert!(rights.may_see(&upstream, &caller("alice"), machines, Some(&shop)).await.unwrap());
            assert!(!rights.may_see(&upstream, &caller("bob"), machines, Some(&shop)).await.unwrap());
            assert!(!rights.may_see(&upstream, &caller("bob"), machines, None).await.unwrap());
        }
        // alice: the cluster. bob: the cluster, the project.
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn while_the_api_server_does_not_answer_nothing_is_shown() {
        let upstream = Upstream::new(testing::api_server(|_| Err("refused".into())));
        let rights = Rights::default();
        let answer = rights.may_see(&upstream, &caller("alice"), &super::super::KINDS[0], None).await;
        assert_eq!(answer.unwrap_err().code, 503);
    }

    #[test]
    fn a_namespace_is_read_where_a_role_is_and_others_are_listed() {
        let namespaces = super::super::KINDS.iter().find(|kind| kind.word == "projects").unwrap();
        let attributes = |kind, namespace| review(kind, namespace)["spec"]["resourceAttributes"].clone();
        assert_eq!(
            attributes(namespaces, Some("shop")),
            json!({"group": "", "version": "v1", "resource": "namespaces", "verb": "get", "name": "shop", "namespace": "shop"})
        );
        assert_eq!(attributes(namespaces, None)["verb"], "list");
        assert_eq!(
            attributes(&super::super::KINDS[0], Some("shop")),
            json!({"group": "kubevirt.io", "version": "v1", "resource": "virtualmachines", "verb": "list", "namespace": "shop"})
        );
    }
}
