import { expect, test } from "vitest";
import { machine as played } from "../../test/objects.ts";
import type { VirtualMachine } from "../types/crds.ts";
import * as resize from "./resize.ts";
import { machines } from "./view.ts";

function web() {
  const [vm, vmi] = played({ project: "shop", name: "web", status: "Running", node: "node-1" });
  return machines([vm], vmi ? [vmi] : [])[0]!;
}

const of = (vm: VirtualMachine, domain: VirtualMachine["spec"]["template"]["spec"]["domain"]): VirtualMachine => ({
  ...vm,
  spec: { ...vm.spec, template: { spec: { ...vm.spec.template.spec, domain } } },
});

test("another size is taken as it is now, not as the machine once had it", () => {
  expect(resize.sized(web().vm, "u1.large")).toEqual({
    metadata: { resourceVersion: "7" },
    spec: { instancetype: { name: "u1.large", kind: null, revisionName: null } },
  });
});

test("a size of its own is sockets and memory, and says how far it goes without a restart", () => {
  const vm = of(web().vm, {
    devices: {},
    cpu: { sockets: 2, cores: 2, maxSockets: 8 },
    memory: { guest: "4Gi", maxGuest: "16Gi" },
  });
  expect(resize.ownSize(vm)).toEqual({ sockets: "2", mib: "4096", each: 2 });
  expect(resize.resized(vm, "4", "8192").spec.template.spec.domain).toEqual({
    cpu: { sockets: 4 },
    memory: { guest: "8192Mi" },
  });
  expect(resize.reach(vm)).toBe(
    "While it runs it can grow to 8 sockets and 16 GiB; anything else takes effect after the next restart.",
  );
  expect(resize.reach(web().vm)).toBe("It takes effect after the next restart.");
  expect(resize.socketsProblem("0")).toBe("A whole number, 1 or more.");
  expect(resize.memoryProblem("31")).toBe("An even number of MiB, 32 or more.");
  expect(resize.memoryProblem("4097")).toBe("An even number of MiB, 32 or more.");
  expect([resize.socketsProblem("4"), resize.memoryProblem("512")]).toEqual([undefined, undefined]);
});

test("what waits for a restart is the server's to say, of a machine that runs", () => {
  const machine = web();
  const conditions = [{ type: "RestartRequired", status: "True" as const, message: "spec.x" }];
  const waiting = { ...machine, vm: { ...machine.vm, status: { ...machine.vm.status, conditions } } };
  expect(resize.waitsForRestart(waiting)).toBe("spec.x");
  expect(resize.waitsForRestart({ ...waiting, vmi: undefined })).toBe("");
  expect(resize.waitsForRestart(machine)).toBe("");
});
