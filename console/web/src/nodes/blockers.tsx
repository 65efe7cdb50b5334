/** What is in the way of a maintenance or a removal, each with its remedy. */
import { List, ListItem } from "@patternfly/react-core";
import type { Blocker } from "../types/crds.ts";

export function Blockers({ blockers }: { blockers: readonly Blocker[] | undefined }) {
  if (!blockers || blockers.length === 0) return null;
  return (
    <List aria-label="What is in the way">
      {blockers.map((one) => (
        <ListItem key={`${one.what} ${one.why}`}>
          {one.what}: {one.why}. <strong>To do:</strong> {one.remedy}
        </ListItem>
      ))}
    </List>
  );
}
