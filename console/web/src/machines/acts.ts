/**
 * What can be done to a machine now, by its run strategy and state.
 *
 * Why here: the table of docs/operate.md ("By run strategy"), so that a button that the server would refuse is not offered. The
 * server decides all the same. Pure. Route in: a [`Machine`]. Route out: acts, each with its request.
 */
import { act } from "../api/paths.ts";
import { holds, type Machine } from "./view.ts";

export type ActName = "start" | "stop" | "restart" | "pause" | "resume" | "reset" | "stop-now";

export interface Act {
  name: ActName;
  label: string;
  /** What is lost, if something is: the act is confirmed then. */
  loses?: string;
  path: string;
  body: unknown;
}

const LOSES_UNSAVED = "The guest is not asked to shut down: what it has not written to its disks is lost.";

/** All acts that make sense now, in the order in which they are shown. */
export function acts(machine: Machine): Act[] {
  const { vm, vmi, project, name } = machine;
  const strategy = vm.spec.runStrategy ?? (vm.spec.running ? "Always" : "Halted");
  const phase = vmi?.status?.phase;
  const isEnding = vmi?.metadata.deletionTimestamp !== undefined || vm.metadata.deletionTimestamp !== undefined;
  const isOver = phase === "Succeeded" || phase === "Failed";
  const hasInstance = vmi !== undefined && !isOver && !isEnding;
  const isRunning = hasInstance && phase === "Running";
  const isPaused = holds(vmi?.status?.conditions, "Paused");
  const ofVm = (part: string) => act("virtualmachines", project, name, part);
  const ofVmi = (part: string) => act("virtualmachineinstances", project, name, part);
  const found: Act[] = [];
  const canStart =
    !vmi && !isEnding && (strategy === "Halted" || strategy === "Manual" || strategy === "RerunOnFailure");
  if (canStart) found.push({ name: "start", label: "Start", path: ofVm("start"), body: {} });
  if (isPaused) found.push({ name: "resume", label: "Resume", path: ofVmi("unpause"), body: {} });
  if (hasInstance) found.push({ name: "stop", label: "Shut down", path: ofVm("stop"), body: {} });
  if (isRunning) found.push({ name: "restart", label: "Restart", path: ofVm("restart"), body: {} });
  if (isRunning && !isPaused) found.push({ name: "pause", label: "Pause", path: ofVmi("pause"), body: {} });
  if (isRunning) {
    found.push({ name: "reset", label: "Reset", loses: LOSES_UNSAVED, path: ofVmi("reset"), body: undefined });
    found.push({
      name: "stop-now",
      label: "Power off",
      loses: LOSES_UNSAVED,
      path: ofVm("stop"),
      body: { gracePeriod: 0 },
    });
  }
  return strategy === "Once" ? found.filter((one) => one.name !== "restart") : found;
}

/** A disk of a machine, and what becomes of it when the machine is deleted. */
export interface Fate {
  disk: string;
  isLost: boolean;
  why: string;
}

/** What becomes of every disk when the machine is deleted. */
export function fates(machine: Machine): Fate[] {
  const own = new Set(machine.vm.spec.dataVolumeTemplates?.map((template) => template.metadata?.["name"]));
  const disks = machine.vm.spec.template?.spec?.domain.devices?.disks ?? [];
  const drives = new Set(disks.filter((one) => one.cdrom).map((one) => one.name));
  return (machine.vm.spec.template?.spec?.volumes ?? []).map((volume) => {
    const disk = volume.name;
    const kept = volume.persistentVolumeClaim?.claimName ?? volume.dataVolume?.name;
    if (volume.dataVolume && own.has(volume.dataVolume.name)) {
      return {
        disk,
        isLost: true,
        why: `disk ${volume.dataVolume.name} was created with the machine and is deleted with it`,
      };
    }
    // As change.ts names the copy of an ISO that was inserted; the machine owns it.
    if (drives.has(disk) && kept?.startsWith(`${machine.name}-${disk}-`))
      return { disk, isLost: false, why: `${kept} is a copy of an ISO, which goes with the machine; the ISO stays` };
    if (kept) return { disk, isLost: false, why: `disk ${kept} stays` };
    if (volume.hostDisk?.path?.startsWith("/data/disks/"))
      return { disk, isLost: false, why: `file ${volume.hostDisk.path} stays on its node` };
    if (volume.cloudInitNoCloud || volume.cloudInitConfigDrive)
      return { disk, isLost: false, why: "made again at each start" };
    return { disk, isLost: true, why: "it lives as long as the machine runs" };
  });
}
