//! `expand-vm-spec`: a VM as it would be with its instancetype and preference put in.
//!
//! Why here: the body is checked before anything is looked up for it; [`crate::instancetype`] does the rest. Pure. Route in: a
//! body. Route out: the VM, or why it is none.

use sheaf_api::VirtualMachine;

use super::answer::Refusal;

/// Reads the VM of `body`, for `namespace`.
pub fn read(body: &[u8], namespace: &str) -> Result<VirtualMachine, Refusal> {
    if body.trim_ascii().is_empty() {
        return Err(Refusal::bad_request("empty request body"));
    }
    let unreadable = |error: serde_json::Error| {
        Refusal::bad_request(format!("Can not unmarshal Request body to struct, error: {error}"))
    };
    let mut vm: VirtualMachine = serde_json::from_slice(body).map_err(unreadable)?;
    match vm.metadata.namespace.as_deref() {
        None | Some("") => vm.metadata.namespace = Some(namespace.to_owned()),
        Some(other) if other != namespace => {
            return Err(Refusal::bad_request(format!("VM namespace must be empty or {namespace}")));
        }
        Some(_) => {}
    }
    Ok(vm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vm_of_another_namespace_or_no_vm_at_all_is_a_bad_request() {
        let vm = |namespace: &str| {
            json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": namespace},
                   "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}}})
            .to_string()
        };
        assert_eq!(read(vm("").as_bytes(), "shop").unwrap().metadata.namespace.as_deref(), Some("shop"));
        let other = read(vm("other").as_bytes(), "shop").unwrap_err();
        assert_eq!((other.code, other.message.as_str()), (400, "VM namespace must be empty or shop"));
        for body in [&b""[..], b"{}", b"[", b"null"] {
            assert_eq!(read(body, "shop").unwrap_err().code, 400);
        }
    }
}
