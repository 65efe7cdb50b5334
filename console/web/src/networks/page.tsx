/** Networks of machines, and changes of the nodes' links that they are on. */
import { Button, List as PfList, ListItem, PageSection, Tab, Tabs, TabTitleText } from "@patternfly/react-core";
import { useState } from "react";
import { remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { type Column, List } from "../list/list.tsx";
import { useMachines } from "../machines/use.ts";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { Heading } from "../parts/heading.tsx";
import { Kebab } from "../parts/kebab.tsx";
import { State } from "../parts/state.tsx";
import { YamlDialog } from "../parts/yaml.tsx";
import { go, link } from "../route.ts";
import type { NodeNetworkPolicy } from "../types/crds.ts";
import { CreateNetwork } from "./create.tsx";
import { CreatePolicy } from "./create-policy.tsx";
import { linksText, nodesText, phase } from "./policies.ts";
import { DeletePolicy } from "./policy.tsx";
import { meaning, usedBy } from "./view.ts";

interface Row {
  name: string;
  project: string;
  bridge: string;
  vlans: string;
  users: string;
  isBuiltIn: boolean;
}

const BUILT_IN: Row[] = [
  {
    name: "Private, behind the node's address",
    project: "",
    bridge: "masq0",
    vlans: "untagged",
    users: "every project",
    isBuiltIn: true,
  },
  {
    name: "The nodes' own network",
    project: "",
    bridge: "br0",
    vlans: "untagged",
    users: "every project",
    isBuiltIn: true,
  },
];

const COLUMNS: Column<Row>[] = [
  { title: "Network", value: (row) => row.name, cell: (row) => row.name },
  { title: "Project", value: (row) => row.project, cell: (row) => row.project || "every cluster has it" },
  { title: "Bridge", value: (row) => row.bridge, cell: (row) => row.bridge },
  { title: "VLANs", value: (row) => row.vlans, cell: (row) => row.vlans },
  { title: "Machines of", value: (row) => row.users, cell: (row) => row.users },
];

const POLICY_COLUMNS: Column<NodeNetworkPolicy>[] = [
  {
    title: "Change",
    value: (row) => row.metadata.name,
    cell: (row) => <a href={link({ page: "policy", name: row.metadata.name })}>{row.metadata.name}</a>,
  },
  {
    title: "State",
    value: (row) => phase(row)[0],
    cell: (row) => <State tone={phase(row)[1]}>{phase(row)[0]}</State>,
  },
  { title: "Links", value: linksText, cell: linksText },
  { title: "On", value: nodesText, cell: nodesText },
  {
    title: "Nodes",
    value: (row) => row.status?.applied,
    cell: (row) => `${row.status?.applied ?? 0} of ${row.status?.nodes ?? 0}`,
  },
  { title: "Message", value: (row) => row.status?.message, cell: (row) => row.status?.message || "–" },
];

type Open =
  | { kind: "create" | "create-policy" }
  | { kind: "delete" | "yaml"; row: Row }
  | { kind: "delete-policy" | "policy-yaml"; policy: NodeNetworkPolicy }
  | undefined;

function DeleteNetwork({ row, onClose }: { row: Row; onClose: () => void }) {
  const { machines } = useMachines();
  const users = usedBy(row, machines);
  return (
    <Confirm
      title={`Delete network ${row.name}`}
      label="Delete"
      act={() => remove(paths.network(row.project, row.name))}
      onClose={onClose}
      onDone={() => done(`Delete network ${row.name}`)}
    >
      <p>The bridge and its VLANs stay. Machines that run keep their connection.</p>
      {users.length > 0 && (
        <>
          <p>These do not start any more until their NIC has another network:</p>
          <PfList aria-label="Machines that use it">
            {users.map((key) => (
              <ListItem key={key}>{key}</ListItem>
            ))}
          </PfList>
        </>
      )}
    </Confirm>
  );
}

function Dialogs({ open, onClose }: { open: Open; onClose: () => void }) {
  switch (open?.kind) {
    case "create":
      return <CreateNetwork onClose={onClose} />;
    case "create-policy":
      return <CreatePolicy onClose={onClose} />;
    case "delete":
      return <DeleteNetwork row={open.row} onClose={onClose} />;
    case "yaml":
      return (
        <YamlDialog
          path={paths.network(open.row.project, open.row.name)}
          what={`network ${open.row.name}`}
          onClose={onClose}
        />
      );
    case "delete-policy":
      return <DeletePolicy policy={open.policy} onClose={onClose} />;
    case "policy-yaml":
      return (
        <YamlDialog
          path={paths.policy(open.policy.metadata.name)}
          what={`change ${open.policy.metadata.name}`}
          onClose={onClose}
        />
      );
    default:
      return null;
  }
}

export default function Networks({ tab }: { tab: "networks" | "policies" }) {
  const networks = useObjects("networks");
  const policies = useObjects("policies");
  const [open, setOpen] = useState<Open>();
  const rows: Row[] = networks.all.map(({ metadata, spec }) => {
    const found = meaning(spec.config);
    const isShared = metadata.namespace === "default" || metadata.labels?.["sheaf.dev/shared"] === "true";
    return {
      name: metadata.name,
      project: metadata.namespace ?? "",
      bridge: found?.bridge ?? "–",
      vlans: found?.vlans ?? "Sheaf cannot read its config",
      users: isShared ? "every project" : (metadata.namespace ?? ""),
      isBuiltIn: false,
    };
  });
  const create = (
    <Button variant="primary" onClick={() => setOpen({ kind: tab === "networks" ? "create" : "create-policy" })}>
      {tab === "networks" ? "Create network" : "Change links"}
    </Button>
  );
  return (
    <>
      <Heading title="Networks" text="What NICs of machines are connected to." actions={create} />
      <PageSection type="tabs">
        <Tabs
          activeKey={tab}
          onSelect={(_event, key) => go(link({ page: key === "policies" ? "policies" : "networks" }))}
          aria-label="Networks of machines or links of nodes"
          usePageInsets
        >
          <Tab
            eventKey="networks"
            title={<TabTitleText>Networks of machines</TabTitleText>}
            tabContentId="part-networks"
          />
          <Tab eventKey="policies" title={<TabTitleText>Links of nodes</TabTitleText>} tabContentId="part-policies" />
        </Tabs>
      </PageSection>
      <div
        id={`part-${tab}`}
        role="tabpanel"
        aria-label={tab === "networks" ? "Networks of machines" : "Links of nodes"}
      >
        {tab === "networks" ? (
          <List
            key="networks"
            label="networks"
            rows={[...BUILT_IN, ...rows]}
            isWhole={networks.isWhole}
            columns={COLUMNS}
            rowKey={(row) => `${row.project}/${row.name}`}
            sortedBy={1}
            actions={(row) => (
              <Kebab
                of={`network ${row.name}`}
                items={
                  row.isBuiltIn
                    ? []
                    : [
                        { label: "YAML", onClick: () => setOpen({ kind: "yaml", row }) },
                        { label: "Delete", isDanger: true, onClick: () => setOpen({ kind: "delete", row }) },
                      ]
                }
              />
            )}
            empty={{ title: "No networks", text: "" }}
          />
        ) : (
          <List
            key="policies"
            label="changes of links"
            rows={policies.all}
            isWhole={policies.isWhole}
            columns={POLICY_COLUMNS}
            rowKey={(row) => row.metadata.name}
            actions={(policy) => (
              <Kebab
                of={`change ${policy.metadata.name}`}
                items={[
                  { label: "YAML", onClick: () => setOpen({ kind: "policy-yaml", policy }) },
                  {
                    label: "Delete",
                    isDanger: true,
                    onClick: () => setOpen({ kind: "delete-policy", policy }),
                  },
                ]}
              />
            )}
            empty={{
              title: "Nodes have the links of their node.toml",
              text: "A change adds bridges, VLANs and bonds to many nodes. Each tries it, and rolls it back if it loses its connection.",
              action: create,
            }}
          />
        )}
      </div>
      <Dialogs open={open} onClose={() => setOpen(undefined)} />
    </>
  );
}
