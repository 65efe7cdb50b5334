/** Another size of a machine: one of the cluster's, or its own processors and memory. */
import { useState } from "react";
import { patch } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { done } from "../notices.ts";
import { SelectField, TextField } from "../parts/fields.tsx";
import { Dialog } from "../parts/dialog.tsx";
import type { VirtualMachineClusterInstancetype } from "../types/crds.ts";
import type { List } from "../types/meta.ts";
import { sizeOptions } from "./create/sizes.ts";
import { memoryProblem, ownSize, reach, resized, sized, socketsProblem } from "./resize.ts";
import type { Machine } from "./view.ts";

interface Props {
  machine: Machine;
  onClose: () => void;
}

const when = (machine: Machine): string => (machine.vmi ? reach(machine.vm) : "The machine starts with it.");

/** Of the cluster's sizes. */
function Named({ machine, onClose }: Props) {
  const [size, setSize] = useState(machine.size);
  const sizes = useFetched<List<VirtualMachineClusterInstancetype>>(paths.size());
  return (
    <Dialog
      id="resize"
      title={`Change size of ${machine.name}`}
      label="Change size"
      text={when(machine)}
      problems={{ size: size === machine.size ? "The machine has this size; choose another one." : undefined }}
      act={async () => {
        await patch(paths.machine(machine.project, machine.name), sized(machine.vm, size));
        done(`Change size of ${machine.name} to ${size}`);
      }}
      onClose={onClose}
    >
      {(at) => (
        <SelectField
          id="resize-size"
          label="Processors and memory"
          value={size}
          onChange={setSize}
          error={at("size", "spec.instancetype") ?? sizes.refusal?.message}
          options={sizeOptions(sizes.value?.items ?? [], machine.size)}
        />
      )}
    </Dialog>
  );
}

/** Of its own. */
function Own({ machine, onClose }: Props) {
  const before = ownSize(machine.vm);
  const [sockets, setSockets] = useState(before.sockets);
  const [mib, setMib] = useState(before.mib);
  return (
    <Dialog
      id="resize"
      title={`Change size of ${machine.name}`}
      label="Change size"
      text={when(machine)}
      problems={{ sockets: socketsProblem(sockets), memory: memoryProblem(mib) }}
      act={async () => {
        await patch(paths.machine(machine.project, machine.name), resized(machine.vm, sockets, mib));
        done(`Change size of ${machine.name}`);
      }}
      onClose={onClose}
    >
      {(at) => (
        <>
          <TextField
            id="resize-sockets"
            type="number"
            label={before.each === 1 ? "Processors" : `Sockets of ${before.each} processors`}
            value={sockets}
            onChange={setSockets}
            isRequired
            error={at("sockets", "spec.template.spec.domain.cpu")}
          />
          <TextField
            id="resize-memory"
            type="number"
            label="Memory, MiB"
            value={mib}
            onChange={setMib}
            isRequired
            error={at("memory", "spec.template.spec.domain.memory")}
          />
        </>
      )}
    </Dialog>
  );
}

export const Resize = (props: Props) => (props.machine.size ? <Named {...props} /> : <Own {...props} />);
