/** The list of nodes. */
import { Content } from "@patternfly/react-core";
import { List, type Column } from "../list/list.tsx";
import { Heading } from "../parts/heading.tsx";
import { State } from "../parts/state.tsx";
import { link } from "../route.ts";
import { bytes } from "../units.ts";
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
  { title: "Processors", value: (row) => row.cpus, cell: (row) => row.cpus ?? "–" },
  { title: "Memory", value: (row) => row.memory, cell: (row) => bytes(row.memory) },
  { title: "Machines", value: (row) => row.machines.length, cell: (row) => row.machines.length },
];

export default function Nodes() {
  const { nodes, isWhole } = useNodes();
  return (
    <>
      <Heading title="Nodes" />
      <List
        label="nodes"
        rows={nodes}
        isWhole={isWhole}
        columns={COLUMNS}
        rowKey={(row) => row.name}
        empty={{
          title: "No nodes are shown",
          text: (
            <Content component="p">
              Nodes are shown to users with a role for the whole cluster. A node joins by the command on the screen of a
              control-plane node.
            </Content>
          ),
        }}
      />
    </>
  );
}
