/**
 * The removal of a node: what is asked of the server, what would be lost, and what may still be done.
 *
 * Pure. Route in: NodeRemoval, Node. Route out: objects and merge patches (`controller/api/src/node_removal.rs`).
 */
import { condition } from "../machines/view.ts";
import type { NodeRemoval } from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { bytes } from "../units.ts";

export interface NewRemoval {
  node: string;
  reason: string;
  /** The node erases itself when it has left. */
  wipes: boolean;
  /** Its pools, too. */
  wipesPools: boolean;
  /** What was typed to confirm that. */
  typed: string;
}

/** What is wrong with the form, by entry. */
export function check(form: NewRemoval): Partial<Record<keyof NewRemoval, string>> {
  return form.wipes && form.typed !== form.node ? { typed: `Type ${form.node}: what the node has is erased.` } : {};
}

const wipe = (node: string, pools: boolean) => ({ confirmNode: node, ...(pools ? { pools: true } : {}) });

export function build({ node, reason, wipes, wipesPools }: NewRemoval): NodeRemoval {
  return {
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "NodeRemoval",
    metadata: { name: node },
    spec: {
      nodeName: node,
      ...(reason === "" ? {} : { reason }),
      ...(wipes ? { wipe: wipe(node, wipesPools) } : {}),
    },
  };
}

/** Losses that nobody has confirmed. */
export const unconfirmed = ({ spec, status }: NodeRemoval) =>
  (status?.losses ?? []).filter((loss) => !spec.acceptLoss?.includes(loss.name));

/** What is in the way besides losses: sheaf-controller names each loss that is not confirmed as a blocker, too. */
export const blockers = ({ status }: NodeRemoval) =>
  (status?.blockers ?? []).filter(({ what }) => !status?.losses?.some((loss) => loss.name === what));

/** A loss for people: `claim shop/data (20 GiB)`, in the words of the page. */
export function lossText({ what, bytes: size }: { what: string; bytes?: number }): string {
  const words = what.replace(/^claim /, "disk ").replace(/^VM /, "machine ");
  return size === undefined ? words : `${words} (${bytes(size)})`;
}

/** Confirms everything that was shown, and nothing that came since. */
export const accept = (removal: NodeRemoval, shown: readonly { name: string }[]) => ({
  spec: { acceptLoss: [...new Set([...(removal.spec.acceptLoss ?? []), ...shown.map(({ name }) => name)])] },
});

export const poweredOff = { spec: { poweredOff: true } };
export const erase = (node: string, pools: boolean) => ({ spec: { wipe: wipe(node, pools) } });

/** What may be done with a removal now. */
export interface Possible {
  /** It can be cancelled, and everything is as before. */
  cancel: boolean;
  accept: boolean;
  poweredOff: boolean;
  erase: boolean;
  /** Nothing follows: the object is a record. */
  isRecord: boolean;
  /** Another machine may get the name once it is released. */
  release: boolean;
}

export function possible(removal: NodeRemoval, node: Node | undefined): Possible {
  const { spec, status } = removal;
  const phase = status?.phase ?? "Checking";
  const isLeaving = phase === "Removing" || phase === "Removed" || status?.removing !== undefined;
  const isRecord = phase === "Removed" || phase === "Cancelled";
  const ready = condition(node?.status?.conditions, "Ready");
  const reports = ready !== undefined && ready.status !== "Unknown";
  const isOpen = !isLeaving && !isRecord && removal.metadata.deletionTimestamp === undefined;
  return {
    cancel: isOpen,
    accept: isOpen && unconfirmed(removal).length > 0,
    poweredOff: isOpen && !reports && !spec.poweredOff,
    erase: isOpen && reports && !spec.wipe,
    isRecord,
    release: phase === "Removed",
  };
}

/** Gives the name free for another machine, as `sheaf-agent node release` does (`agent/src/cluster/release.rs`). */
export const release = (node: string) => ({ data: { [node]: '{"released":true}' } });
