//! From method, path and query to what is asked for.
//!
//! Why here: pure, so that the whole surface of the node is one table of tests. Names in paths are never joined to a file's
//! path: a VM is found by a UID that is one. Route in: method, path, query. Route out: a [`Route`].

use http::Method;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whether the agent lives.
    Healthz,
    /// Pods of this node.
    Pods,
    /// Log of a container, which is a VM's serial console.
    Logs(Container, String),
    /// Of this node, a file by its name, or by a query what is asked for.
    NodeLogs(String, String),
    /// Counters of node, libvirt and VMs.
    Metrics,
    /// CPU and memory of node and VMs, for `kubectl top`.
    MetricsResource,
    /// The serial port of a VM, to type into or only to read.
    Attach {
        /// Container.
        container: Container,
        /// Whether the client types.
        with_input: bool,
    },
    /// A command in a container.
    Exec(Container, Vec<String>),
    /// Ports of the VM of a Pod.
    PortForward {
        /// Namespace.
        namespace: String,
        /// Name of the Pod.
        pod: String,
    },
    /// Not offered; the reason.
    NotOffered(&'static str),
    /// An image for a LocalVolume.
    Upload(String),
    /// A VM, by the UID of its VMI.
    Vm(String, Act),
    /// What firmware and TPM of a VM keep, and the copy of it for a snapshot.
    State {
        /// Namespace of both.
        namespace: String,
        /// UID of the snapshot.
        snapshot: String,
        /// What is to be done.
        act: StateAct,
    },
    /// Whether a token is that of an export, by the UID of its exporter Pod.
    ExportToken(String),
    /// Bytes of a volume of an export.
    ExportedBytes(String, Part),
}

/// Which bytes of which volume, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the LocalVolume.
    pub volume: String,
    /// The first byte.
    pub from: u64,
    /// How many.
    pub bytes: u64,
    /// Compressed by gzip.
    pub packed: bool,
}

/// What is to be done with the state of a VM's firmware and TPM; `uuid` is its domain's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateAct {
    /// Copy it for the snapshot.
    Save {
        /// Whose.
        uuid: String,
    },
    /// Make it what the snapshot has.
    Load {
        /// Whose.
        uuid: String,
    },
    /// Remove the snapshot's copy.
    Drop,
}

/// A container of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Namespace.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
}

/// What is to be done with a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // KubeVirt's words
pub enum Act {
    Console,
    Vnc { preserve: bool },
    PortForward { port: u16, udp: bool },
    Pause,
    Unpause,
    Reset,
    SoftReboot,
    Freeze { seconds: u64 },
    Unfreeze,
    GuestOsInfo,
    UserList,
    FilesystemList,
    Screenshot { wake: bool },
}

impl Act {
    /// Whether it is a connection.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Console | Self::Vnc { .. } | Self::PortForward { .. })
    }
}

/// Longest time that a guest may stay frozen, in seconds.
const MOST_FROZEN: u64 = 3600;

/// What is missing of a kubelet, and what to use instead.
const RUN: &str = "run is not offered for virtual machines: log in by `virtctl ssh` or `virtctl console`";

impl Route {
    /// Whether it is a connection, or the contents of a disk: authorized as one.
    pub fn is_stream(path: &str) -> bool {
        let is = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
        let of_vm = path.strip_prefix("/vms/").and_then(|rest| rest.split('/').nth(1));
        is("/exec")
            || is("/attach")
            || is("/portForward")
            || is("/run")
            || is("/exports")
            || matches!(of_vm, Some("console" | "vnc" | "portforward"))
    }

    /// What `method` on `path` asks for; `None` is 404.
    pub fn of(method: &Method, path: &str, query: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        match (parts.as_slice(), method) {
            (["healthz"] | ["healthz", "ping"], &Method::GET) => Some(Self::Healthz),
            (["pods"] | ["pods", ""], &Method::GET) => Some(Self::Pods),
            (["metrics"], &Method::GET) => Some(Self::Metrics),
            (["metrics", "resource"], &Method::GET) => Some(Self::MetricsResource),
            (["containerLogs", namespace, pod, container], &Method::GET) => {
                let [namespace, pod, container] = [namespace, pod, container].map(|part| (*part).to_owned());
                Some(Self::Logs(Container { namespace, pod, container }, query.to_owned()))
            }
            (["logs"], &Method::GET) => Some(Self::NodeLogs(String::new(), query.to_owned())),
            (["logs", file], &Method::GET) => Some(Self::NodeLogs((*file).to_owned(), query.to_owned())),
            // The UID of the Pod may stand before the container.
            (["exec", namespace, pod, container] | ["exec", namespace, pod, _, container], _) => {
                let [namespace, pod, container] = [namespace, pod, container].map(|part| (*part).to_owned());
                Some(Self::Exec(Container { namespace, pod, container }, words(query, "command")))
            }
            (["attach", namespace, pod, container] | ["attach", namespace, pod, _, container], _) => {
                let [namespace, pod, container] = [namespace, pod, container].map(|part| (*part).to_owned());
                let with_input = words(query, "input").iter().any(|word| word == "1" || word == "true");
                Some(Self::Attach { container: Container { namespace, pod, container }, with_input })
            }
            (["run", _, ..], _) => Some(Self::NotOffered(RUN)),
            (["portForward", namespace, pod] | ["portForward", namespace, pod, _], _) => {
                Some(Self::PortForward { namespace: (*namespace).to_owned(), pod: (*pod).to_owned() })
            }
            (["volumes", volume, "upload"], &Method::POST) => Some(Self::Upload((*volume).to_owned())),
            (["vms", uid, act], method) if is_uid(uid) => {
                let act = of_vm(act, method, query)?;
                Some(Self::Vm((*uid).to_owned(), act))
            }
            (["states", namespace, snapshot, act], &Method::PUT)
                if is_label(namespace) && is_uid(snapshot) =>
            {
                let uuid =
                    || words(query, "uuid").into_iter().find(|uuid| is_uid(&uuid.to_ascii_lowercase()));
                let act = match *act {
                    "save" => StateAct::Save { uuid: uuid()? },
                    "load" => StateAct::Load { uuid: uuid()? },
                    "drop" => StateAct::Drop,
                    _ => return None,
                };
                let [namespace, snapshot] = [namespace, snapshot].map(|part| (*part).to_owned());
                Some(Self::State { namespace, snapshot, act })
            }
            (["exports", pod], &Method::GET) if is_uid(pod) => Some(Self::ExportToken((*pod).to_owned())),
            (["exports", pod, volume], &Method::GET) if is_uid(pod) => {
                let number = |name| words(query, name).first()?.parse().ok();
                let (from, bytes) = (number("from")?, number("bytes")?);
                let packed = words(query, "format").iter().any(|format| format == "gzip");
                let part = Part { volume: (*volume).to_owned(), from, bytes, packed };
                Some(Self::ExportedBytes((*pod).to_owned(), part))
            }
            _ => None,
        }
    }
}

/// Every value of `name` in a query.
fn words(query: &str, name: &str) -> Vec<String> {
    form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

fn of_vm(act: &str, method: &Method, query: &str) -> Option<Act> {
    let value = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    };
    match (act, method) {
        ("console", &Method::GET) => Some(Act::Console),
        ("vnc", &Method::GET) => Some(Act::Vnc { preserve: value("preserveSession") == Some("true") }),
        ("portforward", &Method::GET) => {
            let port = value("port")?.parse().ok().filter(|port| *port != 0)?;
            Some(Act::PortForward { port, udp: value("protocol") == Some("udp") })
        }
        ("screenshot", &Method::GET) => Some(Act::Screenshot { wake: value("moveCursor") == Some("true") }),
        ("pause", &Method::PUT) => Some(Act::Pause),
        ("unpause", &Method::PUT) => Some(Act::Unpause),
        ("reset", &Method::PUT) => Some(Act::Reset),
        ("softreboot", &Method::PUT) => Some(Act::SoftReboot),
        ("freeze", &Method::PUT) => {
            let seconds: u64 = value("seconds")?.parse().ok()?;
            Some(Act::Freeze { seconds: seconds.clamp(1, MOST_FROZEN) })
        }
        ("unfreeze", &Method::PUT) => Some(Act::Unfreeze),
        ("guestosinfo", &Method::GET) => Some(Act::GuestOsInfo),
        ("userlist", &Method::GET) => Some(Act::UserList),
        ("filesystemlist", &Method::GET) => Some(Act::FilesystemList),
        _ => None,
    }
}

/// Whether a text is a UID as the API server makes them: also what makes it fit for a file's name.
fn is_uid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_digit() || ('a'..='f').contains(&c),
        })
}

/// Whether a text is the name of a namespace, RFC 1123: also what makes it fit for a folder's name.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";

    fn of(method: Method, path: &str) -> Option<Route> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Route::of(&method, path, query)
    }

    #[test]
    fn a_vm_is_named_by_a_uid_and_by_nothing_that_could_be_a_path() {
        let act = |path: &str| of(Method::GET, path);
        assert_eq!(act(&format!("/vms/{UID}/console")), Some(Route::Vm(UID.into(), Act::Console)));
        for uid in [
            "..",
            ".",
            "",
            "%2e%2e",
            "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4C",
            "0b0e6d2c/6a4e-4c9f-9a53-0d0e1f2a3b4c",
        ] {
            assert_eq!(act(&format!("/vms/{uid}/console")), None, "{uid}");
        }
    }

    #[test]
    fn bytes_of_an_export_are_asked_for_by_its_pod_and_are_no_reading_of_the_node() {
        let export = |path: &str| of(Method::GET, &format!("/exports/{UID}{path}"));
        assert_eq!(export(""), Some(Route::ExportToken(UID.into())));
        let part = Part { volume: "pvc-1".into(), from: 7, bytes: 9, packed: true };
        assert_eq!(export("/pvc-1?from=7&bytes=9&format=gzip"), Some(Route::ExportedBytes(UID.into(), part)));
        assert_eq!((export("/pvc-1"), export("/pvc-1?from=-1&bytes=9")), (None, None));
        assert_eq!(of(Method::GET, "/exports/../pvc-1?from=0&bytes=9"), None);
        assert!(Route::is_stream(&format!("/exports/{UID}/pvc-1")));
    }

    #[test]
    fn the_state_of_a_vm_is_named_by_namespace_uuid_and_snapshot_and_by_nothing_that_could_be_a_path() {
        let put = |path: &str| of(Method::PUT, path);
        let state = |act| Some(Route::State { namespace: "shop".into(), snapshot: UID.into(), act });
        let (uuid, path) = (UID.to_uppercase(), format!("/states/shop/{UID}"));
        assert_eq!(put(&format!("{path}/save?uuid={uuid}")), state(StateAct::Save { uuid: uuid.clone() }));
        assert_eq!(put(&format!("{path}/load?uuid={UID}")), state(StateAct::Load { uuid: UID.into() }));
        assert_eq!(put(&format!("{path}/drop")), state(StateAct::Drop));
        for wrong in [
            format!("{path}/save"),
            format!("{path}/save?uuid=.."),
            format!("{path}/other?uuid={UID}"),
            format!("/states/../{UID}/drop"),
            format!("/states//{UID}/drop"),
            "/states/shop/../drop".into(),
        ] {
            assert_eq!(put(&wrong), None, "{wrong}");
        }
        assert_eq!(of(Method::GET, &format!("{path}/drop")), None);
    }

    #[test]
    fn changes_are_no_gets_and_numbers_are_bounded() {
        assert_eq!(of(Method::GET, &format!("/vms/{UID}/pause")), None);
        assert_eq!(of(Method::PUT, &format!("/vms/{UID}/pause")), Some(Route::Vm(UID.into(), Act::Pause)));
        let freeze = |query: &str| of(Method::PUT, &format!("/vms/{UID}/freeze?{query}"));
        assert_eq!(
            freeze("seconds=99999999"),
            Some(Route::Vm(UID.into(), Act::Freeze { seconds: MOST_FROZEN }))
        );
        assert_eq!((freeze(""), freeze("seconds=-1")), (None, None));
        let forward = |query: &str| of(Method::GET, &format!("/vms/{UID}/portforward?{query}"));
        assert_eq!((forward("port=0"), forward("port=65536"), forward("")), (None, None, None));
        assert!(forward("port=22&protocol=tcp").is_some());
    }

    #[test]
    fn what_a_kubelet_has_and_this_node_has_not_says_what_to_use() {
        let run = "/run/a/b/c";
        assert!(matches!(of(Method::POST, run), Some(Route::NotOffered(_))) && Route::is_stream(run));
        let forward = Route::PortForward { namespace: "a".into(), pod: "b".into() };
        assert_eq!(of(Method::GET, "/portForward/a/b"), Some(forward.clone()));
        assert_eq!(of(Method::POST, &format!("/portForward/a/b/{UID}")), Some(forward));
        assert!(Route::is_stream("/portForward/a/b"));
        let container = || Container { namespace: "a".into(), pod: "b".into(), container: "c".into() };
        let exec = Route::Exec(container(), vec!["virt-freezer".into(), "--name=x y".into()]);
        let asked = "command=virt-freezer&command=--name%3Dx+y&output=1";
        assert_eq!(of(Method::GET, &format!("/exec/a/b/c?{asked}")), Some(exec.clone()));
        assert_eq!(of(Method::POST, &format!("/exec/a/b/{UID}/c?{asked}")), Some(exec));
        for (query, with_input) in [("input=1&output=1&tty=1", true), ("output=1", false)] {
            let attach = Route::Attach { container: container(), with_input };
            assert_eq!(of(Method::GET, &format!("/attach/a/b/c?{query}")), Some(attach));
        }
        assert!(Route::is_stream("/exec/a/b/c") && Route::is_stream("/attach/a/b/c"));
        assert!(
            Route::is_stream(&format!("/vms/{UID}/vnc")) && !Route::is_stream(&format!("/vms/{UID}/pause"))
        );
        let logs = |file: &str, query: &str| Some(Route::NodeLogs(file.into(), query.into()));
        assert_eq!(of(Method::GET, "/logs/?query=sheaf-agent"), logs("", "query=sheaf-agent"));
        assert_eq!(of(Method::GET, "/logs/node.toml"), logs("node.toml", ""));
        assert_eq!(of(Method::GET, "/logs/../node.toml"), None);
        assert_eq!(of(Method::GET, "/runningpods/"), None);
        assert_eq!(of(Method::POST, "/volumes/pvc-1/upload"), Some(Route::Upload("pvc-1".into())));
        assert_eq!(of(Method::GET, "/volumes/pvc-1/upload"), None);
    }
}
