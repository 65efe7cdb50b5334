//! A port of a guest, as a connection from its node.
//!
//! Why here: a VM behind `masq0` has an address that only its node reaches. Which address is connected to, the guest does not
//! decide: it is one that its Pod has, which was configured for it or which the node leased to it
//! ([`crate::vms`], interfaces); what it merely claims could be anybody's, the node's own included. Route in: a VM and a
//! port. Route out: a connection, or a refusal.

use super::super::answer::Refusal;
use super::super::vm::Vm;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};

/// Longest wait for a guest to accept: its firewall may drop packets.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A TCP connection.
pub async fn tcp(vm: &Vm, port: u16) -> Result<TcpStream, Refusal> {
    let target = SocketAddr::new(address(vm)?, port);
    let connected = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(target)).await;
    let stream = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("dialing {} at {target}: {error}", vm.name()))
    })?;
    // What people type is felt.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A socket for datagrams to it alone.
pub async fn udp(vm: &Vm, port: u16) -> Result<UdpSocket, Refusal> {
    let target = SocketAddr::new(address(vm)?, port);
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let bind = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(target).await?;
        Ok(socket)
    };
    bind.await.map_err(|error: std::io::Error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("dialing {} at {target}: {error}", vm.name()))
    })
}

fn address(vm: &Vm) -> Result<IpAddr, Refusal> {
    vm.pod.as_deref().and_then(of_pod).ok_or_else(|| {
        let text = format!(
            "{} has no address that its node can vouch for: give it an interface with masquerade, or an address by the \
             annotation sheaf.dev/addresses",
            vm.name()
        );
        Refusal::new(StatusCode::CONFLICT, text)
    })
}

fn of_pod(pod: &Pod) -> Option<IpAddr> {
    let first = pod.status.as_ref()?.pod_ips.as_ref()?.first()?;
    first.ip.parse().ok().filter(crate::vms::is_reachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_pods_own_address_is_connected_to() {
        let pod =
            |status| -> Pod { serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap() };
        let own = pod(json!({"podIPs": [{"ip": "100.127.240.5"}]}));
        assert_eq!(of_pod(&own), Some("100.127.240.5".parse().unwrap()));
        for ips in [
            json!([]),
            json!([{"ip": "127.0.0.1"}]),
            json!([{"ip": "169.254.169.254"}]),
            json!([{"ip": "x"}]),
        ] {
            assert_eq!(of_pod(&pod(json!({"podIPs": ips}))), None);
        }
        // What the guest claims stands in an annotation, which is not read.
        let claims: Pod = serde_json::from_value(json!({"metadata": {"annotations":
            {"sheaf.dev/interfaces": r#"[{"name":"a","ipAddresses":["192.0.2.9"],"infoSource":"guest-agent"}]"#}}})).unwrap();
        assert_eq!(of_pod(&claims), None);
    }
}
