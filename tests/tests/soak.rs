//! The same thing again and again: what fails once in twenty runs is found here and not in somebody's CI.
//!
//! `SHEAF_ROUNDS` says how often; without it twice, which is enough: without `sheaf_machine::emulator`'s patch of QEMU the
//! first round already fails. Every round is a node of its own,
//! restored: so each VM is the first of its node.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::Machine;
use sheaf_tests::harness::{Case, Cluster, READY, case, field};
use std::cell::RefCell;
use std::time::{Duration, Instant};

const VM: &str = include_str!("../../docs/examples/vm.yaml");
/// From `kubectl apply` to the guest's first line; thrice what it takes on two busy cores.
const FIRST_LINE: Duration = Duration::from_secs(420);
/// Loads its FPU state forever on processor 1: makes the race of `sheaf_machine::emulator` certain within two rounds.
const LOOP: &str = include_str!("soak/fldenv.S");

fn rounds() -> u32 {
    std::env::var("SHEAF_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

#[test]
fn the_first_vm_of_a_node_starts_every_time_also_while_its_fpu_is_stressed() {
    let failures = RefCell::new(Vec::new());
    case("soak-first-vm", |case: &Case| {
        let program = stress(case)?;
        for round in 1..=rounds() {
            let begin = Instant::now();
            let mut cluster = case.cluster()?;
            cluster.root(&program)?;
            let started = first_line(&mut cluster);
            let took = begin.elapsed().as_secs();
            match started {
                Ok(up) => eprintln!("round {round}: {took} s, guest {}", field(&up, "uptime")),
                Err(error) => {
                    eprintln!("round {round}: {took} s: {error:#}\n{}", autopsy(&mut cluster.machine));
                    failures.borrow_mut().push(round);
                }
            }
        }
        Ok(())
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "rounds {failures:?} of {} failed", rounds());
}

/// The shell command that starts the loop on a node: the program itself goes over the line.
fn stress(case: &Case) -> Result<String> {
    let (source, program) = (case.work().join("fldenv.S"), case.work().join("fldenv"));
    std::fs::write(&source, LOOP)?;
    let cc = Command::new("cc")
        .args(["-nostdlib", "-static", "-s", "-Wl,-N,--build-id=none", "-o"])
        .arg(&program)
        .arg(&source);
    System.run(&cc)?;
    let code = STANDARD.encode(std::fs::read(&program)?);
    Ok(format!(
        "mount -t tmpfs -o exec,mode=0700 stress /mnt && echo {code} | base64 -d >/mnt/fldenv && chmod +x /mnt/fldenv && \
         (setsid /mnt/fldenv >/dev/null 2>&1 </dev/null &) && pgrep fldenv"
    ))
}

/// Starts the VM; ends early when the node's own kernel gives up.
fn first_line(cluster: &mut Cluster) -> Result<String> {
    cluster.operator.wait_apply(VM, READY)?;
    let shell = cluster.machine.shell();
    let look = "grep -ah 'guest: up' /data/vms/*/console.log | tail -n 1";
    Ok(cluster.machine.wait("guest's first line", FIRST_LINE, |_| {
        shell.run(look, Duration::from_secs(10)).ok().filter(|line| line.contains("guest: up"))
    })?)
}

/// What a node that stopped shows: its processors, and the kernel stack each stands on.
fn autopsy(machine: &mut Machine) -> String {
    let mut found = String::new();
    for processor in 0..2 {
        let mut monitor = |line: &str| {
            let arguments = json!({"command-line": line, "cpu-index": processor});
            let answer = machine.qmp("human-monitor-command", arguments).context("QEMU's monitor");
            answer.map_or_else(
                |error| format!("{error:#}"),
                |text| text.as_str().unwrap_or_default().to_owned(),
            )
        };
        let registers = monitor("info registers");
        let stack =
            registers.split("RSP=").nth(1).and_then(|rest| u64::from_str_radix(rest.get(..16)?, 16).ok());
        found += &format!("processor {processor}\n{registers}\n");
        if let Some(stack) = stack {
            // x86-64's kernel stacks are 16 KiB and aligned; the monitor shows no more than a page at a time.
            for page in 0..4 {
                found += &monitor(&format!("x /512gx {:#x}", (stack & !0x3fff) + page * 4096));
            }
        }
    }
    found
}
