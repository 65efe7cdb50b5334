import { expect, test } from "vitest";
import { row, type NodeRow } from "../nodes/view.ts";
import type { ClusterUpdate, NodeUpdate } from "../types/crds.ts";
import {
  acts,
  build,
  buildOne,
  check,
  EMPTY,
  isFinished,
  isUnderWay,
  phase,
  releases,
  rows,
  sourceText,
  steps,
  windowText,
} from "./view.ts";

const FORM = { ...EMPTY, version: "0.2.0", at: "https://releases.example.org/sheaf-0.2.0" };
const update = (status: ClusterUpdate["status"], spec: Partial<ClusterUpdate["spec"]> = {}): ClusterUpdate => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "ClusterUpdate",
  metadata: { name: "sheaf-0.2.0" },
  spec: { version: "0.2.0", ...spec },
  ...(status ? { status } : {}),
});
const request = (status: NodeUpdate["status"]): NodeUpdate => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeUpdate",
  metadata: { name: "n1" },
  spec: { nodeName: "n1", version: "0.2.0" },
  ...(status ? { status } : {}),
});
const node = (one?: NodeUpdate): NodeRow =>
  row(
    { metadata: { name: "n1" }, status: { nodeInfo: { osImage: "Sheaf 0.1.0" } } },
    { machines: [], maintenances: [], removals: [], updates: one ? [one] : [] },
  );

test("an update has the version, its source and nothing that was not asked for", () => {
  expect(check(FORM)).toEqual({});
  expect(build(FORM, [])).toEqual({
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "ClusterUpdate",
    metadata: { name: "sheaf-0.2.0" },
    spec: {
      version: "0.2.0",
      maxUnavailable: 1,
      source: { url: "https://releases.example.org/sheaf-0.2.0" },
    },
  });
  expect(build({ ...FORM, source: "other" }, []).spec.source, "the other slot is no source").toBeUndefined();
  const timed = { ...FORM, hasWindow: true, days: ["Sunday", "Saturday"] as const };
  expect(build(timed, []).spec.window).toEqual({ days: ["Saturday", "Sunday"], from: "22:00", until: "04:00" });
  expect(build({ ...timed, days: [] }, []).spec.window).toEqual({ from: "22:00", until: "04:00" });
});

test("one node is asked alone, and not again while it works on it", () => {
  expect(buildOne({ ...FORM, source: "drive", at: "SHEAF-UPDATE" }, "n1")).toEqual({
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "NodeUpdate",
    metadata: { name: "n1" },
    spec: { nodeName: "n1", version: "0.2.0", source: { drive: "SHEAF-UPDATE" } },
  });
  expect(isUnderWay(undefined)).toBe(false);
  expect(isUnderWay(request(undefined)), "nobody has looked at it yet").toBe(true);
  expect(isUnderWay(request({ phase: "OnTrial" }))).toBe(true);
  expect(isUnderWay(request({ phase: "RolledBack" }))).toBe(false);
});

test("an update that is requested again has a name of its own", () => {
  expect(build(FORM, [update({ phase: "Cancelled" })]).metadata.name).toBe("sheaf-0.2.0-2");
});

test("each entry that the server would refuse says what it takes", () => {
  const wrong = (change: Partial<typeof FORM>) => check({ ...FORM, ...change });
  expect(wrong({ version: "2" })).toEqual({ version: "A version is as 0.2.0 or 0.2.0-rc.1." });
  expect(wrong({ at: "https://me:secret@example.org/x" })).toEqual({
    at: "The address of the folder of the release: https://releases.example.org/sheaf-0.2.0.",
  });
  expect(wrong({ source: "oci", at: "sheaf" })).toEqual({ at: "As registry.example.org/sheaf:0.2.0." });
  expect(wrong({ source: "oci", at: "registry.example.org/sheaf:0.2.0" })).toEqual({});
  expect(wrong({ source: "drive", at: "/dev/sdb" })).toEqual({ at: "The label of its file system, as SHEAF-UPDATE." });
  expect(wrong({ maxUnavailable: "0" })).toEqual({ maxUnavailable: "From 1 to 1000 nodes." });
  expect(wrong({ hasWindow: true, from: "24:00" })).toEqual({ from: "As 22:00." });
  expect(wrong({ hasWindow: true, until: "22:00" })).toEqual({ until: "It begins and ends at the same time." });
});

test("an update is paused, resumed and cancelled until it is finished", () => {
  const labels = (one: ClusterUpdate) => acts(one).map(({ label }) => label);
  expect(labels(update({ phase: "Updating" }))).toEqual(["Pause", "Cancel update"]);
  expect(labels(update({ phase: "Paused" }, { paused: true }))).toEqual(["Resume", "Cancel update"]);
  expect(labels(update({ phase: "Stopped" }))).toEqual(["Pause", "Cancel update"]);
  expect(labels(update({ phase: "Updated" }))).toEqual([]);
  expect(labels(update({ phase: "Cancelled" }, { cancelled: true }))).toEqual([]);
  expect(isFinished(update({ phase: "Cancelled", updatingNodes: ["n1"] })), "a node is on its way").toBe(false);
  expect(isFinished(update({ phase: "Updated" }))).toBe(true);
  expect(phase(update(undefined))).toEqual(["Not begun", "info"]);
});

test("where an update is from and when it begins nodes is said in words", () => {
  expect(sourceText({ version: "1.0.0", source: { oci: "r.example.org/s:1" } })).toBe("r.example.org/s:1");
  expect(sourceText({ version: "1.0.0" })).toBe("the nodes' other slot");
  expect(windowText({ version: "1.0.0" })).toBe("at any time");
  expect(windowText({ version: "1.0.0", window: { days: ["Sunday"], from: "22:00", until: "04:00" } })).toBe(
    "22:00–04:00 UTC, Sunday",
  );
});

test("a node that rolled the release back is tried again while an update still wants it", () => {
  const failed = node(
    request({ phase: "RolledBack", message: "libvirt does not answer", running: { slot: "a", version: "0.1.0" } }),
  );
  expect(rows([failed], update({ phase: "Stopped" }))[0]).toMatchObject({
    running: "0.1.0",
    wanted: "0.2.0",
    state: "Rolled back",
    tone: "danger",
    why: "libvirt does not answer",
    mayRetry: true,
  });
  expect(rows([failed], undefined)[0]?.mayRetry).toBe(false);
  const waiting = update({ phase: "Updating", nodes: [{ name: "n1", phase: "Blocked", message: "n1 is not Ready" }] });
  expect(rows([node()], waiting)[0]).toMatchObject({ state: "Waits", why: "n1 is not Ready", running: "Sheaf 0.1.0" });
  expect(releases([node(), failed, node()])).toEqual([
    ["Sheaf 0.1.0", 2],
    ["0.1.0", 1],
  ]);
});

test("the steps of a node's update stand where it stands", () => {
  const states = (one: NodeUpdate["status"]) => steps(request(one)).map(({ state }) => state);
  expect(states({ phase: "Checking" })).toEqual(["info", "pending", "pending", "pending", "pending"]);
  expect(states({ phase: "OnTrial" })).toEqual(["success", "success", "success", "info", "pending"]);
  expect(states({ phase: "Staged" })).toEqual(["success", "success", "pending", "pending", "pending"]);
  expect(states({ phase: "RolledBack" })).toEqual(["success", "success", "success", "danger", "pending"]);
  expect(states({ phase: "Refused" })).toEqual(["danger", "pending", "pending", "pending", "pending"]);
  expect(states({ phase: "Failed" })).toEqual(["success", "warning", "pending", "pending", "pending"]);
  expect(states({ phase: "Failed", staged: "0.2.0" })).toEqual(["success", "success", "warning", "pending", "pending"]);
  expect(states({ phase: "Updated" })).toEqual(["success", "success", "success", "success", "success"]);
});
