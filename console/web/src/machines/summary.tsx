/** What a machine is and how it is. */
import { Card, CardBody, CardTitle, Stack, StackItem } from "@patternfly/react-core";
import { Conditions } from "../parts/conditions.tsx";
import { Facts } from "../parts/facts.tsx";
import { State } from "../parts/state.tsx";
import { link } from "../route.ts";
import { bytes, count, moment } from "../units.ts";
import { Credentials } from "./credentials.tsx";
import type { Machine } from "./view.ts";

const STRATEGIES: Record<string, string> = {
  Always: "Always: started again whenever it ends",
  RerunOnFailure: "Until it shuts itself down: started again after a failure",
  Manual: "Started and stopped by hand",
  Halted: "Stopped",
  Once: "Once: not started again",
};

export function Summary({ machine }: { machine: Machine }) {
  const { vm, vmi } = machine;
  const strategy = vm.spec.runStrategy ?? (vm.spec.running ? "Always" : "Halted");
  const started = vmi?.status?.phaseTransitionTimestamps?.find(
    (one) => one.phase === "Running",
  )?.phaseTransitionTimestamp;
  const firmware = vm.spec.template.spec.domain.firmware?.bootloader?.efi ? "UEFI" : "BIOS";
  return (
    <Stack hasGutter>
      <StackItem>
        <Card>
          <CardTitle component="h2">Machine</CardTitle>
          <CardBody>
            <Facts
              label={`Machine ${machine.name}`}
              facts={[
                ["State", <State tone={machine.tone}>{machine.state}</State>],
                ["Node", machine.node ? <a href={link({ page: "node", name: machine.node })}>{machine.node}</a> : ""],
                ["Address", machine.address],
                [
                  "Size",
                  [
                    machine.size,
                    machine.cpus ? count(machine.cpus, "processor") : "",
                    machine.memory ? bytes(machine.memory) : "",
                  ]
                    .filter(Boolean)
                    .join(", "),
                ],
                ["Runs", STRATEGIES[strategy] ?? strategy],
                ["Running since", started ? moment(started) : ""],
                ["Firmware", firmware],
                ["Operating system", vm.spec.preference?.name ?? ""],
                ["Created", moment(machine.created)],
              ]}
            />
          </CardBody>
        </Card>
      </StackItem>
      <StackItem>
        <Credentials machine={machine} />
      </StackItem>
      <StackItem>
        <Card>
          <CardTitle component="h2">What is reported</CardTitle>
          <CardBody>
            <Conditions
              conditions={[
                ...(vm.status?.conditions ?? []),
                ...(vmi?.status?.conditions ?? []).filter((one) => one.type !== "Ready"),
              ]}
            />
          </CardBody>
        </Card>
      </StackItem>
    </Stack>
  );
}
