/** One node: state, maintenance, machines, pools, disks, links. */
import {
  Alert,
  Bullseye,
  Button,
  Card,
  CardBody,
  CardTitle,
  Form,
  List as PfList,
  ListItem,
  Modal,
  ModalBody,
  ModalFooter,
  ModalHeader,
  PageSection,
  Spinner,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { type ReactNode, useState } from "react";
import { post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { useObjects } from "../api/watch.ts";
import type { Column } from "../list/list.tsx";
import { attempt, done } from "../notices.ts";
import { Conditions } from "../parts/conditions.tsx";
import { Facts } from "../parts/facts.tsx";
import { TextField } from "../parts/fields.tsx";
import { Heading } from "../parts/heading.tsx";
import { Missing } from "../parts/missing.tsx";
import { State } from "../parts/state.tsx";
import { UsageCard } from "../plots/card.tsx";
import { Refused } from "../parts/refused.tsx";
import { link, machineLink } from "../route.ts";
import { DISK_COLUMNS, POOL_COLUMNS } from "../storage/columns.tsx";
import type { NodeMaintenance } from "../types/crds.ts";
import { bytes, count } from "../units.ts";
import { useNodes } from "./use.ts";
import type { NodeRow } from "./view.ts";

function StartMaintenance({ node, onClose }: { node: NodeRow; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const { name } = node;
  const running = node.machines.filter((machine) => machine.vmi);
  const start = async () => {
    setBusy(true);
    try {
      const spec = { nodeName: name, ...(reason === "" ? {} : { reason }) };
      await post(paths.maintenance(), {
        apiVersion: "sheaf.dev/v1alpha1",
        kind: "NodeMaintenance",
        metadata: { name },
        spec,
      });
      done(`Maintenance of ${name} has started`);
      onClose();
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  return (
    <Modal variant="small" isOpen onClose={onClose} aria-labelledby="maintenance-title">
      <ModalHeader title={`Maintenance of ${name}`} labelId="maintenance-title" />
      <ModalBody>
        <Refused refusal={refusal} />
        <p>
          No machine is started here any more, and{" "}
          {running.length === 0 ? "none runs here now" : `${count(running.length, "machine")} shut down`}. Those without
          disks on this node start on others; the rest starts again when the maintenance ends. It can be ended at any
          moment.
        </p>
        <Form
          onSubmit={(event) => {
            event.preventDefault();
            if (!isBusy) void start();
          }}
        >
          <TextField id="maintenance-reason" label="Reason, for others" value={reason} onChange={setReason} />
        </Form>
      </ModalBody>
      <ModalFooter>
        <Button variant="primary" isDisabled={isBusy} isLoading={isBusy} onClick={() => void start()}>
          Start maintenance
        </Button>
        <Button variant="link" onClick={onClose}>
          Cancel
        </Button>
      </ModalFooter>
    </Modal>
  );
}

function Maintenance({ maintenance }: { maintenance: NodeMaintenance }) {
  const { status, spec } = maintenance;
  const isBlocked = status?.phase === "Blocked";
  return (
    <Alert
      variant={isBlocked ? "warning" : "info"}
      isInline
      component="h2"
      title={`Maintenance${spec.reason ? `: ${spec.reason}` : ""}`}
    >
      <p>{status?.message ?? "It begins."}</p>
      <PfList>
        {status?.blockers?.map((one) => (
          <ListItem key={`${one.what} ${one.why}`}>
            {one.what}: {one.why}. <strong>To do:</strong> {one.remedy}
          </ListItem>
        ))}
        {status?.stopping?.map((one) => (
          <ListItem key={one}>Powers off: {one}</ListItem>
        ))}
        {status?.warnings?.map((one) => (
          <ListItem key={one}>{one}</ListItem>
        ))}
      </PfList>
    </Alert>
  );
}

function Rows<T>({
  label,
  columns,
  rows,
  rowKey,
  empty,
}: {
  label: string;
  columns: Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
  empty: string;
}) {
  const shown = columns.filter((column) => column.title !== "Node");
  if (rows.length === 0) return <p>{empty}</p>;
  return (
    <Table aria-label={label} variant="compact">
      <Thead>
        <Tr>
          {shown.map((column) => (
            <Th key={column.title}>{column.title}</Th>
          ))}
        </Tr>
      </Thead>
      <Tbody>
        {rows.map((row) => (
          <Tr key={rowKey(row)}>
            {shown.map((column) => (
              <Td key={column.title} dataLabel={column.title}>
                {column.cell(row)}
              </Td>
            ))}
          </Tr>
        ))}
      </Tbody>
    </Table>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <StackItem>
      <Card>
        <CardTitle component="h2">{title}</CardTitle>
        <CardBody>{children}</CardBody>
      </Card>
    </StackItem>
  );
}

export default function NodePage({ name }: { name: string }) {
  const { nodes, isWhole } = useNodes();
  const pools = useObjects("pools").all.filter((pool) => pool.spec.nodeName === name);
  const disks = useObjects("disks").all.filter((disk) => disk.spec.nodeName === name);
  const network = useObjects("nodenetworks").all.find((state) => state.metadata.name === name);
  const [isStarting, setStarting] = useState(false);
  const node = nodes.find((one) => one.name === name);
  if (!node && !isWhole) {
    return (
      <Bullseye>
        <Spinner aria-label="Reading the node" />
      </Bullseye>
    );
  }
  if (!node) return <Missing what={`Node ${name}`} href={link({ page: "nodes" })} back="All nodes" />;
  const { maintenance } = node;
  const isEnding = maintenance?.metadata.deletionTimestamp !== undefined;
  const actions = maintenance ? (
    <Button
      variant="primary"
      isDisabled={isEnding}
      onClick={() =>
        void attempt(`End maintenance of ${name}`, () => remove(paths.maintenance(maintenance.metadata.name)))
      }
    >
      End maintenance
    </Button>
  ) : (
    <Button variant="secondary" onClick={() => setStarting(true)}>
      Start maintenance
    </Button>
  );
  const info = node.node.status?.nodeInfo;
  return (
    <>
      <Heading title={name} text={<State tone={node.tone}>{node.state}</State>} actions={actions} />
      <PageSection>
        <Stack hasGutter>
          {maintenance && (
            <StackItem>
              <Maintenance maintenance={maintenance} />
            </StackItem>
          )}
          {network?.status?.problem && (
            <StackItem>
              <Alert variant="warning" isInline component="h2" title="Network">
                {network.status.problem}
              </Alert>
            </StackItem>
          )}
          <Part title="Node">
            <Facts
              label={`Node ${name}`}
              facts={[
                ["Role", node.isControlPlane ? "Control plane and machines" : "Machines"],
                [
                  "Addresses",
                  node.node.status?.addresses
                    ?.filter((one) => one.type !== "Hostname")
                    .map((one) => one.address)
                    .join(", "),
                ],
                ["Release", node.version],
                ["Kernel", info?.kernelVersion],
                ["Processors", node.cpus],
                ["Memory", bytes(node.memory)],
              ]}
            />
          </Part>
          <StackItem>
            <UsageCard of={`node=${name}`} processors={node.cpus} memory={node.memory} />
          </StackItem>
          <Part title="Conditions">
            <Conditions conditions={node.node.status?.conditions} />
          </Part>
          <Part title={count(node.machines.length, "machine")}>
            <Rows
              label={`Machines on ${name}`}
              rows={node.machines}
              rowKey={(row) => row.key}
              empty="No machine is here."
              columns={[
                { title: "Machine", cell: (row) => <a href={machineLink(row.project, row.name)}>{row.key}</a> },
                { title: "State", cell: (row) => <State tone={row.tone}>{row.state}</State> },
                { title: "Memory", cell: (row) => bytes(row.memory) },
                { title: "Address", cell: (row) => row.address || "–" },
              ]}
            />
          </Part>
          <Part title="Pools">
            <Rows
              label={`Pools of ${name}`}
              columns={POOL_COLUMNS}
              rows={pools}
              rowKey={(row) => row.metadata.name}
              empty="The node has no pool."
            />
          </Part>
          <Part title="Disks">
            <Rows
              label={`Disks of ${name}`}
              columns={DISK_COLUMNS}
              rows={disks}
              rowKey={(row) => row.metadata.name}
              empty="The node reports no disk."
            />
          </Part>
          <Part title="Links">
            <Rows
              label={`Links of ${name}`}
              rows={network?.status?.links ?? []}
              rowKey={(row) => row.name ?? ""}
              empty="The node reports no link."
              columns={[
                { title: "Link", cell: (row) => row.name },
                { title: "Kind", cell: (row) => row.kind },
                {
                  title: "State",
                  cell: (row) => (
                    <State tone={row.state === "up" ? "success" : "quiet"}>{row.state ?? "unknown"}</State>
                  ),
                },
                { title: "Addresses", cell: (row) => row.addresses?.join(", ") || "–" },
                { title: "Ports", cell: (row) => row.ports?.join(", ") || "–" },
                { title: "MTU", cell: (row) => row.mtu ?? "–" },
                { title: "Machines' NICs", cell: (row) => row.vms ?? "–" },
                { title: "From", cell: (row) => row.askedBy || "–" },
              ]}
            />
          </Part>
        </Stack>
      </PageSection>
      {isStarting && <StartMaintenance node={node} onClose={() => setStarting(false)} />}
    </>
  );
}
