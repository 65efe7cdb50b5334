//! What a guest's agent reports, in KubeVirt's words.
//!
//! Why here: virtctl prints these objects as they are. A guest decides what stands in them; they are shown and nothing more.
//! Route in: a VM. Route out: `VirtualMachineInstanceGuestAgentInfo` and the two lists, JSON.

use super::answer::{self, Answer, Refusal};
use super::routes::Act;
use super::serve::State;
use super::vm::Vm;
use serde_json::{Value, json};
use sheaf_host::libvirt::guest_info::{Filesystem, User};
use sheaf_host::libvirt::{GuestInfo, VmHost};

/// Asks and answers.
pub async fn serve<V: VmHost>(state: &State<V>, vm: &Vm, act: &Act) -> Result<Answer, Refusal> {
    let info = state.vms.guest_info(&vm.uuid).await.map_err(|error| Refusal::failed(&error))?;
    Ok(answer::json(&match act {
        Act::UserList => list("VirtualMachineInstanceGuestOSUserList", users(&info)),
        Act::FilesystemList => list("VirtualMachineInstanceFileSystemList", filesystems(&info)),
        _ => os(&info),
    }))
}

fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": "kubevirt.io/v1", "metadata": {}, "items": items})
}

fn os(info: &GuestInfo) -> Value {
    let of = |name: &str| info.os.get(name).cloned().unwrap_or_default();
    json!({
        "kind": "VirtualMachineInstanceGuestAgentInfo", "apiVersion": "kubevirt.io/v1",
        // libvirt does not pass it on.
        "guestAgentVersion": "",
        "hostname": info.hostname,
        "timezone": info.timezone,
        "os": {
            "name": of("name"), "id": of("id"), "version": of("version"), "versionId": of("version-id"),
            "prettyName": of("pretty-name"), "kernelRelease": of("kernel-release"),
            "kernelVersion": of("kernel-version"), "machine": of("machine"),
        },
        "userList": users(info),
        "fsInfo": {"disks": filesystems(info)},
    })
}

fn users(info: &GuestInfo) -> Vec<Value> {
    // KubeVirt has seconds with a fraction.
    let user = |user: &User| {
        let since = user.login_ms as f64 / 1000.0;
        json!({"userName": user.name, "domain": user.domain, "loginTime": since})
    };
    info.users.iter().map(user).collect()
}

fn filesystems(info: &GuestInfo) -> Vec<Value> {
    let filesystem = |one: &Filesystem| {
        let disks: Vec<Value> =
            one.disks.iter().map(|(device, serial)| json!({"serial": serial, "busType": device})).collect();
        json!({
            "diskName": one.name, "mountPoint": one.mountpoint, "fileSystemType": one.kind,
            "usedBytes": one.used, "totalBytes": one.total, "disk": disks,
        })
    };
    info.filesystems.iter().map(filesystem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_reports_has_kubevirts_names() {
        let info = GuestInfo {
            hostname: "web".into(),
            os: [("pretty-name".to_owned(), "Debian".to_owned())].into(),
            users: vec![User { name: "root".into(), login_ms: 1500, ..User::default() }],
            filesystems: vec![Filesystem {
                mountpoint: "/".into(),
                total: 10,
                used: 4,
                ..Filesystem::default()
            }],
            ..GuestInfo::default()
        };
        let os = os(&info);
        assert_eq!((&os["hostname"], &os["os"]["prettyName"]), (&json!("web"), &json!("Debian")));
        assert_eq!(os["userList"][0], json!({"userName": "root", "domain": "", "loginTime": 1.5}));
        assert_eq!(os["fsInfo"]["disks"][0]["usedBytes"], 4);
        assert_eq!(list("K", users(&info))["items"][0]["userName"], "root");
    }
}
