/**
 * Disks and pools: which disks are free, what is asked of the server to make a pool, grow it, replace a disk, erase one.
 *
 * Pure. Route in: BlockDevices, StoragePools. Route out: objects and merge patches (`controller/api/src/storage/`). A patch of a list has
 * the version that it was read from, so that a change that somebody else made meanwhile is refused, not undone.
 */
import { condition } from "../machines/view.ts";
import { isLabel } from "../parts/names.ts";
import type { BlockDevice, StoragePool } from "../types/crds.ts";
import { bytes } from "../units.ts";

/** What an erasure has to repeat (`Identity::proof`); none for a disk that reports nothing of itself. */
export const proof = ({ spec: { identity } }: BlockDevice): string | undefined =>
  identity?.serial ?? identity?.wwn ?? identity?.path;

/** What the disk's proof is called. */
export const proofWord = ({ spec: { identity } }: BlockDevice): string =>
  identity?.serial ? "serial" : identity?.wwn ? "WWN" : "place";

/** What is on it: signatures of contents. */
export const contents = ({ status }: BlockDevice): readonly string[] => status?.signatures ?? [];

/** A disk for people: `n1.nvme-a: /dev/nvme0n1, 1.75 TiB, Micron 7450, serial 2247A1`. */
export function diskText({ metadata, status }: BlockDevice): string {
  const parts = [status?.devPath, bytes(status?.sizeBytes), status?.model, status?.serial && `serial ${status.serial}`];
  return `${metadata.name}: ${parts.filter(Boolean).join(", ")}`;
}

/** Disks that no pool has or waits for, and that can be written. */
export function free(disks: readonly BlockDevice[], pools: readonly StoragePool[], node: string): BlockDevice[] {
  const members = new Set(pools.flatMap((pool) => pool.spec.devices ?? []));
  return disks.filter(
    ({ metadata, spec, status }) =>
      spec.nodeName === node &&
      (spec.role ?? "none") === "none" &&
      status?.state === "Active" &&
      !status.usedBy &&
      !status.readOnly &&
      !members.has(metadata.name),
  );
}

export interface NewPool {
  node: string;
  pool: string;
  /** Names of disks. */
  disks: readonly string[];
  /** By name of a disk with contents: what was typed to have it erased. */
  typed: Readonly<Record<string, string>>;
}

/** What is wrong with a choice of disks, by entry: `typed-NAME` for each whose contents are not confirmed. */
export function checkDisks(
  chosen: readonly string[],
  typed: Readonly<Record<string, string>>,
  disks: readonly BlockDevice[],
): Record<string, string> {
  const wrong: Record<string, string> = {};
  if (chosen.length === 0) wrong["disks"] = "Choose a disk.";
  for (const disk of disks) {
    const { name } = disk.metadata;
    if (!chosen.includes(name) || contents(disk).length === 0) continue;
    const wanted = proof(disk);
    if (wanted === undefined) wrong[`typed-${name}`] = "It has neither serial nor WWN, so it cannot be erased here.";
    else if (typed[name] !== wanted) wrong[`typed-${name}`] = `Type ${wanted}: what is on the disk is erased.`;
  }
  return wrong;
}

export function check(
  form: NewPool,
  disks: readonly BlockDevice[],
  pools: readonly StoragePool[],
): Record<string, string> {
  const wrong: Record<string, string> = {};
  if (form.node === "") wrong["node"] = "Choose a node.";
  if (!isLabel(form.pool, 40)) wrong["pool"] = "Lowercase letters, digits and hyphens, 40 at most.";
  else if (pools.some(({ spec }) => spec.nodeName === form.node && spec.pool === form.pool))
    wrong["pool"] = "The node has a pool of this name: add the disk to it.";
  return { ...wrong, ...checkDisks(form.disks, form.typed, disks) };
}

export const build = ({ node, pool, disks }: NewPool): StoragePool => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "StoragePool",
  metadata: { name: `${pool}.${node}`, labels: { "sheaf.dev/pool": pool } },
  spec: { nodeName: node, pool, devices: [...disks] },
});

/** What makes a pool of another name than `default` one that machines' disks can be in (docs/storage.md). */
export const storageClass = (pool: string) => ({
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  metadata: { name: pool },
  provisioner: "lvm.sheaf.dev",
  parameters: { pool },
  volumeBindingMode: "WaitForFirstConsumer",
  allowVolumeExpansion: true,
});

/** Whether machines' disks can be in pools of this name. */
export const isOffered = (
  pool: string,
  classes: readonly { provisioner?: string; parameters?: Record<string, string> }[],
) => classes.some((one) => one.provisioner === "lvm.sheaf.dev" && (one.parameters?.["pool"] ?? "default") === pool);

const version = ({ metadata }: StoragePool | BlockDevice) =>
  metadata.resourceVersion ? { metadata: { resourceVersion: metadata.resourceVersion } } : {};

/** Adds disks, takes others out, in one change: so a disk is replaced while the pool is in use. */
export const changeDevices = (pool: StoragePool, add: readonly string[], takeOut: readonly string[]) => ({
  ...version(pool),
  spec: {
    devices: [...new Set([...(pool.spec.devices ?? []), ...add])].filter((name) => !takeOut.includes(name)),
  },
});

/** Takes the pool from a disk that has it by its role. */
export const noRole = { spec: { role: "none", pool: null } };

/** By what a disk is a member; by neither, node.toml or the boot disk brings it, and it is not taken out here. */
export function memberBy(
  pool: StoragePool,
  name: string,
  disks: readonly BlockDevice[],
): { list: boolean; role: boolean } {
  const disk = disks.find(({ metadata }) => metadata.name === name);
  return {
    list: pool.spec.devices?.includes(name) ?? false,
    role: disk?.spec.role === "pool" && disk.spec.pool === pool.spec.pool,
  };
}

/** Has what is on a disk erased, once. */
export const erase = (disk: BlockDevice) => ({ spec: { wipe: { confirmSerial: proof(disk) ?? "" } } });
/** Withdraws the request; also needed before it is made again, since one request erases once. */
export const keep = { spec: { wipe: null } };

export type Erasure = "none" | "asked" | "done" | "refused";

/** Where an erasure stands, and why. */
export function erasure(disk: BlockDevice): { state: Erasure; why: string } {
  if (!disk.spec.wipe) return { state: "none", why: "" };
  const found = condition(disk.status?.conditions, "Wiped");
  const why = found?.message ?? "";
  if (found?.status === "True") return { state: "done", why };
  return found?.status === "False" ? { state: "refused", why } : { state: "asked", why };
}

/** A disk may be erased: nobody uses it, and it can be named. */
export const mayErase = (disk: BlockDevice): boolean =>
  disk.status?.state === "Active" && !disk.status.usedBy && !disk.status.readOnly && proof(disk) !== undefined;

/** Health for people: temperature, hours, worn share, errors. */
export function healthText({ status }: BlockDevice): string {
  const smart = status?.smart;
  const parts = [
    smart?.message,
    smart?.temperature !== undefined && `${smart.temperature} °C`,
    smart?.powerOnHours !== undefined && `on for ${smart.powerOnHours} h`,
    smart?.percentageUsed !== undefined && `${smart.percentageUsed} % of its life used`,
    smart?.mediaErrors ? `${smart.mediaErrors} sectors replaced or media errors` : undefined,
  ];
  return parts.filter(Boolean).join("; ");
}
