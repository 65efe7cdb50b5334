/** Disks of a machine: what is behind each, and how far it is. */
import { EmptyState, EmptyStateBody } from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useObjects } from "../api/watch.ts";
import { view } from "../images/view.ts";
import { State } from "../parts/state.tsx";
import type { Volume } from "../types/crds.ts";
import { bytes, quantity } from "../units.ts";
import type { Machine } from "./view.ts";

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
  const { vm, vmi, project } = machine;
  const { spec } = vm.spec.template;
  const drives = new Map(spec.domain.devices?.disks?.map((disk) => [disk.name, disk]));
  const reported = new Map(vmi?.status?.volumeStatus?.map((status) => [status.name, status]));
  const filled = new Map(
    volumes.all.filter((one) => one.metadata.namespace === project).map((one) => [one.metadata.name, view(one)]),
  );
  const rows = spec.volumes ?? [];
  if (rows.length === 0) {
    return (
      <EmptyState headingLevel="h2" titleText="No disks">
        <EmptyStateBody>Add a volume and a disk of its name on the tab YAML.</EmptyStateBody>
      </EmptyState>
    );
  }
  return (
    <Table aria-label={`Disks of ${machine.name}`} variant="compact">
      <Thead>
        <Tr>
          <Th>Disk</Th>
          <Th>Kind</Th>
          <Th>Contents</Th>
          <Th>Size</Th>
          <Th>In the guest</Th>
          <Th>State</Th>
        </Tr>
      </Thead>
      <Tbody>
        {rows.map((volume) => {
          const drive = drives.get(volume.name);
          const status = reported.get(volume.name);
          const disk = filled.get(volume.dataVolume?.name ?? volume.persistentVolumeClaim?.claimName ?? "");
          const capacity =
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
            </Tr>
          );
        })}
      </Tbody>
    </Table>
  );
}
