/** NICs of a machine, with their networks and the addresses that are known: add, remove, pull the cable. */
import { Alert, Button, Stack, StackItem } from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useState } from "react";
import { patch } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { attempt, done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { type Item, Kebab } from "../parts/kebab.tsx";
import { State } from "../parts/state.tsx";
import { link } from "../route.ts";
import { nameProblem, nicsOf, removal, withNic, withoutNic, withState } from "./change.ts";
import { usable } from "./create/build.ts";
import { condition, type Machine } from "./view.ts";

/** Where an address is known from (docs/network.md, "Addresses of a guest"). */
const SOURCES: Record<string, string> = {
  domain: "",
  dhcp: "given by its node",
  neighbour: "seen on the network",
  "guest-agent": "reported by the guest",
  "multus-status": "",
};

const change = (machine: Machine, body: unknown) => patch(paths.machine(machine.project, machine.name), body);

function AddNic({ machine, onClose }: { machine: Machine; onClose: () => void }) {
  const networks = usable(useObjects("networks").all, machine.project);
  const [name, setName] = useState("");
  const [network, setNetwork] = useState("");
  const typed = name || network.split("/").pop() || "";
  return (
    <Dialog
      id="nic"
      title={`Add a NIC to ${machine.name}`}
      label="Add"
      text={machine.vmi ? "The guest has it within some seconds, without a restart." : "The machine starts with it."}
      problems={{
        network: network === "" ? "Choose a network." : undefined,
        name: nameProblem(
          typed,
          nicsOf(machine.vm).interfaces.map((one) => one.name),
        ),
      }}
      act={async () => {
        await change(machine, withNic(machine.vm, typed, network));
        done(`Add NIC ${typed} to ${machine.name}`);
      }}
      onClose={onClose}
    >
      {(at) => (
        <>
          <SelectField
            id="nic-network"
            label="Network"
            value={network}
            onChange={setNetwork}
            isRequired
            error={at("network", "spec.template.spec.networks")}
            help={
              networks.length === 0 ? (
                <>
                  This project has none. <a href={link({ page: "networks" })}>Networks</a>
                </>
              ) : undefined
            }
            options={[
              { value: "", label: "Choose" },
              ...networks.map(({ metadata }) => ({
                value: `${metadata.namespace}/${metadata.name}`,
                label: `${metadata.name} (${metadata.namespace})`,
              })),
            ]}
          />
          <TextField
            id="nic-name"
            label="Name"
            value={typed}
            onChange={setName}
            isRequired
            error={at("name", "spec.template.spec.domain.devices.interfaces")}
          />
        </>
      )}
    </Dialog>
  );
}

export function Interfaces({ machine }: { machine: Machine }) {
  const [isAdding, setAdding] = useState(false);
  const [leaving, setLeaving] = useState<string>();
  const nics = nicsOf(machine.vm);
  const { interfaces } = nics;
  const networks = new Map(nics.networks.map((network) => [network.name, network]));
  const reported = new Map(machine.vmi?.status?.interfaces?.map((status) => [status.name, status]));
  const waits = condition(machine.vmi?.status?.conditions, "HotInterfaceChange");
  const items = (name: string, isDown: boolean): Item[] => {
    const how = removal(machine, name);
    const [label, state] = isDown ? (["Connect", "up"] as const) : (["Disconnect", "down"] as const);
    const isAbsent = interfaces.some((one) => one.name === name && one.state === "absent");
    return [
      ...(isAbsent
        ? []
        : [
            {
              label,
              onClick: () =>
                void attempt(`${label} ${name} of ${machine.name}`, () =>
                  change(machine, withState(machine.vm, name, state)),
                ),
            },
          ]),
      ...(how === "none" ? [] : [{ label: "Remove", isDanger: true, onClick: () => setLeaving(name) }]),
    ];
  };
  return (
    <Stack hasGutter>
      <StackItem>
        <Button variant="primary" onClick={() => setAdding(true)}>
          Add NIC
        </Button>
      </StackItem>
      {waits?.message && (
        <StackItem>
          <Alert variant="info" isInline component="h2" title="A NIC is being changed">
            {waits.message}
          </Alert>
        </StackItem>
      )}
      <StackItem>
        <Table aria-label={`NICs of ${machine.name}`} variant="compact">
          <Thead>
            <Tr>
              <Th>NIC</Th>
              <Th>Network</Th>
              <Th>Addresses</Th>
              <Th>Known from</Th>
              <Th>MAC</Th>
              <Th>Link</Th>
              <Th screenReaderText="Actions" />
            </Tr>
          </Thead>
          <Tbody>
            {interfaces.map((one) => {
              const status = reported.get(one.name);
              const network =
                networks.get(one.name)?.multus?.networkName ??
                (one.bridge ? "br0, the nodes' own" : "private, behind the node's address");
              const sources = (status?.infoSource ?? "")
                .split(",")
                .map((word) => SOURCES[word.trim()] ?? "")
                .filter(Boolean);
              return (
                <Tr key={one.name}>
                  <Td dataLabel="NIC">{one.name}</Td>
                  <Td dataLabel="Network">{network}</Td>
                  <Td dataLabel="Addresses">{status?.ipAddresses?.join(", ") || status?.ipAddress || "–"}</Td>
                  <Td dataLabel="Known from">{sources.join(", ") || "–"}</Td>
                  <Td dataLabel="MAC">{status?.mac ?? one.macAddress ?? "–"}</Td>
                  <Td dataLabel="Link">
                    {one.state === "absent" ? (
                      <State tone="info">{status ? "Being removed" : "Removed"}</State>
                    ) : status?.linkState ? (
                      <State tone={status.linkState === "up" ? "success" : "quiet"}>
                        {status.linkState === "up" ? "Up" : "Down"}
                      </State>
                    ) : (
                      "–"
                    )}
                  </Td>
                  <Td isActionCell>
                    <Kebab of={one.name} items={items(one.name, one.state === "down")} />
                  </Td>
                </Tr>
              );
            })}
          </Tbody>
        </Table>
      </StackItem>
      {isAdding && <AddNic machine={machine} onClose={() => setAdding(false)} />}
      {leaving !== undefined && (
        <Confirm
          title={`Remove NIC ${leaving} of ${machine.name}`}
          label="Remove"
          act={() =>
            change(
              machine,
              removal(machine, leaving) === "guest"
                ? withState(machine.vm, leaving, "absent")
                : withoutNic(machine.vm, leaving),
            )
          }
          onClose={() => setLeaving(undefined)}
          onDone={() => done(`Remove NIC ${leaving}`)}
        >
          {removal(machine, leaving) === "guest"
            ? "Connections through it end. The guest is asked to release it; when it has, remove it once more to take it out of the machine."
            : "The machine is without it from its next start on."}
        </Confirm>
      )}
    </Stack>
  );
}
