//! Features of Hyper-V that others need: switched on with them, as KubeVirt does.
//!
//! Why here: QEMU refuses a feature whose requirement is missing, and manifests name what they want, not what that needs.
//! A requirement that is switched off is refused by the API server. Pure. Route in and out: the domain of a spec.

use sheaf_api::{
    domain::{CpuFeature, CpuFeaturePolicy, DomainSpec},
    features::FeatureState,
};

/// CPU feature that enlightened VMCS is about.
const VMX: &str = "vmx";

/// Adds what the features of `domain` need.
pub fn complete(domain: &mut DomainSpec) {
    let Some(hyperv) = domain.features.as_mut().and_then(|features| features.hyperv.as_mut()) else { return };
    let is_on = |state: &Option<FeatureState>| state.as_ref().is_some_and(FeatureState::is_on);
    if hyperv.synictimer.as_ref().is_some_and(|timer| timer.enabled.unwrap_or(true)) {
        hyperv.synic.get_or_insert_default();
    }
    if [&hyperv.synic, &hyperv.ipi, &hyperv.tlbflush].into_iter().any(is_on) {
        hyperv.vpindex.get_or_insert_default();
    }
    if is_on(&hyperv.evmcs) {
        hyperv.vapic.get_or_insert_default();
        let features = &mut domain.cpu.get_or_insert_default().features;
        if features.iter().all(|feature| feature.name != VMX) {
            features.push(CpuFeature { name: VMX.into(), policy: Some(CpuFeaturePolicy::Require) });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn completed(hyperv: Value) -> (Value, Value) {
        let mut domain: DomainSpec =
            serde_json::from_value(json!({"devices": {}, "features": {"hyperv": hyperv}})).unwrap();
        complete(&mut domain);
        let once = domain.clone();
        complete(&mut domain);
        assert_eq!(domain, once);
        let domain = serde_json::to_value(domain).unwrap();
        (domain["features"]["hyperv"].clone(), domain["cpu"]["features"].clone())
    }

    #[test]
    fn timers_bring_their_controller_and_that_the_index() {
        let all = json!({"synictimer": {}, "synic": {}, "vpindex": {}});
        assert_eq!(completed(json!({"synictimer": {}})).0, all);
        assert_eq!(completed(json!({"tlbflush": {}})).0, json!({"tlbflush": {}, "vpindex": {}}));
        assert_eq!(completed(json!({"ipi": {"enabled": false}})).0, json!({"ipi": {"enabled": false}}));
    }

    #[test]
    fn enlightened_vmcs_brings_vapic_and_the_cpu_feature() {
        let (hyperv, cpu) = completed(json!({"evmcs": {}}));
        assert_eq!(hyperv, json!({"evmcs": {}, "vapic": {}}));
        assert_eq!(cpu, json!([{"name": "vmx", "policy": "require"}]));
    }
}
