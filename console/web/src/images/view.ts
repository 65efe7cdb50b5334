/**
 * Images: DataVolumes that no machine owns. An ISO has a label of the console's, or its URL says so.
 *
 * Pure. Route in: DataVolumes. Route out: [`Image`]s; the DataVolume of a new one. Why a label says what it is:
 * docs/decisions/0055.
 */
import { condition, type Tone } from "../machines/view.ts";
import type { DataVolume } from "../types/crds.ts";
import { bytes, quantity } from "../units.ts";
import type { Known } from "./file.ts";

/** Label with `disk` or `iso`. */
const LABEL = "console.sheaf.dev/image";
/** CDI's: filled at once, though no machine uses it. */
const AT_ONCE = "cdi.kubevirt.io/storage.bind.immediate.requested";

export interface Image {
  key: string;
  project: string;
  name: string;
  isIso: boolean;
  state: string;
  tone: Tone;
  why: string;
  progress: number | undefined;
  size: number | undefined;
  source: string;
  created: string | undefined;
  isReady: boolean;
  /** Its disk waits for a file that somebody sends. */
  takesFile: boolean;
}

type Phase = NonNullable<NonNullable<DataVolume["status"]>["phase"]>;

const STATES: Record<Phase, [string, Tone]> = {
  Pending: ["Waiting", "info"],
  WaitForFirstConsumer: ["Waits for its machine", "quiet"],
  ImportScheduled: ["Waiting", "info"],
  ImportInProgress: ["Downloading", "info"],
  CloneScheduled: ["Waiting", "info"],
  CloneInProgress: ["Copying", "info"],
  UploadScheduled: ["Waiting", "info"],
  UploadReady: ["Waits for an upload", "info"],
  Succeeded: ["Ready", "success"],
  Failed: ["Failed", "danger"],
};

function source(volume: DataVolume): string {
  const { http, registry, pvc, upload, snapshot } = volume.spec.source;
  if (http) return http.url;
  if (registry) return registry.url.replace(/^docker:\/\//, "");
  if (pvc) return `copy of ${pvc.name}`;
  if (snapshot) return `snapshot ${snapshot.name}`;
  return upload ? "upload" : "empty";
}

/** Any DataVolume, as lists show it. */
export function view(volume: DataVolume): Image {
  const { metadata, status } = volume;
  const [state, tone] = STATES[status?.phase ?? "Pending"];
  const from = source(volume);
  const requests = (volume.spec.storage ?? volume.spec.pvc)?.resources?.requests;
  const isDone = status?.phase === "Succeeded" || status?.phase === "WaitForFirstConsumer";
  const progress = Number.parseFloat(status?.progress ?? "");
  return {
    key: `${metadata.namespace}/${metadata.name}`,
    project: metadata.namespace ?? "",
    name: metadata.name,
    isIso: metadata.labels?.[LABEL] ? metadata.labels[LABEL] === "iso" : /\.iso($|\?|\.)/i.test(from),
    state: metadata.deletionTimestamp ? "Deleting" : state,
    tone,
    why: isDone
      ? ""
      : (condition(status?.conditions, "Running")?.message ?? condition(status?.conditions, "Bound")?.message ?? ""),
    progress: state === "Downloading" && Number.isFinite(progress) ? progress : undefined,
    size: quantity(requests?.["storage"]),
    source: from,
    created: metadata.creationTimestamp,
    isReady: status?.phase === "Succeeded",
    takesFile: status?.phase === "UploadReady",
  };
}

const isOwned = (volume: DataVolume): boolean =>
  volume.metadata.ownerReferences?.some(
    (one) => one.kind === "VirtualMachine" || one.kind === "VirtualMachineRestore",
  ) ?? false;

/** Those that no machine owns and that have contents from elsewhere. */
export function images(volumes: readonly DataVolume[]): Image[] {
  return volumes.filter((volume) => !isOwned(volume) && !volume.spec.source.blank).map(view);
}

export interface NewImage {
  project: string;
  name: string;
  url: string;
  checksum: string;
  /** GiB. */
  size: string;
  isIso: boolean;
}

const NAME = /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/;
const SIZE = /^[1-9][0-9]{0,5}$/;
const WRONG_NAME = "Lowercase letters, digits, hyphens and dots.";
const WRONG_SIZE = "A whole number of GiB, 1 or more.";

/** What is wrong with what was typed, by entry. */
export function check(form: NewImage): Partial<Record<keyof NewImage, string>> {
  const wrong: Partial<Record<keyof NewImage, string>> = {};
  if (!NAME.test(form.name)) wrong.name = WRONG_NAME;
  if (!/^(https?|docker):\/\/[^\s@]+$/.test(form.url))
    wrong.url = "A URL that begins with https://, http:// or docker://, without a user name.";
  if (!form.url.startsWith("docker:") && !/^[0-9a-f]{64}$/.test(sha256(form.checksum)))
    wrong.checksum = "64 hexadecimal digits, as the server of the image publishes them.";
  if (!SIZE.test(form.size)) wrong.size = WRONG_SIZE;
  return wrong;
}

/** An image whose file is sent from the browser. */
export type NewUpload = Omit<NewImage, "url" | "checksum">;

const GIB = 2 ** 30;

/** GiB that hold `size` bytes. */
export const holding = (size: number): string => String(Math.max(1, Math.ceil(size / GIB)));

/** What is wrong with it; `file` is what was chosen, if something was. */
export function checkUpload(
  form: NewUpload,
  file: Known | undefined,
): Partial<Record<keyof NewUpload | "file", string>> {
  const wrong: Partial<Record<keyof NewUpload | "file", string>> = {};
  if (!file) wrong.file = "Choose a file.";
  else if (file.wrong) wrong.file = file.wrong;
  if (!NAME.test(form.name)) wrong.name = WRONG_NAME;
  if (!SIZE.test(form.size)) wrong.size = WRONG_SIZE;
  else if (file?.bytes !== undefined && Number(form.size) * GIB < file.bytes)
    wrong.size = `The disk in the file has ${bytes(file.bytes)}; give it ${holding(file.bytes)} GiB or more.`;
  return wrong;
}

const metadata = (form: NewUpload) => ({
  name: form.name,
  namespace: form.project,
  labels: { [LABEL]: form.isIso ? "iso" : "disk" },
  annotations: { [AT_ONCE]: "true" },
});

/** The DataVolume that waits for the file. */
export function buildUpload(form: NewUpload): DataVolume {
  return {
    apiVersion: "cdi.kubevirt.io/v1beta1",
    kind: "DataVolume",
    metadata: metadata(form),
    spec: {
      source: { upload: {} },
      storage: { resources: { requests: { storage: `${form.size}Gi` } } },
    },
  };
}

/** Digits of a checksum, however it was copied: with its algorithm, or with the file's name behind it. */
const sha256 = (text: string): string =>
  text
    .trim()
    .replace(/^sha256:/i, "")
    .split(/\s/)[0]
    ?.toLowerCase() ?? "";

/** The DataVolume; it is filled at once. */
export function build(form: NewImage): DataVolume {
  const isRegistry = form.url.startsWith("docker:");
  return {
    apiVersion: "cdi.kubevirt.io/v1beta1",
    kind: "DataVolume",
    metadata: metadata(form),
    spec: {
      source: isRegistry
        ? { registry: { url: form.url } }
        : { http: { url: form.url, checksum: `sha256:${sha256(form.checksum)}` } },
      storage: { resources: { requests: { storage: `${form.size}Gi` } } },
    },
  };
}
