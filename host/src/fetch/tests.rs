//! Real servers on loopback, name servers in memory: what is connected to, and what never is.

use super::policy::Rule;
use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const FILE: &[u8] = b"0123456789";

/// A server that answers every connection, one request each.
struct Server {
    address: SocketAddr,
    /// Request lines, in order.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` is given the request line and the first byte of the Range header.
    fn new(answer: impl Fn(&str, Option<u64>) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (request, from) = head(&stream);
                log.lock().unwrap().push(request.clone());
                // One that is gone has its answer already.
                let _ = stream.write_all(answer(&request, from).as_bytes());
            }
        });
        Self { address, asked }
    }

    /// One that has the file.
    fn with_file() -> Self {
        Self::new(|_, from| partial(from))
    }

    fn redirecting(to: String) -> Self {
        Self::new(move |_, _| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"))
    }

    fn url(&self) -> String {
        format!("http://{}/file", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// Request line and first byte of the Range header.
fn head(stream: &TcpStream) -> (String, Option<u64>) {
    let (mut request, mut from) = (String::new(), None);
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { break };
        if request.is_empty() {
            request.clone_from(&line);
        }
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    (request, from)
}

fn partial(from: Option<u64>) -> String {
    let from = from.unwrap_or(0) as usize;
    let rest = std::str::from_utf8(&FILE[from..]).unwrap();
    let (length, total) = (rest.len(), FILE.len());
    let range = format!("bytes {from}-{}/{total}", total - 1);
    format!("HTTP/1.1 206 Partial\r\nContent-Range: {range}\r\nContent-Length: {length}\r\n\r\n{rest}")
}

/// Loopback is allowed at the ports of `servers`, and at no other.
fn allowing(servers: &[&Server]) -> Arc<Policy> {
    let ports = servers.iter().map(|server| server.address.port()).collect();
    let rule = Rule { networks: vec!["127.0.0.1/32".parse().unwrap()], ports, ..Rule::default() };
    Arc::new(Policy { allow: vec![rule], ..Policy::default() })
}

fn get(http: &Http, url: &str, policy: Arc<Policy>) -> Result<Vec<u8>, FetchError> {
    let mut rest = http.fetch(&Source { url: url.into(), policy, access: Arc::default() }, 0)?;
    let mut bytes = Vec::new();
    rest.reader.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

/// A name server that gives its answers one after another, the last again and again.
#[derive(Debug)]
pub(super) struct Names {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Names {
    pub(super) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let addresses = |one: &&[&str]| one.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(addresses).collect(), asked: AtomicUsize::new(0) })
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        let mut found = self.empty();
        for address in &self.answers[number] {
            found.push(SocketAddr::new(*address, uri.port_u16().unwrap_or(80)));
        }
        Ok(found)
    }
}

#[test]
fn the_rest_of_a_file_is_read_from_where_it_broke_off() {
    let source = Source::trusted(Server::with_file().url());
    let mut rest = Http::default().fetch(&source, 4).unwrap();
    let mut bytes = Vec::new();
    rest.reader.read_to_end(&mut bytes).unwrap();
    assert_eq!((rest.from, rest.total, bytes.as_slice()), (4, Some(10), &FILE[4..]));
}

#[test]
fn a_server_that_sends_the_whole_file_again_is_understood() {
    let server = Server::new(|_, _| "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789".into());
    let rest = Http::default().fetch(&Source::trusted(server.url()), 4).unwrap();
    assert_eq!((rest.from, rest.total), (0, Some(10)));
}

#[test]
fn refusals_are_told_apart() {
    let answer = |text: &'static str| {
        let server = Server::new(move |_, _| text.into());
        Http::default().fetch(&Source::trusted(server.url()), 40).map(drop).unwrap_err()
    };
    let missing = answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(missing, FetchError::Refused { status: 404, .. }), "{missing}");
    let past = answer("HTTP/1.1 416 Range\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(past, FetchError::PastEnd { from: 40, .. }), "{past}");
}

#[test]
fn a_server_on_the_node_itself_is_not_even_connected_to() {
    let server = Server::with_file();
    let error = get(&Http::default(), &server.url(), Arc::default()).unwrap_err();
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
    // Whatever address of this machine it is.
    let all = TcpListener::bind("0.0.0.0:0").unwrap();
    for address in crate::links::own_addresses().unwrap() {
        let url = format!("http://{}/file", SocketAddr::new(address, all.local_addr().unwrap().port()));
        let error = get(&Http::default(), &url, Arc::default()).unwrap_err();
        assert!(matches!(error, FetchError::Forbidden { .. }), "{url}: {error:?}");
    }
    all.set_nonblocking(true).unwrap();
    assert!(all.accept().is_err(), "somebody connected");
    assert_eq!(server.asked(), 0);
    assert_eq!(get(&Http::default(), &server.url(), allowing(&[&server])).unwrap(), FILE);
}

#[test]
fn a_redirect_to_a_forbidden_address_is_refused() {
    let inner = Server::with_file();
    for location in [inner.url(), format!("//{}/file", inner.address)] {
        let outer = Server::redirecting(location);
        let error = get(&Http::default(), &outer.url(), allowing(&[&outer])).unwrap_err();
        assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
        assert_eq!((outer.asked(), inner.asked()), (1, 0));
        // And followed where it is allowed.
        assert_eq!(get(&Http::default(), &outer.url(), allowing(&[&outer, &inner])).unwrap(), FILE);
        inner.asked.lock().unwrap().clear();
    }
}

#[test]
fn redirects_end_after_ten_and_lead_only_to_urls_of_http_without_a_user() {
    let server = Server::redirecting("/file".into());
    let error = get(&Http::default(), &server.url(), allowing(&[&server])).unwrap_err();
    assert!(error.to_string().ends_with("it redirects more than 10 times"), "{error}");
    assert_eq!(server.asked(), 11);
    for location in ["file:///etc/passwd", "ftp://192.0.2.1/", "http://user:secret@192.0.2.1/"] {
        let server = Server::redirecting(location.into());
        let error = get(&Http::default(), &server.url(), allowing(&[&server])).unwrap_err();
        assert!(matches!(error, FetchError::BadUrl { .. }), "{location}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_name_is_judged_by_every_address_that_it_has() {
    let server = Server::with_file();
    let url = format!("http://images.example:{}/file", server.address.port());
    for answer in
        [&["127.0.0.1"][..], &["192.0.2.1", "127.0.0.1"], &["::ffff:127.0.0.1"], &["169.254.169.254"]]
    {
        let http = Http::default().resolving_by(Names::new(&[answer]));
        let error = get(&http, &url, Arc::default()).unwrap_err();
        assert!(matches!(error, FetchError::Forbidden { .. }), "{answer:?}: {error:?}");
        assert_eq!(server.asked(), 0);
    }
}

#[test]
fn a_name_server_that_changes_its_answer_is_asked_once_for_a_connection() {
    let server = Server::with_file();
    let url = format!("http://images.example:{}/file", server.address.port());
    // Judged good, then bad: what was judged is connected to.
    let names = Names::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let http = Http::default().resolving_by(names.clone());
    assert_eq!(get(&http, &url, allowing(&[&server])).unwrap(), FILE);
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    // The next connection, to continue after a break, is judged again.
    let error = get(&http, &url, allowing(&[&server])).unwrap_err();
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
    assert_eq!(server.asked(), 1);
}

#[test]
fn no_error_shows_the_query_of_a_url() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let missing = Server::new(|_, _| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into());
    let policy = Arc::new(Policy { allow: allowing(&[&missing]).allow.clone(), ..Policy::default() });
    for url in [
        format!("http://{gone}/a?token=secret"),
        format!("{}?token=secret", missing.url()),
        "http://user:secret@192.0.2.1/".into(),
        "gopher://192.0.2.1/?secret".into(),
        "http://192.0.2.1:99999/?secret".into(),
    ] {
        for policy in [policy.clone(), Arc::default(), Arc::new(Policy::trusted())] {
            let Err(error) = Http::default().fetch(&Source { policy, ..Source::trusted(url.clone()) }, 0)
            else {
                continue;
            };
            let mut text = format!("{error:?}");
            let mut next: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = next {
                text += &error.to_string();
                next = error.source();
            }
            assert!(!text.contains("secret"), "{text}");
        }
    }
}

/// A proxy that answers as the server itself once a tunnel was asked for.
fn proxy() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            log.lock().unwrap().extend(head);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            log.lock().unwrap().extend(lines.next());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        }
    });
    Server { address, asked }
}

fn through(proxy: &Server) -> Http {
    let http_proxy = Some(format!("http://user:word@{}", proxy.address));
    Http::new(Settings { http_proxy, no_proxy: vec!["127.0.0.0/8".into()], ..Settings::default() }).unwrap()
}

#[test]
fn a_proxy_is_asked_unless_the_host_is_reached_without() {
    let (proxy, server) = (proxy(), Server::with_file());
    let http = through(&proxy);
    let direct = get(&http, &server.url(), Arc::new(Policy::trusted())).unwrap();
    assert_eq!((direct.as_slice(), proxy.asked()), (FILE, 0));
    assert_eq!(get(&http, "http://images.example:8080/file", Arc::default()).unwrap(), b"hi");
    let asked = proxy.asked.lock().unwrap();
    assert_eq!(asked[0], "CONNECT images.example:8080 HTTP/1.1");
    assert!(asked.iter().any(|line| line == "Proxy-Authorization: Basic dXNlcjp3b3Jk"), "{asked:?}");
    assert_eq!(asked.last().unwrap(), "GET /file HTTP/1.1");
}

#[test]
fn behind_a_proxy_forbidden_names_ports_and_literal_addresses_are_not_asked_for() {
    let proxy = proxy();
    let rule = Rule { hosts: vec!["bad.example".into()], ..Rule::default() };
    let policy = Arc::new(Policy { deny: vec![rule], ..Policy::default() });
    for url in ["http://bad.example/", "http://169.254.169.254/latest", "http://[::1]/"] {
        let error = get(&through(&proxy), url, policy.clone()).unwrap_err();
        assert!(matches!(error, FetchError::Forbidden { .. }), "{url}: {error:?}");
    }
    assert_eq!(proxy.asked(), 0);
}

#[test]
fn a_redirect_goes_through_the_proxy_of_its_own_url() {
    let proxy = proxy();
    // This server is reached directly, the one it names is not.
    let server = Server::redirecting("http://images.example/file".into());
    assert_eq!(get(&through(&proxy), &server.url(), Arc::new(Policy::trusted())).unwrap(), b"hi");
    assert_eq!(proxy.asked.lock().unwrap()[0], "CONNECT images.example:80 HTTP/1.1");
}
