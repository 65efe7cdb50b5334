/** One node: state, maintenance, removal, update, machines, pools, disks, links, backup of the control plane. */
import {
  Alert,
  Bullseye,
  Button,
  PageSection,
  Spinner,
  Stack,
  StackItem,
  Toolbar,
  ToolbarContent,
  ToolbarItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useState } from "react";
import { useObjects } from "../api/watch.ts";
import type { Column } from "../list/list.tsx";
import { condition } from "../machines/view.ts";
import { Code } from "../parts/code.tsx";
import { Conditions } from "../parts/conditions.tsx";
import { Facts } from "../parts/facts.tsx";
import { Heading } from "../parts/heading.tsx";
import { Kebab } from "../parts/kebab.tsx";
import { Missing } from "../parts/missing.tsx";
import { State } from "../parts/state.tsx";
import { UsageCard } from "../plots/card.tsx";
import { link, machineLink } from "../route.ts";
import { DISK_COLUMNS, POOL_COLUMNS } from "../storage/columns.tsx";
import { StartUpdate } from "../updates/start.tsx";
import { NodeUpdateSteps } from "../updates/steps.tsx";
import { isFinished, isUnderWay } from "../updates/view.ts";
import { bytes, count } from "../units.ts";
import { NodeLogs } from "./logs.tsx";
import { Maintenance, StartMaintenance } from "./maintenance-parts.tsx";
import { ReleaseName, Removal, StartRemoval } from "./removal-parts.tsx";
import { useNodes } from "./use.ts";
import { Part } from "./part.tsx";

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

/** docs/cluster.md, "Snapshots of the control plane". */
const SAVE = "sheaf-agent snapshot save control-plane.tar";

export default function NodePage({ name }: { name: string }) {
  const { nodes, isWhole } = useNodes();
  const pools = useObjects("pools").all.filter((pool) => pool.spec.nodeName === name);
  const disks = useObjects("disks").all.filter((disk) => disk.spec.nodeName === name);
  const network = useObjects("nodenetworks").all.find((state) => state.metadata.name === name);
  const removals = useObjects("removals").all;
  const updates = useObjects("updates").all;
  const [open, setOpen] = useState<"maintenance" | "removal" | "release" | "update">();
  const node = nodes.find((one) => one.name === name);
  if (!node && !isWhole) {
    return (
      <Bullseye>
        <Spinner aria-label="Reading the node" />
      </Bullseye>
    );
  }
  if (!node) {
    const removal = removals.find((one) => one.spec.nodeName === name);
    if (!removal) return <Missing what={`Node ${name}`} href={link({ page: "nodes" })} back="All nodes" />;
    return (
      <>
        <Heading title={name} text="This node is not in the cluster any more." />
        <PageSection>
          <Removal removal={removal} node={undefined} />
        </PageSection>
      </>
    );
  }
  const { maintenance, removal, update } = node;
  // One that is under way, or that an update of all nodes asks for, is followed to its end.
  const mayUpdate = !isUnderWay(update) && updates.every(isFinished);
  const ready = condition(node.node.status?.conditions, "Ready");
  const reports = ready !== undefined && ready.status !== "Unknown";
  const snapshots = condition(node.node.status?.conditions, "EtcdSnapshots");
  const actions = (
    <Toolbar>
      <ToolbarContent>
        {!maintenance && !removal && (
          <ToolbarItem>
            <Button variant="secondary" onClick={() => setOpen("maintenance")}>
              Start maintenance
            </Button>
          </ToolbarItem>
        )}
        {!removal && (
          <ToolbarItem>
            <Kebab
              of={name}
              items={[
                // While a node reports, its key has the name, and no other machine is to get it.
                ...(reports ? [] : [{ label: "Release the name", onClick: () => setOpen("release") }]),
                ...(mayUpdate ? [{ label: "Update this node", onClick: () => setOpen("update") }] : []),
                { label: "Remove node", isDanger: true, onClick: () => setOpen("removal") },
              ]}
            />
          </ToolbarItem>
        )}
      </ToolbarContent>
    </Toolbar>
  );
  const info = node.node.status?.nodeInfo;
  return (
    <>
      <Heading title={name} text={<State tone={node.tone}>{node.state}</State>} actions={actions} />
      <PageSection>
        <Stack hasGutter>
          {removal && (
            <StackItem>
              <Removal removal={removal} node={node.node} />
            </StackItem>
          )}
          {maintenance && (
            <StackItem>
              <Maintenance maintenance={maintenance} machines={node.machines} />
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
          {update && update.status?.phase !== undefined && (
            <Part title="Update">
              <NodeUpdateSteps update={update} />
            </Part>
          )}
          {node.isControlPlane && (
            <Part title="Backup of the control plane">
              <p>{snapshots?.message ?? "The node reports nothing about snapshots of the control plane."}</p>
              <p>
                A disk that is lost takes the snapshots on it along. As root on this node, this writes the newest state
                to a file, to be kept on another machine:
              </p>
              <Code id="snapshot-command" what="the command" text={SAVE} />
            </Part>
          )}
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
          <Part title="Journal and support">
            <NodeLogs node={name} />
          </Part>
        </Stack>
      </PageSection>
      {open === "update" && <StartUpdate node={node} existing={updates} onClose={() => setOpen(undefined)} />}
      {open === "maintenance" && <StartMaintenance node={node} onClose={() => setOpen(undefined)} />}
      {open === "release" && <ReleaseName name={name} onClose={() => setOpen(undefined)} />}
      {open === "removal" && <StartRemoval name={name} reports={reports} onClose={() => setOpen(undefined)} />}
    </>
  );
}
