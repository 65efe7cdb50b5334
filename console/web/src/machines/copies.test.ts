import { expect, test } from "vitest";
import { cloned, exporting } from "./copies.ts";

const NOW = 1_796_000_000_000;

test("a clone and an export are of a machine or of a snapshot", () => {
  const from = { project: "shop", kind: "machine" as const, name: "web" };
  expect(cloned(from, "twin", NOW)).toMatchObject({
    metadata: { name: "twin-clone-tpaigw", namespace: "shop" },
    spec: {
      source: { apiGroup: "kubevirt.io", kind: "VirtualMachine", name: "web" },
      target: { apiGroup: "kubevirt.io", kind: "VirtualMachine", name: "twin" },
    },
  });
  expect(exporting({ ...from, kind: "snapshot", name: "web-monday" }, NOW).spec).toEqual({
    source: { apiGroup: "snapshot.kubevirt.io", kind: "VirtualMachineSnapshot", name: "web-monday" },
  });
});
