/** Columns of pools and of disks, for the page of all and for that of one node. */
import { Progress, ProgressMeasureLocation, ProgressSize } from "@patternfly/react-core";
import type { Column } from "../list/list.tsx";
import type { Tone } from "../machines/view.ts";
import { State } from "../parts/state.tsx";
import { link } from "../route.ts";
import type { BlockDevice, StoragePool } from "../types/crds.ts";
import { bytes } from "../units.ts";
import { contents, erasure, healthText } from "./build.ts";

const PHASES: Record<string, Tone> = {
  Ready: "success",
  Pending: "info",
  Degraded: "warning",
  Full: "danger",
  Failed: "danger",
};
const HEALTH: Record<string, Tone> = { Passed: "success", Warning: "warning", Failing: "danger", Unknown: "quiet" };

const node = (name: string | undefined) => (name ? <a href={link({ page: "node", name })}>{name}</a> : "–");

function used(pool: StoragePool): number | undefined {
  const { totalBytes, freeBytes } = pool.status ?? {};
  return totalBytes && freeBytes !== undefined ? ((totalBytes - freeBytes) / totalBytes) * 100 : undefined;
}

export const POOL_COLUMNS: Column<StoragePool>[] = [
  {
    title: "Pool",
    value: (row) => row.spec.pool ?? row.metadata.name,
    cell: (row) => row.spec.pool ?? row.metadata.name,
  },
  { title: "Node", value: (row) => row.spec.nodeName, cell: (row) => node(row.spec.nodeName) },
  {
    title: "State",
    value: (row) => row.status?.phase ?? "Pending",
    cell: (row) => (
      <State tone={PHASES[row.status?.phase ?? "Pending"] ?? "info"}>{row.status?.phase ?? "Pending"}</State>
    ),
  },
  {
    title: "Written",
    value: used,
    cell: (row) => {
      const share = used(row);
      return share === undefined ? (
        "–"
      ) : (
        <Progress
          size={ProgressSize.sm}
          measureLocation={ProgressMeasureLocation.outside}
          value={Math.round(share)}
          aria-label={`Written of pool ${row.metadata.name}`}
          {...(share > 90 ? { variant: "danger" as const } : share > 80 ? { variant: "warning" as const } : {})}
        />
      );
    },
  },
  { title: "Size", value: (row) => row.status?.totalBytes, cell: (row) => bytes(row.status?.totalBytes) },
  {
    title: "Promised to disks",
    value: (row) => row.status?.provisionedBytes,
    cell: (row) => bytes(row.status?.provisionedBytes),
  },
  {
    title: "Disks",
    value: (row) => row.status?.devices?.length,
    cell: (row) =>
      row.status?.devices
        ?.map(
          (device) =>
            `${device.name}${device.state === "Active" ? "" : ` (${device.state}${device.progressPercent ? ` ${Math.round(device.progressPercent)} %` : ""}${device.message ? `: ${device.message}` : ""})`}`,
        )
        .join(", ") || "–",
  },
];

export const DISK_COLUMNS: Column<BlockDevice>[] = [
  {
    title: "Disk",
    value: (row) => `${row.metadata.name} ${row.status?.devPath ?? ""}`,
    cell: (row) => (
      <>
        {row.metadata.name}
        <br />
        {row.status?.devPath}
      </>
    ),
  },
  { title: "Node", value: (row) => row.spec.nodeName, cell: (row) => node(row.spec.nodeName) },
  { title: "Size", value: (row) => row.status?.sizeBytes, cell: (row) => bytes(row.status?.sizeBytes) },
  {
    title: "Model, serial",
    value: (row) => `${row.status?.model ?? ""} ${row.status?.serial ?? ""}`,
    cell: (row) => (
      <>
        {row.status?.model || "–"}
        <br />
        {row.status?.serial}
      </>
    ),
  },
  {
    title: "Health",
    value: (row) => row.status?.smart?.health ?? "Unknown",
    cell: (row) => {
      const health = row.status?.smart?.health ?? "Unknown";
      return (
        <>
          <State tone={row.status?.state === "Missing" ? "danger" : (HEALTH[health] ?? "quiet")}>
            {row.status?.state === "Missing" ? "Missing" : health}
          </State>{" "}
          {healthText(row)}
        </>
      );
    },
  },
  {
    title: "Used by",
    value: (row) => row.status?.usedBy,
    cell: (row) => {
      const { state, why } = erasure(row);
      const there = contents(row);
      return (
        <>
          {row.status?.usedBy || (there.length > 0 ? `unused, with ${there.join(", ")}` : "unused")}
          {state === "asked" && " (is to be erased)"}
          {state === "refused" && ` (not erased: ${why})`}
        </>
      );
    },
  },
];
