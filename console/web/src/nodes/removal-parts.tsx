/**
 * The removal of a node: start, what is in the way, what is lost and confirmed, erasing, cancel, and afterwards its name.
 *
 * Nothing is lost by starting it: sheaf-controller lists what would be, and waits until that is confirmed.
 */
import { Alert, AlertActionLink, Checkbox, List, ListItem } from "@patternfly/react-core";
import { useState } from "react";
import { patch, post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { attempt, done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { TextField } from "../parts/fields.tsx";
import type { NodeRemoval } from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { count, moment } from "../units.ts";
import { Blockers } from "./blockers.tsx";
import {
  accept,
  blockers,
  build,
  check,
  erase,
  lossText,
  possible,
  poweredOff,
  release,
  unconfirmed,
} from "./removal.ts";

export function StartRemoval({ name, reports, onClose }: { name: string; reports: boolean; onClose: () => void }) {
  const [form, setForm] = useState({ node: name, reason: "", wipes: false, wipesPools: false, typed: "" });
  return (
    <Dialog
      id="removal"
      title={`Remove node ${name}`}
      label="Start removal"
      isDanger
      problems={check(form)}
      act={() => post(paths.removal(), build(form))}
      onClose={onClose}
      onDone={() => done(`Removal of ${name} has started`)}
    >
      {(at) => (
        <>
          <p>
            First it is looked for what would be lost with the node and what is in the way; the page of the node shows
            both. Machines are shut down only after you have confirmed what is lost. Until the node leaves, the removal
            can be cancelled.
          </p>
          <TextField
            id="removal-reason"
            label="Reason, for others"
            value={form.reason}
            onChange={(reason) => setForm({ ...form, reason })}
            error={at("reason", "spec.reason")}
          />
          {reports ? (
            <>
              <Checkbox
                id="removal-wipes"
                label="The node erases itself when it has left"
                description="Its system's state, its data and node.toml. Without it, erase its disks yourself: keys of the cluster can be on them."
                isChecked={form.wipes}
                onChange={(_event, wipes) => setForm({ ...form, wipes, wipesPools: wipes && form.wipesPools })}
              />
              {form.wipes && (
                <>
                  <Checkbox
                    id="removal-wipes-pools"
                    label="Its pools, too, with every disk of a machine in them"
                    isChecked={form.wipesPools}
                    onChange={(_event, wipesPools) => setForm({ ...form, wipesPools })}
                  />
                  <TextField
                    id="removal-typed"
                    label={`Type ${name} to confirm`}
                    value={form.typed}
                    onChange={(typed) => setForm({ ...form, typed })}
                    isRequired
                    error={at("typed", "spec.wipe")}
                  />
                </>
              )}
            </>
          ) : (
            <Alert variant="info" isInline component="h2" title="The node does not report, so it cannot erase itself">
              Erase its disks before they leave the house: keys of the cluster can be on them.
            </Alert>
          )}
        </>
      )}
    </Dialog>
  );
}

/** Gives the name free: the key that had it is lost, or its machine has left. */
export function ReleaseName({ name, onClose }: { name: string; onClose: () => void }) {
  return (
    <Confirm
      title={`Release the name ${name}`}
      label="Release"
      typed={name}
      act={() => patch(paths.identities, release(name))}
      onClose={onClose}
      onDone={() => done(`The name ${name} is free`)}
    >
      For a machine that was replaced or installed again: the next machine that joins with a token may take the name.
      The certificate of the former machine is valid until it ends: keep that machine switched off, or erase it.
    </Confirm>
  );
}

type Open = "accept" | "powered-off" | "erase" | "cancel" | "release" | undefined;

const TITLES: Record<string, string> = {
  Checking: "What would be lost is looked for",
  Blocked: "Something is in the way",
  Draining: "Machines are shut down",
  Demoting: "It leaves the control plane",
  Removing: "It leaves the cluster",
  Removed: "It was removed",
  Cancelled: "The removal was given up",
};

export function Removal({ removal, node }: { removal: NodeRemoval; node: Node | undefined }) {
  const [open, setOpen] = useState<Open>();
  const [wipesPools, setWipesPools] = useState(false);
  const { spec, status, metadata } = removal;
  const name = spec.nodeName;
  const may = possible(removal, node);
  const phase = status?.phase ?? "Checking";
  const losses = unconfirmed(removal);
  const confirmed = (status?.losses ?? []).filter((loss) => !losses.includes(loss));
  const change = (body: object) => patch(paths.removal(metadata.name), body);
  const close = () => setOpen(undefined);
  return (
    <>
      <Alert
        variant={phase === "Blocked" || phase === "Cancelled" ? "warning" : phase === "Removed" ? "success" : "info"}
        isInline
        component="h2"
        title={`Removal of ${name}: ${TITLES[phase] ?? phase}`}
        actionLinks={
          <>
            {may.accept && (
              <AlertActionLink onClick={() => setOpen("accept")}>
                Confirm {count(losses.length, "loss", "losses")}
              </AlertActionLink>
            )}
            {may.poweredOff && (
              <AlertActionLink onClick={() => setOpen("powered-off")}>It is switched off for good</AlertActionLink>
            )}
            {may.erase && <AlertActionLink onClick={() => setOpen("erase")}>Erase it when it has left</AlertActionLink>}
            {may.cancel && <AlertActionLink onClick={() => setOpen("cancel")}>Cancel removal</AlertActionLink>}
            {may.release && <AlertActionLink onClick={() => setOpen("release")}>Release the name</AlertActionLink>}
            {may.isRecord && (
              <AlertActionLink
                onClick={() =>
                  void attempt(`Delete the record of the removal of ${name}`, () =>
                    remove(paths.removal(metadata.name)),
                  )
                }
              >
                Delete the record
              </AlertActionLink>
            )}
          </>
        }
      >
        <p>{status?.message ?? "It begins."}</p>
        {spec.wipe && (
          <p>
            The node erases itself when it has left{spec.wipe.pools ? ", with its pools" : ""}
            {status?.erasing ? `: it began at ${moment(status.erasing)}` : ""}.
          </p>
        )}
        <Blockers blockers={blockers(removal)} />
        {losses.length > 0 && (
          <>
            <p>
              <strong>Would be lost:</strong>
            </p>
            <List aria-label="What would be lost">
              {losses.map((loss) => (
                <ListItem key={loss.name}>{lossText(loss)}</ListItem>
              ))}
            </List>
          </>
        )}
        {confirmed.length > 0 && (
          <>
            <p>
              <strong>Confirmed as lost:</strong>
            </p>
            <List aria-label="What was confirmed as lost">
              {confirmed.map((loss) => (
                <ListItem key={loss.name}>{lossText(loss)}</ListItem>
              ))}
            </List>
          </>
        )}
      </Alert>
      {open === "accept" && (
        <Confirm
          title={`What is lost with node ${name}`}
          label="Confirm losses"
          typed={name}
          act={() => change(accept(removal, losses))}
          onClose={close}
          onDone={() => done(`Losses with ${name} were confirmed`)}
        >
          <p>These exist on this node only, and are deleted with it. Copy away first what is still needed.</p>
          <List aria-label="What is lost">
            {losses.map((loss) => (
              <ListItem key={loss.name}>{lossText(loss)}</ListItem>
            ))}
          </List>
        </Confirm>
      )}
      {open === "powered-off" && (
        <Confirm
          title={`${name} is switched off for good`}
          label="It is switched off"
          typed={name}
          act={() => change(poweredOff)}
          onClose={close}
          onDone={() => done(`${name} counts as switched off`)}
        >
          Its machines then count as ended, and start elsewhere if they can. If the node still ran, they would run twice
          and damage their disks. Switch it off at its power supply first.
        </Confirm>
      )}
      {open === "erase" && (
        <Confirm
          title={`${name} erases itself`}
          label="Erase when it has left"
          typed={name}
          act={() => change(erase(name, wipesPools))}
          onClose={close}
          onDone={() => done(`${name} erases itself when it has left`)}
        >
          <p>Its system's state, its data and node.toml are erased when it has left the cluster.</p>
          <Checkbox
            id="erase-pools"
            label="Its pools, too, with every disk of a machine in them"
            isChecked={wipesPools}
            onChange={(_event, value) => setWipesPools(value)}
          />
        </Confirm>
      )}
      {open === "cancel" && (
        <Confirm
          title={`Cancel the removal of ${name}`}
          label="Cancel removal"
          isDanger={false}
          act={() => remove(paths.removal(metadata.name))}
          onClose={close}
          onDone={() => done(`The removal of ${name} is cancelled`)}
        >
          The node takes machines again, and what was stopped for the removal starts.
          {phase === "Demoting" &&
            " It may have left the control plane already; it does not come back to it by itself."}
        </Confirm>
      )}
      {open === "release" && <ReleaseName name={name} onClose={close} />}
    </>
  );
}
