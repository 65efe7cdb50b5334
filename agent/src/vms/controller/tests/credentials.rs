//! Credentials that the agent in a guest sets.

use super::*;

/// A VM whose agent is to set what is in Secret `keys` for root, and the passwords in Secret `passwords`.
fn vm() -> Pod {
    let source = |name: &str| json!({"secret": {"secretName": name}});
    let agent = json!({"qemuGuestAgent": {"users": ["root"]}});
    let spec = json!({
        "domain": {"memory": {"guest": "64Mi"}, "devices": {}},
        "accessCredentials": [
            {"sshPublicKey": {"source": source("keys"), "propagationMethod": agent}},
            {"userPassword": {"source": source("passwords"), "propagationMethod": {"qemuGuestAgent": {}}}},
        ],
    });
    let mut pod = pod_of("p1", spec);
    pod.spec.as_mut().unwrap().volumes = serde_json::from_value(json!([
        {"name": "a", "secret": {"secretName": "keys"}}, {"name": "b", "secret": {"secretName": "passwords"}},
    ]))
    .unwrap();
    pod
}

/// Status and message of the condition.
fn condition(node: &Node) -> Option<(String, String)> {
    let pods = node.cluster.pods.lock().unwrap();
    let conditions = pods["p1"].status.as_ref()?.conditions.clone()?;
    let one = conditions.into_iter().find(|one| one.type_ == "sheaf.dev/AccessCredentialsSynchronized")?;
    Some((one.status, one.message.unwrap_or_default()))
}

#[tokio::test]
async fn keys_and_passwords_are_set_when_the_agent_is_there_and_again_when_the_secret_changes() {
    let mut node = Node::new("credentials", FakeVms::default());
    node.object("Secret keys", &[("ann", b"ssh-a"), ("bob", b"ssh-b\n")]);
    node.object("Secret passwords", &[("admin", b"secret")]);
    node.bind(vm());
    node.settle().await;
    assert_eq!(condition(&node), Some(("False".into(), "Guest agent is offline".into())));
    node.vms.open_agents();
    node.settle().await;
    let set = [("root".to_owned(), "ssh-a ssh-b".to_owned()), ("admin".to_owned(), "secret".to_owned())];
    assert_eq!(node.vms.credentials(), set.into());
    assert_eq!(condition(&node), Some(("True".into(), String::new())));

    node.object("Secret keys", &[("bob", b"ssh-b")]);
    node.controller.lookups.expire_all();
    node.settle().await;
    assert_eq!(node.vms.credentials()["root"], "ssh-b");
}

#[tokio::test]
async fn what_the_agent_refuses_is_reported_and_the_vm_runs_on() {
    let mut node = Node::new("credentials-refused", FakeVms::default());
    node.object("Secret keys", &[]);
    node.bind(vm());
    node.settle().await;
    let (status, message) = condition(&node).unwrap();
    assert_eq!((status.as_str(), message.as_str()), ("False", "Secret passwords does not exist; create it"));

    node.object("Secret passwords", &[("admin", b"secret")]);
    node.vms.open_agents();
    node.vms.fail("password", "no such user");
    node.controller.lookups.expire_all();
    node.settle().await;
    assert_eq!(condition(&node), Some(("False".into(), "no such user".into())));
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
}
