import { expect, test } from "vitest";
import { refusalOf } from "../../api/refusal.ts";
import type { NetworkAttachmentDefinition } from "../../types/crds.ts";
import { atEntries, build, check, EMPTY, type Form, usable } from "./build.ts";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";
const FORM: Form = { ...EMPTY, project: "shop", name: "web", image: "debian-13", key: KEY };

test("a machine from an image has a copy of it, its size by name and the key in its seed", () => {
  const vm = build(FORM);
  expect(vm.metadata).toEqual({ name: "web", namespace: "shop" });
  expect(vm.spec.instancetype).toEqual({ name: "u1.medium" });
  expect(vm.spec.dataVolumeTemplates).toEqual([
    {
      metadata: { name: "web-root" },
      spec: {
        source: { pvc: { name: "debian-13", namespace: "shop" } },
        storage: { resources: { requests: { storage: "20Gi" } } },
      },
    },
  ]);
  const { domain, networks, volumes } = vm.spec.template.spec;
  expect(domain.cpu, "an instancetype and a CPU conflict").toBeUndefined();
  expect(domain.devices.interfaces).toEqual([{ name: "default", masquerade: {} }]);
  expect(networks).toEqual([{ name: "default", pod: {} }]);
  expect(volumes?.[1]?.cloudInitNoCloud?.userData).toBe(
    `#cloud-config\nhostname: web\nssh_authorized_keys:\n  - "${KEY}"\n`,
  );
});

test("a machine from an ISO has an empty disk first and a copy of the medium in its drive", () => {
  const vm = build({ ...FORM, source: "iso", image: "debian-iso", key: "", network: "default/lan100" });
  expect(vm.spec.dataVolumeTemplates?.map((one) => [one.metadata.name, one.spec.source])).toEqual([
    ["web-root", { blank: {} }],
    ["web-cd", { pvc: { name: "debian-iso", namespace: "shop" } }],
  ]);
  const { domain, networks, volumes } = vm.spec.template.spec;
  expect(domain.devices.disks?.map((disk) => [disk.name, disk.bootOrder])).toEqual([
    ["root", 1],
    ["cd", 2],
  ]);
  expect(domain.devices.interfaces).toEqual([{ name: "default", bridge: {} }]);
  expect(networks).toEqual([{ name: "default", multus: { networkName: "default/lan100" } }]);
  expect(volumes).toEqual([
    { name: "root", dataVolume: { name: "web-root" } },
    { name: "cd", dataVolume: { name: "web-cd", hotpluggable: true } },
  ]);
});

test("an image of a registry is named as container runtimes do", () => {
  const vm = build({ ...FORM, source: "registry", image: " quay.io/containerdisks/debian:13 ", preference: "debian" });
  expect(vm.spec.dataVolumeTemplates?.[0]?.spec.source).toEqual({
    registry: { url: "docker://quay.io/containerdisks/debian:13" },
  });
  expect(vm.spec.preference).toEqual({ name: "debian" });
});

test("what cannot be used is said at its entry", () => {
  expect(check(FORM)).toEqual({});
  expect(check({ ...FORM, key: "" }), "a key is optional").toEqual({});
  expect(check({ ...FORM, name: "" }).name).toBe("Give the machine a name.");
  expect(check({ ...FORM, name: "Web_1" }).name).toBe(
    "A name has at most 58 lowercase letters, digits and hyphens, and begins and ends with a letter or digit.",
  );
  expect(check({ ...FORM, image: "" }).image).toBe("Choose an image, or create one on the page Images.");
  expect(check({ ...FORM, source: "registry", image: "https://quay.io/x" }).image).toBe(
    "Name it as container runtimes do, without http: quay.io/containerdisks/debian:13.",
  );
  for (const disk of ["0", "-1", "1.5", "20Gi", ""])
    expect(check({ ...FORM, disk }).disk).toBe("A whole number of GiB, 1 or more.");
  expect(check({ ...FORM, key: "-----BEGIN OPENSSH PRIVATE KEY-----" }).key).toBe(
    "This is not a public SSH key: -----BEGIN OPENSSH PRIVA… It is the line of a file that ends with .pub.",
  );
  expect(check({ ...FORM, key: `${KEY}\n\nssh-rsa short` }).key).toBe(
    "This is not a public SSH key: ssh-rsa short… It is the line of a file that ends with .pub.",
  );
});

test("a refusal of the server stands at the entry that it is about", () => {
  const causes = [
    { field: "spec.instancetype.name", message: "no such instancetype" },
    { field: "spec.template.spec.networks[0].multus", message: "not shared" },
    { field: "spec.dataVolumeTemplates[0].spec.storage.resources", message: "smaller than its source" },
  ];
  expect(atEntries(refusalOf(422, { reason: "Invalid", message: "x", details: { causes } }))).toEqual({
    size: "no such instancetype",
    network: "not shared",
    disk: "smaller than its source",
  });
  expect(atEntries(refusalOf(409, { reason: "AlreadyExists", message: "x" }))).toEqual({
    name: "There is a machine of this name in the project.",
  });
});

test("a machine may use networks of its project, of default, and shared ones", () => {
  const network = (namespace: string, name: string, labels = {}) =>
    ({ metadata: { namespace, name, labels }, spec: {} }) as unknown as NetworkAttachmentDefinition;
  const all = [
    network("shop", "a"),
    network("default", "b"),
    network("lab", "c"),
    network("lab", "d", { "sheaf.dev/shared": "true" }),
  ];
  expect(usable(all, "shop").map((one) => one.metadata.name)).toEqual(["a", "b", "d"]);
});
