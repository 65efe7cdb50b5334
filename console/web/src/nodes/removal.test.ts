import { expect, test } from "vitest";
import type { NodeRemoval } from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { accept, blockers, build, check, erase, lossText, possible, release, unconfirmed } from "./removal.ts";

const FORM = { node: "n3", reason: "", wipes: false, wipesPools: false, typed: "" };
const removal = (status: NodeRemoval["status"], spec: Partial<NodeRemoval["spec"]> = {}): NodeRemoval => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeRemoval",
  metadata: { name: "n3" },
  spec: { nodeName: "n3", ...spec },
  ...(status ? { status } : {}),
});
const node = (status: string): Node => ({
  metadata: { name: "n3" },
  status: { conditions: [{ type: "Ready", status }] },
});
const LOSSES = [
  { name: "LocalVolume/pvc-1", what: "claim shop/data", bytes: 20 * 2 ** 30 },
  { name: "Image/debian-13", what: "image debian-13, which no other node has" },
];

test("a removal asks for nothing but the node, until erasing is confirmed by its name", () => {
  expect(build(FORM)).toEqual(removal(undefined));
  expect(check(FORM)).toEqual({});
  const wipes = { ...FORM, wipes: true, reason: "sold" };
  expect(check(wipes)).toEqual({ typed: "Type n3: what the node has is erased." });
  expect(check({ ...wipes, typed: "n3" })).toEqual({});
  expect(build({ ...wipes, typed: "n3", wipesPools: true }).spec).toEqual({
    nodeName: "n3",
    reason: "sold",
    wipe: { confirmNode: "n3", pools: true },
  });
  expect(erase("n3", false)).toEqual({ spec: { wipe: { confirmNode: "n3" } } });
});

test("only losses that were shown are confirmed, and those of before stay confirmed", () => {
  const one = removal({ phase: "Blocked", losses: LOSSES }, { acceptLoss: ["Image/debian-13"] });
  expect(unconfirmed(one).map(({ name }) => name)).toEqual(["LocalVolume/pvc-1"]);
  expect(accept(one, unconfirmed(one))).toEqual({ spec: { acceptLoss: ["Image/debian-13", "LocalVolume/pvc-1"] } });
  expect(LOSSES.map(lossText)).toEqual(["disk shop/data (20 GiB)", "image debian-13, which no other node has"]);
});

test("a loss is not named a second time as something in the way", () => {
  const dead = { what: "Node n3", why: "does not report", remedy: "repair it" };
  const loss = { what: "LocalVolume/pvc-1", why: "is on n3 only", remedy: "copy it away" };
  expect(blockers(removal({ phase: "Blocked", losses: LOSSES, blockers: [dead, loss] }))).toEqual([dead]);
  expect(blockers(removal(undefined))).toEqual([]);
});

test("a removal can be cancelled until the node leaves", () => {
  for (const phase of ["Checking", "Blocked", "Draining", "Demoting"] as const)
    expect(possible(removal({ phase }), node("True")).cancel).toBe(true);
  for (const phase of ["Removing", "Removed", "Cancelled"] as const)
    expect(possible(removal({ phase }), node("True")).cancel, phase).toBe(false);
  expect(possible(removal({ phase: "Blocked", removing: "2026-11-30T12:00:00Z" }), node("True")).cancel).toBe(false);
});

test("only a node that reports erases itself, and only one that does not counts as switched off", () => {
  const open = removal({ phase: "Blocked", losses: LOSSES });
  expect(possible(open, node("True"))).toMatchObject({ erase: true, poweredOff: false, accept: true });
  expect(possible(open, node("Unknown"))).toMatchObject({ erase: false, poweredOff: true });
  expect(possible(removal({ phase: "Blocked" }, { poweredOff: true }), node("Unknown")).poweredOff).toBe(false);
  expect(possible(removal({ phase: "Draining" }, { wipe: { confirmNode: "n3" } }), node("True")).erase).toBe(false);
});

test("what is left of a removed node is a record and a name that is released as the agent does it", () => {
  expect(possible(removal({ phase: "Removed" }), undefined)).toEqual({
    cancel: false,
    accept: false,
    poweredOff: false,
    erase: false,
    isRecord: true,
    release: true,
  });
  expect(possible(removal({ phase: "Cancelled" }), node("True"))).toMatchObject({ isRecord: true, release: false });
  expect(release("n3")).toEqual({ data: { n3: '{"released":true}' } });
});
