//! From method and path to what is asked for.
//!
//! Why here: pure, so that what is served, what KubeVirt has and Sheaf has not, and what nobody has are one table. Route in:
//! method, path, query. Route out: a [`Route`].

use http::Method;

use super::{upload, usage};

/// API group.
pub const GROUP: &str = "subresources.kubevirt.io";
/// Its versions, the preferred one first.
pub const VERSIONS: [&str; 2] = ["v1", "v1alpha3"];

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whether this server lives.
    Healthz,
    /// The resources of a version of the group.
    Resources(&'static str),
    /// KubeVirt's version that this is like.
    Version,
    /// An act on a VM.
    Vm(Place, VmAct),
    /// An act on an instance.
    Vmi(Place, VmiAct),
    /// A volume is added to a VM that runs, or removed from it.
    Volumes {
        /// Where the VM or the instance is.
        place: Place,
        /// Which of them is changed.
        of: Holder,
        /// Or else removed.
        adds: bool,
    },
    /// A stream to an instance.
    Stream(Place, Stream),
    /// The VM of the body, as it would be.
    Expand {
        /// Namespace in the path.
        namespace: String,
    },
    /// CPU and memory in use: `metrics.k8s.io`.
    Usage(usage::Route),
    /// A token for an upload: `upload.cdi.kubevirt.io`.
    Upload(upload::Route),
    /// KubeVirt has it, Sheaf has not.
    NotImplemented(String),
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Namespace.
    pub namespace: String,
    /// Name of VM and instance.
    pub name: String,
}

/// What has volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A VM, in its template.
    Vm,
    /// An instance.
    Vmi,
}

/// Acts on volumes by name: whether it adds one.
pub const VOLUME_ACTS: [(&str, bool); 2] = [("addvolume", true), ("removevolume", false)];

/// An act on a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // KubeVirt's words
pub enum VmAct {
    Start,
    Stop,
    Restart,
    ExpandSpec,
}

/// An act on an instance, which its node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // KubeVirt's words
pub enum VmiAct {
    Pause,
    Unpause,
    SoftReboot,
    Reset,
    Freeze,
    Unfreeze,
    GuestOsInfo,
    UserList,
    FilesystemList,
    Screenshot {
        /// The pointer moves first, so that a screen saver ends.
        wake: bool,
    },
}

impl VmiAct {
    /// Its name in paths, KubeVirt's and the agent's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::SoftReboot => "softreboot",
            Self::Reset => "reset",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::GuestOsInfo => "guestosinfo",
            Self::UserList => "userlist",
            Self::FilesystemList => "filesystemlist",
            Self::Screenshot { .. } => "screenshot",
        }
    }

    /// Whether it only reads.
    pub fn reads(self) -> bool {
        matches!(self, Self::GuestOsInfo | Self::UserList | Self::FilesystemList | Self::Screenshot { .. })
    }
}

/// A stream to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its first serial port.
    Console,
    /// Its display.
    Vnc {
        /// A session that is there goes on, and this one is refused.
        preserve: bool,
    },
    /// A port of the guest.
    PortForward {
        /// Number.
        port: u16,
        /// Datagrams instead of a stream.
        udp: bool,
    },
}

/// All acts on VMs by name, with the method.
const VM_ACTS: [(&str, Method, VmAct); 4] = [
    ("start", Method::PUT, VmAct::Start),
    ("stop", Method::PUT, VmAct::Stop),
    ("restart", Method::PUT, VmAct::Restart),
    ("expand-spec", Method::GET, VmAct::ExpandSpec),
];

/// Acts on instances that are one word in the path.
pub const VMI_ACTS: [VmiAct; 9] = [
    VmiAct::Pause,
    VmiAct::Unpause,
    VmiAct::SoftReboot,
    VmiAct::Reset,
    VmiAct::Freeze,
    VmiAct::Unfreeze,
    VmiAct::GuestOsInfo,
    VmiAct::UserList,
    VmiAct::FilesystemList,
];

/// What KubeVirt 1.7 has besides (`pkg/virt-api/api.go`).
const KUBEVIRTS: [&str; 13] = [
    "migrate",
    "memorydump",
    "removememorydump",
    "objectgraph",
    "evacuate",
    "usbredir",
    "vsock",
    "sev",
    "guestfs",
    "start-cluster-profiler",
    "stop-cluster-profiler",
    "dump-cluster-profiler",
    "backup",
];

/// What `method` on `path` asks for; `None` is 404.
pub fn route(method: &Method, path: &str, query: &str) -> Option<Route> {
    if path == "/healthz" {
        return Some(Route::Healthz);
    }
    if let Some(route) = usage::route(method, path) {
        return Some(Route::Usage(route));
    }
    if let Some(route) = upload::route(method, path) {
        return Some(Route::Upload(route));
    }
    let mut parts = path.strip_prefix("/apis/")?.split('/').filter(|part| !part.is_empty());
    if parts.next()? != GROUP {
        return None;
    }
    let asked = parts.next()?;
    let version = VERSIONS.into_iter().find(|version| *version == asked)?;
    let parts: Vec<&str> = parts.collect();
    match (parts.as_slice(), method) {
        ([], &Method::GET) => Some(Route::Resources(version)),
        (["version"], &Method::GET) => Some(Route::Version),
        (["healthz"], &Method::GET) => Some(Route::Healthz),
        (["namespaces", namespace, "expand-vm-spec"], &Method::PUT) => {
            Some(Route::Expand { namespace: (*namespace).to_owned() })
        }
        (["namespaces", namespace, kind, name, rest @ ..], method) => {
            let place = Place { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
            match *kind {
                "virtualmachines" => of_vm(place, rest, method),
                "virtualmachineinstances" => of_vmi(place, rest, method, query),
                _ => None,
            }
        }
        ([one, ..], _) => kubevirts(one),
        _ => None,
    }
}

fn of_vm(place: Place, rest: &[&str], method: &Method) -> Option<Route> {
    if let ["portforward", port @ ..] = rest {
        return forward(place, port, method);
    }
    let [act] = rest else { return kubevirts(rest.first()?) };
    if let Some(adds) = of_volumes(act, method) {
        return Some(Route::Volumes { place, of: Holder::Vm, adds });
    }
    let known = VM_ACTS.into_iter().find(|(name, by, _)| name == act && by == method);
    match known {
        Some((_, _, act)) => Some(Route::Vm(place, act)),
        None => kubevirts(act),
    }
}

fn of_vmi(place: Place, rest: &[&str], method: &Method, query: &str) -> Option<Route> {
    match rest {
        ["console"] if method == Method::GET => Some(Route::Stream(place, Stream::Console)),
        ["vnc"] if method == Method::GET => {
            let preserve = query.split('&').any(|pair| pair == "preserveSession=true");
            Some(Route::Stream(place, Stream::Vnc { preserve }))
        }
        ["vnc", "screenshot"] if method == Method::GET => {
            let wake = query.split('&').any(|pair| pair == "moveCursor=true");
            Some(Route::Vmi(place, VmiAct::Screenshot { wake }))
        }
        ["portforward", port @ ..] => forward(place, port, method),
        [name] if of_volumes(name, method).is_some() => {
            of_volumes(name, method).map(|adds| Route::Volumes { place, of: Holder::Vmi, adds })
        }
        [name] => {
            let by = |act: VmiAct| if act.reads() { Method::GET } else { Method::PUT };
            let act = VMI_ACTS.into_iter().find(|act| act.name() == *name && by(*act) == method);
            act.map(|act| Route::Vmi(place, act)).or_else(|| kubevirts(name))
        }
        _ => kubevirts(rest.first()?),
    }
}

/// Whether an act on volumes adds one.
fn of_volumes(act: &str, method: &Method) -> Option<bool> {
    let (_, adds) = VOLUME_ACTS.into_iter().find(|(name, _)| *name == act && *method == Method::PUT)?;
    Some(adds)
}

fn forward(place: Place, parts: &[&str], method: &Method) -> Option<Route> {
    let (port, udp) = match parts {
        [port] | [port, "tcp"] => (port, false),
        [port, "udp"] => (port, true),
        _ => return None,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (method == Method::GET).then_some(Route::Stream(place, Stream::PortForward { port, udp }))
}

fn kubevirts(name: &str) -> Option<Route> {
    KUBEVIRTS.contains(&name).then(|| Route::NotImplemented(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, path: &str) -> Option<Route> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        route(&method, &format!("/apis/subresources.kubevirt.io/{path}"), query)
    }

    fn web() -> Place {
        Place { namespace: "shop".into(), name: "web".into() }
    }

    #[test]
    fn paths_of_virtctl_are_known_in_both_versions() {
        for version in VERSIONS {
            let vm = format!("{version}/namespaces/shop/virtualmachines/web");
            let vmi = format!("{version}/namespaces/shop/virtualmachineinstances/web");
            let put = |path: String| of(Method::PUT, &path);
            let get = |path: String| of(Method::GET, &path);
            assert_eq!(put(format!("{vm}/start")), Some(Route::Vm(web(), VmAct::Start)));
            assert_eq!(put(format!("{vmi}/pause")), Some(Route::Vmi(web(), VmiAct::Pause)));
            assert_eq!(get(format!("{vmi}/guestosinfo")), Some(Route::Vmi(web(), VmiAct::GuestOsInfo)));
            assert_eq!(get(format!("{vmi}/console")), Some(Route::Stream(web(), Stream::Console)));
            let volumes = |of, adds| Some(Route::Volumes { place: web(), of, adds });
            assert_eq!(put(format!("{vm}/addvolume")), volumes(Holder::Vm, true));
            assert_eq!(put(format!("{vmi}/removevolume")), volumes(Holder::Vmi, false));
            let forward = |port, udp| Some(Route::Stream(web(), Stream::PortForward { port, udp }));
            assert_eq!(get(format!("{vmi}/portforward/22")), forward(22, false));
            assert_eq!(get(format!("{vm}/portforward/53/udp")), forward(53, true));
            let vnc = |preserve| Some(Route::Stream(web(), Stream::Vnc { preserve }));
            assert_eq!(get(format!("{vmi}/vnc?preserveSession=true")), vnc(true));
            assert_eq!(get(format!("{vmi}/vnc?preserveSession=false")), vnc(false));
            let shot = |wake| Some(Route::Vmi(web(), VmiAct::Screenshot { wake }));
            assert_eq!(get(format!("{vmi}/vnc/screenshot?moveCursor=true")), shot(true));
            assert_eq!(get(format!("{vmi}/vnc/screenshot")), shot(false));
            assert_eq!(get(version.into()), Some(Route::Resources(version)));
            assert_eq!(get(format!("{version}/version")), Some(Route::Version));
        }
    }

    #[test]
    fn what_kubevirt_has_and_sheaf_has_not_is_told_apart_from_what_nobody_has() {
        for known in [
            "virtualmachines/web/migrate",
            "virtualmachineinstances/web/usbredir",
            "virtualmachineinstances/web/sev/setupsession",
        ] {
            let route = of(Method::PUT, &format!("v1/namespaces/shop/{known}"));
            assert!(matches!(route, Some(Route::NotImplemented(_))), "{known}: {route:?}");
        }
        for unknown in [
            "v1/namespaces/shop/virtualmachines/web",
            "v1/namespaces/shop/virtualmachines/web/stirt",
            "v2/version",
            "v1/namespaces/shop/virtualmachineinstances/web/portforward/0",
            "v1/namespaces/shop/virtualmachineinstances/web/portforward/22/sctp",
            "v1/namespaces/shop/pods/web/start",
        ] {
            assert_eq!(of(Method::PUT, unknown), None, "{unknown}");
            assert_eq!(of(Method::GET, unknown), None, "{unknown}");
        }
        // A change by GET is none.
        assert_eq!(of(Method::GET, "v1/namespaces/shop/virtualmachines/web/start"), None);
        assert_eq!(route(&Method::GET, "/apis", ""), None);
    }
}
