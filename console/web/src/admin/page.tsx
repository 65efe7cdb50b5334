/** Administration: the own password, second factor and tokens; users and their roles, the identity provider, for administrators. */
import { PageSection, Stack, StackItem, Tab, Tabs, TabTitleText } from "@patternfly/react-core";
import { useState } from "react";
import { Heading } from "../parts/heading.tsx";
import { OwnPassword } from "./password.tsx";
import { Provider } from "./provider.tsx";
import { SecondFactor } from "./second.tsx";
import { Tokens } from "./tokens.tsx";
import { Users } from "./users.tsx";

const TITLES: Record<string, string> = {
  users: "Users and roles",
  provider: "Identity provider",
  own: "Own password and tokens",
};

export default function Administration({ user }: { user: string }) {
  const [tab, setTab] = useState<string | number>("users");
  return (
    <>
      <Heading title="Administration" />
      <PageSection type="tabs">
        <Tabs
          activeKey={tab}
          onSelect={(_event, key) => setTab(key)}
          aria-label="Parts of the administration"
          usePageInsets
        >
          {Object.entries(TITLES).map(([key, title]) => (
            <Tab key={key} eventKey={key} title={<TabTitleText>{title}</TabTitleText>} tabContentId={`part-${key}`} />
          ))}
        </Tabs>
      </PageSection>
      <PageSection id={`part-${tab}`} role="tabpanel" aria-label={TITLES[tab] ?? ""}>
        {tab === "users" ? (
          <Users self={user} />
        ) : tab === "provider" ? (
          <Provider />
        ) : (
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
        )}
      </PageSection>
    </>
  );
}
