//! Where clients send the images of their uploads.
//!
//! Pure. Route in: the CDIConfig and the EndpointSlices of the controller's replicas. Route out: the status that it is to have.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use sheaf_api::cdi::{CdiConfig, CdiConfigStatus};

/// The administrator's URL, or a replica's: the one that is there already while it serves.
pub fn status(config: &CdiConfig, slices: &[EndpointSlice]) -> CdiConfigStatus {
    if let Some(url) = &config.spec.upload_proxy_url_override {
        return CdiConfigStatus { upload_proxy_url: Some(url.clone()) };
    }
    let mut urls: Vec<String> = slices.iter().flat_map(urls).collect();
    urls.sort();
    let before = config.status.as_ref().and_then(|status| status.upload_proxy_url.as_ref());
    let kept = before.filter(|url| urls.contains(url));
    CdiConfigStatus { upload_proxy_url: kept.or(urls.first()).cloned() }
}

fn urls(slice: &EndpointSlice) -> Vec<String> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    let addresses = || slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    let of = |port| {
        let addresses = addresses().filter_map(|address| address.parse::<IpAddr>().ok());
        addresses.map(move |address| format!("https://{}", SocketAddr::new(address, port)))
    };
    ports.flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(spec: Value, before: Option<&str>) -> CdiConfig {
        serde_json::from_value(json!({"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "CDIConfig",
            "metadata": {"name": "config"}, "spec": spec, "status": {"uploadProxyURL": before}}))
        .unwrap()
    }

    fn slice(address: &str) -> EndpointSlice {
        serde_json::from_value(json!({"metadata": {}, "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}], "ports": [{"name": "https", "port": 10913}]}))
        .unwrap()
    }

    fn of(spec: Value, before: Option<&str>, slices: &[EndpointSlice]) -> Option<String> {
        status(&config(spec, before), slices).upload_proxy_url
    }

    #[test]
    fn the_url_stays_while_its_replica_serves_and_is_then_another_ones() {
        let two = [slice("192.0.2.2"), slice("192.0.2.1")];
        assert_eq!(of(json!({}), None, &two).as_deref(), Some("https://192.0.2.1:10913"));
        let second = Some("https://192.0.2.2:10913");
        assert_eq!(of(json!({}), second, &two).as_deref(), second);
        assert_eq!(of(json!({}), second, &two[1..]).as_deref(), Some("https://192.0.2.1:10913"));
        assert_eq!(of(json!({}), second, &[]), None);
        assert_eq!(
            of(json!({}), None, &[slice("2001:db8::1")]).as_deref(),
            Some("https://[2001:db8::1]:10913")
        );
    }

    #[test]
    fn the_administrators_url_counts() {
        let own = json!({"uploadProxyURLOverride": "https://images.example.org"});
        assert_eq!(of(own, None, &[slice("192.0.2.1")]).as_deref(), Some("https://images.example.org"));
    }
}
