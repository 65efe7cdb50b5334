/** A maintenance on the page of its node: start, how far each machine is, what is in the way, end. */
import { Alert, AlertActionLink, List, ListItem } from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useState } from "react";
import { post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import type { Machine } from "../machines/view.ts";
import { attempt, done } from "../notices.ts";
import { Dialog } from "../parts/dialog.tsx";
import { TextField } from "../parts/fields.tsx";
import { State } from "../parts/state.tsx";
import { machineLink } from "../route.ts";
import type { NodeMaintenance } from "../types/crds.ts";
import { count } from "../units.ts";
import { Blockers } from "./blockers.tsx";
import { build, check, endWord, progress } from "./maintenance.ts";
import type { NodeRow } from "./view.ts";

export function StartMaintenance({ node, onClose }: { node: NodeRow; onClose: () => void }) {
  const { name } = node;
  const [form, setForm] = useState({ node: name, reason: "", deadline: "" });
  const running = node.machines.filter((machine) => machine.vmi);
  return (
    <Dialog
      id="maintenance"
      title={`Maintenance of ${name}`}
      label="Start maintenance"
      problems={check(form)}
      act={() => post(paths.maintenance(), build(form))}
      onClose={onClose}
      onDone={() => done(`Maintenance of ${name} has started`)}
    >
      {(at) => (
        <>
          <p>
            No machine is started here any more, and{" "}
            {running.length === 0 ? "none runs here now" : `${count(running.length, "machine")} shut down`}. Those
            without disks on this node start on others; the rest starts again when the maintenance ends. It can be ended
            at any moment.
          </p>
          <TextField
            id="maintenance-reason"
            label="Reason, for others"
            value={form.reason}
            onChange={(reason) => setForm({ ...form, reason })}
            error={at("reason", "spec.reason")}
          />
          <TextField
            id="maintenance-deadline"
            type="number"
            label="Give up after, minutes"
            value={form.deadline}
            onChange={(deadline) => setForm({ ...form, deadline })}
            help="If machines still run here then, the node takes machines again. Empty: it waits."
            error={at("deadline", "spec.deadlineSeconds")}
          />
        </>
      )}
    </Dialog>
  );
}

const VARIANTS = { Blocked: "warning", Cancelled: "warning" } as const;

export function Maintenance({ maintenance, machines }: { maintenance: NodeMaintenance; machines: readonly Machine[] }) {
  const { status, spec, metadata } = maintenance;
  const variant = VARIANTS[status?.phase as keyof typeof VARIANTS] ?? "info";
  const rows = progress(maintenance, machines);
  const isEnding = metadata.deletionTimestamp !== undefined;
  const word = status?.phase === "Cancelled" ? "Delete the record" : endWord(maintenance);
  return (
    <Alert
      variant={variant}
      isInline
      component="h2"
      title={`Maintenance${spec.reason ? `: ${spec.reason}` : ""}`}
      actionLinks={
        !isEnding && (
          <AlertActionLink
            onClick={() => void attempt(`${word} of ${spec.nodeName}`, () => remove(paths.maintenance(metadata.name)))}
          >
            {word}
          </AlertActionLink>
        )
      }
    >
      <p>{status?.message ?? "It begins."}</p>
      <Blockers blockers={status?.blockers} />
      {status?.warnings && (
        <List>
          {status.warnings.map((one) => (
            <ListItem key={one}>{one}</ListItem>
          ))}
        </List>
      )}
      {rows.length > 0 && (
        <Table aria-label={`Machines in the maintenance of ${spec.nodeName}`} variant="compact" borders={false}>
          <Thead>
            <Tr>
              <Th>Machine</Th>
              <Th>State</Th>
              <Th>What follows</Th>
            </Tr>
          </Thead>
          <Tbody>
            {rows.map((row) => {
              const [project = "", machine = ""] = row.key.split("/");
              return (
                <Tr key={row.key}>
                  <Td dataLabel="Machine">
                    <a href={machineLink(project, machine)}>{row.key}</a>
                  </Td>
                  <Td dataLabel="State">
                    <State tone={row.tone}>{row.state}</State>
                  </Td>
                  <Td dataLabel="What follows">{row.text || "–"}</Td>
                </Tr>
              );
            })}
          </Tbody>
        </Table>
      )}
    </Alert>
  );
}
