/** A state with its colour and a word: colour alone says nothing to who does not see it. */
import { Label } from "@patternfly/react-core";
import type { Tone } from "../machines/view.ts";

const STATUS = { success: "success", danger: "danger", warning: "warning", info: "info" } as const;

export function State({ tone, children }: { tone: Tone; children: string }) {
  return tone === "quiet" ? (
    <Label isCompact variant="outline">
      {children}
    </Label>
  ) : (
    <Label isCompact variant="outline" status={STATUS[tone]}>
      {children}
    </Label>
  );
}
