/** Own API tokens: list, create (shown once), delete. */
import {
  ActionGroup,
  Alert,
  Button,
  Card,
  CardBody,
  CardTitle,
  ClipboardCopy,
  EmptyState,
  EmptyStateBody,
  Form,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { type FormEvent, useState } from "react";
import { post, remove } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { TextField } from "../parts/fields.tsx";
import { FormRefused } from "../parts/refused.tsx";
import { moment } from "../units.ts";
import type { Token } from "./grants.ts";

export function Tokens() {
  const { value, refusal: unread, reload } = useFetched<Token[]>("/console/tokens");
  const [label, setLabel] = useState("");
  const [days, setDays] = useState("90");
  const [made, setMade] = useState("");
  const [refusal, setRefusal] = useState<Refusal>();
  const [leaving, setLeaving] = useState<Token>();
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setRefusal(undefined);
    try {
      const { token } = await post<{ token: string }>("/console/tokens", { label, days: Number(days) });
      setMade(token);
      setLabel("");
      reload();
    } catch (error) {
      setRefusal(asRefusal(error));
    }
  };
  const shown = refusal ?? unread;
  return (
    <Card>
      <CardTitle component="h2">API tokens</CardTitle>
      <CardBody>
        <Stack hasGutter>
          {made !== "" && (
            <StackItem>
              <Alert variant="success" isInline component="h3" title="Copy the token now: it is not shown again">
                <ClipboardCopy
                  isReadOnly
                  hoverTip="Copy"
                  clickTip="Copied"
                  textAriaLabel="Token"
                  toggleAriaLabel="Show the token"
                >
                  {made}
                </ClipboardCopy>
              </Alert>
            </StackItem>
          )}
          <StackItem>
            {value && value.length > 0 ? (
              <Table aria-label="Tokens" variant="compact">
                <Thead>
                  <Tr>
                    <Th>Token</Th>
                    <Th>Created</Th>
                    <Th>Ends</Th>
                    <Th screenReaderText="Actions" />
                  </Tr>
                </Thead>
                <Tbody>
                  {value.map((token) => (
                    <Tr key={token.id}>
                      <Td dataLabel="Token">{token.label}</Td>
                      <Td dataLabel="Created">{moment(token.created)}</Td>
                      <Td dataLabel="Ends">{moment(token.ends)}</Td>
                      <Td isActionCell>
                        <Button
                          variant="link"
                          isDanger
                          aria-label={`Delete token ${token.label}`}
                          onClick={() => setLeaving(token)}
                        >
                          Delete
                        </Button>
                      </Td>
                    </Tr>
                  ))}
                </Tbody>
              </Table>
            ) : (
              <EmptyState variant="xs" headingLevel="h3" titleText="No tokens">
                <EmptyStateBody>A program uses one in your name: Authorization: Bearer sheaf_…</EmptyStateBody>
              </EmptyState>
            )}
          </StackItem>
          <StackItem>
            <Form isWidthLimited onSubmit={(event) => void submit(event)}>
              <FormRefused refusal={shown} />
              <TextField id="token-label" label="What the token is for" value={label} onChange={setLabel} isRequired />
              <TextField
                id="token-days"
                type="number"
                label="Valid for days"
                value={days}
                onChange={setDays}
                isRequired
                help="1 to 365"
              />
              <ActionGroup>
                <Button type="submit" variant="secondary" isDisabled={label.trim() === ""}>
                  Create token
                </Button>
              </ActionGroup>
            </Form>
          </StackItem>
        </Stack>
        {leaving && (
          <Confirm
            title={`Delete token ${leaving.label}`}
            label="Delete"
            act={() => remove(`/console/tokens/${leaving.id}`)}
            onClose={() => setLeaving(undefined)}
            onDone={() => {
              done(`Delete token ${leaving.label}`);
              reload();
            }}
          >
            Programs that use it are refused from now on.
          </Confirm>
        )}
      </CardBody>
    </Card>
  );
}
