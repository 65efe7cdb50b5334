//! Links of an export: where its volumes are downloaded.
//!
//! Why here: the controller writes them, the server reads their paths ([`crate::aggregated`]), and KubeVirt's clients follow
//! them: their form is KubeVirt's. Pure. Route in: an address, an export. Route out: URLs.

use std::net::SocketAddr;

use sheaf_api::vm_export::{
    ExportFormat, ExportLink, ExportLinks, ExportManifest, ExportVolume, Format, GROUP, LATER_VERSION,
    ManifestType, VirtualMachineExport,
};

/// Where an export is, at the server that listens at `address`.
pub fn base(address: SocketAddr, export: &VirtualMachineExport) -> String {
    let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
    let name = export.metadata.name.as_deref().unwrap_or_default();
    format!(
        "https://{address}/api/{GROUP}/{LATER_VERSION}/namespaces/{namespace}/virtualmachineexports/{name}"
    )
}

/// Where a volume is, below `base`, compressed.
pub fn packed(base: &str, volume: &str) -> String {
    format!("{base}/volumes/{volume}/disk.img.gz")
}

/// The links of `export`, whose volumes have these names.
pub fn links(
    address: SocketAddr,
    authority: &str,
    export: &VirtualMachineExport,
    names: &[String],
) -> ExportLinks {
    let base = base(address, export);
    let of = |from: &str| ExportLink {
        cert: authority.trim().to_owned(),
        volumes: names.iter().map(|name| volume(&base, name)).collect(),
        manifests: manifests(&base, from, export),
    };
    ExportLinks { internal: Some(of("internal")), external: Some(of("external")) }
}

fn volume(base: &str, name: &str) -> ExportVolume {
    let raw = ExportFormat { format: Format::Raw, url: format!("{base}/volumes/{name}/disk.img") };
    let gzip = ExportFormat { format: Format::Gzip, url: packed(base, name) };
    ExportVolume { name: name.to_owned(), formats: vec![raw, gzip] }
}

/// A claim has none: there is no VM.
fn manifests(base: &str, from: &str, export: &VirtualMachineExport) -> Vec<ExportManifest> {
    if export.spec.source.kind == "PersistentVolumeClaim" {
        return Vec::new();
    }
    [(ManifestType::All, "all"), (ManifestType::AuthHeaderSecret, "secret")]
        .map(|(type_, name)| ExportManifest { type_, url: format!("{base}/{from}/manifests/{name}") })
        .into()
}
