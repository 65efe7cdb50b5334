/**
 * From what is typed to the objects of a new machine.
 *
 * Why here: one screen of five entries becomes a VirtualMachine with its disks; which refused field belongs to which entry is
 * decided beside it. Pure. Route in: a [`Form`]. Route out: a VirtualMachine; messages at entries.
 */
import type { Refusal } from "../../api/refusal.ts";
import { isLabel } from "../../parts/names.ts";
import type { NetworkAttachmentDefinition, VirtualMachine } from "../../types/crds.ts";

export interface Form {
  project: string;
  name: string;
  source: "image" | "iso" | "registry";
  /** Name of the image in the project; of a registry its reference. */
  image: string;
  /** GiB of the disk. */
  disk: string;
  size: string;
  preference: string;
  key: string;
  /** `masquerade`, `bridge`, or `project/name` of a network. */
  network: string;
}

export type Entry = keyof Form;

export const EMPTY: Form = {
  project: "default",
  name: "",
  source: "image",
  image: "",
  disk: "20",
  size: "u1.medium",
  preference: "",
  key: "",
  network: "masquerade",
};

const KEY =
  /^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/=]{16,}( .*)?$/;

/** What is wrong with what was typed, by entry. */
export function check(form: Form): Partial<Record<Entry, string>> {
  const wrong: Partial<Record<Entry, string>> = {};
  if (form.name === "") wrong.name = "Give the machine a name.";
  else if (!isLabel(form.name, 58))
    wrong.name =
      "A name has at most 58 lowercase letters, digits and hyphens, and begins and ends with a letter or digit.";
  if (form.project === "") wrong.project = "Choose a project.";
  if (form.image.trim() === "")
    wrong.image =
      form.source === "registry"
        ? "Name an image, such as quay.io/containerdisks/debian:13."
        : "Choose an image, or create one on the page Images.";
  else if (form.source === "registry" && /\s|^https?:/.test(form.image.trim()))
    wrong.image = "Name it as container runtimes do, without http: quay.io/containerdisks/debian:13.";
  if (!/^[1-9][0-9]{0,5}$/.test(form.disk)) wrong.disk = "A whole number of GiB, 1 or more.";
  const bad = keyProblem(form.key);
  if (bad) wrong.key = bad;
  return wrong;
}

/** What is wrong with a text of public keys. */
export function keyProblem(text: string): string | undefined {
  const bad = keys(text).find((line) => !KEY.test(line));
  return bad && `This is not a public SSH key: ${bad.slice(0, 24)}… It is the line of a file that ends with .pub.`;
}

/** Lines that are keys. */
export const keys = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

/** cloud-init's user data; JSON strings are YAML strings whatever is in them. */
function userData(form: Form): string {
  const lines = keys(form.key).map((key) => `  - ${JSON.stringify(key)}\n`);
  return `#cloud-config\nhostname: ${form.name}\nssh_authorized_keys:\n${lines.join("")}`;
}

/** The machine. */
export function build(form: Form): VirtualMachine {
  const { name, project, image } = form;
  const root = `${name}-root`;
  const cd = `${name}-cd`;
  const copy = { pvc: { name: image, namespace: project } };
  const storage = { resources: { requests: { storage: `${form.disk}Gi` } } };
  const isIso = form.source === "iso";
  const source = isIso
    ? { blank: {} }
    : form.source === "registry"
      ? { registry: { url: `docker://${image.trim()}` } }
      : copy;
  const isKeyed = keys(form.key).length > 0;
  const nic = form.network === "masquerade" ? { masquerade: {} } : { bridge: {} };
  const behind = form.network.includes("/") ? { multus: { networkName: form.network } } : { pod: {} };
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name, namespace: project },
    spec: {
      runStrategy: "Always",
      instancetype: { name: form.size },
      ...(form.preference ? { preference: { name: form.preference } } : {}),
      dataVolumeTemplates: [
        { metadata: { name: root }, spec: { source, storage } },
        // A copy of the medium: a volume is in one machine at a time.
        ...(isIso ? [{ metadata: { name: cd }, spec: { source: copy, storage: {} } }] : []),
      ],
      template: {
        spec: {
          domain: {
            devices: {
              disks: [
                { name: "root", bootOrder: 1, disk: { bus: "virtio" } },
                ...(isIso ? [{ name: "cd", bootOrder: 2, cdrom: { bus: "sata" as const } }] : []),
                ...(isKeyed ? [{ name: "seed", disk: { bus: "virtio" as const } }] : []),
              ],
              interfaces: [{ name: "default", ...nic }],
            },
          },
          networks: [{ name: "default", ...behind }],
          volumes: [
            { name: "root", dataVolume: { name: root } },
            ...(isIso ? [{ name: "cd", dataVolume: { name: cd, hotpluggable: true } }] : []),
            ...(isKeyed ? [{ name: "seed", cloudInitNoCloud: { userData: userData(form) } }] : []),
          ],
        },
      },
    },
  };
}

const FIELDS: [Entry, string][] = [
  ["name", "metadata.name"],
  ["project", "metadata.namespace"],
  ["size", "spec.instancetype"],
  ["preference", "spec.preference"],
  ["disk", "spec.dataVolumeTemplates[0].spec.storage"],
  ["image", "spec.dataVolumeTemplates"],
  ["network", "spec.template.spec.networks"],
  ["network", "spec.template.spec.domain.devices.interfaces"],
  ["key", "spec.template.spec.volumes"],
];

/** The refused fields, each at its entry; what belongs to no entry is not here. */
export function atEntries(refusal: Refusal): Partial<Record<Entry, string>> {
  const found: Partial<Record<Entry, string>> = {};
  for (const [entry, field] of FIELDS) {
    const message = refusal.at(field);
    const isTaken = Object.values(found).includes(message ?? "");
    if (message && !isTaken) found[entry] ??= message;
  }
  if (refusal.reason === "AlreadyExists") found.name ??= "There is a machine of this name in the project.";
  return found;
}

/** Networks that a machine of `project` may use (docs/network.md, "Who may use and make definitions"). */
export function usable(
  networks: readonly NetworkAttachmentDefinition[],
  project: string,
): NetworkAttachmentDefinition[] {
  return networks.filter(
    ({ metadata }) =>
      metadata.namespace === project ||
      metadata.namespace === "default" ||
      metadata.labels?.["sheaf.dev/shared"] === "true",
  );
}
