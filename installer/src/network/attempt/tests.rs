//! Each way in which a network fails, and what is said of it.

use super::*;
use crate::inventory::{Firmware, Nic};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sheaf_host::fakes::{FakeCall, FakeNet};

const CA: &str = include_str!("../../../../configs/tests/ca.crt");
const PIN: &str = include_str!("../../../../configs/tests/ca.pin");
const TOKEN: &str = "abcdef.0123456789abcdef";
/// What a cluster with the CA `pem` shows, signed for `token`.
fn cluster_info(pem: &str, token: &str) -> String {
    let (id, secret) = token.split_once('.').unwrap();
    let kubeconfig = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://a\n",
        STANDARD.encode(pem)
    );
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(&kubeconfig)).as_bytes());
    let jws = format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    let name = format!("jws-kubeconfig-{id}");
    serde_json::json!({"data": {"kubeconfig": kubeconfig, name: jws}}).to_string()
}

const URL: &str = "https://api.example.org:6443";

fn node(network: &str) -> String {
    format!(
        "{network}\n[cluster]\nmode = \"join\"\nserver = \"{URL}\"\ntoken = \"{TOKEN}\"\nca-hash = \"{}\"\n",
        PIN.trim()
    )
}

fn dhcp() -> String {
    node("")
}

fn fixed() -> String {
    node(
        "[[network.bridge]]\nname = \"br0\"\nports = [\"enp1s0\"]\naddresses = [\"192.0.2.10/24\"]\n\
         gateway = \"192.0.2.1\"\n",
    )
}

/// A network in which everything answers.
fn good() -> FakeNet {
    let link = |name: &str| NetLink { name: name.into(), carrier: Some(true), ..NetLink::default() };
    let lease = Lease {
        address: "192.0.2.10".into(),
        server: "192.0.2.1".parse().ok(),
        router: "192.0.2.1".parse().ok(),
        ntp: vec!["192.0.2.2".into()],
    };
    FakeNet {
        links: vec![link("enp1s0"), NetLink { lease: Some(lease), ..link("br0") }],
        neighbours: vec!["192.0.2.1".parse().unwrap()],
        names: [("api.example.org".to_owned(), vec!["192.0.2.5".parse().unwrap()])].into(),
        clocks: [("192.0.2.2".to_owned(), 0.5)].into(),
        ..FakeNet::default()
    }
}

fn good_cluster() -> FakeCall {
    FakeCall::default().answers(URL, 200, cluster_info(CA, TOKEN))
}

/// What trying `text` says, line by line.
fn says(text: &str, net: &FakeNet, call: &FakeCall) -> Vec<String> {
    let text = format!("version = 1\nsystem.hostname = \"node-1\"\n{text}");
    let config = sheaf_config::load::parse_node_config("node.toml", &text).unwrap();
    let inventory = Inventory {
        machine: Default::default(),
        firmware: Firmware::Uefi,
        secure_boot: false,
        memory: 0,
        disks: Vec::new(),
        nics: vec![Nic { name: "enp1s0".into(), ..Nic::default() }],
    };
    let short = Duration::from_millis(5);
    let timeouts = Timeouts { link: short, dhcp: short, answer: short, interval: Duration::from_millis(1) };
    let attempt = Attempt { config: &config, inventory: &inventory, net, call, timeouts };
    let probes = crate::network::plan(&config, &inventory);
    run(&attempt, &probes, &mut |_| ()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_network_in_order_passes_with_what_was_found() {
    assert_eq!(
        says(&dhcp(), &good(), &good_cluster()),
        [
            "ok      cable in enp1s0: it is connected",
            "ok      DHCP on br0: 192.0.2.10 from 192.0.2.1",
            "ok      gateway of DHCP: 192.0.2.1 answers",
            "ok      DNS for api.example.org: 192.0.2.5",
            "ok      time server of DHCP: 192.0.2.2: the clock is 0.5 s off",
            "ok      API server https://api.example.org:6443: it answers, and its CA is the pinned one",
            "ok      token abcdef.***: the cluster knows it",
        ]
    );
}

#[test]
fn without_a_cable_nothing_else_is_tried() {
    let mut net = good();
    net.links[0].carrier = Some(false);
    let said = says(&dhcp(), &net, &good_cluster());
    assert_eq!(
        said[0],
        "FAILED  cable in enp1s0: no signal for 0 s; plug the cable in, or switch the switch's port on"
    );
    assert_eq!(said[1], "skipped DHCP on br0: not tried, because this failed: cable in enp1s0");
    assert!(said[2..].iter().all(|line| line.starts_with("skipped ")), "{said:?}");
}

#[test]
fn an_address_that_another_machine_has_is_never_set() {
    let mut net = good();
    net.owners.insert("192.0.2.10".parse().unwrap(), "52:54:00:00:00:99".into());
    let said = says(&fixed(), &net, &good_cluster());
    assert_eq!(
        said[1],
        "FAILED  192.0.2.10 is free on br0: the machine with the MAC 52:54:00:00:00:99 has it; write another address, or \
         take that machine off the network"
    );
    let configured = net.configured.lock().unwrap();
    assert_eq!(configured.len(), 1);
    assert!(configured[0].iter().all(|(_, text)| !text.contains("192.0.2.10")));
}

#[test]
fn a_free_address_is_set_after_it_was_found_free() {
    let net = good();
    let said = says(&fixed(), &net, &good_cluster());
    assert_eq!(said[1], "ok      192.0.2.10 is free on br0: no other machine uses it");
    let configured = net.configured.lock().unwrap();
    assert_eq!(configured.len(), 2);
    assert!(configured[1].iter().any(|(_, text)| text.contains("Address=192.0.2.10/24")));
}

#[test]
fn dhcp_that_does_not_answer_says_what_to_look_at_with_and_without_a_tag() {
    let mut net = good();
    net.links[1].lease = None;
    let said = says(&dhcp(), &net, &good_cluster());
    assert_eq!(
        said[1],
        "FAILED  DHCP on br0: no answer in 0 s; start a DHCP server on this network; if the network is tagged, write [[network.vlan]]; or write addresses"
    );
    let tagged = node(
        "[[network.vlan]]\nname = \"mgmt\"\nid = 20\nparent = \"enp1s0\"\n\
         [[network.bridge]]\nname = \"br0\"\nports = [\"mgmt\"]\n",
    );
    assert_eq!(
        says(&tagged, &net, &good_cluster())[1],
        "FAILED  DHCP on br0 (VLAN 20): no answer in 0 s; the switch port must carry VLAN 20 tagged, and a DHCP \
         server must be in it; or write addresses"
    );
}

#[test]
fn each_later_failure_names_itself_and_its_remedy() {
    let mut net = good();
    net.neighbours.clear();
    assert!(says(&fixed(), &net, &good_cluster()).contains(
        &"FAILED  gateway 192.0.2.1: 192.0.2.1 does not answer on the link; check gateway and the prefix length of the \
          address; is the router up?"
            .to_owned()
    ));
    let mut net = good();
    net.names.clear();
    assert!(says(&dhcp(), &net, &good_cluster()).contains(
        &"FAILED  DNS for api.example.org: entity not found; correct dns in [network] or the name, or write server by its \
          address"
            .to_owned()
    ));
    let mut net = good();
    net.clocks.insert("192.0.2.2".into(), 86_400.0);
    assert!(says(&dhcp(), &net, &good_cluster()).contains(
        &"warning time server of DHCP: 192.0.2.2: this machine's clock is 86400 s behind; the node sets its clock before it \
          joins; correct it in the firmware anyway"
            .to_owned()
    ));
}

#[test]
fn a_cluster_that_is_not_there_not_meant_or_does_not_know_the_token_is_told_apart() {
    let last_two = |call: &FakeCall| says(&dhcp(), &good(), call).split_off(5);
    assert_eq!(
        last_two(&FakeCall::default())[0],
        format!(
            "FAILED  API server {URL}: {URL}/api/v1/namespaces/kube-public/configmaps/cluster-info cannot be reached: \
             connection refused; check server in [cluster], the route and the firewall on the way"
        )
    );
    assert_eq!(
        last_two(&FakeCall::default().answers(URL, 200, "<html>"))[0],
        format!("FAILED  API server {URL}: it is not a Kubernetes API server; correct server in [cluster]")
    );
    assert_eq!(
        last_two(&FakeCall::default().answers(URL, 403, "{}"))[0],
        format!(
            "FAILED  API server {URL}: it answers for cluster-info with HTTP status 403; server must be the API server of \
             a cluster that kubeadm or Sheaf made"
        )
    );
    let unknown = FakeCall::default().answers(URL, 200, cluster_info(CA, "ffffff.0123456789abcdef"));
    assert_eq!(
        last_two(&unknown)[1],
        "FAILED  token abcdef.***: the cluster does not know it, or it has expired; make one on the first node with \
         `sheaf-agent token create`"
    );
    let other = FakeCall::default().answers(URL, 200, cluster_info(CA, "abcdef.ffffffffffffffff"));
    assert_eq!(
        last_two(&other)[1],
        "FAILED  token abcdef.***: its second half is wrong; compare it, or make one on the first node with \
         `sheaf-agent token create`"
    );
    let wrong_pin = dhcp().replace(PIN.trim(), &format!("sha256:{}", "0".repeat(64)));
    assert_eq!(
        says(&wrong_pin, &good(), &good_cluster())[5],
        format!(
            "FAILED  API server {URL}: its CA is {}, node.toml says sha256:{}; if that cluster is the right one, write its \
             hash as ca-hash",
            PIN.trim(),
            "0".repeat(64)
        )
    );
}

#[test]
fn a_node_on_its_own_is_warned_and_nothing_is_skipped() {
    let net = FakeNet { links: good().links[..1].to_vec(), ..FakeNet::default() };
    let said = says("", &net, &FakeCall::default());
    assert_eq!(said.len(), 4);
    assert!(said[1..].iter().all(|line| line.starts_with("warning ")), "{said:?}");
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_from_a_server_that_does_not_answer() {
    let text = dhcp();
    let said = says(&text, &good(), &good_cluster().shows_another_certificate(URL));
    let line = said.iter().find(|line| line.contains("API server")).unwrap();
    assert!(
        line.contains("is not trusted")
            && line.contains("server must be a name or address in the API server"),
        "{line}"
    );
    let said = says(&text, &good(), &FakeCall::default());
    let line = said.iter().find(|line| line.contains("API server")).unwrap();
    assert!(line.contains("check server in [cluster], the route and the firewall"), "{line}");
}
