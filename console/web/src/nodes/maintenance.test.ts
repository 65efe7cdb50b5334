import { expect, test } from "vitest";
import type { Machine } from "../machines/view.ts";
import type { NodeMaintenance } from "../types/crds.ts";
import { controlPlaneCommand, minutesLeft } from "./add.tsx";
import { build, check, endWord, progress } from "./maintenance.ts";

const maintenance = (status: NodeMaintenance["status"]): NodeMaintenance => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeMaintenance",
  metadata: { name: "n1" },
  spec: { nodeName: "n1" },
  ...(status ? { status } : {}),
});
const machine = (key: string) => ({ key, vmi: {} }) as Machine;

test("a maintenance gives up only when a time is entered", () => {
  const form = { node: "n1", reason: "new memory", deadline: "" };
  expect(build(form).spec).toEqual({ nodeName: "n1", reason: "new memory" });
  expect(build({ ...form, deadline: "30" }).spec.deadlineSeconds).toBe(1800);
  for (const deadline of ["0", "1.5", "10081", "soon"])
    expect(check({ ...form, deadline })).toEqual({ deadline: "From 1 minute to 10080, a week." });
  expect(check({ ...form, deadline: "10080" })).toEqual({});
});

test("each machine says how far it is, and what follows", () => {
  const one = maintenance({
    phase: "Draining",
    stopping: ["shop/web: is asked to power off, and ended at 2026-11-30T12:00:00Z"],
    stopped: [
      { namespace: "lab", name: "db", uid: "1", instance: "1", held: true },
      { namespace: "lab", name: "app", uid: "2", instance: "2" },
      { namespace: "lab", name: "tool", uid: "3", instance: "3", restart: true },
    ],
  });
  expect(progress(one, [machine("shop/web"), machine("shop/web-2")])).toEqual([
    {
      key: "shop/web",
      state: "Shuts down",
      tone: "info",
      text: "is asked to power off, and ended at 2026-11-30T12:00:00Z",
    },
    { key: "shop/web-2", state: "Runs here", tone: "warning", text: "" },
    {
      key: "lab/db",
      state: "Shut down",
      tone: "success",
      text: "Its disks are here: it starts when the maintenance ends",
    },
    { key: "lab/app", state: "Shut down", tone: "success", text: "It starts on another node that has room" },
    { key: "lab/tool", state: "Shut down", tone: "success", text: "It is started on another node" },
  ]);
});

test("before the node rests its maintenance is cancelled, afterwards it is ended", () => {
  for (const phase of [undefined, "Draining", "Blocked"] as const)
    expect(endWord(maintenance(phase && { phase }))).toBe("Cancel maintenance");
  expect(endWord(maintenance({ phase: "InMaintenance" }))).toBe("End maintenance");
});

test("a token for a node counts down to its end, and a node of the control plane is added by a command", () => {
  expect(minutesLeft(3600, 0)).toBe(60);
  expect(minutesLeft(3600, 3_541_000)).toBe(0);
  expect(minutesLeft(3600, 9_000_000)).toBe(0);
  expect(controlPlaneCommand("")).toBe("sheaf-agent token create --control-plane");
  expect(controlPlaneCommand("n4")).toBe("sheaf-agent token create --control-plane --node n4");
});
