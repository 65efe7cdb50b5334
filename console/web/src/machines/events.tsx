/** Events of a machine, the newest first. They are read when the tab is opened and when the state of the machine changes. */
import { Alert, Button, EmptyState, EmptyStateBody } from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useFetched } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { State } from "../parts/state.tsx";
import type { KubeEvent, List } from "../types/meta.ts";
import { age } from "../units.ts";
import type { Machine } from "./view.ts";

/** When it happened last. */
const time = (event: KubeEvent): string =>
  event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp ?? "";

export function EventList({ machine }: { machine: Machine }) {
  const { value, refusal, reload } = useFetched<List<KubeEvent>>(
    paths.events(machine.project, machine.name),
    machine.state,
  );
  const events = [...(value?.items ?? [])].sort((left, right) => time(right).localeCompare(time(left)));
  if (refusal) {
    return (
      <Alert variant="danger" isInline component="h2" title={refusal.message}>
        {refusal.remedy}
      </Alert>
    );
  }
  if (value && events.length === 0) {
    return (
      <EmptyState headingLevel="h2" titleText="No Events">
        <EmptyStateBody>The API server keeps Events for an hour.</EmptyStateBody>
      </EmptyState>
    );
  }
  return (
    <>
      <Button variant="secondary" onClick={reload}>
        Read again
      </Button>
      <Table aria-label={`Events of ${machine.name}`} variant="compact">
        <Thead>
          <Tr>
            <Th>Age</Th>
            <Th>Kind</Th>
            <Th>Reason</Th>
            <Th>Message</Th>
          </Tr>
        </Thead>
        <Tbody>
          {events.map((event) => (
            <Tr key={event.metadata.uid ?? event.metadata.name}>
              <Td dataLabel="Age">{age(time(event), Date.now())}</Td>
              <Td dataLabel="Kind">
                <State tone={event.type === "Warning" ? "warning" : "quiet"}>{event.type ?? "Normal"}</State>
              </Td>
              <Td dataLabel="Reason">{event.reason ?? "–"}</Td>
              <Td dataLabel="Message">
                {event.message}
                {(event.count ?? 1) > 1 && ` (${event.count} times)`}
              </Td>
            </Tr>
          ))}
        </Tbody>
      </Table>
    </>
  );
}
