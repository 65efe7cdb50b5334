/** Conditions of an object, in the server's words. */
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import type { Condition } from "../types/crds.ts";
import { age } from "../units.ts";

export function Conditions({ conditions }: { conditions: readonly Condition[] | undefined }) {
  if (!conditions || conditions.length === 0) return <p>Nothing is reported yet.</p>;
  return (
    <Table aria-label="Conditions" variant="compact">
      <Thead>
        <Tr>
          <Th>Condition</Th>
          <Th>Status</Th>
          <Th>Reason</Th>
          <Th>Message</Th>
          <Th>Since</Th>
        </Tr>
      </Thead>
      <Tbody>
        {conditions.map((one) => (
          <Tr key={one.type}>
            <Td dataLabel="Condition">{one.type}</Td>
            <Td dataLabel="Status">{one.status}</Td>
            <Td dataLabel="Reason">{one.reason || "–"}</Td>
            <Td dataLabel="Message">{one.message || "–"}</Td>
            <Td dataLabel="Since">{age(one.lastTransitionTime, Date.now())}</Td>
          </Tr>
        ))}
      </Tbody>
    </Table>
  );
}
