//! A second machine.

use sheaf_tests::harness::{READY, RUNNING, case};

#[test]
fn a_second_machine_joins_by_token_and_gets_the_vm_when_the_first_is_cordoned() {
    case("join", |case| {
        let cluster = case.cluster()?;
        let _second = case.second_node(&cluster)?;

        cluster.operator.kubectl(&["cordon", "node1"])?;
        cluster.operator.wait_apply(include_str!("../../docs/examples/vm.yaml"), READY)?;
        let vmi = cluster.operator.wait_vm_running("wheat", RUNNING)?;
        assert_eq!(vmi["status"]["nodeName"], "node2");
        Ok(())
    });
}
