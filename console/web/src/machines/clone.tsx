/** A clone of a machine, or of one of its snapshots, followed to its end. */
import { Alert, Button, Modal, ModalBody, ModalFooter, ModalHeader, Spinner } from "@patternfly/react-core";
import { useState } from "react";
import { post } from "../api/client.ts";
import { usePolled } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { TextField } from "../parts/fields.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { go, machineLink } from "../route.ts";
import type { VirtualMachineClone } from "../types/crds.ts";
import { nameProblem } from "./change.ts";
import { cloned, type From } from "./copies.ts";

/** Between two looks, in ms. */
const EVERY = 2000;

const PHASES: Record<string, string> = {
  SnapshotInProgress: "A snapshot is being taken.",
  CreatingTargetVM: "The machine is being made.",
  RestoreInProgress: "Its disks are being made.",
};

function Follow({ project, object, onClose }: { project: string; object: VirtualMachineClone; onClose: () => void }) {
  const { value, refusal } = usePolled<VirtualMachineClone>(paths.clone(project, object.metadata.name), EVERY);
  const target = object.spec.target?.name ?? "";
  const phase = value?.status?.phase;
  const why = value?.status?.conditions?.find((one) => one.message)?.message;
  return (
    <Modal variant="small" isOpen onClose={onClose} aria-labelledby="follow-title">
      <ModalHeader
        title={`Clone ${object.spec.source.name} to ${target}`}
        labelId="follow-title"
        description="It continues while you look at other pages."
      />
      <ModalBody>
        {refusal ? (
          <Alert variant="danger" isInline component="h2" title={refusal.message}>
            {refusal.remedy}
          </Alert>
        ) : phase === "Succeeded" ? (
          <Alert variant="success" isInline component="h2" title={`Machine ${target} is there`} />
        ) : phase === "Failed" ? (
          <Alert variant="danger" isInline component="h2" title="The clone failed">
            {why ?? "The Events of the machine say why."} Remove the cause, and clone it again.
          </Alert>
        ) : (
          <>
            <Spinner size="md" aria-label="Cloning" /> {PHASES[phase ?? ""] ?? "It is waiting."} {why}
          </>
        )}
      </ModalBody>
      <ModalFooter>
        {phase === "Succeeded" && (
          <Button
            variant="primary"
            onClick={() => {
              onClose();
              go(machineLink(project, target));
            }}
          >
            Open {target}
          </Button>
        )}
        <Button variant="link" onClick={onClose}>
          Close
        </Button>
      </ModalFooter>
    </Modal>
  );
}

export function Clone({ from, onClose }: { from: From; onClose: () => void }) {
  const taken = useObjects("machines")
    .all.filter((vm) => vm.metadata.namespace === from.project)
    .map((vm) => vm.metadata.name);
  const [name, setName] = useState(`${from.name}-clone`.slice(0, 40));
  const [made, setMade] = useState<VirtualMachineClone>();
  if (made) return <Follow project={from.project} object={made} onClose={onClose} />;
  const wrong = taken.includes(name) ? `Project ${from.project} has a machine ${name} already.` : nameProblem(name, []);
  return (
    <Dialog
      id="clone"
      title={`Clone ${from.name}`}
      label="Clone"
      text={
        from.kind === "machine"
          ? "A snapshot of the machine is taken; the clone has copies of its disks, on the same node, and addresses of its own."
          : "The clone has the disks as they are in the snapshot, on the same node, and addresses of its own."
      }
      problems={{ name: wrong }}
      act={async () => {
        const object = cloned(from, name, Date.now());
        await post(paths.clone(from.project), object);
        setMade(object);
      }}
      onClose={onClose}
      staysOpen
    >
      {(at) => (
        <TextField
          id="clone-name"
          label="Name"
          value={name}
          onChange={setName}
          isRequired
          error={at("name", "metadata.name", "spec.target")}
        />
      )}
    </Dialog>
  );
}
