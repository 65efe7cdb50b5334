/**
 * What it means to withdraw the request of one node, which is deleted.
 *
 * Why here: an agent ends no step that runs, so what follows depends on how far the node is (`agent/src/update/{controller,plan}.rs`). Pure.
 * Route in: NodeUpdates, ClusterUpdates. Route out: whether it may be withdrawn, and what is said before.
 */
import type { ClusterUpdate, NodeUpdate } from "../types/crds.ts";
import { isFinished } from "./view.ts";

export interface Withdrawal {
  label: "Withdraw update" | "Delete the record";
  /** What becomes of the node; a paragraph each. */
  says: string[];
}

const STAYS = "Nothing changes on the node.";
const NOT_BEGUN = "The node has not begun. Should it begin at this moment, the step that it takes is done to its end.";

const SAYS: Record<string, string> = {
  Checking:
    "The node reads the release to its end, and does nothing with it: no slot is written, and it does not restart.",
  Checked: STAYS,
  Staging:
    "The release is written to the other slot to its end, as what was there is gone already. The node does not restart into it.",
  Staged: "The release stays in the other slot. The node does not restart into it.",
  Restarting:
    "It is too late to stop the node: its machines are shut down, and it restarts into the release. The release is kept if the node is as healthy as before, and rolled back otherwise.",
  OnTrial: "The trial goes on: the release is kept if the node is as healthy as before, and rolled back otherwise.",
  Failed:
    "What failed is not tried again. If the release was about to be started, the next restart of the node may begin its trial.",
  Refused: `${STAYS} It is not tried again.`,
};

/** The one of all nodes that made it and is not finished. */
function maker({ metadata }: NodeUpdate, updates: readonly ClusterUpdate[]): ClusterUpdate | undefined {
  const owner = metadata.ownerReferences?.find((one) => one.controller && one.kind === "ClusterUpdate");
  return updates.find((one) => owner && one.metadata.uid === owner.uid && !isFinished(one));
}

/** Nothing if it is not to be withdrawn: an update of all nodes would ask again, and is cancelled instead. */
export function withdrawal(request: NodeUpdate, updates: readonly ClusterUpdate[]): Withdrawal | undefined {
  const made = maker(request, updates);
  if (made && !made.spec.cancelled) return undefined;
  const phase = request.status?.phase ?? "";
  const isOver = phase === "Updated" || phase === "RolledBack";
  const says = [isOver ? STAYS : (SAYS[phase] ?? NOT_BEGUN)];
  if (made) says.push("The update of all nodes, which is cancelled, waits for this node no longer.");
  // A request that somebody made is in the way of it; without one the node has its turn.
  const next = updates.find((one) => !isFinished(one) && !one.spec.cancelled);
  if (next)
    says.push(`The update of all nodes to ${next.spec.version} goes on, and may then begin this node in its turn.`);
  return { label: isOver ? "Delete the record" : "Withdraw update", says };
}
