import { expect, test } from "vitest";
import type { ClusterUpdate, NodeUpdate } from "../types/crds.ts";
import { withdrawal } from "./withdraw.ts";

const cluster = (status: ClusterUpdate["status"], cancelled = false): ClusterUpdate => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "ClusterUpdate",
  metadata: { name: "sheaf-0.2.0", uid: "c" },
  spec: { version: "0.2.0", cancelled },
  ...(status ? { status } : {}),
});
const request = (status?: NodeUpdate["status"], maker?: string): NodeUpdate => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeUpdate",
  metadata: {
    name: "n1",
    ...(maker
      ? {
          ownerReferences: [
            { apiVersion: "", kind: "ClusterUpdate", name: "sheaf-0.2.0", uid: maker, controller: true },
          ],
        }
      : {}),
  },
  spec: { nodeName: "n1", version: "0.2.0" },
  ...(status ? { status } : {}),
});
const label = (one: NodeUpdate, updates: ClusterUpdate[] = []) => withdrawal(one, updates)?.label;

test("a request is withdrawn until it has ended, and its record is deleted afterwards", () => {
  for (const phase of [
    "Checking",
    "Checked",
    "Staging",
    "Staged",
    "Restarting",
    "OnTrial",
    "Refused",
    "Failed",
  ] as const)
    expect([phase, label(request({ phase }))]).toEqual([phase, "Withdraw update"]);
  expect(label(request()), "nobody has looked at it yet").toBe("Withdraw update");
  for (const phase of ["Updated", "RolledBack"] as const) expect(label(request({ phase }))).toBe("Delete the record");
});

test("what an update of all nodes asks for is not withdrawn while it runs, and is when it is cancelled or finished", () => {
  const mine = request({ phase: "Staging" }, "c");
  expect(label(mine, [cluster({ phase: "Updating" })])).toBeUndefined();
  expect(label(mine, [cluster(undefined)]), "it has not begun").toBeUndefined();
  expect(label(mine, [cluster({ phase: "Updated" })])).toBe("Withdraw update");
  expect(label(mine, []), "it was deleted").toBe("Withdraw update");
  expect(label(request({ phase: "Staging" }), [cluster({ phase: "Updating" })]), "somebody made it").toBe(
    "Withdraw update",
  );
  const waits = withdrawal(mine, [cluster({ phase: "Cancelled", updatingNodes: ["n1"] }, true)]);
  expect(waits?.says).toContain("The update of all nodes, which is cancelled, waits for this node no longer.");
});

test("it is said what the node still does, and that an update of all nodes goes on", () => {
  const first = (status?: NodeUpdate["status"]) => withdrawal(request(status), [])?.says;
  expect(first()?.[0]).toMatch(/^The node has not begun/);
  expect(first({ phase: "Staging" })).toEqual([
    "The release is written to the other slot to its end, as what was there is gone already. The node does not restart into it.",
  ]);
  expect(first({ phase: "Restarting" })?.[0]).toMatch(/^It is too late to stop the node/);
  expect(first({ phase: "OnTrial" })?.[0]).toMatch(/^The trial goes on/);
  expect(withdrawal(request({ phase: "Checking" }), [cluster({ phase: "Updating" })])?.says[1]).toBe(
    "The update of all nodes to 0.2.0 goes on, and may then begin this node in its turn.",
  );
});
