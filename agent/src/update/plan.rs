//! What follows for the node's release from what was observed. Pure.
//!
//! Why the order of steps is safe: the other slot is disarmed before its first byte changes, and armed again, by one
//! rename and one sector, when every byte of it was read back. A plan that was cut short anywhere is made again from what
//! is observed then, and ends the same. Route in: [`Observed`], what is wanted. Route out: [`Plan`].

mod unfit;

pub use unfit::{Unfit, judge, judge_staged};

use super::loaders;
use super::observed::{Observed, Wanted};
use super::records::{Outcome, Place, Request, Trial};
use sheaf_api::node_update::{Action, Phase};
use sheaf_config::grub;
use sheaf_release::boot::{Slot, TRIES, counted, good};
use sheaf_release::version::compare;
use std::fmt;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fetch the manifest, judge it, look at the first frame of each image, and fetch the UKI.
    Fetch {
        /// What is expected, and for whom.
        wanted: Box<Wanted>,
        /// Where the release is.
        from: Place,
    },
    /// Make the boot loaders pass over the other slot.
    Disarm {
        /// GRUB's variables.
        environment: Vec<(String, String)>,
        /// UKIs and what is left of them, removed.
        remove: Vec<String>,
    },
    /// Write the hash tree to the slot and verify it up to the root hash.
    WriteTree {
        /// The slot.
        slot: Slot,
        /// Where the release is.
        from: Place,
    },
    /// Write the root: keep what is right, copy what the running root has, fetch the rest.
    WriteRoot {
        /// The slot.
        slot: Slot,
        /// Where the release is.
        from: Place,
    },
    /// Read all of the slot again and compare every block with the tree.
    Verify {
        /// The slot.
        slot: Slot,
    },
    /// Remember that the slot is complete.
    MarkStaged,
    /// Take a snapshot of this node's etcd, and remember its name.
    SaveEtcd {
        /// For whom.
        request: Request,
        /// Before which version.
        version: String,
    },
    /// Write GRUB's script that loads the slot's kernel.
    WriteEntry {
        /// The slot.
        slot: Slot,
    },
    /// Remember how the node is, and what is tried.
    BeginTrial(Box<Trial>),
    /// Press the power button of all VMs, and end those that do not power off in their time.
    StopVms,
    /// Write the UKI, under the name by which systemd-boot counts its tries.
    WriteUki {
        /// Its version.
        version: String,
    },
    /// Set GRUB's variables.
    WriteEnvironment(Vec<(String, String)>),
    /// Give a UKI another name, which changes what systemd-boot makes of it.
    RenameUki {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Replace a boot loader or the recovery by that of the running release.
    Refresh(loaders::File),
    /// Restart the machine.
    Restart,
    /// Stage nothing older from now on.
    RaiseFloor(String),
    /// Start nothing older on purpose from now on.
    Forbid(String),
    /// Keep why the release is given up, before anything that shows it is removed.
    Remember(Outcome),
    /// Keep how the update ended; the release folder and the record of the trial go.
    EndTrial(Outcome),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch { wanted, from: from @ Place::Drive(_) } => {
                write!(f, "fetch and judge release {} on {from}", wanted.version)
            }
            Self::Fetch { wanted, from } => write!(f, "fetch and judge release {} at {from}", wanted.version),
            Self::Disarm { remove, .. } if remove.is_empty() => f.write_str("disarm the other slot"),
            Self::Disarm { remove, .. } => write!(f, "disarm the other slot: remove {}", remove.join(", ")),
            Self::WriteTree { slot, .. } => write!(f, "write the hash tree of slot {}", slot.name()),
            Self::WriteRoot { slot, .. } => write!(f, "write the root of slot {}", slot.name()),
            Self::Verify { slot } => write!(f, "read slot {} back and verify it", slot.name()),
            Self::MarkStaged => f.write_str("remember that the release is staged"),
            Self::SaveEtcd { .. } => f.write_str("take a snapshot of etcd"),
            Self::WriteEntry { slot } => write!(f, "write GRUB's script of slot {}", slot.name()),
            Self::BeginTrial(trial) => {
                write!(f, "remember that {} is tried after {}", trial.version, trial.from)
            }
            Self::StopVms => f.write_str("stop the VMs of the node"),
            Self::WriteUki { version } => {
                write!(f, "write {} to the EFI system partition", counted(version, TRIES))
            }
            Self::WriteEnvironment(variables) => {
                let text: Vec<String> =
                    variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "set GRUB's variables: {}", text.join(", "))
            }
            Self::RenameUki { from, to } => write!(f, "rename {from} to {to}"),
            Self::Refresh(file) => {
                write!(f, "replace {file} on the EFI system partition by that of this release")
            }
            Self::Restart => f.write_str("restart the machine"),
            Self::RaiseFloor(version) => write!(f, "stage nothing older than {version} from now on"),
            Self::Forbid(version) => write!(f, "go back to nothing older than {version} from now on"),
            Self::Remember(outcome) => write!(f, "remember why {} is given up", outcome.version),
            Self::EndTrial(Outcome { version, reason: None, .. }) => write!(f, "keep {version}"),
            Self::EndTrial(Outcome { version, .. }) => write!(f, "give up {version}"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: nobody asks for anything.
    Idle,
    /// Nothing more, or nothing at all: it stands so.
    Settled(Phase, String),
    /// The running release is on trial: the health gate decides.
    Judge,
    /// Steps, in order.
    Work(Phase, Vec<Step>),
}

/// Decides. `wanted` is the NodeUpdate of this node.
pub fn plan(observed: &Observed, wanted: Option<&Wanted>) -> Plan {
    let running = &observed.running;
    if observed.running_uki().is_none() {
        let what = format!(
            "the EFI system partition holds no {}, which runs; nothing is changed on it. Install the node again",
            good(&running.version)
        );
        return Plan::Settled(Phase::Refused, what);
    }
    if observed.tries_left().is_some() {
        return Plan::Judge;
    }
    if let Some(trial) = &observed.trial {
        if trial.version == running.version {
            return Plan::Work(Phase::OnTrial, keep(observed, Some(trial)));
        }
        if let Some(reason) = rolled_back(observed, trial) {
            return Plan::Work(Phase::RolledBack, give_up(observed, trial, reason));
        }
    }
    let Some(wanted) = wanted else { return Plan::Idle };
    if wanted.version == running.version {
        return Plan::Settled(Phase::Updated, format!("{} runs", running.version));
    }
    match &observed.outcome {
        Some(Outcome { request, version, reason: Some(reason) })
            if *request == wanted.request && *version == wanted.version =>
        {
            let again = match wanted.is_local {
                true => "run the command again",
                false => "delete this NodeUpdate and create it again",
            };
            let message = format!("{version} was rolled back: {reason}. To try it again, {again}");
            return Plan::Settled(Phase::RolledBack, message);
        }
        _ => {}
    }
    if observed.good_other() == Some(wanted.version.as_str()) {
        if let Some(oldest) = forbidden(observed, &wanted.version) {
            let message = format!(
                "{} is older than {oldest}: a release that was found good here forbids going back behind that; take {oldest} \
                 or a newer one",
                wanted.version
            );
            return Plan::Settled(Phase::Refused, message);
        }
        return match wanted.action {
            Action::Apply => Plan::Work(Phase::Restarting, go_back(observed)),
            _ => {
                Plan::Settled(Phase::Staged, format!("{} is in the other slot and ran well", wanted.version))
            }
        };
    }
    update(observed, wanted)
}

/// Fetches, stages and applies, as far as that is not done yet.
fn update(observed: &Observed, wanted: &Wanted) -> Plan {
    let kept = observed.kept.as_ref().filter(|kept| {
        let is_of_request = kept.fetched.request == wanted.request || kept.fetched.staged;
        kept.manifest.version == wanted.version && is_of_request
    });
    let fetch = |from: &Place| {
        let fetch = Step::Fetch { wanted: Box::new(wanted.clone()), from: from.clone() };
        Plan::Work(Phase::Checking, vec![fetch])
    };
    let Some(kept) = kept else {
        return wanted.source.as_ref().map_or_else(|| without_source(wanted), fetch);
    };
    let can_be_staged = || Plan::Settled(Phase::Checked, format!("{} can be staged", wanted.version));
    if !kept.fetched.staged {
        let Some(from) = &wanted.source else { return without_source(wanted) };
        return match judge(&kept.manifest, wanted, observed) {
            // Tried again until the reason has passed.
            Err(unfit) if unfit.is_temporary() => fetch(from),
            Err(unfit) => Plan::Settled(Phase::Refused, unfit.to_string()),
            Ok(()) if wanted.action == Action::Check => can_be_staged(),
            Ok(()) => Plan::Work(Phase::Staging, stage(observed, from)),
        };
    }
    if let Err(unfit) = judge_staged(&kept.manifest, wanted, observed) {
        return Plan::Settled(Phase::Refused, unfit.to_string());
    }
    match wanted.action {
        Action::Check => can_be_staged(),
        Action::Stage => {
            Plan::Settled(Phase::Staged, format!("{} is complete in the other slot", wanted.version))
        }
        Action::Apply => {
            let floor = kept.manifest.terms.floor.clone();
            Plan::Work(Phase::Restarting, apply(observed, wanted, floor))
        }
    }
}

fn without_source(wanted: &Wanted) -> Plan {
    let remedy = match wanted.is_local {
        true => "give --url, --oci or --drive",
        false => "set source.url, source.oci or source.drive",
    };
    Plan::Settled(Phase::Refused, format!("{} is not in the other slot; {remedy}", wanted.version))
}

/// GRUB's variables with `first` first, and a counter for the other slot or none.
fn environment(first: Slot, left: Option<(Slot, u32)>) -> Vec<(String, String)> {
    let order = ("order".to_owned(), format!("{} {}", first.name(), first.other().name()));
    let left = left.map(|(slot, left)| (format!("{}_left", slot.name()), left.to_string()));
    std::iter::once(order).chain(left).collect()
}

/// The contents of GRUB's environment file with `variables`.
pub fn environment_text(variables: &[(String, String)]) -> String {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    grub::environment(&variables)
}

fn disarm(observed: &Observed) -> Option<Step> {
    let slot = observed.running.slot;
    let environment = environment(slot, Some((slot.other(), 0)));
    let mut remove: Vec<String> = observed.other_ukis().map(|uki| uki.file.clone()).collect();
    remove.extend(observed.esp.leftovers.iter().cloned());
    let is_done = remove.is_empty() && observed.esp.environment == environment;
    (!is_done).then_some(Step::Disarm { environment, remove })
}

fn stage(observed: &Observed, from: &Place) -> Vec<Step> {
    let slot = observed.running.slot.other();
    let mut steps: Vec<Step> = disarm(observed).into_iter().collect();
    steps.extend([
        Step::WriteTree { slot, from: from.clone() },
        Step::WriteRoot { slot, from: from.clone() },
        Step::Verify { slot },
        Step::MarkStaged,
    ]);
    steps
}

fn apply(observed: &Observed, wanted: &Wanted, floor: Option<String>) -> Vec<Step> {
    let (slot, running) = (observed.running.slot.other(), &observed.running);
    let begun = observed.trial.as_ref().filter(|trial| trial.version == wanted.version);
    let trial = Trial {
        version: wanted.version.clone(),
        slot: slot.name().into(),
        from: running.version.clone(),
        request: wanted.request.clone(),
        floor,
        timeout: wanted.timeout,
        // An agent that was started again in between has restarted nothing.
        restarts: begun.map_or(1, |trial| trial.restarts + u32::from(trial.boot_id != running.boot_id)),
        boot_id: running.boot_id.clone(),
        before: begun.and_then(|trial| trial.before.clone()),
        reasons: Vec::new(),
    };
    let rest = [
        Step::Verify { slot },
        Step::WriteEntry { slot },
        Step::BeginTrial(Box::new(trial)),
        Step::StopVms,
        Step::WriteUki { version: wanted.version.clone() },
        Step::WriteEnvironment(environment(slot, Some((slot, TRIES)))),
        Step::Restart,
    ];
    save_etcd(observed, wanted).into_iter().chain(rest).collect()
}

/// Without a snapshot a control-plane node does not restart into another release: the new etcd or API server may write what the
/// former cannot read. One is enough for a request, however often its steps are tried.
fn save_etcd(observed: &Observed, wanted: &Wanted) -> Option<Step> {
    let Wanted { request, version, without_snapshot, .. } = wanted;
    let is_saved = observed
        .snapshot
        .as_ref()
        .is_some_and(|saved| saved.request == *request && saved.version == *version);
    let is_needed = observed.has_etcd && !without_snapshot && !is_saved;
    is_needed.then(|| Step::SaveEtcd { request: request.clone(), version: version.clone() })
}

/// The running release is good: what remains to be done for that.
pub fn keep(observed: &Observed, trial: Option<&Trial>) -> Vec<Step> {
    let running = &observed.running;
    let mut steps = Vec::new();
    if let Some(uki) = observed.running_uki().filter(|uki| uki.left.is_some()) {
        steps.push(Step::RenameUki { from: uki.file.clone(), to: good(&running.version) });
    }
    let environment = environment(running.slot, None);
    if observed.esp.environment != environment {
        steps.push(Step::WriteEnvironment(environment));
    }
    let is_newest = observed.floor.as_deref().is_none_or(|floor| compare(floor, &running.version).is_lt());
    if is_newest {
        steps.push(Step::RaiseFloor(running.version.clone()));
    }
    if let Some(oldest) = trial.and_then(|trial| trial.floor.clone()) {
        let is_higher = observed.oldest.as_deref().is_none_or(|now| compare(now, &oldest).is_lt());
        steps.extend(is_higher.then_some(Step::Forbid(oldest)));
    }
    steps.extend(loaders::refresh(observed));
    let request = trial.map(|trial| trial.request.clone()).unwrap_or_default();
    steps.push(Step::EndTrial(Outcome { version: running.version.clone(), request, reason: None }));
    steps
}

/// Why the release of `trial`, which does not run, is not tried any more; nothing while it is still to be started.
fn rolled_back(observed: &Observed, trial: &Trial) -> Option<String> {
    if trial.boot_id == observed.running.boot_id {
        return None;
    }
    // It was given up before, and the agent did not come to the end of that.
    let given_up =
        observed.outcome.as_ref().filter(|of| of.version == trial.version && of.request == trial.request);
    if let Some(reason) = given_up.and_then(|outcome| outcome.reason.clone()) {
        return Some(reason);
    }
    if let Some(reason) = trial.reasons.last() {
        return Some(reason.clone());
    }
    if observed.was_tried(trial) {
        return Some(
            "its agent never reported: the kernel, the root or the agent did not start; the console of the machine shows \
             how far it came"
                .into(),
        );
    }
    (trial.restarts >= TRIES).then(|| {
        format!(
            "the boot loader did not start it at {} restarts; see which entry the firmware prefers",
            trial.restarts
        )
    })
}

fn give_up(observed: &Observed, trial: &Trial, reason: String) -> Vec<Step> {
    let outcome =
        Outcome { version: trial.version.clone(), request: trial.request.clone(), reason: Some(reason) };
    let remember = [Step::Remember(outcome.clone())];
    remember.into_iter().chain(disarm(observed)).chain([Step::EndTrial(outcome)]).collect()
}

/// The version that `version` is older than, if that forbids to start it.
fn forbidden<'o>(observed: &'o Observed, version: &str) -> Option<&'o str> {
    observed.oldest.as_deref().filter(|oldest| compare(version, oldest).is_lt())
}

/// Starts the other slot, which holds a good release; the running one becomes the last choice.
fn go_back(observed: &Observed) -> Vec<Step> {
    let mut steps =
        vec![Step::StopVms, Step::WriteEnvironment(environment(observed.running.slot.other(), None))];
    if let Some(uki) = observed.running_uki() {
        steps.push(Step::RenameUki { from: uki.file.clone(), to: counted(&observed.running.version, 0) });
    }
    steps.push(Step::Restart);
    steps
}
