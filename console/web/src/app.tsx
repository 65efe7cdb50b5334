/** Which of login, claim and pages is shown. Route in: session. Route out: one of them. */
import { Bullseye, EmptyState, EmptyStateBody, Spinner } from "@patternfly/react-core";
import { Claim } from "./entry/claim.tsx";
import { Login } from "./entry/login.tsx";
import { Frame } from "./frame.tsx";
import { useSession } from "./session.ts";

export function App() {
  const session = useSession();
  switch (session.state) {
    case "asking":
      return (
        <Bullseye>
          <Spinner aria-label="Asking who is logged in" />
        </Bullseye>
      );
    case "unreachable":
      return (
        <main>
          <EmptyState headingLevel="h1" titleText="The console does not answer yet" status="warning">
            <EmptyStateBody>
              {session.refusal.message}. {session.refusal.remedy}
            </EmptyStateBody>
          </EmptyState>
        </main>
      );
    case "claim":
      return <Claim />;
    case "out":
      return <Login hasEnded={session.hasEnded} />;
    case "in":
      return <Frame user={session.user} />;
  }
}
