//! The whole table: every run strategy with every state of the instance, for each act.

use super::*;
use serde_json::json;

const STRATEGIES: [RunStrategy; 5] = [
    RunStrategy::Always,
    RunStrategy::Halted,
    RunStrategy::Manual,
    RunStrategy::RerunOnFailure,
    RunStrategy::Once,
];

fn vm(strategy: RunStrategy) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "uid": "v"},
        "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}},
    }))
    .unwrap()
}

/// An instance in `phase`; none for `absent`, one without a phase for `new`.
fn vmi(phase: &str) -> Option<VirtualMachineInstance> {
    let status = match phase {
        "absent" => return None,
        "new" => json!({}),
        phase => json!({"phase": phase}),
    };
    let value = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "uid": "i"},
        "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}, "terminationGracePeriodSeconds": 30},
        "status": status,
    });
    Some(serde_json::from_value(value).unwrap())
}

/// In a word: what is asked of the VM, or why not.
fn word(decision: Result<Change, Refusal>) -> String {
    let prefix = "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"web\": ";
    match decision {
        Ok(Change { what: What::Run(true), .. }) => "run".into(),
        Ok(Change { what: What::Run(false), .. }) => "halt".into(),
        Ok(Change { what: What::Ask(requests), .. }) => {
            let words: Vec<String> = requests
                .iter()
                .map(|one| {
                    format!(
                        "{:?}{}",
                        one.action,
                        one.uid.as_deref().map_or(String::new(), |uid| format!(" {uid}"))
                    )
                })
                .collect();
            words.join(", ")
        }
        Err(refusal) if refusal.code == 409 => refusal.message.strip_prefix(prefix).unwrap().to_owned(),
        Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
    }
}

const PHASES: [&str; 8] =
    ["absent", "new", "Pending", "Scheduling", "Scheduled", "Running", "Succeeded", "Failed"];

/// One row a strategy, one column a phase, tried on `act`.
fn table(
    act: impl Fn(&VirtualMachine, Option<&VirtualMachineInstance>) -> Result<Change, Refusal>,
) -> Vec<Vec<String>> {
    let row = |strategy: RunStrategy| {
        PHASES.iter().map(|phase| word(act(&vm(strategy), vmi(phase).as_ref()))).collect()
    };
    STRATEGIES.into_iter().map(row).collect()
}

/// A row whose cells are `first` for the first `n` phases and so on.
fn cells(parts: &[(usize, &str)]) -> Vec<String> {
    parts.iter().flat_map(|(n, text)| std::iter::repeat_n((*text).to_owned(), *n)).collect()
}

#[test]
fn start_by_strategy_and_phase_is_kubevirts_table() {
    let found = table(|vm, vmi| start(vm, vmi, &options::Start::default()));
    let running = "VM is already running";
    let never = |strategy: &str| format!("{strategy} does not support manual start requests");
    let (always, once) = (never("Always"), never("Once"));
    assert_eq!(found[0], cells(&[(2, &always), (4, running), (2, &always)]));
    assert_eq!(found[1], cells(&[(2, "run"), (4, running), (2, "run")]));
    assert_eq!(found[2], cells(&[(2, "Start"), (4, running), (2, "Stop i, Start")]));
    let failed = "RerunOnFailure does not support starting VM from failed state";
    assert_eq!(found[3], cells(&[(2, "Start"), (4, running), (1, "Stop i, Start"), (1, failed)]));
    assert_eq!(found[4], cells(&[(2, &once), (4, running), (2, &once)]));
}

#[test]
fn stop_by_strategy_and_phase_is_kubevirts_table() {
    let found = table(|vm, vmi| stop(vm, vmi, &options::Stop::default()));
    let not = "VM is not running";
    assert_eq!(found[0], cells(&[(8, "halt")]));
    let shorter = "Halted only supports manual stop requests with a shorter graceperiod";
    assert_eq!(found[1], cells(&[(1, not), (5, shorter), (2, not)]));
    assert_eq!(found[2], cells(&[(1, not), (5, "Stop i"), (2, not)]));
    assert_eq!(found[3], found[2]);
    assert_eq!(found[4], found[0]);
}

#[test]
fn restart_by_strategy_and_phase_is_kubevirts_table() {
    let found = table(|vm, vmi| restart(vm, vmi, &options::Restart::default()));
    let absent = "VM is not running: Halted";
    for row in [0, 2, 3] {
        assert_eq!(found[row], cells(&[(1, absent), (7, "Stop i, Start")]));
    }
    for (row, strategy) in [(1, "Halted"), (4, "Once")] {
        let never = format!("RunStategy {strategy} does not support manual restart requests");
        assert_eq!(found[row], cells(&[(8, &never)]));
    }
}

#[test]
fn a_shorter_grace_stops_what_is_halted_already_and_a_longer_one_does_not() {
    let grace = |seconds| options::Stop { grace_period: Some(seconds), dry_run: Vec::new() };
    let halted = vm(RunStrategy::Halted);
    let running = vmi("Running");
    let change = stop(&halted, running.as_ref(), &grace(5)).unwrap();
    assert_eq!((word(Ok(change.clone())).as_str(), change.shorten_grace), ("Stop i", Some(5)));
    assert_eq!(stop(&halted, running.as_ref(), &grace(30)).unwrap_err().code, 409);
    assert_eq!(stop(&halted, running.as_ref(), &grace(-1)).unwrap_err().code, 400);
    let always = stop(&vm(RunStrategy::Always), running.as_ref(), &grace(0)).unwrap();
    assert_eq!(always.shorten_grace, Some(0));
    assert_eq!(stop(&vm(RunStrategy::Always), None, &grace(0)).unwrap().shorten_grace, None);
}

#[test]
fn a_forced_restart_knows_no_grace_but_zero() {
    let grace = |seconds| options::Restart { grace_period_seconds: Some(seconds), dry_run: Vec::new() };
    let (vm, running) = (vm(RunStrategy::Manual), vmi("Running"));
    assert_eq!(restart(&vm, running.as_ref(), &grace(0)).unwrap().shorten_grace, Some(0));
    for (seconds, why) in [
        (1, "For force restart, only gracePeriod=0 is supported for now"),
        (-1, "gracePeriod has to be greater or equal to 0"),
    ] {
        let refusal = restart(&vm, running.as_ref(), &grace(seconds)).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (400, why));
    }
}

#[test]
fn a_vm_is_not_started_unpaused_when_paused_was_asked_for() {
    let options = options::Start { paused: true, dry_run: Vec::new() };
    let asked = What::Ask(vec![StateChangeRequest::start_paused()]);
    for strategy in [RunStrategy::Halted, RunStrategy::Manual] {
        assert_eq!(start(&vm(strategy), None, &options).unwrap().what, asked, "{strategy}");
    }
    assert_eq!(start(&vm(RunStrategy::Always), None, &options).unwrap_err().code, 409);
}
