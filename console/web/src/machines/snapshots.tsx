/** Snapshots of a machine: take one, restore, clone, download, delete. */
import {
  Alert,
  Button,
  EmptyState,
  EmptyStateActions,
  EmptyStateBody,
  EmptyStateFooter,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useState } from "react";
import { post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { attempt, done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { Kebab } from "../parts/kebab.tsx";
import { State } from "../parts/state.tsx";
import type { VirtualMachineSnapshot } from "../types/crds.ts";
import { moment } from "../units.ts";
import { Clone } from "./clone.tsx";
import { Download } from "./download.tsx";
import { condition, type Machine, type Tone } from "./view.ts";

const VM = { apiGroup: "kubevirt.io", kind: "VirtualMachine" };

const STATES: Record<string, [string, Tone]> = {
  InProgress: ["Being taken", "info"],
  Succeeded: ["Ready", "success"],
  Failed: ["Failed", "danger"],
  Deleting: ["Deleting", "info"],
};

/** `web-20261130-093000`: a name that sorts by time, UTC. */
const stamped = (name: string, now: Date): string =>
  `${name}-${now.toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-")}`;

/** What the guest's file systems are like in it (docs/operate.md, "Snapshots, restores and clones"). */
function consistency(snapshot: VirtualMachineSnapshot): string {
  const found = snapshot.status?.sourceIndications?.map((one) => one.indication) ?? [];
  if (found.includes("QuiesceTimeout")) return "As after a power cut: the guest was thawed before all disks were taken";
  if (found.includes("GuestAgent")) return "The guest's file systems were frozen";
  if (found.includes("Online")) return "As after a power cut";
  return snapshot.status?.phase === "Succeeded" ? "The machine was stopped" : "–";
}

type Open = { kind: "restore" | "delete" | "clone" | "download"; snapshot: VirtualMachineSnapshot } | undefined;

export function Snapshots({ machine }: { machine: Machine }) {
  const { project, name } = machine;
  const [open, setOpen] = useState<Open>();
  const snapshots = useObjects("snapshots").all.filter(
    (one) => one.metadata.namespace === project && one.spec.source.name === name,
  );
  const restores = useObjects("restores").all.filter(
    (one) => one.metadata.namespace === project && one.spec.target.name === name && !one.status?.complete,
  );
  const take = () => {
    const called = stamped(name, new Date());
    const snapshot = {
      apiVersion: "snapshot.kubevirt.io/v1beta1",
      kind: "VirtualMachineSnapshot",
      metadata: { name: called, namespace: project },
      spec: { source: { ...VM, name } },
    };
    void attempt(`Take snapshot ${called}`, () => post(paths.snapshot(project), snapshot));
  };
  const restore = (snapshot: VirtualMachineSnapshot) =>
    post(paths.restore(project), {
      apiVersion: "snapshot.kubevirt.io/v1beta1",
      kind: "VirtualMachineRestore",
      metadata: { name: stamped(`${name}-restore`, new Date()), namespace: project },
      spec: {
        target: { ...VM, name },
        virtualMachineSnapshotName: snapshot.metadata.name,
        targetReadinessPolicy: "StopTarget",
      },
    });
  const button = (
    <Button variant="primary" onClick={take}>
      Take snapshot
    </Button>
  );
  const ordered = [...snapshots].sort((left, right) =>
    (right.metadata.creationTimestamp ?? "").localeCompare(left.metadata.creationTimestamp ?? ""),
  );
  return (
    <Stack hasGutter>
      {restores.map((one) => (
        <StackItem key={one.metadata.name}>
          <Alert
            variant="info"
            isInline
            component="h2"
            title={`Snapshot ${one.spec.virtualMachineSnapshotName} is being restored`}
          >
            {condition(one.status?.conditions, "Failure")?.message ??
              condition(one.status?.conditions, "Progressing")?.message ??
              "The machine does not start meanwhile."}
          </Alert>
        </StackItem>
      ))}
      {ordered.length === 0 ? (
        <StackItem>
          <EmptyState headingLevel="h2" titleText="No snapshots">
            <EmptyStateBody>
              A snapshot has the machine and its disks as they are now, on the same node. It is no backup.
            </EmptyStateBody>
            <EmptyStateFooter>
              <EmptyStateActions>{button}</EmptyStateActions>
            </EmptyStateFooter>
          </EmptyState>
        </StackItem>
      ) : (
        <>
          <StackItem>{button}</StackItem>
          <StackItem>
            <Table aria-label={`Snapshots of ${name}`} variant="compact">
              <Thead>
                <Tr>
                  <Th>Snapshot</Th>
                  <Th>Taken</Th>
                  <Th>State</Th>
                  <Th>Disks in it</Th>
                  <Th>Consistency</Th>
                  <Th screenReaderText="Actions" />
                </Tr>
              </Thead>
              <Tbody>
                {ordered.map((snapshot) => {
                  const { status, metadata } = snapshot;
                  const [state, tone] = STATES[status?.phase ?? "InProgress"] ?? ["Unknown", "warning"];
                  const left = status?.snapshotVolumes?.excludedVolumes ?? [];
                  return (
                    <Tr key={metadata.name}>
                      <Td dataLabel="Snapshot">{metadata.name}</Td>
                      <Td dataLabel="Taken">{moment(status?.creationTime ?? metadata.creationTimestamp)}</Td>
                      <Td dataLabel="State">
                        <State tone={tone}>{state}</State> {status?.error?.message}
                      </Td>
                      <Td dataLabel="Disks in it">
                        {status?.snapshotVolumes?.includedVolumes?.join(", ") || "–"}
                        {left.length > 0 && ` (not: ${left.join(", ")})`}
                      </Td>
                      <Td dataLabel="Consistency">{consistency(snapshot)}</Td>
                      <Td isActionCell>
                        <Kebab
                          of={metadata.name}
                          items={[
                            ...(status?.readyToUse
                              ? [
                                  { label: "Restore", onClick: () => setOpen({ kind: "restore", snapshot }) },
                                  { label: "Clone", onClick: () => setOpen({ kind: "clone", snapshot }) },
                                  { label: "Download disks", onClick: () => setOpen({ kind: "download", snapshot }) },
                                ]
                              : []),
                            { label: "Delete", isDanger: true, onClick: () => setOpen({ kind: "delete", snapshot }) },
                          ]}
                        />
                      </Td>
                    </Tr>
                  );
                })}
              </Tbody>
            </Table>
          </StackItem>
        </>
      )}
      {open?.kind === "restore" && (
        <Confirm
          title={`Restore ${open.snapshot.metadata.name}`}
          label="Restore"
          typed={name}
          act={() => restore(open.snapshot)}
          onClose={() => setOpen(undefined)}
          onDone={() => done(`Restore of ${open.snapshot.metadata.name} has started`)}
        >
          <p>
            What machine {name} wrote since {moment(open.snapshot.status?.creationTime)} is lost. It is shut down if it
            runs, and stays stopped: start it when the restore is complete.
          </p>
          <p>To keep what it has now, take another snapshot first.</p>
        </Confirm>
      )}
      {open?.kind === "clone" && (
        <Clone
          from={{ project, kind: "snapshot", name: open.snapshot.metadata.name }}
          onClose={() => setOpen(undefined)}
        />
      )}
      {open?.kind === "download" && (
        <Download
          from={{ project, kind: "snapshot", name: open.snapshot.metadata.name }}
          onClose={() => setOpen(undefined)}
        />
      )}
      {open?.kind === "delete" && (
        <Confirm
          title={`Delete snapshot ${open.snapshot.metadata.name}`}
          label="Delete"
          act={() => remove(paths.snapshot(project, open.snapshot.metadata.name))}
          onClose={() => setOpen(undefined)}
          onDone={() => done(`Delete ${open.snapshot.metadata.name}`)}
        >
          The machine cannot be restored to it any more. The machine itself stays as it is.
        </Confirm>
      )}
    </Stack>
  );
}
