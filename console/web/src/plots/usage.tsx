/** What a machine, a node or the cluster used: four plots of the last hour or day, read again while they are open. */
import {
  EmptyState,
  EmptyStateBody,
  Gallery,
  Spinner,
  Stack,
  StackItem,
  ToggleGroup,
  ToggleGroupItem,
} from "@patternfly/react-core";
import { useEffect, useState } from "react";
import { useFetched } from "../api/fetched.ts";
import { Refused } from "../parts/refused.tsx";
import { Plot } from "./plot.tsx";
import type { Measured } from "./series.ts";

/** As `console/src/metrics.rs` measures, in ms. */
const EVERY = 30_000;
const SPANS = { hour: "Last hour", day: "Last day" } as const;
type Span = keyof typeof SPANS;

export interface Usage {
  /** `machine=shop/web`, `node=n1` or `cluster`, as `/console/metrics` takes it. */
  of: string;
  /** How much there is. */
  processors?: number | undefined;
  memory?: number | undefined;
  /** Of the headings of plots: one below that of the part they are in. */
  level?: "h2" | "h3";
}

export default function UsagePlots({ of, processors, memory, level = "h3" }: Usage) {
  const [span, setSpan] = useState<Span>("hour");
  const [round, setRound] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setRound((number) => number + 1), EVERY);
    return () => clearInterval(timer);
  }, []);
  const { value, refusal } = useFetched<Measured>(`/console/metrics?${of}&span=${span}`, round);
  if (refusal?.code === 404) {
    return (
      <EmptyState variant="sm" headingLevel={level} titleText="Nothing was measured yet">
        <EmptyStateBody>
          The console measures what runs every 30 seconds and remembers a day. It begins again when it is restarted.
        </EmptyStateBody>
      </EmptyState>
    );
  }
  if (refusal) return <Refused refusal={refusal} />;
  if (!value) return <Spinner aria-label="Reading what was measured" />;
  const line = (name: string, key: "processors" | "memory" | "read" | "written" | "received" | "sent") => ({
    name,
    values: value[key],
  });
  return (
    <Stack hasGutter>
      <StackItem>
        <ToggleGroup aria-label="How much of the past is shown">
          {(Object.keys(SPANS) as Span[]).map((key) => (
            <ToggleGroupItem
              key={key}
              text={SPANS[key]}
              buttonId={`span-${key}`}
              isSelected={span === key}
              onChange={() => setSpan(key)}
            />
          ))}
        </ToggleGroup>
      </StackItem>
      <StackItem>
        <Gallery hasGutter minWidths={{ default: "100%", md: "400px" }}>
          <Plot
            title="Processors"
            unit="processors"
            lines={[line("In use", "processors")]}
            measured={value}
            level={level}
            limit={processors}
          />
          <Plot
            title="Memory"
            unit="bytes"
            lines={[line("In use", "memory")]}
            measured={value}
            level={level}
            limit={memory}
          />
          <Plot
            title="Disks"
            unit="bytes/s"
            lines={[line("Read", "read"), line("Written", "written")]}
            measured={value}
            level={level}
          />
          <Plot
            title="Network"
            unit="bytes/s"
            lines={[line("Received", "received"), line("Sent", "sent")]}
            measured={value}
            level={level}
          />
        </Gallery>
      </StackItem>
    </Stack>
  );
}
