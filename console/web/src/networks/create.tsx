/** Creates a network of machines: pick a bridge, type a number. */
import { Checkbox } from "@patternfly/react-core";
import { useState } from "react";
import { post } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { done } from "../notices.ts";
import { Dialog } from "../parts/dialog.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import { projectOptions } from "../parts/projects.ts";
import { count } from "../units.ts";
import { bridges, build, check, EMPTY, type NewNetwork, type Tagging } from "./build.ts";

const TAGGINGS = [
  { value: "vlan", label: "One VLAN; machines see no tags" },
  { value: "trunk", label: "Several VLANs; machines tag their packets" },
  { value: "untagged", label: "The untagged network of the bridge" },
];

export function CreateNetwork({ onClose }: { onClose: () => void }) {
  const choices = bridges(useObjects("nodenetworks").all);
  const projects = useObjects("projects").all;
  const [form, setForm] = useState<NewNetwork>(EMPTY);
  const set = (change: Partial<NewNetwork>) => setForm((before) => ({ ...before, ...change }));
  return (
    <Dialog
      id="network"
      title="Create network"
      label="Create"
      problems={check(form, choices)}
      act={() => post(paths.network(form.project), build(form))}
      onClose={onClose}
      onDone={() => done(`Create network ${form.name}`)}
    >
      {(at) => (
        <>
          <TextField
            id="network-name"
            label="Name"
            value={form.name}
            onChange={(name) => set({ name })}
            isRequired
            error={at("name", "metadata.name")}
          />
          <SelectField
            id="network-bridge"
            label="Bridge"
            value={form.bridge}
            onChange={(bridge) => set({ bridge })}
            isRequired
            error={at("bridge", "spec.config")}
            help={choices.length === 0 ? "The nodes report no bridge yet." : undefined}
            options={[
              { value: "", label: "Choose" },
              ...choices.map((one) => ({
                value: one.name,
                label: `${one.name}, on ${count(one.nodes.length, "node")}${one.vlanAware ? ", with VLANs" : ""}`,
              })),
            ]}
          />
          <SelectField
            id="network-tagging"
            label="Machines are in"
            value={form.tagging}
            onChange={(tagging) => set({ tagging: tagging as Tagging, vlans: "" })}
            options={TAGGINGS}
          />
          {form.tagging !== "untagged" && (
            <TextField
              id="network-vlans"
              label={form.tagging === "vlan" ? "VLAN" : "VLANs"}
              type={form.tagging === "vlan" ? "number" : "text"}
              value={form.vlans}
              onChange={(vlans) => set({ vlans })}
              isRequired
              placeholder={form.tagging === "vlan" ? "100" : "10, 200-209"}
              error={at("vlans")}
            />
          )}
          <SelectField
            id="network-project"
            label="Project"
            value={form.project}
            onChange={(project) => set({ project })}
            error={at("project", "metadata.namespace")}
            help={form.project === "default" ? "Machines of every project may use networks of default." : undefined}
            options={projectOptions(projects, form.project)}
          />
          {form.project !== "default" && (
            <Checkbox
              id="network-shared"
              label="Machines of every project may use it"
              isChecked={form.isShared}
              onChange={(_event, isShared) => set({ isShared })}
            />
          )}
        </>
      )}
    </Dialog>
  );
}
