/** What a network definition means (docs/network.md, "NetworkAttachmentDefinition"). Pure. */
import type { Machine } from "../machines/view.ts";

export interface Meaning {
  bridge: string;
  /** `VLAN 100`, `VLANs 10, 200–209, tagged by the guest`, or that it is untagged. */
  vlans: string;
}

interface Trunk {
  id?: number;
  minID?: number;
  maxID?: number;
}

/** The meaning of `spec.config`; undefined if it is not one that Sheaf reads. */
export function meaning(config: string | undefined): Meaning | undefined {
  let read: { bridge?: unknown; vlan?: unknown; vlanTrunk?: unknown };
  try {
    read = JSON.parse(config ?? "") as typeof read;
  } catch {
    return undefined;
  }
  if (typeof read !== "object" || read === null || typeof read.bridge !== "string") return undefined;
  if (typeof read.vlan === "number") return { bridge: read.bridge, vlans: `VLAN ${read.vlan}` };
  if (Array.isArray(read.vlanTrunk)) {
    const parts = (read.vlanTrunk as Trunk[]).map((one) =>
      one.id !== undefined ? String(one.id) : `${one.minID}–${one.maxID}`,
    );
    return { bridge: read.bridge, vlans: `VLANs ${parts.join(", ")}, tagged by the guest` };
  }
  return { bridge: read.bridge, vlans: "untagged" };
}

/** Machines with a NIC on a network, by their keys. */
export function usedBy(network: { name: string; project: string }, machines: readonly Machine[]): string[] {
  const whole = `${network.project}/${network.name}`;
  return machines
    .filter(({ project, vm }) =>
      vm.spec.template.spec.networks?.some(({ multus }) => {
        const called = multus?.networkName;
        return called === whole || (called === network.name && project === network.project);
      }),
    )
    .map(({ key }) => key);
}
