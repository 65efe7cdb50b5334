/** Names with values, as the pages of one thing show them. */
import {
  DescriptionList,
  DescriptionListDescription,
  DescriptionListGroup,
  DescriptionListTerm,
} from "@patternfly/react-core";
import type { ReactNode } from "react";

export function Facts({ label, facts }: { label: string; facts: [string, ReactNode][] }) {
  return (
    <DescriptionList aria-label={label} isHorizontal isCompact columnModifier={{ default: "1Col", xl: "2Col" }}>
      {facts.map(([term, value]) => (
        <DescriptionListGroup key={term}>
          <DescriptionListTerm>{term}</DescriptionListTerm>
          <DescriptionListDescription>{value === "" || value === undefined ? "–" : value}</DescriptionListDescription>
        </DescriptionListGroup>
      ))}
    </DescriptionList>
  );
}
