/** Projects: what machines, disks, images and networks are in, and what roles are given for. */
import { Button, ToolbarItem } from "@patternfly/react-core";
import { useState } from "react";
import { post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { type Column, List } from "../list/list.tsx";
import { useMachines } from "../machines/use.ts";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { TextField } from "../parts/fields.tsx";
import { Kebab } from "../parts/kebab.tsx";
import { isGoing, nameProblem, own } from "../parts/projects.ts";
import { State } from "../parts/state.tsx";
import type { Namespace } from "../types/meta.ts";
import { count, moment } from "../units.ts";

interface Row {
  name: string;
  machines: number;
  created: string | undefined;
  isGoing: boolean;
}

const COLUMNS: Column<Row>[] = [
  { title: "Project", value: (row) => row.name, cell: (row) => row.name },
  {
    title: "State",
    value: (row) => Number(row.isGoing),
    cell: (row) => (row.isGoing ? <State tone="warning">Being deleted</State> : <State tone="success">Ready</State>),
  },
  { title: "Machines", value: (row) => row.machines, cell: (row) => row.machines },
  { title: "Created", value: (row) => row.created, cell: (row) => moment(row.created) },
];

function CreateProject({ existing, onClose }: { existing: readonly Namespace[]; onClose: () => void }) {
  const [name, setName] = useState("");
  const problem = nameProblem(name, existing);
  return (
    <Dialog
      id="project"
      title="Create project"
      text="Machines, disks, images and networks are in a project, and users have roles for it."
      label="Create"
      problems={problem ? { name: problem } : {}}
      act={() => post(paths.project(), { apiVersion: "v1", kind: "Namespace", metadata: { name } })}
      onClose={onClose}
      onDone={() => done(`Create project ${name}`)}
    >
      {(at) => (
        <TextField
          id="project-name"
          label="Name"
          value={name}
          onChange={setName}
          isRequired
          help="Lowercase letters, digits and hyphens. It cannot be changed."
          error={at("name", "metadata.name")}
        />
      )}
    </Dialog>
  );
}

function DeleteProject({ row, onClose }: { row: Row; onClose: () => void }) {
  const { name, machines } = row;
  return (
    <Confirm
      title={`Delete project ${name}`}
      label="Delete"
      typed={name}
      act={() => remove(paths.project(name))}
      onClose={onClose}
      onDone={() => done(`Delete project ${name}`)}
    >
      <p>
        {machines > 0 ? `It has ${count(machines, "machine")}. ` : "It has no machines. "}
        All machines, disks, images, snapshots and networks in it are deleted, with all data. It cannot be undone.
      </p>
      <p>
        Users lose their roles for it. Machines of other projects that use a network of it do not start any more until
        their NIC has another one.
      </p>
    </Confirm>
  );
}

export function Projects() {
  const projects = useObjects("projects");
  const { machines, isWhole } = useMachines();
  const [open, setOpen] = useState<{ kind: "create" } | { kind: "delete"; row: Row }>();
  const close = () => setOpen(undefined);
  const rows = own(projects.all).map((project): Row => ({
    name: project.metadata.name,
    machines: machines.filter((one) => one.project === project.metadata.name).length,
    created: project.metadata.creationTimestamp,
    isGoing: isGoing(project),
  }));
  const create = (
    <Button variant="primary" onClick={() => setOpen({ kind: "create" })}>
      Create project
    </Button>
  );
  return (
    <>
      <List
        label="projects"
        rows={rows}
        isWhole={projects.isWhole && isWhole}
        columns={COLUMNS}
        rowKey={(row) => row.name}
        filters={<ToolbarItem>{create}</ToolbarItem>}
        actions={(row) => (
          <Kebab
            of={`project ${row.name}`}
            items={
              row.name === "default" || row.isGoing
                ? []
                : [{ label: "Delete", isDanger: true, onClick: () => setOpen({ kind: "delete", row }) }]
            }
          />
        )}
        empty={{ title: "No projects", text: "A project is what machines are in." }}
      />
      {open?.kind === "create" && <CreateProject existing={projects.all} onClose={close} />}
      {open?.kind === "delete" && <DeleteProject row={open.row} onClose={close} />}
    </>
  );
}
