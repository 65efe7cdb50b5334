//! Every request of the console, asked in every bent way: as nobody, as an administrator, with bodies, paths, queries and headers
//! that no page sends. And every file of the page, followed from the first one.
//!
//! Why here: one request that answers a bent question with a crash, a page, a cookie or a change is a hole, wherever it is; so all are
//! tried rather than those that somebody thought of. Behind it is the real API server. Route in: what the console offers
//! ([`sheaf_console::offered`]) and its own requests. Route out: a sentence for each answer that is not as it must be.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sheaf_tests::console::{Answer, Browser, Served, ask};
use sheaf_tests::controlled::Controlled;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The console's own requests (docs/console.md, "What is served"), of things that are not there; and who may ask.
const OWN: [(&str, &str, Asks); 28] = [
    ("GET", "/healthz", Asks::Anybody),
    ("GET", "/console/claim", Asks::Anybody),
    ("POST", "/console/claim", Asks::Anybody),
    ("POST", "/console/claim/key", Asks::Anybody),
    ("POST", "/console/login", Asks::Anybody),
    ("GET", "/console/sso", Asks::Anybody),
    ("GET", "/console/sso/begin", Asks::Anybody),
    ("GET", "/console/sso/callback?code=a&state=b", Asks::Anybody),
    ("PUT", "/console/sso", Asks::Users),
    ("GET", "/console/session", Asks::Users),
    ("POST", "/console/password", Asks::Users),
    ("GET", "/console/tokens", Asks::Users),
    ("POST", "/console/tokens", Asks::Users),
    ("DELETE", "/console/tokens/none", Asks::Users),
    ("GET", "/console/users", Asks::Users),
    ("POST", "/console/users", Asks::Users),
    ("PATCH", "/console/users/none", Asks::Users),
    ("DELETE", "/console/users/none", Asks::Users),
    ("DELETE", "/console/users/none/second", Asks::Users),
    ("GET", "/console/second", Asks::Users),
    ("POST", "/console/second", Asks::Users),
    ("POST", "/console/second/confirm", Asks::Users),
    ("POST", "/console/second/remove", Asks::Users),
    ("POST", "/console/join-tokens", Asks::Users),
    ("GET", "/console/metrics?cluster&span=hour", Asks::Users),
    ("POST", "/console/upload/default/none", Asks::Users),
    ("GET", "/console/download/default/none/none/disk.img", Asks::Users),
    ("GET", "/console/watch?kinds=nonsense", Asks::Users),
];
/// What stands in bent requests; no answer shows it where a browser would run it.
const MARK: &str = "<script>alert(7)</script>";
/// Statuses that say "this server is broken". 502 to 504 say that the API server, or a node, did not answer.
const BROKEN: [u16; 3] = [500, 501, 505];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Anybody,
    Users,
}

/// A request that is to be bent.
struct Asked {
    method: String,
    path: String,
    by: Asks,
}

fn all() -> Vec<Asked> {
    let own = OWN.iter().map(|(method, path, by)| Asked {
        method: (*method).to_owned(),
        path: (*path).to_owned(),
        by: *by,
    });
    let offered = sheaf_console::offered("default", "none").into_iter();
    let offered = offered
        .map(|(method, path)| Asked { method: method.as_str().to_owned(), path, by: Asks::Users })
        // Screens are asked for as WebSockets, which curl is not.
        .filter(|asked| !asked.path.ends_with("/vnc") && !asked.path.ends_with("/console"));
    own.chain(offered).collect()
}

/// What is wrong with the headers of an answer.
fn bad_headers(answer: &Answer) -> Option<String> {
    for (name, word) in [
        ("content-security-policy", "default-src 'none'"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "deny"),
        ("referrer-policy", "no-referrer"),
        ("strict-transport-security", "max-age="),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", ""),
    ] {
        match answer.values(name).as_slice() {
            [one] if one.to_lowercase().contains(word) => {}
            other => return Some(format!("{name} is {other:?}")),
        }
    }
    for name in ["server", "x-powered-by", "access-control-allow-origin"] {
        if let Some(value) = answer.values(name).first() {
            return Some(format!("it says {name}: {value}"));
        }
    }
    None
}

/// What is wrong with any answer.
fn bad(answer: &Answer) -> Option<String> {
    if BROKEN.contains(&answer.status) {
        return Some("the server is broken".into());
    }
    if let Some(wrong) = bad_headers(answer) {
        return Some(wrong);
    }
    let head = answer.head.to_lowercase();
    let is_page = head.contains("content-type: text/html");
    let text = answer.text();
    if text.contains(MARK) && (is_page || !head.contains("content-type: ")) {
        return Some("it shows a script".into());
    }
    if text.contains("panicked at") || text.contains("RUST_BACKTRACE") {
        return Some("it shows its inside".into());
    }
    None
}

/// The bent forms of one request: what is bent, words for curl, the path.
fn bent(asked: &Asked) -> Vec<(&'static str, Vec<String>, String)> {
    let Asked { method, path, .. } = asked;
    let (bare, query) = path.split_once('?').map_or((path.as_str(), ""), |(bare, query)| (bare, query));
    let plain = |words: &[&str]| -> Vec<String> {
        let mut all = vec!["-X".to_owned(), method.clone()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    };
    let json = |body: String| -> Vec<String> {
        plain(&["-H", "content-type: application/json", "--data-binary", &body])
    };
    let to = |bare: String| if query.is_empty() { bare } else { format!("{bare}?{query}") };
    let folder = bare.rsplit_once('/').map_or("", |(folder, _)| folder);
    let marked = MARK.replace('<', "%3C").replace('>', "%3E");
    let mut bent = vec![
        ("a doubled slash", plain(&[]), to(format!("/{bare}"))),
        ("a slash at its end", plain(&[]), to(format!("{bare}/"))),
        ("dots", plain(&[]), to(format!("{folder}/../../../etc/passwd"))),
        ("percent dots", plain(&[]), to(format!("{folder}/%2e%2e%2f%2e%2e%2fetc%2fpasswd"))),
        ("a zero byte", plain(&[]), to(format!("{bare}%00.json"))),
        ("a script in the path", plain(&[]), to(format!("{bare}/{marked}"))),
        ("a script in the query", plain(&[]), format!("{bare}?a={marked}&labelSelector={marked}")),
        ("a line end in the query", plain(&[]), format!("{bare}?limit=1%0d%0aset-cookie:%20a=b")),
        ("a parameter of the path", plain(&[]), to(format!("{bare};jsessionid=1"))),
        ("a long path", plain(&[]), format!("{bare}/{}", "a".repeat(6000))),
        ("a long query", plain(&[]), format!("{bare}?labelSelector={}", "a".repeat(6000))),
        ("another method by a header", plain(&["-H", "x-http-method-override: DELETE"]), path.clone()),
        (
            "impersonation",
            plain(&["-H", "impersonate-user: system:admin", "-H", "impersonate-group: system:masters"]),
            path.clone(),
        ),
        (
            "two lengths",
            plain(&["-H", "content-length: 5", "-H", "transfer-encoding: chunked", "--data-binary", "{}"]),
            path.clone(),
        ),
        (
            "a forged front proxy",
            plain(&["-H", "x-remote-user: admin", "-H", "x-remote-group: system:masters"]),
            path.clone(),
        ),
    ];
    if matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        bent.extend([
            ("no body", plain(&[]), path.clone()),
            ("no JSON", json("{".into()), path.clone()),
            ("an array", json("[]".into()), path.clone()),
            ("null", json("null".into()), path.clone()),
            ("a number", json("7".into()), path.clone()),
            ("a deep array", json(deep), path.clone()),
            ("fields of other types", json(json!({"name": 7, "user": [], "password": {}, "metadata": "x"}).to_string()), path.clone()),
            ("a script in its fields", json(json!({"name": MARK, "user": MARK, "code": MARK, "node": MARK, "metadata": {"name": MARK}}).to_string()), path.clone()),
            ("a zero byte in its fields", json(r#"{"name":"\u0000","user":"\u0000","node":"\u0000"}"#.into()), path.clone()),
            ("a body of a form", plain(&["--data-binary", "name=x"]), path.clone()),
            ("a packed body", plain(&["-H", "content-type: application/json", "-H", "content-encoding: gzip", "--data-binary", "{}"]), path.clone()),
        ]);
    }
    bent
}

/// Objects that a bent request could have changed.
fn state(anna: &Browser) -> Result<String> {
    let mut seen = String::new();
    for path in [
        "/console/users",
        "/console/tokens",
        "/api/api/v1/namespaces",
        "/api/apis/kubevirt.io/v1/virtualmachines",
        "/api/apis/sheaf.dev/v1alpha1/noderemovals",
        "/api/apis/sheaf.dev/v1alpha1/clusterupdates",
        "/api/apis/sheaf.dev/v1alpha1/clusterconfigs",
    ] {
        let (status, text) = anna.ask("GET", path, None)?.said();
        ensure!(status == 200, "{path}: {status} {text}");
        let value: Value = serde_json::from_str(&text)?;
        let items = value["items"].as_array().or_else(|| value.as_array()).cloned().unwrap_or_default();
        let name =
            |item: &Value| item["metadata"]["name"].as_str().or(item["name"].as_str()).map(str::to_owned);
        let names: BTreeSet<_> = items.iter().map(name).collect();
        seen.push_str(&format!("{path}: {names:?}\n"));
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bent_request_breaks_the_console_gets_a_page_or_changes_anything() -> Result<()> {
    let on = Controlled::start().await?;
    let console = Served::start(&on.plane).await?;
    let anna = Browser::claim(&on.plane, &console.address, "anna").await?;
    let before = state(&anna)?;
    let (mut wrong, mut asked, mut statuses) = (Vec::new(), 0, BTreeMap::<u16, u32>::new());
    for request in all() {
        let Asked { method, path, by } = &request;
        let answer = ask(&console.address, &["-X", method], path)?;
        asked += 1;
        let must = match by {
            Asks::Anybody => (200..500).contains(&answer.status),
            Asks::Users => answer.status == 401,
        };
        if let Some(why) = bad(&answer).or_else(|| (!must).then(|| "nobody is answered".into())) {
            wrong.push(format!("{method} {path} by nobody: {} {why}", answer.status));
        }
        let session = anna.headers().into_iter().flat_map(|header| ["-H", header]);
        let session: Vec<&str> = session.collect();
        for (what, words, bent_path) in bent(&request) {
            let words: Vec<&str> = session.iter().copied().chain(words.iter().map(String::as_str)).collect();
            let answer = ask(&console.address, &words, &bent_path);
            asked += 1;
            if let Ok(answer) = &answer {
                *statuses.entry(answer.status).or_default() += 1;
            }
            let why = match &answer {
                // A connection that is closed is an answer to what is no HTTP.
                Err(_) if what == "two lengths" => continue,
                Err(error) => format!("no answer: {error:#}"),
                Ok(answer) => match bad(answer) {
                    Some(why) => format!("{} {why}: {}", answer.status, answer.text()),
                    None => continue,
                },
            };
            wrong.push(format!("{method} {bent_path} ({what}): {why}").chars().take(400).collect());
        }
    }
    println!("{asked} requests; of an administrator by status: {statuses:?}");
    ensure!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(asked > 2000, "{asked}");
    let after = state(&anna)?;
    ensure!(after == before, "before:\n{before}after:\n{after}");
    Ok(())
}

/// What a file of the page refers to, of this origin: attributes of HTML, imports of scripts, `url()` of styles.
fn references(path: &str, text: &str) -> BTreeSet<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = BTreeSet::new();
    let ends = |c: char| matches!(c, '"' | '\'' | '`' | ')' | '?' | '#') || c.is_whitespace();
    for (before, is_from_root) in [
        ("src=\"/", true),
        ("href=\"/", true),
        ("url(/", true),
        ("\"./", false),
        ("`./", false),
        ("\"assets/", true),
    ] {
        for (at, _) in text.match_indices(before) {
            let rest = &text[at + before.len()..];
            let name = rest.split(ends).next().unwrap_or_default();
            let is_file = name
                .rsplit_once('.')
                .is_some_and(|(_, end)| ["js", "css", "svg", "woff2", "png", "ico"].contains(&end));
            if is_file {
                let root = if before == "\"assets/" {
                    "/assets"
                } else if is_from_root {
                    ""
                } else {
                    folder
                };
                found.insert(format!("{root}/{name}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_of_the_page_is_there_as_what_it_is_and_nothing_is_loaded_from_elsewhere() -> Result<()> {
    let on = Controlled::start().await?;
    let console = Served::start(&on.plane).await?;
    let (mut queue, mut seen) = (VecDeque::from(["/".to_owned()]), BTreeSet::new());
    while let Some(path) = queue.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = ask(&console.address, &[], &path)?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        if let Some(why) = bad_headers(&answer) {
            bail!("{path}: {why}");
        }
        let end = path.rsplit_once('.').map_or("html", |(_, end)| end);
        let kind = match end {
            "js" => "text/javascript",
            "svg" => "image/svg+xml",
            "woff2" => "font/woff2",
            end => &format!("text/{end}"),
        };
        let head = answer.head.to_lowercase();
        ensure!(head.contains(&format!("content-type: {kind}")), "{path} is no {kind}: {head}");
        let text = answer.text();
        for elsewhere in ["src=\"http", "href=\"http", "url(http", "@import \"http", "import(\"http"] {
            ensure!(end == "js" || !text.contains(elsewhere), "{path} has {elsewhere}");
        }
        queue.extend(references(&path, &text));
    }
    println!("{} files", seen.len());
    let page = ask(&console.address, &[], "/")?.text();
    let script =
        page.contains("<script").then_some(()).context("the page has no script: build it by `npm run build`");
    // Without a built page there is one that says how it is built.
    ensure!(seen.len() > 10 || script.is_err(), "{seen:?}");
    Ok(())
}
