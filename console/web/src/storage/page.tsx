/** Disks and pools of all nodes: health, and what is done with them. */
import { Button, PageSection, Tab, Tabs, TabTitleText } from "@patternfly/react-core";
import { useState } from "react";
import { patch } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { List } from "../list/list.tsx";
import { attempt } from "../notices.ts";
import { Heading } from "../parts/heading.tsx";
import { type Item, Kebab } from "../parts/kebab.tsx";
import { YamlDialog } from "../parts/yaml.tsx";
import { go, link } from "../route.ts";
import type { BlockDevice, StoragePool } from "../types/crds.ts";
import { erasure, keep, mayErase } from "./build.ts";
import { DISK_COLUMNS, POOL_COLUMNS } from "./columns.tsx";
import { AddDisks, CreatePool, DeletePool, EraseDisk, ForgetDisk, TakeOut } from "./dialogs.tsx";

type Open =
  | { kind: "create"; node?: string; disk?: string }
  | { kind: "add" | "replace" | "out" | "delete" | "pool-yaml"; pool: StoragePool }
  | { kind: "erase" | "forget" | "disk-yaml"; disk: BlockDevice }
  | undefined;

function poolItems(pool: StoragePool, open: (next: Open) => void): Item[] {
  const isHeld = pool.spec.evictionRequested === true;
  return [
    { label: "Add a disk", onClick: () => open({ kind: "add", pool }) },
    { label: "Replace a disk", onClick: () => open({ kind: "replace", pool }) },
    { label: "Take a disk out", onClick: () => open({ kind: "out", pool }) },
    {
      label: isHeld ? "Place disks here again" : "Place no further disks here",
      onClick: () =>
        void attempt(`Change pool ${pool.metadata.name}`, () =>
          patch(paths.pool(pool.metadata.name), { spec: { evictionRequested: !isHeld } }),
        ),
    },
    { label: "YAML", onClick: () => open({ kind: "pool-yaml", pool }) },
    { label: "Delete", isDanger: true, onClick: () => open({ kind: "delete", pool }) },
  ];
}

function diskItems(disk: BlockDevice, open: (next: Open) => void): Item[] {
  const { metadata, spec, status } = disk;
  const isFree = mayErase(disk) && (spec.role ?? "none") === "none";
  const { state } = erasure(disk);
  return [
    ...(isFree
      ? [
          {
            label: "Create a pool of it",
            onClick: () => open({ kind: "create", node: spec.nodeName, disk: metadata.name }),
          },
        ]
      : []),
    ...(mayErase(disk) ? [{ label: "Erase", isDanger: true, onClick: () => open({ kind: "erase", disk }) }] : []),
    ...(state === "asked" || state === "refused"
      ? [
          {
            label: "Withdraw the erasure",
            onClick: () =>
              void attempt(`Withdraw the erasure of ${metadata.name}`, () =>
                patch(paths.blockDevice(metadata.name), keep),
              ),
          },
        ]
      : []),
    { label: "YAML", onClick: () => open({ kind: "disk-yaml", disk }) },
    ...(status?.state === "Missing"
      ? [{ label: "Forget", isDanger: true, onClick: () => open({ kind: "forget", disk }) }]
      : []),
  ];
}

function Dialogs({ open, onClose }: { open: Open; onClose: () => void }) {
  switch (open?.kind) {
    case "create":
      return (
        <CreatePool
          onClose={onClose}
          {...(open.node ? { node: open.node } : {})}
          {...(open.disk ? { disk: open.disk } : {})}
        />
      );
    case "add":
    case "replace":
      return <AddDisks pool={open.pool} isReplacing={open.kind === "replace"} onClose={onClose} />;
    case "out":
      return <TakeOut pool={open.pool} onClose={onClose} />;
    case "delete":
      return <DeletePool pool={open.pool} onClose={onClose} />;
    case "erase":
      return <EraseDisk disk={open.disk} onClose={onClose} />;
    case "forget":
      return <ForgetDisk disk={open.disk} onClose={onClose} />;
    case "pool-yaml": {
      const { name } = open.pool.metadata;
      return <YamlDialog path={paths.pool(name)} what={`pool ${name}`} onClose={onClose} />;
    }
    case "disk-yaml": {
      const { name } = open.disk.metadata;
      return <YamlDialog path={paths.blockDevice(name)} what={`disk ${name}`} onClose={onClose} />;
    }
    default:
      return null;
  }
}

export default function Storage({ tab }: { tab: "pools" | "disks" }) {
  const pools = useObjects("pools");
  const disks = useObjects("disks");
  const [open, setOpen] = useState<Open>();
  return (
    <>
      <Heading
        title="Disks and pools"
        text="Pools hold the disks of machines; each is on disks of one node."
        actions={
          <Button variant="primary" onClick={() => setOpen({ kind: "create" })}>
            Create pool
          </Button>
        }
      />
      <PageSection type="tabs">
        <Tabs
          activeKey={tab}
          onSelect={(_event, key) => go(link({ page: key === "disks" ? "disks" : "storage" }))}
          aria-label="Pools or disks"
          usePageInsets
        >
          <Tab eventKey="pools" title={<TabTitleText>Pools</TabTitleText>} tabContentId="part-pools" />
          <Tab eventKey="disks" title={<TabTitleText>Disks of nodes</TabTitleText>} tabContentId="part-disks" />
        </Tabs>
      </PageSection>
      <div id={`part-${tab}`} role="tabpanel" aria-label={tab === "pools" ? "Pools" : "Disks of nodes"}>
        {tab === "pools" ? (
          <List
            key="pools"
            label="pools"
            rows={pools.all}
            isWhole={pools.isWhole}
            columns={POOL_COLUMNS}
            rowKey={(row) => row.metadata.name}
            actions={(row) => <Kebab of={`pool ${row.metadata.name}`} items={poolItems(row, setOpen)} />}
            empty={{
              title: "No pools",
              text: "A node makes the pool default on its boot disk at its first boot; your roles may not show pools.",
            }}
          />
        ) : (
          <List
            key="disks"
            label="disks"
            rows={disks.all}
            isWhole={disks.isWhole}
            columns={DISK_COLUMNS}
            rowKey={(row) => row.metadata.name}
            actions={(row) => <Kebab of={`disk ${row.metadata.name}`} items={diskItems(row, setOpen)} />}
            empty={{
              title: "No disks",
              text: "Nodes report their disks some seconds after they joined; your roles may not show disks.",
            }}
          />
        )}
      </div>
      <Dialogs open={open} onClose={() => setOpen(undefined)} />
    </>
  );
}
