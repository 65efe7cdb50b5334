/** What the server refused, with its reason and what to do; nothing while nothing was refused. */
import { Alert, FormAlert } from "@patternfly/react-core";
import type { Refusal } from "../api/refusal.ts";

interface Props {
  refusal: Refusal | undefined;
}

/** In a dialog. */
export function Refused({ refusal }: Props) {
  return (
    refusal && (
      <Alert variant="danger" isInline component="h2" title={refusal.message}>
        {refusal.remedy}
      </Alert>
    )
  );
}

/** Above the entries of a form. */
export function FormRefused({ refusal }: Props) {
  return (
    refusal && (
      <FormAlert>
        <Refused refusal={refusal} />
      </FormAlert>
    )
  );
}
