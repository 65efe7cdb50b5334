//! Who sees which numbers, with a store that was filled and an API server that is played.

use super::*;
use crate::{
    caller::By,
    metrics::{page::Reading, sample, series::RECENT},
    serve::Cluster,
    testing,
};
use http_body_util::BodyExt as _;
use std::collections::BTreeMap;

/// alice sees the project shop, root everything.
fn state() -> State {
    let client = testing::api_server(|request| {
        let body = request.headers()["impersonate-user"].to_str().unwrap().to_owned();
        let is_root = body == "console:root";
        let allowed =
            is_root || request.uri().path().ends_with("selfsubjectaccessreviews") && body == "console:shop";
        Ok((201, json!({"status": {"allowed": allowed}}).to_string()))
    });
    State::new(client, Cluster::default())
}

fn caller(name: &str) -> Caller {
    Caller { user: testing::user(name).name, by: By::Session("x".into()), address: [192, 0, 2, 1].into() }
}

fn fill(state: &State) {
    let now = clock::now() / RECENT.seconds * RECENT.seconds;
    let places = BTreeMap::from([("shop/web".into(), "n1".to_owned()), ("lab/db".into(), "n2".to_owned())]);
    for (round, counted) in [(now - 30, 30.0), (now, 75.0)] {
        let mut reading = Reading { node: [counted; 6], ..Reading::default() };
        for machine in ["shop/web", "lab/db", "shop/none"] {
            reading.machines.insert(machine.into(), [counted; 6]);
        }
        sample::take(&mut state.metrics.lock(), (round, round as f64), &"n1".into(), &reading, &places);
    }
}

async fn asked(state: &State, user: &str, query: &str) -> Result<Value, Refusal> {
    let answer = answer(state, &caller(user), &Query::parse(Some(query))?).await?;
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    Ok(serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn numbers_come_in_lists_of_slots_with_null_where_nothing_is_known() {
    let state = state();
    fill(&state);
    for query in ["machine=shop/web", "node=n1", "cluster"] {
        let shown = asked(&state, "root", query).await.unwrap();
        assert_eq!(shown["every"], 30);
        let list = |name: &str| shown[name].as_array().unwrap().clone();
        assert_eq!(list("processors").len(), 120, "{query}");
        // The clock may have gone on by a slot.
        assert!(list("processors").contains(&json!(1.5)), "{query}: {shown}");
        assert!(list("memory").contains(&json!(75.0)), "{query}");
        assert_eq!(list("sent")[0], Value::Null);
    }
    let day = asked(&state, "root", "cluster&span=day").await.unwrap();
    assert_eq!((day["every"].clone(), day["read"].as_array().unwrap().len()), (json!(300), 288));
}

#[tokio::test]
async fn who_may_not_see_a_machine_learns_not_even_that_there_are_numbers() {
    let state = state();
    fill(&state);
    for query in ["machine=shop/web", "node=n1", "cluster", "machine=lab/db"] {
        let refused = asked(&state, "bob", query).await.unwrap_err();
        assert_eq!(refused.code, 404, "{query}");
    }
    let hidden = asked(&state, "bob", "machine=shop/web").await.unwrap_err();
    assert_eq!(hidden.message, "nothing was measured of machine shop/web yet, or your roles do not show it");
    let missing = asked(&state, "root", "machine=shop/gone").await.unwrap_err();
    assert_eq!(missing.message.replace("gone", "web"), hidden.message);
}

#[tokio::test]
async fn a_node_is_not_believed_about_machines_of_other_nodes_or_of_none() {
    let state = state();
    fill(&state);
    assert!(asked(&state, "root", "machine=shop/web").await.is_ok());
    for query in ["machine=lab/db", "machine=shop/none"] {
        assert_eq!(asked(&state, "root", query).await.unwrap_err().code, 404, "{query}");
    }
}
