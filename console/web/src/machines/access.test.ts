import { expect, test } from "vitest";
import { machine as played } from "../../test/objects.ts";
import * as access from "./access.ts";
import { machines } from "./view.ts";

const NOW = 1_796_000_000_000;
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";

function web() {
  const [vm, vmi] = played({ project: "shop", name: "web", status: "Running", node: "node-1" });
  return machines([vm], vmi ? [vmi] : [])[0]!;
}

test("keys that a machine was created with are named by their comment, or by their end", () => {
  const { vm } = web();
  const userData = `#cloud-config\nssh_authorized_keys:\n  - "${KEY}"\n  - ${KEY.split(" ").slice(0, 2).join(" ")}\n`;
  const volumes = [{ name: "seed", cloudInitNoCloud: { userData } }];
  const seeded = { ...vm, spec: { ...vm.spec, template: { spec: { ...vm.spec.template.spec, volumes } } } };
  expect(access.seededKeys(seeded)).toEqual(["ssh-ed25519 me@desk", "ssh-ed25519 …h2l9GKJl"]);
  expect(access.seededKeys(vm)).toEqual([]);
});

test("keys are in a Secret that goes with the machine, beside the credentials that are there", () => {
  const { vm } = web();
  expect(access.ways(vm)).toEqual(["agent", "cloud-init"]);
  const first = access.withKeys(vm, `${KEY}\n\n${KEY}2`, "agent", "admin", NOW);
  expect(first.secret).toMatchObject({
    metadata: { namespace: "shop", ownerReferences: [{ kind: "VirtualMachine", name: "web", uid: vm.metadata.uid }] },
    stringData: { "key-1": KEY, "key-2": `${KEY}2` },
  });
  const name = first.secret.metadata.name;
  const added = {
    sshPublicKey: {
      source: { secret: { secretName: name } },
      propagationMethod: { qemuGuestAgent: { users: ["admin"] } },
    },
  };
  expect(first.patch.spec.template.spec.accessCredentials).toEqual([added]);
  const has = {
    ...vm,
    spec: { ...vm.spec, template: { spec: { ...vm.spec.template.spec, accessCredentials: [added] } } },
  };
  const second = access.withKeys(has, KEY, "cloud-init", "", NOW).patch.spec.template.spec.accessCredentials;
  expect(second[1]?.sshPublicKey?.propagationMethod).toEqual({ noCloud: {} });
  const third = access.withPassword(has, "admin", "correct horse", NOW);
  expect(third.secret.stringData).toEqual({ admin: "correct horse" });
  expect(third.patch.spec.template.spec.accessCredentials).toHaveLength(2);
  expect(access.withoutCredential(has, 0).spec.template.spec.accessCredentials).toEqual([]);
  expect(access.userProblem("a b")).toBe("A user of the guest, such as admin.");
  expect(access.userProblem("admin")).toBeUndefined();
});
