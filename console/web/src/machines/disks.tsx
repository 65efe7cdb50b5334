/** Disks of a machine: what is behind each, and how far it is; disks of the project that no machine has. */
import { Button, Stack, StackItem, Title } from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useState } from "react";
import { useFetched } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { view } from "../images/view.ts";
import { type Item, Kebab } from "../parts/kebab.tsx";
import { State } from "../parts/state.tsx";
import type { DataVolume, Volume } from "../types/crds.ts";
import type { List, Thing } from "../types/meta.ts";
import { bytes, quantity } from "../units.ts";
import { diskOf, emptyDrives, freeDisks, isRemovable } from "./change.ts";
import { AddDisk, DeleteDisk, Eject, GrowDisk, Insert, RemoveDisk } from "./disk-dialogs.tsx";
import type { Machine } from "./view.ts";

/** What holds the bytes of a disk, as far as it is read. */
interface Claim extends Thing {
  status?: { capacity?: Record<string, string> };
}

type Open =
  | { kind: "add"; free?: DataVolume }
  | { kind: "remove" | "eject"; volume: Volume }
  | { kind: "grow"; disk: string; size: number }
  | { kind: "insert"; drive: string }
  | { kind: "delete"; disk: DataVolume }
  | undefined;

/** What is behind a disk, for people. */
function behind(volume: Volume): string {
  const claim = volume.dataVolume?.name ?? volume.persistentVolumeClaim?.claimName;
  if (claim) return claim;
  if (volume.containerDisk) return `image ${volume.containerDisk.image}; changes are lost when it stops`;
  if (volume.hostDisk) return `file ${volume.hostDisk.path}`;
  if (volume.emptyDisk) return "empty; lost when it stops";
  if (volume.cloudInitNoCloud || volume.cloudInitConfigDrive) return "cloud-init";
  const object = volume.secret?.secretName ?? volume.configMap?.name;
  return object ? `files of ${object}` : "–";
}

export function Disks({ machine }: { machine: Machine }) {
  const volumes = useObjects("images");
  const machines = useObjects("machines");
  const [open, setOpen] = useState<Open>();
  const close = () => setOpen(undefined);
  const { vm, vmi, project } = machine;
  // A claim gets its size when its disk is made on a node, which nothing that is watched says but these.
  const own = volumes.all.filter((one) => one.metadata.namespace === project);
  const states = own.map((one) => `${one.metadata.name} ${one.status?.phase}`);
  const attached = vmi?.status?.volumeStatus?.map((one) => `${one.name} ${one.phase}`);
  const told = JSON.stringify([vm.spec.template.spec.volumes, attached, states]);
  const claims = useFetched<List<Claim>>(paths.claim(project), told);
  const capacities = new Map(
    claims.value?.items.map((one) => [one.metadata.name, quantity(one.status?.capacity?.["storage"])]),
  );
  const { spec } = vm.spec.template;
  const drives = new Map(spec.domain.devices?.disks?.map((disk) => [disk.name, disk]));
  const reported = new Map(vmi?.status?.volumeStatus?.map((status) => [status.name, status]));
  const filled = new Map(own.map((one) => [one.metadata.name, view(one)]));
  const rows = spec.volumes ?? [];
  const free = freeDisks(volumes.all, machines.all, project);
  const items = (volume: Volume): Item[] => {
    const disk = diskOf(volume);
    // Only one that is on a node grows.
    const size = capacities.get(disk ?? "");
    const isDrive = drives.get(volume.name)?.cdrom !== undefined;
    const found: Item[] = [];
    if (disk && !isDrive && size !== undefined)
      found.push({ label: "Grow", onClick: () => setOpen({ kind: "grow", disk, size }) });
    if (isRemovable(volume))
      found.push(
        isDrive
          ? { label: "Eject", onClick: () => setOpen({ kind: "eject", volume }) }
          : { label: "Remove", isDanger: true, onClick: () => setOpen({ kind: "remove", volume }) },
      );
    return found;
  };
  return (
    <Stack hasGutter>
      <StackItem>
        <Button variant="primary" onClick={() => setOpen({ kind: "add" })}>
          Add disk
        </Button>
      </StackItem>
      <StackItem>
        <Table aria-label={`Disks of ${machine.name}`} variant="compact">
          <Thead>
            <Tr>
              <Th>Disk</Th>
              <Th>Kind</Th>
              <Th>Contents</Th>
              <Th>Size</Th>
              <Th>In the guest</Th>
              <Th>State</Th>
              <Th screenReaderText="Actions" />
            </Tr>
          </Thead>
          <Tbody>
            {rows.map((volume) => {
              const drive = drives.get(volume.name);
              const status = reported.get(volume.name);
              const disk = filled.get(diskOf(volume) ?? "");
              const capacity =
                capacities.get(diskOf(volume) ?? "") ??
                quantity(status?.persistentVolumeClaimInfo?.capacity?.["storage"]) ??
                disk?.size ??
                quantity(volume.emptyDisk?.capacity);
              const isReady = !disk || disk.isReady || disk.state === "Waits for its machine";
              return (
                <Tr key={volume.name}>
                  <Td dataLabel="Disk">{volume.name}</Td>
                  <Td dataLabel="Kind">
                    {drive?.cdrom ? `CD-ROM (${drive.cdrom.bus ?? "sata"})` : `Disk (${drive?.disk?.bus ?? "virtio"})`}
                  </Td>
                  <Td dataLabel="Contents">{behind(volume)}</Td>
                  <Td dataLabel="Size">{bytes(capacity)}</Td>
                  <Td dataLabel="In the guest">{status?.target || "–"}</Td>
                  <Td dataLabel="State">
                    {disk && !isReady ? (
                      <>
                        <State tone={disk.tone}>
                          {disk.progress === undefined ? disk.state : `${disk.state} ${Math.round(disk.progress)} %`}
                        </State>{" "}
                        {disk.why}
                      </>
                    ) : status?.phase && status.phase !== "Ready" ? (
                      <>
                        <State tone="info">{status.phase}</State> {status.message}
                      </>
                    ) : (
                      <State tone="success">Ready</State>
                    )}
                  </Td>
                  <Td isActionCell>
                    <Kebab of={volume.name} items={items(volume)} />
                  </Td>
                </Tr>
              );
            })}
            {emptyDrives(vm).map((drive) => (
              <Tr key={drive}>
                <Td dataLabel="Disk">{drive}</Td>
                <Td dataLabel="Kind">CD-ROM ({drives.get(drive)?.cdrom?.bus ?? "sata"})</Td>
                <Td dataLabel="Contents">empty</Td>
                <Td dataLabel="Size">–</Td>
                <Td dataLabel="In the guest">{reported.get(drive)?.target || "–"}</Td>
                <Td dataLabel="State">
                  {reported.get(drive)?.phase ? (
                    <>
                      <State tone="info">{reported.get(drive)?.phase ?? ""}</State> {reported.get(drive)?.message}
                    </>
                  ) : (
                    <State tone="quiet">No medium</State>
                  )}
                </Td>
                <Td isActionCell>
                  <Kebab of={drive} items={[{ label: "Insert", onClick: () => setOpen({ kind: "insert", drive }) }]} />
                </Td>
              </Tr>
            ))}
          </Tbody>
        </Table>
      </StackItem>
      {free.length > 0 && (
        <StackItem>
          <Title headingLevel="h2" size="lg">
            Disks of project {project} that no machine has
          </Title>
          <Table aria-label="Disks that no machine has" variant="compact">
            <Thead>
              <Tr>
                <Th>Disk</Th>
                <Th>Contents</Th>
                <Th>Size</Th>
                <Th screenReaderText="Actions" />
              </Tr>
            </Thead>
            <Tbody>
              {free.map((disk) => (
                <Tr key={disk.metadata.name}>
                  <Td dataLabel="Disk">{disk.metadata.name}</Td>
                  <Td dataLabel="Contents">{view(disk).source === "empty" ? "created empty" : view(disk).source}</Td>
                  <Td dataLabel="Size">{bytes(capacities.get(disk.metadata.name) ?? view(disk).size)}</Td>
                  <Td isActionCell>
                    <Kebab
                      of={disk.metadata.name}
                      items={[
                        { label: `Add to ${machine.name}`, onClick: () => setOpen({ kind: "add", free: disk }) },
                        { label: "Delete", isDanger: true, onClick: () => setOpen({ kind: "delete", disk }) },
                      ]}
                    />
                  </Td>
                </Tr>
              ))}
            </Tbody>
          </Table>
        </StackItem>
      )}
      {open?.kind === "add" && (
        <AddDisk machine={machine} {...(open.free ? { free: open.free } : {})} onClose={close} />
      )}
      {open?.kind === "remove" && <RemoveDisk machine={machine} volume={open.volume} onClose={close} />}
      {open?.kind === "eject" && <Eject machine={machine} volume={open.volume} onClose={close} />}
      {open?.kind === "grow" && (
        <GrowDisk machine={machine} disk={open.disk} size={open.size} onClose={close} onDone={claims.reload} />
      )}
      {open?.kind === "insert" && <Insert machine={machine} drive={open.drive} onClose={close} />}
      {open?.kind === "delete" && <DeleteDisk disk={open.disk} onClose={close} />}
    </Stack>
  );
}
