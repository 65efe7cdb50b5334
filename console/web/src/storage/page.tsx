/** Disks and pools of all nodes, with their health. */
import { PageSection, Tab, Tabs, TabTitleText } from "@patternfly/react-core";
import { useState } from "react";
import { useObjects } from "../api/watch.ts";
import { List } from "../list/list.tsx";
import { Heading } from "../parts/heading.tsx";
import { DISK_COLUMNS, POOL_COLUMNS } from "./columns.tsx";

export default function Storage() {
  const pools = useObjects("pools");
  const disks = useObjects("disks");
  const [tab, setTab] = useState<string | number>("pools");
  return (
    <>
      <Heading title="Disks and pools" text="Pools hold the disks of machines; each is on disks of one node." />
      <PageSection type="tabs">
        <Tabs activeKey={tab} onSelect={(_event, key) => setTab(key)} aria-label="Pools or disks" usePageInsets>
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
            empty={{
              title: "No disks",
              text: "Nodes report their disks some seconds after they joined; your roles may not show disks.",
            }}
          />
        )}
      </div>
    </>
  );
}
