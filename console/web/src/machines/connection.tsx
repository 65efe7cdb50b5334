/**
 * What screen and serial port have in common: whose they are, and what is shown while they are not connected.
 *
 * Why here: each has one user at a time and ends with the machine. Route in: the machine. Route out: a way to connect again.
 */
import { Alert, Button, EmptyState, EmptyStateBody } from "@patternfly/react-core";

/** virtctl's and KubeVirt's: plain bytes in binary frames. */
export const PROTOCOL = "plain.kubevirt.io";

/** The machine, and its run: another one is another connection. */
export interface Connected {
  project: string;
  name: string;
  isRunning: boolean;
  uid: string | undefined;
}

export function NotRunning({ what }: { what: string }) {
  return (
    <EmptyState headingLevel="h2" titleText="The machine does not run">
      <EmptyStateBody>{what}</EmptyStateBody>
    </EmptyState>
  );
}

/** `held`: what has one user at a time, as a sentence. */
export function NotConnected({ held, onAgain }: { held: string; onAgain: () => void }) {
  return (
    <Alert
      variant="warning"
      isInline
      component="h2"
      title="Not connected"
      actionLinks={
        <Button variant="link" isInline onClick={onAgain}>
          Connect again
        </Button>
      }
    >
      {held}: a connection ends when somebody else opens it, or when the machine ends.
    </Alert>
  );
}
