/** The overview: what is wrong now, how much there is, what runs where. */
import {
  Alert,
  Card,
  CardBody,
  CardTitle,
  EmptyState,
  EmptyStateBody,
  Grid,
  GridItem,
  List,
  ListItem,
  PageSection,
  Progress,
  ProgressMeasureLocation,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useMemo } from "react";
import { useObjects } from "../api/watch.ts";
import { useMachines } from "../machines/use.ts";
import { holds } from "../machines/view.ts";
import { Heading } from "../parts/heading.tsx";
import { State } from "../parts/state.tsx";
import { UsageCard } from "../plots/card.tsx";
import { link } from "../route.ts";
import { bytes, count } from "../units.ts";
import { type Amount, capacity } from "./capacity.ts";
import { problems, type Problem } from "./problems.ts";

/** Problems that are shown; of more, the rest is counted. */
const SHOWN = 20;

function Problems({ all }: { all: readonly Problem[] }) {
  if (all.length === 0) {
    return (
      <EmptyState variant="sm" headingLevel="h3" status="success" titleText="Nothing needs you now">
        <EmptyStateBody>Nodes, pools, disks, images and machines report no problem.</EmptyStateBody>
      </EmptyState>
    );
  }
  return (
    <Stack hasGutter>
      {all.slice(0, SHOWN).map((problem) => (
        <StackItem key={problem.key}>
          <Alert variant={problem.severity} isInline component="h3" title={<a href={problem.href}>{problem.what}</a>}>
            <p>{problem.why}</p>
            <p>
              <strong>To do:</strong> {problem.remedy}
            </p>
          </Alert>
        </StackItem>
      ))}
      {all.length > SHOWN && <StackItem>And {count(all.length - SHOWN, "further problem")}.</StackItem>}
    </Stack>
  );
}

interface ShareProps {
  title: string;
  amount: Amount;
  text: string;
  /** More than there is can be promised, and often is: no problem. */
  isShared?: boolean;
}

function Share({ title, amount, text, isShared = false }: ShareProps) {
  const value = amount.total > 0 ? Math.min(100, (amount.used / amount.total) * 100) : 0;
  return (
    <Progress
      title={title}
      value={Math.round(value)}
      label={text}
      valueText={`${title}: ${text}`}
      measureLocation={ProgressMeasureLocation.top}
      {...(isShared || value <= 80 ? {} : { variant: value > 90 ? ("danger" as const) : ("warning" as const) })}
    />
  );
}

export function Overview() {
  const { machines, isWhole } = useMachines();
  const nodes = useObjects("nodes");
  const pools = useObjects("pools");
  const disks = useObjects("disks");
  const images = useObjects("images");
  const maintenances = useObjects("maintenances");
  const removals = useObjects("removals");
  const updates = useObjects("updates");
  const nodeUpdates = useObjects("nodeupdates");
  const networks = useObjects("nodenetworks");
  const policies = useObjects("policies");
  const enactments = useObjects("enactments");
  const all = useMemo(
    () =>
      problems({
        machines,
        nodes: nodes.all,
        pools: pools.all,
        disks: disks.all,
        images: images.all,
        maintenances: maintenances.all,
        removals: removals.all,
        updates: updates.all,
        nodeUpdates: nodeUpdates.all,
        networks: networks.all,
        policies: policies.all,
        enactments: enactments.all,
      }),
    [
      machines,
      nodes,
      pools,
      disks,
      images,
      maintenances,
      removals,
      updates,
      nodeUpdates,
      networks,
      policies,
      enactments,
    ],
  );
  const { processors, memory, storage, promised } = useMemo(
    () => capacity(machines, nodes.all, pools.all),
    [machines, nodes.all, pools.all],
  );
  const states = new Map<string, number>();
  for (const machine of machines) states.set(machine.state, (states.get(machine.state) ?? 0) + 1);
  const placed = nodes.all.map((node) => {
    const here = machines.filter((machine) => machine.node === node.metadata.name);
    return { node, running: here.filter((machine) => machine.vmi?.status?.phase === "Running") };
  });
  return (
    <>
      <Heading title="Overview" />
      <PageSection>
        <Grid hasGutter>
          <GridItem lg={8}>
            <Card isFullHeight>
              <CardTitle component="h2">{all.length === 0 ? "State" : count(all.length, "problem")}</CardTitle>
              <CardBody>{isWhole && nodes.isWhole && pools.isWhole ? <Problems all={all} /> : "Reading…"}</CardBody>
            </Card>
          </GridItem>
          <GridItem lg={4}>
            <Card isFullHeight>
              <CardTitle component="h2">Capacity</CardTitle>
              <CardBody>
                <Stack hasGutter>
                  <StackItem>
                    <Share title="Memory" amount={memory} text={`${bytes(memory.used)} of ${bytes(memory.total)}`} />
                  </StackItem>
                  <StackItem>
                    <Share
                      title="Processors"
                      amount={processors}
                      text={`${processors.used} virtual on ${processors.total}`}
                      isShared
                    />
                  </StackItem>
                  <StackItem>
                    <Share
                      title="Storage"
                      amount={storage}
                      text={`${bytes(storage.used)} of ${bytes(storage.total)}`}
                    />
                  </StackItem>
                  <StackItem>{bytes(promised)} of storage is promised to disks.</StackItem>
                </Stack>
              </CardBody>
            </Card>
          </GridItem>
          <GridItem lg={8}>
            <Card>
              <CardTitle component="h2">What runs where</CardTitle>
              <CardBody>
                <Table aria-label="Machines on nodes" variant="compact">
                  <Thead>
                    <Tr>
                      <Th>Node</Th>
                      <Th>State</Th>
                      <Th>Machines</Th>
                      <Th>Memory of machines</Th>
                    </Tr>
                  </Thead>
                  <Tbody>
                    {placed.map(({ node, running }) => (
                      <Tr key={node.metadata.name}>
                        <Td dataLabel="Node">
                          <a href={link({ page: "node", name: node.metadata.name })}>{node.metadata.name}</a>
                        </Td>
                        <Td dataLabel="State">
                          {holds(node.status?.conditions, "Ready") ? (
                            <State tone="success">Ready</State>
                          ) : (
                            <State tone="danger">Not ready</State>
                          )}
                        </Td>
                        <Td dataLabel="Machines">{running.length}</Td>
                        <Td dataLabel="Memory of machines">
                          {bytes(running.reduce((sum, machine) => sum + (machine.memory ?? 0), 0))}
                        </Td>
                      </Tr>
                    ))}
                  </Tbody>
                </Table>
              </CardBody>
            </Card>
          </GridItem>
          <GridItem lg={4}>
            <Card isFullHeight>
              <CardTitle component="h2">
                <a href={link({ page: "machines" })}>{count(machines.length, "machine")}</a>
              </CardTitle>
              <CardBody>
                {machines.length === 0 ? (
                  <a href={link({ page: "create" })}>Create the first machine</a>
                ) : (
                  <List isPlain>
                    {[...states].sort().map(([state, number]) => (
                      <ListItem key={state}>
                        {number} {state}
                      </ListItem>
                    ))}
                  </List>
                )}
              </CardBody>
            </Card>
          </GridItem>
          <GridItem span={12}>
            <UsageCard of="cluster" processors={processors.total || undefined} memory={memory.total || undefined} />
          </GridItem>
        </Grid>
      </PageSection>
    </>
  );
}
