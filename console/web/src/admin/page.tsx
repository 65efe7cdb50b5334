/** Administration: the own password, second factor and tokens; users and their roles, projects, the identity provider, for administrators. */
import { Bullseye, PageSection, Spinner, Stack, StackItem, Tab, Tabs, TabTitleText } from "@patternfly/react-core";
import { useState } from "react";
import { useAdministers } from "../api/rights.ts";
import { Heading } from "../parts/heading.tsx";
import { Refused } from "../parts/refused.tsx";
import { ASK, type Part, parts } from "./parts.ts";
import { OwnPassword } from "./password.tsx";
import { Projects } from "./projects.tsx";
import { Provider } from "./provider.tsx";
import { SecondFactor } from "./second.tsx";
import { Tokens } from "./tokens.tsx";
import { Users } from "./users.tsx";

function Shown({ part, user }: { part: Part; user: string }) {
  switch (part) {
    case "users":
      return (
        <PageSection>
          <Users self={user} />
        </PageSection>
      );
    case "projects":
      // A list has sections of its own.
      return <Projects />;
    case "provider":
      return (
        <PageSection>
          <Provider />
        </PageSection>
      );
    case "own":
      return (
        <PageSection>
          <Stack hasGutter>
            <StackItem>
              <OwnPassword user={user} />
            </StackItem>
            <StackItem>
              <SecondFactor />
            </StackItem>
            <StackItem>
              <Tokens />
            </StackItem>
          </Stack>
        </PageSection>
      );
  }
}

/** `first`: the part that is shown first, if it is offered. */
export default function Administration({ user, first }: { user: string; first?: Part }) {
  const { administers, refusal } = useAdministers();
  const [chosen, setChosen] = useState<Part | undefined>(first);
  if (administers === undefined && !refusal)
    return (
      <>
        <Heading title="Administration" />
        <Bullseye>
          <Spinner aria-label="Asking what you may administer" />
        </Bullseye>
      </>
    );
  const offered = parts(administers === true);
  const [part, title] = offered.find(([key]) => key === chosen) ?? offered[0];
  return (
    <>
      <Heading title="Administration" text={administers === false ? ASK : undefined} />
      {refusal && (
        <PageSection>
          <Refused refusal={refusal} />
        </PageSection>
      )}
      <PageSection type="tabs">
        <Tabs
          activeKey={part}
          onSelect={(_event, key) => setChosen(key as Part)}
          aria-label="Parts of the administration"
          usePageInsets
        >
          {offered.map(([key, text]) => (
            <Tab key={key} eventKey={key} title={<TabTitleText>{text}</TabTitleText>} tabContentId={`part-${key}`} />
          ))}
        </Tabs>
      </PageSection>
      <div id={`part-${part}`} role="tabpanel" aria-label={title}>
        <Shown part={part} user={user} />
      </div>
    </>
  );
}
