/** Asks for a link on nodes: a bridge, a VLAN or a bond. Everything else a policy can say is in its YAML. */
import { Alert, Checkbox } from "@patternfly/react-core";
import { useState } from "react";
import { post } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { done } from "../notices.ts";
import { Dialog } from "../parts/dialog.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import { go, link } from "../route.ts";
import { build, check, EMPTY, KINDS, type LinkKind, links, MODES, type NewPolicy } from "./policies.ts";

export function CreatePolicy({ onClose }: { onClose: () => void }) {
  const states = useObjects("nodenetworks").all;
  const [form, setForm] = useState<NewPolicy>(EMPTY);
  const set = (change: Partial<NewPolicy>) => setForm((before) => ({ ...before, ...change }));
  const known = links(states).map(({ name, nodes }) => (nodes === states.length ? name : `${name} (${nodes})`));
  return (
    <Dialog
      id="policy"
      title="Change links of nodes"
      label="Start the change"
      isWide
      problems={check(form)}
      act={() => post(paths.policy(), build(form))}
      onClose={onClose}
      onDone={() => {
        done(`The change ${form.name} has started`);
        go(link({ page: "policy", name: form.name }));
      }}
    >
      {(at) => (
        <>
          <Alert variant="info" isInline component="h2" isPlain title="One node after the other tries it">
            A node that loses its connection rolls the change back within a minute, and no further node begins.
          </Alert>
          <TextField
            id="policy-name"
            label="Name of the change"
            value={form.name}
            onChange={(name) => set({ name })}
            isRequired
            placeholder="uplink"
            error={at("name", "metadata.name")}
          />
          <SelectField
            id="policy-node"
            label="Nodes"
            value={form.node}
            onChange={(node) => set({ node })}
            error={at("node", "spec.nodeSelector")}
            options={[
              { value: "", label: "Every node" },
              ...states.map(({ spec }) => ({ value: spec.nodeName, label: spec.nodeName })),
            ]}
          />
          <SelectField
            id="policy-kind"
            label="Kind"
            value={form.kind}
            onChange={(kind) => set({ kind: kind as LinkKind })}
            options={[...KINDS]}
          />
          <TextField
            id="policy-link"
            label="Name of the link"
            value={form.link}
            onChange={(value) => set({ link: value.trim() })}
            isRequired
            placeholder={{ bridge: "br1", vlan: "stor", bond: "bond1" }[form.kind]}
            error={at("link", "spec.network")}
          />
          {form.kind === "vlan" ? (
            <>
              <TextField
                id="policy-id"
                type="number"
                label="VLAN"
                value={form.id}
                onChange={(id) => set({ id })}
                isRequired
                placeholder="100"
                error={at("id")}
              />
              <TextField
                id="policy-parent"
                label="Carried by"
                value={form.parent}
                onChange={(parent) => set({ parent })}
                isRequired
                placeholder="bond1"
                error={at("parent")}
                help="A NIC, a bond, or a bridge that filters VLANs."
              />
            </>
          ) : (
            <TextField
              id="policy-ports"
              label="Ports"
              value={form.ports}
              onChange={(value) => set({ ports: value })}
              isRequired
              placeholder="enp2s0, enp3s0"
              error={at("ports")}
              help={known.length > 0 ? `The nodes have: ${known.join(", ")}.` : "NICs by name or MAC, bonds, VLANs."}
            />
          )}
          {form.kind === "bridge" && (
            <Checkbox
              id="policy-aware"
              label="It filters VLANs, so that networks of machines can have a number"
              isChecked={form.vlanAware}
              onChange={(_event, vlanAware) => set({ vlanAware })}
            />
          )}
          {form.kind === "bond" && (
            <SelectField
              id="policy-mode"
              label="Mode"
              value={form.mode}
              onChange={(mode) => set({ mode: mode as NewPolicy["mode"] })}
              options={[...MODES]}
            />
          )}
          <Checkbox
            id="policy-dhcp"
            label="The node asks DHCP for an address on it"
            description="Without it, a bridge is for machines, and other links are for what is above them."
            isChecked={form.dhcp}
            onChange={(_event, dhcp) => set({ dhcp })}
          />
          <TextField
            id="policy-mtu"
            type="number"
            label="Largest packet, bytes"
            value={form.mtu}
            onChange={(mtu) => set({ mtu })}
            placeholder="1500"
            error={at("mtu")}
          />
        </>
      )}
    </Dialog>
  );
}
