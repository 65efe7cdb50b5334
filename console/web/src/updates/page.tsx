/** Releases that nodes run, updates of all nodes, and where each node stands. */
import {
  Button,
  Card,
  CardBody,
  CardTitle,
  EmptyState,
  EmptyStateBody,
  PageSection,
  Stack,
  StackItem,
  Toolbar,
  ToolbarContent,
  ToolbarItem,
} from "@patternfly/react-core";
import { useState } from "react";
import { patch, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { type Column, List } from "../list/list.tsx";
import { useNodes } from "../nodes/use.ts";
import { attempt, done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { Facts } from "../parts/facts.tsx";
import { Heading } from "../parts/heading.tsx";
import { type Item, Kebab } from "../parts/kebab.tsx";
import { State } from "../parts/state.tsx";
import { YamlDialog } from "../parts/yaml.tsx";
import { link } from "../route.ts";
import type { ClusterUpdate } from "../types/crds.ts";
import { count, moment } from "../units.ts";
import { StartUpdate } from "./start.tsx";
import { type Act, acts, isFinished, phase, releases, rows, sourceText, type UpdateRow, windowText } from "./view.ts";
import { withdrawal } from "./withdraw.ts";

const COLUMNS: Column<UpdateRow>[] = [
  {
    title: "Node",
    value: (row) => row.node,
    cell: (row) => <a href={link({ page: "node", name: row.node })}>{row.node}</a>,
  },
  { title: "Runs", value: (row) => row.running, cell: (row) => row.running || "–" },
  { title: "Wanted", value: (row) => row.wanted, cell: (row) => row.wanted || "–" },
  {
    title: "State",
    value: (row) => row.state,
    cell: (row) => (row.state ? <State tone={row.tone}>{row.state}</State> : "–"),
  },
  { title: "Why", value: (row) => row.why, cell: (row) => row.why || "–" },
  { title: "Other slot", value: (row) => row.other, cell: (row) => row.other || "–" },
];

type Open =
  | { kind: "start" }
  | { kind: "cancel" | "delete" | "yaml"; update: ClusterUpdate }
  | { kind: "withdraw"; node: string }
  | undefined;

function nodeItems(row: UpdateRow, updates: readonly ClusterUpdate[], onOpen: (open: Open) => void): Item[] {
  const { node, request } = row;
  if (row.mayRetry)
    return [
      {
        label: "Try again",
        onClick: () => void attempt(`Try the update of ${node} again`, () => remove(paths.nodeUpdate(node))),
      },
    ];
  const found = request && withdrawal(request, updates);
  return found ? [{ label: found.label, onClick: () => onOpen({ kind: "withdraw", node }) }] : [];
}

/** What is said follows the node while the dialog is open. */
function Withdraw({
  row,
  updates,
  onClose,
}: {
  row: UpdateRow;
  updates: readonly ClusterUpdate[];
  onClose: () => void;
}) {
  const { node, request } = row;
  const found = request && withdrawal(request, updates);
  if (!found) return null;
  const isRecord = found.label === "Delete the record";
  return (
    <Confirm
      title={
        isRecord ? `Delete the record of the update of ${node}` : `Withdraw the update of ${node} to ${row.wanted}`
      }
      label={isRecord ? "Delete" : "Withdraw"}
      isDanger={!isRecord}
      act={() => remove(paths.nodeUpdate(node))}
      onClose={onClose}
      onDone={() => done(isRecord ? "The record was deleted" : `The update of ${node} is withdrawn`)}
    >
      {found.says.map((text) => (
        <p key={text}>{text}</p>
      ))}
    </Confirm>
  );
}

function One({ update, onOpen }: { update: ClusterUpdate; onOpen: (open: Open) => void }) {
  const { metadata, spec, status } = update;
  const [word, tone] = phase(update);
  const choose = ({ label, body }: Act) =>
    label === "Cancel update"
      ? onOpen({ kind: "cancel", update })
      : void attempt(`${label} the update to ${spec.version}`, () => patch(paths.clusterUpdate(metadata.name), body));
  return (
    <Card>
      <CardTitle component="h2">Update to {spec.version}</CardTitle>
      <CardBody>
        <Stack hasGutter>
          <StackItem>
            <State tone={tone}>{word}</State> {status?.message}
          </StackItem>
          <StackItem>
            <Facts
              label={`Update to ${spec.version}`}
              facts={[
                ["Nodes", `${status?.updated ?? 0} of ${status?.total ?? 0} updated, ${status?.failed ?? 0} failed`],
                ["From", sourceText(spec)],
                ["Nodes at a time", spec.maxUnavailable ?? 1],
                ["Begun", windowText(spec)],
                ["Requested", moment(metadata.creationTimestamp)],
              ]}
            />
          </StackItem>
          <StackItem>
            <Toolbar>
              <ToolbarContent>
                {acts(update).map((act) => (
                  <ToolbarItem key={act.label}>
                    <Button variant="secondary" onClick={() => choose(act)}>
                      {act.label}
                    </Button>
                  </ToolbarItem>
                ))}
                <ToolbarItem>
                  <Kebab
                    of={metadata.name}
                    items={[
                      { label: "YAML", onClick: () => onOpen({ kind: "yaml", update }) },
                      ...(isFinished(update)
                        ? [{ label: "Delete the record", onClick: () => onOpen({ kind: "delete" as const, update }) }]
                        : []),
                    ]}
                  />
                </ToolbarItem>
              </ToolbarContent>
            </Toolbar>
          </StackItem>
        </Stack>
      </CardBody>
    </Card>
  );
}

export default function Updates() {
  const updates = useObjects("updates");
  const { nodes, isWhole } = useNodes();
  const [open, setOpen] = useState<Open>();
  const close = () => setOpen(undefined);
  const ordered = [...updates.all].sort(
    (left, right) =>
      Number(isFinished(left)) - Number(isFinished(right)) ||
      (right.metadata.creationTimestamp ?? "").localeCompare(left.metadata.creationTimestamp ?? ""),
  );
  const active = ordered.find((update) => !isFinished(update) && update.status?.phase !== "Pending");
  const start = (
    <Button variant="primary" onClick={() => setOpen({ kind: "start" })}>
      Update nodes
    </Button>
  );
  const shown = rows(nodes, active);
  const withdrawn = open?.kind === "withdraw" ? shown.find(({ node }) => node === open.node) : undefined;
  const runs = releases(nodes).map(([version, number]) => `${count(number, "node")} ${version}`);
  return (
    <>
      <Heading title="Updates" text={runs.length > 0 ? `Running: ${runs.join(", ")}` : undefined} actions={start} />
      <PageSection>
        <Stack hasGutter>
          {ordered.map((update) => (
            <StackItem key={update.metadata.name}>
              <One update={update} onOpen={setOpen} />
            </StackItem>
          ))}
          {updates.isWhole && ordered.length === 0 && (
            <StackItem>
              <EmptyState variant="sm" headingLevel="h2" titleText="No update was requested">
                <EmptyStateBody>
                  Serve the folder of a release by a web server, and enter its address and its version.
                </EmptyStateBody>
              </EmptyState>
            </StackItem>
          )}
        </Stack>
      </PageSection>
      <List
        label="releases of nodes"
        rows={shown}
        isWhole={isWhole}
        columns={COLUMNS}
        rowKey={(row) => row.node}
        // Whose a request is, is known once all updates are.
        actions={(row) => <Kebab of={row.node} items={updates.isWhole ? nodeItems(row, updates.all, setOpen) : []} />}
        empty={{ title: "No nodes are shown", text: "Nodes are shown to users with a role for the whole cluster." }}
      />
      {open?.kind === "start" && <StartUpdate existing={updates.all} onClose={close} />}
      {withdrawn && <Withdraw row={withdrawn} updates={updates.all} onClose={close} />}
      {open?.kind === "yaml" && (
        <YamlDialog
          path={paths.clusterUpdate(open.update.metadata.name)}
          what={`update ${open.update.metadata.name}`}
          onClose={close}
        />
      )}
      {open?.kind === "cancel" && (
        <Confirm
          title={`Cancel the update to ${open.update.spec.version}`}
          label="Cancel update"
          act={() => patch(paths.clusterUpdate(open.update.metadata.name), { spec: { cancelled: true } })}
          onClose={close}
          onDone={() => done(`The update to ${open.update.spec.version} is cancelled`)}
        >
          No further node is begun. Nodes that restart or are on trial are followed to their end; those that run the
          release keep it. It cannot be undone; another update can be started.
        </Confirm>
      )}
      {open?.kind === "delete" && (
        <Confirm
          title={`Delete the record of the update to ${open.update.spec.version}`}
          label="Delete"
          isDanger={false}
          act={() => remove(paths.clusterUpdate(open.update.metadata.name))}
          onClose={close}
          onDone={() => done("The record was deleted")}
        >
          Nothing changes on the nodes.
        </Confirm>
      )}
    </>
  );
}
