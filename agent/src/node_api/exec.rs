//! `exec`: the one command that a placeholder Pod has, `virt-freezer`.
//!
//! Why here: backup tools freeze a guest by it before they copy its disks (Velero's hooks, `pre.hook.backup.velero.io` in
//! annotations of the Pod). There is no container to run anything else in. Pure, but for [`run`]. Route in: the command of a
//! request. Route out: the guest's agent.

use super::freeze;
use super::serve::State;
use super::streams::channels::Ended;
use super::vm::Vm;
use sheaf_host::libvirt::VmHost;
use std::sync::Arc;

/// KubeVirt's path of it.
const PROGRAM: &str = "/usr/bin/virt-freezer";
/// Seconds after which a guest is thawed when the command does not say: KubeVirt's default.
const THAW_AFTER: u64 = 300;
/// Longest time that a guest may stay frozen, in seconds.
const MOST_FROZEN: u64 = 3600;

/// What it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freezer {
    /// Freeze, for at most so many seconds.
    Freeze(u64),
    /// Thaw.
    Thaw,
}

/// Reads a command line for the VM `namespace`/`name`; the error is what the command prints.
pub fn parse(command: &[String], namespace: &str, name: &str) -> Result<Freezer, String> {
    let Some((program, words)) = command.split_first() else {
        return Err("exec needs a command".into());
    };
    if program != PROGRAM && program != "virt-freezer" {
        return Err(format!(
            "{program} is not offered: this Pod holds the place of a VM and has no programs but {PROGRAM}; \
             log in by `virtctl ssh` or `virtctl console`"
        ));
    }
    let (mut freeze, mut thaw, mut seconds) = (false, false, THAW_AFTER);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, joined) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || joined.clone().or_else(|| words.next().cloned()).unwrap_or_default();
        match flag {
            "--freeze" => freeze = joined.as_deref() != Some("false"),
            "--unfreeze" => thaw = joined.as_deref() != Some("false"),
            "--name" => same("--name", &value(), name)?,
            "--namespace" => same("--namespace", &value(), namespace)?,
            "--unfreezeTimeoutSeconds" => {
                let text = value();
                seconds =
                    text.parse().map_err(|_| format!("--unfreezeTimeoutSeconds {text:?} is no number"))?;
            }
            _ => return Err(format!("{flag} is not known; use --freeze or --unfreeze")),
        }
    }
    match (freeze, thaw) {
        (true, false) => {
            Ok(Freezer::Freeze(if seconds == 0 { THAW_AFTER } else { seconds.min(MOST_FROZEN) }))
        }
        (false, true) => Ok(Freezer::Thaw),
        _ => Err("use one of --freeze and --unfreeze".into()),
    }
}

fn same(flag: &str, given: &str, own: &str) -> Result<(), String> {
    if given == own { Ok(()) } else { Err(format!("{flag} {given:?}: the VM of this Pod is {own:?}")) }
}

/// Does it; what it prints and how it ended.
pub async fn run<V: VmHost>(state: &Arc<State<V>>, vm: &Vm, command: &[String]) -> (String, Ended) {
    let failed = |why: String| (format!("{why}\n"), Ended::ExitCode(1));
    let freezer = match parse(command, &vm.record.namespace, &vm.record.vmi) {
        Ok(freezer) => freezer,
        Err(why) => return failed(why),
    };
    let done = match freezer {
        Freezer::Freeze(seconds) => match freeze::freeze(state, vm, seconds).await {
            Ok(done) => done,
            Err(refusal) => return failed(refusal.1),
        },
        Freezer::Thaw => freeze::thaw(state, &vm.folder, &vm.uuid).await,
    };
    match done {
        Ok(()) => (String::new(), Ended::Well),
        Err(error) => failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Freezer, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&words, "shop", "web")
    }

    #[test]
    fn the_hooks_of_backup_tools_are_understood_in_both_forms() {
        let freeze = "/usr/bin/virt-freezer --freeze --name web --namespace shop";
        assert_eq!(of(freeze), Ok(Freezer::Freeze(300)));
        let timed = "/usr/bin/virt-freezer --freeze --name=web --namespace=shop --unfreezeTimeoutSeconds=60";
        assert_eq!(of(timed), Ok(Freezer::Freeze(60)));
        assert_eq!(of("virt-freezer --unfreeze --name web --namespace shop"), Ok(Freezer::Thaw));
    }

    #[test]
    fn another_command_or_vm_is_refused_with_what_to_do() {
        assert!(of("sh -c true").unwrap_err().contains("virtctl ssh"));
        assert_eq!(
            of("virt-freezer --freeze --name db"),
            Err("--name \"db\": the VM of this Pod is \"web\"".into())
        );
        assert_eq!(of("virt-freezer --freeze --unfreeze"), Err("use one of --freeze and --unfreeze".into()));
        assert!(of("virt-freezer --freeze --unfreezeTimeoutSeconds x").is_err());
        assert!(parse(&[], "shop", "web").is_err());
    }
}
