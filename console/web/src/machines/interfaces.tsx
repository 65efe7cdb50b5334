/** NICs of a machine, with their networks and the addresses that are known. */
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { State } from "../parts/state.tsx";
import type { Machine } from "./view.ts";

/** Where an address is known from (docs/network.md, "Addresses of a guest"). */
const SOURCES: Record<string, string> = {
  domain: "",
  dhcp: "given by its node",
  neighbour: "seen on the network",
  "guest-agent": "reported by the guest",
  "multus-status": "",
};

export function Interfaces({ machine }: { machine: Machine }) {
  const { spec } = machine.vm.spec.template;
  const interfaces = spec.domain.devices?.interfaces ?? [{ name: "default", masquerade: {} }];
  const networks = new Map(spec.networks?.map((network) => [network.name, network]));
  const reported = new Map(machine.vmi?.status?.interfaces?.map((status) => [status.name, status]));
  return (
    <Table aria-label={`NICs of ${machine.name}`} variant="compact">
      <Thead>
        <Tr>
          <Th>NIC</Th>
          <Th>Network</Th>
          <Th>Addresses</Th>
          <Th>Known from</Th>
          <Th>MAC</Th>
          <Th>Link</Th>
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
                {status?.linkState ? (
                  <State tone={status.linkState === "up" ? "success" : "quiet"}>
                    {status.linkState === "up" ? "Up" : "Down"}
                  </State>
                ) : (
                  "–"
                )}
              </Td>
            </Tr>
          );
        })}
      </Tbody>
    </Table>
  );
}
