/** Acts on a machine: buttons on its page, a menu in the list. What loses data is confirmed. */
import { Button, List, ListItem, Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core";
import { useState } from "react";
import { ask, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { attempt, done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { type Item, Kebab } from "../parts/kebab.tsx";
import { go, link, machineLink } from "../route.ts";
import { type Act, acts, fates } from "./acts.ts";
import { Clone } from "./clone.tsx";
import { Download } from "./download.tsx";
import { Resize } from "./size.tsx";
import type { Machine } from "./view.ts";

type Open = { kind: "act"; act: Act } | { kind: "delete" | "size" | "clone" | "download" } | undefined;

const send = (act: Act) => ask<unknown>("PUT", act.path, act.body);

function Dialogs({
  machine,
  open,
  onClose,
  onDeleted,
}: {
  machine: Machine;
  open: Open;
  onClose: () => void;
  onDeleted?: () => void;
}) {
  const { project, name } = machine;
  if (open?.kind === "act") {
    const { act } = open;
    return (
      <Confirm
        title={`${act.label}: ${name}`}
        label={act.label}
        act={() => send(act)}
        onClose={onClose}
        onDone={() => done(`${act.label} ${name}`)}
      >
        {act.loses}
      </Confirm>
    );
  }
  const from = { project, kind: "machine" as const, name };
  if (open?.kind === "size") return <Resize machine={machine} onClose={onClose} />;
  if (open?.kind === "clone") return <Clone from={from} onClose={onClose} />;
  if (open?.kind === "download") return <Download from={from} machine={machine} onClose={onClose} />;
  if (open?.kind === "delete") {
    const all = fates(machine);
    const losesDisks = all.some((fate) => fate.isLost && fate.why.includes("deleted with it"));
    return (
      <Confirm
        title={`Delete machine ${name}`}
        label="Delete"
        typed={losesDisks ? name : undefined}
        act={() => remove(paths.machine(project, name))}
        onClose={onClose}
        onDone={() => {
          done(`Delete ${name}`);
          onDeleted?.();
        }}
      >
        {machine.vmi && <p>It runs: its guest is shut down first.</p>}
        <List aria-label="What becomes of its disks">
          {all.map((fate) => (
            <ListItem key={fate.disk}>
              <strong>{fate.disk}</strong>: {fate.isLost ? "lost, " : ""}
              {fate.why}
            </ListItem>
          ))}
          <ListItem>Snapshots of it stay, and can be restored under its name.</ListItem>
        </List>
      </Confirm>
    );
  }
  return null;
}

function choose(machine: Machine, act: Act, open: (next: Open) => void): void {
  if (act.loses) open({ kind: "act", act });
  else void attempt(`${act.label} ${machine.name}`, () => send(act));
}

/** The menu of a row. */
export function MachineMenu({ machine }: { machine: Machine }) {
  const [open, setOpen] = useState<Open>();
  const items: Item[] = [
    ...acts(machine).map((act) => ({
      label: act.label,
      isDanger: act.loses !== undefined,
      onClick: () => choose(machine, act, setOpen),
    })),
    ...(machine.vmi
      ? [{ label: "Screen", onClick: () => go(machineLink(machine.project, machine.name, "screen")) }]
      : []),
    { label: "Delete", isDanger: true, onClick: () => setOpen({ kind: "delete" }) },
  ];
  return (
    <>
      <Kebab of={machine.key} items={items} />
      <Dialogs machine={machine} open={open} onClose={() => setOpen(undefined)} />
    </>
  );
}

/** The buttons of a page: what is done most often, and a menu. */
export function MachineButtons({ machine }: { machine: Machine }) {
  const [open, setOpen] = useState<Open>();
  const all = acts(machine);
  const shown = all.filter((act) => !act.loses);
  const rest = all.filter((act) => act.loses);
  const items: Item[] = [
    { label: "Change size", onClick: () => setOpen({ kind: "size" }) },
    { label: "Clone", onClick: () => setOpen({ kind: "clone" }) },
    { label: "Download disks", onClick: () => setOpen({ kind: "download" }) },
    ...rest.map((act) => ({ label: act.label, isDanger: true, onClick: () => choose(machine, act, setOpen) })),
    { label: "Delete", isDanger: true, onClick: () => setOpen({ kind: "delete" }) },
  ];
  return (
    <Toolbar>
      <ToolbarContent>
        {shown.map((act, index) => (
          <ToolbarItem key={act.name}>
            <Button variant={index === 0 ? "primary" : "secondary"} onClick={() => choose(machine, act, setOpen)}>
              {act.label}
            </Button>
          </ToolbarItem>
        ))}
        <ToolbarItem>
          <Kebab of={machine.key} items={items} />
        </ToolbarItem>
      </ToolbarContent>
      <Dialogs
        machine={machine}
        open={open}
        onClose={() => setOpen(undefined)}
        onDeleted={() => go(link({ page: "machines" }))}
      />
    </Toolbar>
  );
}
