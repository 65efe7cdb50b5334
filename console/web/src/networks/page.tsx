/** Networks of machines. Definitions are an administrator's to make; the two that every cluster has are named. */
import { useObjects } from "../api/watch.ts";
import { List, type Column } from "../list/list.tsx";
import { Heading } from "../parts/heading.tsx";
import { meaning } from "./view.ts";

interface Row {
  name: string;
  project: string;
  bridge: string;
  vlans: string;
  users: string;
}

const BUILT_IN: Row[] = [
  {
    name: "Private, behind the node's address",
    project: "",
    bridge: "masq0",
    vlans: "untagged",
    users: "every project",
  },
  { name: "The nodes' own network", project: "", bridge: "br0", vlans: "untagged", users: "every project" },
];

const COLUMNS: Column<Row>[] = [
  { title: "Network", value: (row) => row.name, cell: (row) => row.name },
  { title: "Project", value: (row) => row.project, cell: (row) => row.project || "every cluster has it" },
  { title: "Bridge", value: (row) => row.bridge, cell: (row) => row.bridge },
  { title: "VLANs", value: (row) => row.vlans, cell: (row) => row.vlans },
  { title: "Machines of", value: (row) => row.users, cell: (row) => row.users },
];

export default function Networks() {
  const networks = useObjects("networks");
  const rows: Row[] = networks.all.map(({ metadata, spec }) => {
    const found = meaning(spec.config);
    const isShared = metadata.namespace === "default" || metadata.labels?.["sheaf.dev/shared"] === "true";
    return {
      name: metadata.name,
      project: metadata.namespace ?? "",
      bridge: found?.bridge ?? "–",
      vlans: found?.vlans ?? "Sheaf cannot read its config",
      users: isShared ? "every project" : (metadata.namespace ?? ""),
    };
  });
  return (
    <>
      <Heading title="Networks" text="What NICs of machines are connected to." />
      <List
        label="networks"
        rows={[...BUILT_IN, ...rows]}
        isWhole={networks.isWhole}
        columns={COLUMNS}
        rowKey={(row) => `${row.project}/${row.name}`}
        sortedBy={1}
        empty={{ title: "No networks", text: "" }}
      />
    </>
  );
}
