/** Another size of a machine: one of the cluster's, or its own processors and memory. */
import { useState } from "react";
import { patch } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { done } from "../notices.ts";
import { SelectField, TextField } from "../parts/fields.tsx";
import { FormDialog } from "../parts/form-dialog.tsx";
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
    <FormDialog
      title={`Change size of ${machine.name}`}
      label="Change size"
      text={when(machine)}
      wrong={{ "resize-size": size === machine.size ? "The machine has this size; choose another one." : undefined }}
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
          error={at("resize-size", "spec.instancetype") ?? sizes.refusal?.message}
          options={sizeOptions(sizes.value?.items ?? [], machine.size)}
        />
      )}
    </FormDialog>
  );
}

/** Of its own. */
function Own({ machine, onClose }: Props) {
  const before = ownSize(machine.vm);
  const [sockets, setSockets] = useState(before.sockets);
  const [mib, setMib] = useState(before.mib);
  return (
    <FormDialog
      title={`Change size of ${machine.name}`}
      label="Change size"
      text={when(machine)}
      wrong={{ "resize-sockets": socketsProblem(sockets), "resize-memory": memoryProblem(mib) }}
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
            error={at("resize-sockets", "spec.template.spec.domain.cpu")}
          />
          <TextField
            id="resize-memory"
            type="number"
            label="Memory, MiB"
            value={mib}
            onChange={setMib}
            isRequired
            error={at("resize-memory", "spec.template.spec.domain.memory")}
          />
        </>
      )}
    </FormDialog>
  );
}

export const Resize = (props: Props) => (props.machine.size ? <Named {...props} /> : <Own {...props} />);
