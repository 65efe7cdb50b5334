import { expect, test } from "vitest";
import type { BlockDevice, StoragePool } from "../types/crds.ts";
import {
  build,
  changeDevices,
  check,
  checkDisks,
  erase,
  erasure,
  free,
  healthText,
  isOffered,
  mayErase,
  memberBy,
  proof,
  proofWord,
  storageClass,
} from "./build.ts";

const disk = (
  name: string,
  status: BlockDevice["status"] = {},
  spec: Partial<BlockDevice["spec"]> = {},
): BlockDevice => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "BlockDevice",
  metadata: { name },
  spec: { nodeName: "n1", identity: { serial: name.toUpperCase() }, ...spec },
  status: { state: "Active", ...status },
});
const pool = (devices: string[], more: Partial<StoragePool> = {}): StoragePool => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "StoragePool",
  metadata: { name: "fast.n1", resourceVersion: "41" },
  spec: { nodeName: "n1", pool: "fast", devices },
  ...more,
});

test("a disk is free when nobody uses it and no pool waits for it", () => {
  const disks = [
    disk("a"),
    disk("system", { usedBy: "system" }),
    disk("gone", { state: "Missing" }),
    disk("locked", { readOnly: true }),
    disk("taken"),
    disk("role", {}, { role: "pool", pool: "slow" }),
    disk("whole", {}, { role: "passthrough" }),
    disk("elsewhere", {}, { nodeName: "n2" }),
  ];
  expect(free(disks, [pool(["taken"])], "n1").map(({ metadata }) => metadata.name)).toEqual(["a"]);
});

test("a disk with contents is taken only once its serial is typed", () => {
  const used = disk("b", { signatures: ["ext4 on /dev/sdb1"] });
  const disks = [disk("a"), used];
  expect(checkDisks(["a"], {}, disks)).toEqual({});
  expect(checkDisks([], {}, disks)).toEqual({ disks: "Choose a disk." });
  expect(checkDisks(["b"], {}, disks)).toEqual({ "typed-b": "Type B: what is on the disk is erased." });
  expect(checkDisks(["b"], { b: "b" }, disks)).toHaveProperty("typed-b");
  expect(checkDisks(["b"], { b: "B" }, disks)).toEqual({});
  const nameless = disk("c", { signatures: ["LVM"] }, { identity: {} });
  expect(checkDisks(["c"], {}, [nameless])).toEqual({
    "typed-c": "It has neither serial nor WWN, so it cannot be erased here.",
  });
});

test("what an erasure repeats is the serial, without one the WWN, without both the place", () => {
  const of = (identity: BlockDevice["spec"]["identity"]) => disk("a", {}, identity ? { identity } : {});
  const all = [of({ serial: "S", wwn: "W", path: "P" }), of({ wwn: "W", path: "P" }), of({ path: "P" }), of({})];
  expect(all.map(proof)).toEqual(["S", "W", "P", undefined]);
  expect(all.map(proofWord).slice(0, 3)).toEqual(["serial", "WWN", "place"]);
  expect(erase(all[1] as BlockDevice)).toEqual({ spec: { wipe: { confirmSerial: "W" } } });
  expect(all.map(mayErase)).toEqual([true, true, true, false]);
  expect(mayErase(disk("a", { usedBy: "pool fast" }))).toBe(false);
});

test("a pool is named after itself and its node", () => {
  const form = { node: "n1", pool: "fast", disks: ["a"], typed: {} };
  expect(build(form)).toMatchObject({
    metadata: { name: "fast.n1" },
    spec: { nodeName: "n1", pool: "fast", devices: ["a"] },
  });
  expect(check(form, [disk("a")], [])).toEqual({});
  expect(check(form, [disk("a")], [pool([])])).toEqual({
    pool: "The node has a pool of this name: add the disk to it.",
  });
  expect(check({ ...form, node: "", pool: "Fast" }, [], [])).toEqual({
    node: "Choose a node.",
    pool: "Lowercase letters, digits and hyphens, 40 at most.",
  });
});

test("machines can be offered a pool only by what has its name", () => {
  expect(isOffered("fast", [])).toBe(false);
  expect(isOffered("fast", [storageClass("fast")])).toBe(true);
  expect(isOffered("default", [{ provisioner: "lvm.sheaf.dev" }])).toBe(true);
  expect(isOffered("fast", [{ provisioner: "other.example", parameters: { pool: "fast" } }])).toBe(false);
});

test("a disk is replaced in one change, which is refused if somebody changed the pool meanwhile", () => {
  expect(changeDevices(pool(["a", "b"]), ["c"], ["a"])).toEqual({
    metadata: { resourceVersion: "41" },
    spec: { devices: ["b", "c"] },
  });
  expect(changeDevices(pool(["a"]), ["a"], []).spec.devices).toEqual(["a"]);
});

test("a member by node.toml or as the boot disk is not taken out by the page", () => {
  const role = { role: "pool" as const, pool: "fast" };
  const disks = [disk("b", {}, role), disk("c", {}, { ...role, pool: "slow" }), disk("d", {}, role)];
  expect(["a", "b", "c", "d"].map((name) => memberBy(pool(["a", "d"]), name, disks))).toEqual([
    { list: true, role: false },
    { list: false, role: true },
    { list: false, role: false },
    { list: true, role: true },
  ]);
});

test("an erasure that was refused says why, and one that was done is not done again", () => {
  const wipe = { wipe: { confirmSerial: "A" } };
  const with_ = (status: string) =>
    erasure(disk("a", { conditions: [{ type: "Wiped", status, message: "it is read-only" }] }, wipe));
  expect(erasure(disk("a")).state).toBe("none");
  expect(erasure(disk("a", {}, wipe)).state).toBe("asked");
  expect(with_("True").state).toBe("done");
  expect(with_("False")).toEqual({ state: "refused", why: "it is read-only" });
});

test("health is what the disk reports", () => {
  const smart = { message: "12 sectors could not be read", temperature: 41, powerOnHours: 900, mediaErrors: 0 };
  expect(healthText(disk("a", { smart }))).toBe("12 sectors could not be read; 41 °C; on for 900 h");
  expect(healthText(disk("a"))).toBe("");
});
