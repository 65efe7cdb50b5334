//! A second machine.

use sheaf_machine::spec::Lan;
use sheaf_machine::{Medium, NodeMachine, lab};
use sheaf_tests::harness::{READY, RUNNING, case};

#[test]
fn a_second_machine_joins_by_token_and_gets_the_vm_when_the_first_is_cordoned() {
    case("join", |case| {
        let cluster = case.cluster()?;
        let node = case.with_image(lab::Node::second(&cluster.ca_hash))?;
        let iso = case.iso(&cluster.operator, &case.built()?, &node)?;
        let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
        machine.spec.lan = Lan::Cable(cluster.switch.socket());
        machine.install(Medium::Usb(iso), |_| {})?;
        let _second = machine.boot()?;
        cluster.operator.wait_node_ready("node2", READY)?;

        cluster.operator.kubectl(&["cordon", "node1"])?;
        cluster.operator.wait_apply(include_str!("../../docs/examples/vm.yaml"), READY)?;
        let vmi = cluster.operator.wait_vm_running("wheat", RUNNING)?;
        assert_eq!(vmi["status"]["nodeName"], "node2");
        Ok(())
    });
}
