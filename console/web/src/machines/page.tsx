/** One machine: its state, screen, serial port, disks, networks, snapshots, Events and YAML, each behind a tab. */
import {
  Alert,
  PageSection,
  Spinner,
  Tab as PfTab,
  Tabs,
  TabTitleText,
  Bullseye,
  Flex,
  FlexItem,
} from "@patternfly/react-core";
import { lazy, Suspense } from "react";
import * as paths from "../api/paths.ts";
import { Heading } from "../parts/heading.tsx";
import { Missing } from "../parts/missing.tsx";
import { State } from "../parts/state.tsx";
import { go, link, machineLink, type Tab, TABS } from "../route.ts";
import { MachineButtons } from "./actions.tsx";
import { Disks } from "./disks.tsx";
import { EventList } from "./events.tsx";
import { waitsForRestart } from "./resize.ts";
import { Interfaces } from "./interfaces.tsx";
import { Snapshots } from "./snapshots.tsx";
import { Summary } from "./summary.tsx";
import { useMachines } from "./use.ts";
import type { Machine } from "./view.ts";

const Screen = lazy(() => import("./screen.tsx"));
const Serial = lazy(() => import("./serial.tsx"));
const UsagePlots = lazy(() => import("../plots/usage.tsx"));
const Editor = lazy(() => import("../yaml/editor.tsx"));

const TITLES: Record<Tab, string> = {
  state: "State",
  screen: "Screen",
  serial: "Serial port",
  usage: "Usage",
  disks: "Disks",
  networks: "Networks",
  snapshots: "Snapshots",
  events: "Events",
  yaml: "YAML",
};

function Shown({ machine, tab }: { machine: Machine; tab: Tab }) {
  const { project, name, vmi } = machine;
  switch (tab) {
    case "state":
      return <Summary machine={machine} />;
    case "screen":
      return (
        <Screen project={project} name={name} isRunning={vmi?.status?.phase === "Running"} uid={vmi?.metadata.uid} />
      );
    case "serial":
      return (
        <Serial project={project} name={name} isRunning={vmi?.status?.phase === "Running"} uid={vmi?.metadata.uid} />
      );
    case "usage":
      return <UsagePlots of={`machine=${machine.key}`} processors={machine.cpus} memory={machine.memory} level="h2" />;
    case "disks":
      return <Disks machine={machine} />;
    case "networks":
      return <Interfaces machine={machine} />;
    case "snapshots":
      return <Snapshots machine={machine} />;
    case "events":
      return <EventList machine={machine} />;
    case "yaml":
      return <Editor path={paths.machine(project, name)} what={`machine ${name}`} />;
  }
}

export default function MachinePage({ project, name, tab }: { project: string; name: string; tab: Tab }) {
  const { machines, isWhole } = useMachines();
  const machine = machines.find((one) => one.project === project && one.name === name);
  if (!machine && !isWhole) {
    return (
      <Bullseye>
        <Spinner aria-label="Reading the machine" />
      </Bullseye>
    );
  }
  if (!machine)
    return <Missing what={`Machine ${project}/${name}`} href={link({ page: "machines" })} back="All machines" />;
  return (
    <>
      <Heading
        title={name}
        text={
          <Flex component="span">
            <FlexItem component="span">Project {project}</FlexItem>
            <FlexItem component="span">
              <State tone={machine.tone}>{machine.state}</State>
            </FlexItem>
          </Flex>
        }
        actions={<MachineButtons machine={machine} />}
      />
      {machine.why !== "" && (
        <PageSection>
          <Alert variant={machine.tone === "danger" ? "danger" : "info"} isInline component="h2" title={machine.state}>
            {machine.why}
          </Alert>
        </PageSection>
      )}
      {waitsForRestart(machine) !== "" && (
        <PageSection>
          <Alert variant="warning" isInline component="h2" title="A change takes effect after the next restart">
            {waitsForRestart(machine)}
          </Alert>
        </PageSection>
      )}
      <PageSection type="tabs">
        <Tabs
          activeKey={tab}
          onSelect={(_event, key) => go(machineLink(project, name, key as Tab))}
          aria-label={`Parts of machine ${name}`}
          usePageInsets
        >
          {TABS.map((one) => (
            <PfTab
              key={one}
              eventKey={one}
              title={<TabTitleText>{TITLES[one]}</TabTitleText>}
              tabContentId={`part-${one}`}
            />
          ))}
        </Tabs>
      </PageSection>
      <PageSection id={`part-${tab}`} role="tabpanel" aria-label={TITLES[tab]}>
        <Suspense fallback={<Spinner aria-label="Loading" />}>
          <Shown machine={machine} tab={tab} />
        </Suspense>
      </PageSection>
    </>
  );
}
