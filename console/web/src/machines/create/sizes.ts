/** The cluster's sizes, to choose from: smallest first. Pure. */
import type { VirtualMachineClusterInstancetype } from "../../types/crds.ts";
import { bytes, count, quantity } from "../../units.ts";

function label({ metadata, spec }: VirtualMachineClusterInstancetype): string {
  return `${metadata.name}: ${count(spec.cpu?.guest ?? 0, "processor")}, ${bytes(quantity(spec.memory?.guest))}`;
}

/** While none is read, the one that is chosen. */
export function sizeOptions(sizes: readonly VirtualMachineClusterInstancetype[], chosen: string) {
  const options = [...sizes]
    .sort((left, right) => (quantity(left.spec.memory?.guest) ?? 0) - (quantity(right.spec.memory?.guest) ?? 0))
    .map((one) => ({ value: one.metadata.name, label: label(one) }));
  const isThere = options.some((option) => option.value === chosen);
  return isThere ? options : [{ value: chosen, label: chosen }, ...options];
}
