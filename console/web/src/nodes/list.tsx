/** The list of nodes, and what is left of those that were removed. */
import { Button, PageSection, Stack, StackItem } from "@patternfly/react-core";
import { useState } from "react";
import { useObjects } from "../api/watch.ts";
import { List, type Column } from "../list/list.tsx";
import { Heading } from "../parts/heading.tsx";
import { State } from "../parts/state.tsx";
import { link } from "../route.ts";
import { bytes } from "../units.ts";
import { AddNode } from "./add.tsx";
import { Removal } from "./removal-parts.tsx";
import { useNodes } from "./use.ts";
import type { NodeRow } from "./view.ts";

const COLUMNS: Column<NodeRow>[] = [
  {
    title: "Node",
    value: (row) => row.name,
    cell: (row) => <a href={link({ page: "node", name: row.name })}>{row.name}</a>,
  },
  {
    title: "State",
    value: (row) => row.state,
    cell: (row) => (
      <>
        <State tone={row.tone}>{row.state}</State> {row.why}
      </>
    ),
  },
  {
    title: "Role",
    value: (row) => (row.isControlPlane ? "Control plane" : "Machines"),
    cell: (row) => (row.isControlPlane ? "Control plane and machines" : "Machines"),
  },
  { title: "Address", value: (row) => row.address, cell: (row) => row.address || "–" },
  { title: "Release", value: (row) => row.version, cell: (row) => row.version || "–" },
  {
    title: "Processors, memory",
    value: (row) => row.memory,
    cell: (row) => `${row.cpus ?? "–"}, ${bytes(row.memory)}`,
  },
  { title: "Machines", value: (row) => row.machines.length, cell: (row) => row.machines.length },
];

export default function Nodes() {
  const { nodes, isWhole } = useNodes();
  const removals = useObjects("removals").all;
  const [isAdding, setAdding] = useState(false);
  // What a removal leaves when its node is gone: a record, and a name that is not free yet.
  const gone = isWhole ? removals.filter((one) => !nodes.some((node) => node.name === one.spec.nodeName)) : [];
  const add = (
    <Button variant="primary" onClick={() => setAdding(true)}>
      Add a node
    </Button>
  );
  return (
    <>
      <Heading title="Nodes" actions={add} />
      {gone.length > 0 && (
        <PageSection>
          <Stack hasGutter>
            {gone.map((removal) => (
              <StackItem key={removal.metadata.name}>
                <Removal removal={removal} node={undefined} />
              </StackItem>
            ))}
          </Stack>
        </PageSection>
      )}
      <List
        label="nodes"
        rows={nodes}
        isWhole={isWhole}
        columns={COLUMNS}
        rowKey={(row) => row.name}
        empty={{
          title: "No nodes are shown",
          text: "Nodes are shown to users with a role for the whole cluster.",
          action: add,
        }}
      />
      {isAdding && <AddNode onClose={() => setAdding(false)} />}
    </>
  );
}
