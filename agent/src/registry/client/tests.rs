//! Pulls against a registry in memory.

use super::*;
use crate::registry::credentials::KEYS;
use crate::registry::testing::{push, tar};
use serde_json::json;
use sheaf_host::fakes::FakeFetch;
use std::path::PathBuf;

const BASE: &str = "https://quay.io/v2/a/b";
const REALM: &str = "https://auth.example/token?service=quay&scope=repository%3Aa%2Fb%3Apull";

struct Case {
    fetch: FakeFetch,
    registries: Vec<Registry>,
    logins: Logins,
    image: Reference,
    policy: Policy,
    part: PathBuf,
}

impl Case {
    fn new(name: &str) -> Self {
        let part = std::env::temp_dir().join(format!("sheaf-pull-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&part);
        Self {
            fetch: FakeFetch::default(),
            registries: Vec::new(),
            logins: Logins::default(),
            image: Reference::parse("quay.io/a/b:1").unwrap(),
            policy: Policy::default(),
            part,
        }
    }

    fn client(&self) -> Client<'_> {
        let servers = servers(&self.image, &self.registries, &Arc::new(self.policy.clone()), None);
        Client::new(&self.fetch, &self.image, servers, &self.logins, &|| false)
    }

    fn layer(&self) -> Result<Vec<u8>, PullError> {
        let mut client = self.client();
        let layer = client.resolve()?.layers.remove(0);
        client.layer(&layer, &self.part, &|_| ())?;
        Ok(std::fs::read(&self.part).unwrap())
    }

    fn said(&self) -> String {
        self.layer().unwrap_err().to_string()
    }

    fn asked(&self) -> Vec<String> {
        self.fetch.asked.lock().unwrap().iter().map(|(url, from)| format!("{url} {from}")).collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.part);
    }
}

#[test]
fn an_image_comes_by_its_tag_and_its_layers_by_their_digests() {
    let mut case = Case::new("whole");
    let layer = tar(&[("disk/a.img", b"disk")]);
    let digest = push(&mut case.fetch, BASE, "1", std::slice::from_ref(&layer));
    assert_eq!(case.client().resolve().unwrap().digest, digest);
    assert_eq!(case.layer().unwrap(), layer);
    // Pinned, the tag is not asked for.
    case.image = Reference::parse(&format!("quay.io/a/b:other@{digest}")).unwrap();
    assert_eq!(case.client().resolve().unwrap().digest, digest);
}

#[test]
fn of_a_list_the_manifest_for_this_machine_is_asked_for_by_its_digest() {
    let mut case = Case::new("list");
    let digest = push(&mut case.fetch, BASE, "only-this-machine", &[tar(&[])]);
    let platform = json!({"os": "linux", "architecture": manifest::architecture()});
    let list = json!({"manifests": [{"digest": digest.to_string(), "size": 1, "platform": platform}]});
    case.fetch.files.insert(format!("{BASE}/manifests/1"), list.to_string().into_bytes());
    assert_eq!(case.client().resolve().unwrap().digest, digest);
}

#[test]
fn a_broken_connection_goes_on_where_it_broke_off() {
    let mut case = Case::new("resume");
    let layer = tar(&[("disk/a.img", &[7; 100_000])]);
    push(&mut case.fetch, BASE, "1", std::slice::from_ref(&layer));
    let described = case.client().resolve().unwrap().layers.remove(0);
    *case.fetch.breaks.lock().unwrap() = vec![50_000];
    let broken = case.client().layer(&described, &case.part, &|_| ()).unwrap_err().to_string();
    assert!(broken.contains("the connection broke; the next try resumes there"), "{broken}");
    assert_eq!(case.layer().unwrap(), layer);
    assert!(case.asked().last().unwrap().ends_with(" 50000"));
    // All of it is here.
    let asked = case.asked().len();
    assert_eq!(case.layer().unwrap(), layer);
    assert_eq!(case.asked().len(), asked + 1, "the manifest alone");
}

#[test]
fn nothing_else_than_what_the_digest_names_is_taken() {
    let mut case = Case::new("other");
    let layer = tar(&[("disk/a.img", b"disk")]);
    let digest = push(&mut case.fetch, BASE, "1", std::slice::from_ref(&layer));
    let url = format!("{BASE}/blobs/{}", Digest::of(&layer));
    case.fetch.files.insert(url.clone(), vec![0; layer.len()]);
    assert!(case.said().contains("instead of sha256:"));
    assert_eq!(std::fs::metadata(&case.part).unwrap().len(), 0, "nothing of it is gone on with");
    case.fetch.files.insert(url.clone(), [layer.as_slice(), b"more"].concat());
    assert_eq!(case.said(), format!("{url} gave more than the {} bytes that it should have", layer.len()));
    case.fetch.files.insert(url, layer[..10].to_vec());
    std::fs::write(&case.part, "").unwrap();
    assert!(case.said().contains("the connection broke"));
    case.fetch.files.insert(format!("{BASE}/manifests/{digest}"), b"{}".to_vec());
    case.image = Reference::parse(&format!("quay.io/a/b@{digest}")).unwrap();
    assert!(case.said().contains(&format!("instead of {digest}")));
}

#[test]
fn a_token_is_asked_for_where_the_registry_says_and_a_login_is_shown_there_alone() {
    let mut case = Case::new("token");
    push(&mut case.fetch, BASE, "1", &[tar(&[])]);
    case.fetch.challenge = Some(
        "Bearer realm=\"https://auth.example/token\",service=\"quay\",scope=\"repository:a/b:pull\"".into(),
    );
    case.fetch.passwords = [(format!("{BASE}/manifests/1"), "Bearer t0ken".to_owned())].into();
    case.fetch.files.insert(REALM.into(), br#"{"access_token": "t0ken", "expires_in": 300}"#.to_vec());
    case.client().resolve().unwrap();
    let login = json!({"auths": {"quay.io": {"username": "ann", "password": "hush"}}});
    case.logins.add(KEYS[0], login.to_string().as_bytes()).unwrap();
    // `ann:hush`
    case.fetch.passwords.insert(REALM.into(), "Basic YW5uOmh1c2g=".into());
    case.client().resolve().unwrap();
    case.logins = Logins::default();
    let said = case.client().resolve().unwrap_err().to_string();
    assert!(
        said.contains("auth.example") && said.contains("it needs credentials") && !said.contains("t0ken"),
        "{said}"
    );
    case.fetch.files.insert(REALM.into(), b"{}".to_vec());
    case.fetch.passwords.remove(REALM);
    assert!(case.client().resolve().unwrap_err().to_string().contains("it gives no token"));
}

#[test]
fn a_registry_that_wants_a_password_is_shown_it_and_one_without_is_named_in_the_error() {
    let mut case = Case::new("basic");
    push(&mut case.fetch, BASE, "1", &[tar(&[])]);
    case.fetch.challenge = Some("Basic realm=\"x\"".into());
    case.fetch.passwords = [(format!("{BASE}/manifests/1"), "Basic YW5uOmh1c2g=".to_owned())].into();
    assert_eq!(
        case.client().resolve().unwrap_err().to_string(),
        "quay.io/a/b:1: https://quay.io/v2/a/b/manifests/1 is answered with HTTP status 401: it needs credentials, or other ones"
    );
    let login = json!({"auths": {"quay.io": {"username": "ann", "password": "hush"}}});
    case.logins.add(KEYS[0], login.to_string().as_bytes()).unwrap();
    case.client().resolve().unwrap();
}

#[test]
fn mirrors_are_asked_first_and_the_registry_itself_after_them() {
    let mut case = Case::new("mirrors");
    let (down, proxy) = ("https://down.lan".to_owned(), "http://harbor.lan:5000/quay".to_owned());
    case.registries = vec![Registry { name: "quay.io".into(), mirrors: vec![down, proxy], ca: None }];
    let layer = tar(&[]);
    push(&mut case.fetch, "http://harbor.lan:5000/v2/quay/a/b", "1", std::slice::from_ref(&layer));
    case.layer().unwrap();
    // The one that answered is asked first from then on.
    let blob = format!("http://harbor.lan:5000/v2/quay/a/b/blobs/{} 0", Digest::of(&layer));
    assert_eq!(
        case.asked(),
        ["https://down.lan/v2/a/b/manifests/1 0", "http://harbor.lan:5000/v2/quay/a/b/manifests/1 0", &blob]
    );
    case.fetch.files.clear();
    let said = case.client().resolve().unwrap_err().to_string();
    assert!(["down.lan", "harbor.lan:5000", "quay.io"].iter().all(|server| said.contains(server)), "{said}");
    push(&mut case.fetch, BASE, "1", &[layer]);
    case.client().resolve().unwrap();
}

#[test]
fn a_registry_that_a_tenant_names_is_judged_by_the_policy_and_a_mirror_is_not() {
    let mut case = Case::new("policy");
    case.image = Reference::parse("127.0.0.1:5000/a/b:1").unwrap();
    push(&mut case.fetch, "https://127.0.0.1:5000/v2/a/b", "1", &[tar(&[])]);
    assert!(case.said().contains("loopback"), "{}", case.said());
    case.registries = vec![Registry {
        name: "127.0.0.1:5000".into(),
        mirrors: vec!["https://127.0.0.1:5000".into()],
        ca: None,
    }];
    case.client().resolve().unwrap();
}
