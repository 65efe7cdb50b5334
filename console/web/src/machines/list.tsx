/** The list of all machines, live. */
import { Button, FormSelect, FormSelectOption, ToolbarItem } from "@patternfly/react-core";
import { useMemo, useState } from "react";
import { List, type Column } from "../list/list.tsx";
import { Heading } from "../parts/heading.tsx";
import { State } from "../parts/state.tsx";
import { link, machineLink } from "../route.ts";
import { age, bytes } from "../units.ts";
import { MachineMenu } from "./actions.tsx";
import { useMachines } from "./use.ts";
import type { Machine } from "./view.ts";

const COLUMNS: Column<Machine>[] = [
  {
    title: "Name",
    value: (row) => row.name,
    cell: (row) => <a href={machineLink(row.project, row.name)}>{row.name}</a>,
  },
  { title: "Project", value: (row) => row.project, cell: (row) => row.project },
  { title: "State", value: (row) => row.state, cell: (row) => <State tone={row.tone}>{row.state}</State> },
  {
    title: "Node",
    value: (row) => row.node,
    cell: (row) => (row.node ? <a href={link({ page: "node", name: row.node })}>{row.node}</a> : "–"),
  },
  { title: "Address", value: (row) => row.address, cell: (row) => row.address || "–" },
  { title: "Memory", value: (row) => row.memory, cell: (row) => (row.memory ? bytes(row.memory) : row.size || "–") },
  {
    title: "Age",
    value: (row) => (row.created ? -Date.parse(row.created) : undefined),
    cell: (row) => age(row.created, Date.now()),
  },
];

const ALL = "";

function CreateButton() {
  return (
    <Button component="a" href={link({ page: "create" })} variant="primary">
      Create machine
    </Button>
  );
}

export function Machines() {
  const { machines, isWhole } = useMachines();
  const [project, setProject] = useState(ALL);
  const [state, setState] = useState(ALL);
  const projects = useMemo(() => [...new Set(machines.map((one) => one.project))].sort(), [machines]);
  const states = useMemo(() => [...new Set(machines.map((one) => one.state))].sort(), [machines]);
  const rows = machines.filter(
    (one) => (project === ALL || one.project === project) && (state === ALL || one.state === state),
  );
  const filters = machines.length > 0 && (
    <>
      <ToolbarItem>
        <FormSelect aria-label="Project" value={project} onChange={(_event, value) => setProject(value)}>
          <FormSelectOption value={ALL} label="All projects" />
          {projects.map((one) => (
            <FormSelectOption key={one} value={one} label={one} />
          ))}
        </FormSelect>
      </ToolbarItem>
      <ToolbarItem>
        <FormSelect aria-label="State" value={state} onChange={(_event, value) => setState(value)}>
          <FormSelectOption value={ALL} label="All states" />
          {states.map((one) => (
            <FormSelectOption key={one} value={one} label={one} />
          ))}
        </FormSelect>
      </ToolbarItem>
    </>
  );
  return (
    <>
      <Heading title="Machines" actions={<CreateButton />} />
      <List
        label="machines"
        rows={rows}
        isWhole={isWhole}
        columns={COLUMNS}
        rowKey={(row) => row.key}
        actions={(row) => <MachineMenu machine={row} />}
        filters={filters}
        empty={{
          title: "No machines yet",
          text: "Create an image first, then a machine from it.",
          action: <CreateButton />,
        }}
      />
    </>
  );
}
