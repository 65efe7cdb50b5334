/**
 * Clones of machines and exports of their disks, as objects.
 *
 * Pure. Route in: a machine or a snapshot, a time that makes the object's name its own. Route out: a VirtualMachineClone, a
 * VirtualMachineExport (docs/operate.md, "Snapshots, restores and clones", "Taking a VM away").
 */
import type { VirtualMachineClone, VirtualMachineExport } from "../types/crds.ts";
import { stamp } from "./change.ts";

const VM = { apiGroup: "kubevirt.io", kind: "VirtualMachine" };
const SNAPSHOT = { apiGroup: "snapshot.kubevirt.io", kind: "VirtualMachineSnapshot" };

/** What a clone or an export is made from. */
export interface From {
  project: string;
  kind: "machine" | "snapshot";
  name: string;
}

const source = (from: From) => ({ ...(from.kind === "machine" ? VM : SNAPSHOT), name: from.name });

/** A clone; the object goes with the machine that it makes. */
export const cloned = (from: From, target: string, now: number): VirtualMachineClone => ({
  apiVersion: "clone.kubevirt.io/v1beta1",
  kind: "VirtualMachineClone",
  metadata: { name: `${target}-clone-${stamp(now)}`, namespace: from.project },
  spec: { source: source(from), target: { ...VM, name: target } },
});

/** An export, for two hours; the server makes its token. */
export const exporting = (from: From, now: number): VirtualMachineExport => ({
  apiVersion: "export.kubevirt.io/v1beta1",
  kind: "VirtualMachineExport",
  metadata: { name: `${from.name}-download-${stamp(now)}`, namespace: from.project },
  spec: { source: source(from) },
});
