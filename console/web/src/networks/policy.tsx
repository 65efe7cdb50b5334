/** One change of the nodes' links: how it stands on each node, the trial's countdown, why it was rolled back, its YAML. */
import {
  Alert,
  Bullseye,
  Button,
  List,
  ListItem,
  PageSection,
  Spinner,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useState } from "react";
import { remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { Part } from "../nodes/part.tsx";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { useNow } from "../parts/countdown.tsx";
import { Facts } from "../parts/facts.tsx";
import { Heading } from "../parts/heading.tsx";
import { Missing } from "../parts/missing.tsx";
import { State } from "../parts/state.tsx";
import { YamlDialog } from "../parts/yaml.tsx";
import { go, link } from "../route.ts";
import type { NodeNetworkPolicy } from "../types/crds.ts";
import { type EnactmentRow, enactments, linksText, nodesText, phase } from "./policies.ts";

/** Deletes a change; the nodes then try to be without it. */
export function DeletePolicy({
  policy,
  onClose,
  onDone,
}: {
  policy: NodeNetworkPolicy;
  onClose: () => void;
  onDone?: () => void;
}) {
  const { name } = policy.metadata;
  return (
    <Confirm
      title={`Delete the change ${name}`}
      label="Delete"
      act={() => remove(paths.policy(name))}
      onClose={onClose}
      onDone={() => {
        done(`Delete the change ${name}`);
        onDone?.();
      }}
    >
      One node after the other loses {linksText(policy)}, on trial as well. A bridge that machines are connected to
      stays until they are shut down.
    </Confirm>
  );
}

/** What a trial waits for, with the seconds that are left. */
function Trial({ row }: { row: EnactmentRow }) {
  return (
    <Alert
      variant="info"
      isInline
      component="h2"
      title={`${row.node} tries it: ${row.left === 0 ? "the time is over, and it has not reported yet" : `${row.left} s`}`}
    >
      It is kept by itself once every probe passed twice, and rolled back by itself otherwise, also when this page or
      the API server cannot be reached.
    </Alert>
  );
}

export default function PolicyPage({ name }: { name: string }) {
  const policies = useObjects("policies");
  const all = useObjects("enactments").all;
  const [open, setOpen] = useState<"yaml" | "delete">();
  const policy = policies.all.find(({ metadata }) => metadata.name === name);
  const isTrying = all.some(({ spec, status }) => spec.policy === name && status?.phase === "Trying");
  const now = useNow(isTrying);
  if (!policy) {
    return policies.isWhole ? (
      <Missing what={`A change ${name}`} href={link({ page: "policies" })} back="All changes" />
    ) : (
      <Bullseye>
        <Spinner aria-label="Reading the change" />
      </Bullseye>
    );
  }
  const [word, tone] = phase(policy);
  const rows = enactments(policy, all, now);
  const failed = rows.filter(({ state }) => state === "Rolled back" || state === "Refused");
  return (
    <>
      <Heading
        title={name}
        text={<State tone={tone}>{word}</State>}
        actions={
          <>
            <Button variant="secondary" onClick={() => setOpen("yaml")}>
              YAML
            </Button>{" "}
            <Button variant="danger" onClick={() => setOpen("delete")}>
              Delete
            </Button>
          </>
        }
      />
      <PageSection>
        <Stack hasGutter>
          {rows
            .filter(({ left }) => left !== undefined)
            .map((row) => (
              <StackItem key={row.key}>
                <Trial row={row} />
              </StackItem>
            ))}
          {failed.map((row) => (
            <StackItem key={row.key}>
              <Alert variant="danger" isInline component="h2" title={`${row.node}: ${row.state.toLowerCase()}`}>
                <p>{row.why || "It says no more."}</p>
                <p>
                  <strong>To do:</strong> change what the message names in the YAML; that is another try. The node has
                  the links that it had before.
                </p>
              </Alert>
            </StackItem>
          ))}
          <Part title="Change">
            <Facts
              label={`Change ${name}`}
              facts={[
                ["Links", linksText(policy)],
                ["On", nodesText(policy)],
                ["Nodes at a time", policy.spec.maxUnavailable ?? 1],
                [
                  "Nodes",
                  `${policy.status?.applied ?? 0} of ${policy.status?.nodes ?? 0} have it, ${policy.status?.failed ?? 0} failed`,
                ],
                ["Message", policy.status?.message],
              ]}
            />
          </Part>
          <Part title="Nodes">
            {rows.length === 0 ? (
              <p>No node has begun.</p>
            ) : (
              <Table aria-label={`Nodes of the change ${name}`} variant="compact">
                <Thead>
                  <Tr>
                    <Th>Node</Th>
                    <Th>State</Th>
                    <Th>Runs</Th>
                    <Th>Message</Th>
                    <Th>Probes</Th>
                  </Tr>
                </Thead>
                <Tbody>
                  {rows.map((row) => (
                    <Tr key={row.key}>
                      <Td dataLabel="Node">
                        <a href={link({ page: "node", name: row.node })}>{row.node}</a>
                      </Td>
                      <Td dataLabel="State">
                        <State tone={row.tone}>{row.state}</State>
                      </Td>
                      <Td dataLabel="Runs">{row.runs}</Td>
                      <Td dataLabel="Message">{row.why || "–"}</Td>
                      <Td dataLabel="Probes">
                        {row.probes.length === 0 ? (
                          "–"
                        ) : (
                          <List isPlain>
                            {row.probes.map((probe) => (
                              <ListItem key={probe.name}>
                                {probe.name}: {probe.text}
                              </ListItem>
                            ))}
                          </List>
                        )}
                      </Td>
                    </Tr>
                  ))}
                </Tbody>
              </Table>
            )}
          </Part>
        </Stack>
      </PageSection>
      {open === "yaml" && (
        <YamlDialog path={paths.policy(name)} what={`change ${name}`} onClose={() => setOpen(undefined)} />
      )}
      {open === "delete" && (
        <DeletePolicy
          policy={policy}
          onClose={() => setOpen(undefined)}
          onDone={() => go(link({ page: "policies" }))}
        />
      )}
    </>
  );
}
