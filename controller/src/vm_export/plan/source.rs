//! What an export is of, and whether it can be read now.
//!
//! Why here: pure; a VM must be stopped, a claim unused, a snapshot taken, each said in KubeVirt's words. Route in: a [`Source`] as it
//! was read. Route out: [`Located`] volumes, or why the export waits.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use sheaf_api::{
    VirtualMachineInstance,
    names::VOLUME_DRIVER,
    storage::LocalVolume,
    vm_export::{ExportPhase, ExportedVolume, VirtualMachineExport},
};

use crate::volumes::handle;

/// What an export is of.
pub enum Source {
    /// A VM.
    Vm {
        /// Whether it exists.
        exists: bool,
        /// Its claims.
        claims: Vec<Claim>,
        /// Instances of the namespace.
        instances: Vec<VirtualMachineInstance>,
    },
    /// A snapshot, if it exists.
    Snapshot(Option<Snapshot>),
    /// A claim.
    Claim {
        /// The claim.
        claim: Box<Claim>,
        /// Instances of the namespace.
        instances: Vec<VirtualMachineInstance>,
    },
}

/// A claim that is exported.
pub struct Claim {
    /// Its name.
    pub name: String,
    /// It, if it exists.
    pub claim: Option<PersistentVolumeClaim>,
    /// What it is bound to.
    pub persistent: Option<PersistentVolume>,
    /// The LocalVolume of that.
    pub volume: Option<LocalVolume>,
}

/// A snapshot that is exported.
pub struct Snapshot {
    /// It may be used.
    pub is_ready: bool,
    /// Name of its VM.
    pub machine: Option<String>,
    /// Its volumes.
    pub taken: Vec<Taken>,
}

/// A volume of a snapshot.
pub struct Taken {
    /// The claim that it is of.
    pub claim: String,
    /// The LocalVolume that holds it.
    pub volume: Option<LocalVolume>,
}

/// Why an export is not Ready.
pub(super) struct Waits {
    /// The phase meanwhile.
    pub phase: ExportPhase,
    /// The reason of the condition Ready.
    pub reason: &'static str,
    /// The reason of the condition PVCReady.
    pub claims: &'static str,
    /// The same as a sentence.
    pub message: String,
}

/// A volume that can be read now.
pub(super) struct Located<'a> {
    /// Its node.
    pub node: &'a str,
    /// What of it is handed out.
    pub volume: ExportedVolume,
}

/// The VM that the volumes are of.
pub(super) fn machine(export: &VirtualMachineExport, source: &Source) -> Option<String> {
    match source {
        Source::Vm { .. } => Some(export.spec.source.name.clone()),
        Source::Snapshot(snapshot) => snapshot.as_ref()?.machine.clone(),
        Source::Claim { .. } => None,
    }
}

/// The volumes, if all of them can be read now.
pub(super) fn located<'a>(
    export: &VirtualMachineExport,
    source: &'a Source,
) -> Result<Vec<Located<'a>>, Waits> {
    let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
    let name = &export.spec.source.name;
    match source {
        Source::Vm { exists: false, .. } => {
            Err(Waits::missing(format!("Virtual Machine {namespace}/{name} does not exist")))
        }
        Source::Vm { claims, .. } if claims.is_empty() => Err(Waits {
            phase: ExportPhase::Skipped,
            reason: "VMNoVolumes",
            claims: "PVCNotFound",
            message: format!("Virtual Machine {namespace}/{name} has no volume on a claim"),
        }),
        Source::Vm { claims, instances, .. } => {
            let located = claims.iter().map(of_claim).collect::<Result<_, _>>()?;
            let own = |vmi: &VirtualMachineInstance| vmi.metadata.name.as_deref() == Some(name);
            if instances.iter().any(|vmi| own(vmi) && !is_over(vmi)) {
                return Err(Waits::used(format!("Virtual Machine {namespace}/{name} is running")));
            }
            claims.iter().try_for_each(|claim| unused(namespace, claim, instances))?;
            Ok(located)
        }
        Source::Claim { claim, instances } => {
            let located = of_claim(claim)?;
            unused(namespace, claim, instances)?;
            Ok(vec![located])
        }
        Source::Snapshot(None) => {
            Err(Waits::missing(format!("VirtualMachineSnapshot {namespace}/{name} does not exist")))
        }
        Source::Snapshot(Some(snapshot)) if !snapshot.is_ready => {
            Err(Waits::unready(format!("VirtualMachineSnapshot {namespace}/{name} is not ready to use")))
        }
        Source::Snapshot(Some(snapshot)) if snapshot.taken.is_empty() => Err(Waits {
            phase: ExportPhase::Skipped,
            reason: "VMSnapshotNoVolumes",
            claims: "PVCNotFound",
            message: format!(
                "VirtualMachineSnapshot {namespace}/{name} does not contain any volume snapshots"
            ),
        }),
        Source::Snapshot(Some(snapshot)) => {
            snapshot.taken.iter().map(|taken| placed(&taken.claim, taken.volume.as_ref())).collect()
        }
    }
}

impl Waits {
    fn missing(message: String) -> Self {
        Self { phase: ExportPhase::Pending, reason: "Initializing", claims: "PVCNotFound", message }
    }

    fn unready(message: String) -> Self {
        Self { phase: ExportPhase::Pending, reason: "Initializing", claims: "PVCPending", message }
    }

    fn used(message: String) -> Self {
        Self { phase: ExportPhase::Pending, reason: "InUse", claims: "PVCBound", message }
    }
}

fn of_claim(one: &Claim) -> Result<Located<'_>, Waits> {
    let name = &one.name;
    let claim = one.claim.as_ref();
    let claim =
        claim.ok_or_else(|| Waits::missing(format!("PersistentVolumeClaim {name} does not exist")))?;
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(Waits::missing(format!("PersistentVolumeClaim {name} is being deleted")));
    }
    let is_bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let Some(persistent) = one.persistent.as_ref().filter(|_| is_bound) else {
        return Err(Waits::unready(format!("PersistentVolumeClaim {name} is not bound")));
    };
    if handle(persistent).is_none() {
        return Err(Waits::unready(format!("PersistentVolumeClaim {name} is not of {VOLUME_DRIVER}")));
    }
    placed(name, one.volume.as_ref())
}

/// Where the LocalVolume behind the claim `name` is.
fn placed<'a>(name: &str, volume: Option<&'a LocalVolume>) -> Result<Located<'a>, Waits> {
    let ready = volume.filter(|volume| volume.is_ready() && volume.metadata.deletion_timestamp.is_none());
    let unready = || Waits::unready(format!("the volume of PersistentVolumeClaim {name} is not ready"));
    let volume = ready.ok_or_else(unready)?;
    let bytes = volume.status.as_ref().and_then(|status| status.size_bytes).ok_or_else(unready)?;
    let exported = ExportedVolume {
        name: name.to_owned(),
        volume: volume.metadata.name.clone().unwrap_or_default(),
        bytes,
    };
    Ok(Located { node: &volume.spec.node_name, volume: exported })
}

/// Whether no instance writes the claim.
fn unused(namespace: &str, claim: &Claim, instances: &[VirtualMachineInstance]) -> Result<(), Waits> {
    // An overlay over a claim does not write it.
    let writes = |vmi: &VirtualMachineInstance| {
        let mut volumes = vmi.spec.volumes.iter().filter(|volume| volume.ephemeral.is_none());
        volumes.any(|volume| volume.claim() == Some(claim.name.as_str()))
    };
    let user = instances.iter().find(|vmi| writes(vmi) && !is_over(vmi));
    let name = |vmi: &VirtualMachineInstance| vmi.metadata.name.clone().unwrap_or_default();
    user.map_or(Ok(()), |vmi| {
        let message = format!("pvc {namespace}/{} is in use by Virtual Machine {}", claim.name, name(vmi));
        Err(Waits::used(message))
    })
}

fn is_over(vmi: &VirtualMachineInstance) -> bool {
    vmi.status.as_ref().and_then(|status| status.phase).is_some_and(|phase| phase.is_final())
}
