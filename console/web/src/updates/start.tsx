/** Asks for a release on all nodes, or on one: version, where it is, how many nodes at a time, and when. */
import { Alert, Checkbox, FormGroup } from "@patternfly/react-core";
import { useState } from "react";
import { post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import type { NodeRow } from "../nodes/view.ts";
import { done } from "../notices.ts";
import { type At, Dialog } from "../parts/dialog.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import type { ClusterUpdate } from "../types/crds.ts";
import { build, buildOne, check, DAYS, EMPTY, type NewUpdate, type Source, SOURCES } from "./view.ts";

const LABELS: Record<Exclude<Source, "other">, [string, string]> = {
  url: ["URL of the release", "https://releases.example.org/sheaf-0.2.0"],
  oci: ["Image of the release", "registry.example.org/sheaf:0.2.0"],
  drive: ["Label of the drive", "SHEAF-UPDATE"],
};

/** How many nodes at a time, and when. */
function Schedule({ form, set, at }: { form: NewUpdate; set: (change: Partial<NewUpdate>) => void; at: At }) {
  return (
    <>
      <TextField
        id="update-maxUnavailable"
        type="number"
        label="Nodes at a time"
        value={form.maxUnavailable}
        onChange={(maxUnavailable) => set({ maxUnavailable })}
        isRequired
        help="Nodes that are not ready for another reason count."
        error={at("maxUnavailable", "spec.maxUnavailable")}
      />
      <Checkbox
        id="update-window"
        label="Begin nodes only at certain times"
        description="A node that was begun is followed to its end."
        isChecked={form.hasWindow}
        onChange={(_event, hasWindow) => set({ hasWindow })}
      />
      {form.hasWindow && (
        <>
          <FormGroup role="group" label="Days; none chosen means every day" fieldId="update-days">
            {DAYS.map((day) => (
              <Checkbox
                key={day}
                id={`update-day-${day}`}
                label={day}
                isChecked={form.days.includes(day)}
                onChange={(_event, isOn) =>
                  set({ days: isOn ? [...form.days, day] : form.days.filter((one) => one !== day) })
                }
              />
            ))}
          </FormGroup>
          <TextField
            id="update-from"
            label="From, UTC"
            value={form.from}
            onChange={(from) => set({ from })}
            isRequired
            error={at("from", "spec.window.from")}
          />
          <TextField
            id="update-until"
            label="Until, UTC"
            value={form.until}
            onChange={(until) => set({ until })}
            isRequired
            help="Of the next day, if it is earlier."
            error={at("until", "spec.window.until")}
          />
        </>
      )}
    </>
  );
}

/** Makes the request of one node; an earlier one that has ended gives way. */
async function ask(form: NewUpdate, { name, update }: NodeRow): Promise<void> {
  if (update) await remove(paths.nodeUpdate(name));
  await post(paths.nodeUpdate(), buildOne(form, name));
}

interface Props {
  /** Of one node alone. */
  node?: NodeRow;
  existing: readonly ClusterUpdate[];
  onClose: () => void;
}

export function StartUpdate({ node, existing, onClose }: Props) {
  const [form, setForm] = useState<NewUpdate>(EMPTY);
  const set = (change: Partial<NewUpdate>) => setForm((before) => ({ ...before, ...change }));
  return (
    <Dialog
      id="update"
      title={node ? `Update ${node.name}` : "Update the nodes"}
      text={`${node ? "" : "Control-plane nodes first, one at a time, then the others. "}A release is trusted by its signature, wherever it is.`}
      label="Start update"
      isWide
      problems={check(form)}
      act={() => (node ? ask(form, node) : post(paths.clusterUpdate(), build(form, existing)))}
      onClose={onClose}
      onDone={() => done(`The update to ${form.version} has started`)}
    >
      {(at) => (
        <>
          <TextField
            id="update-version"
            label="Version"
            value={form.version}
            onChange={(version) => set({ version: version.trim() })}
            placeholder="0.2.0"
            isRequired
            error={at("version", "spec.version")}
          />
          <SelectField
            id="update-source"
            label="It is taken from"
            value={form.source}
            onChange={(source) => set({ source: source as Source, at: "" })}
            options={[...SOURCES]}
          />
          {form.source !== "other" && (
            <TextField
              id="update-at"
              label={LABELS[form.source][0]}
              value={form.at}
              onChange={(value) => set({ at: value.trim() })}
              placeholder={LABELS[form.source][1]}
              isRequired
              error={at("at", "spec.source")}
            />
          )}
          {!node && <Schedule form={form} set={set} at={at} />}
          <Alert variant="info" isInline component="h2" title="Machines of a node shut down while it restarts">
            Those that are always to run start again afterwards. A node that is not as healthy as before goes back to
            the release that it had, and the update stops.
          </Alert>
        </>
      )}
    </Dialog>
  );
}
