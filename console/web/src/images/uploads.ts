/**
 * Uploads of this browser window: they continue while other pages are shown.
 *
 * Why here: an upload takes longer than somebody looks at one page, so it belongs to none. It waits until the disk takes bytes, sends, waits
 * until the node has filled the disk. A node keeps nothing of a part that arrived (docs/storage.md, "Upload an image"), so what broke
 * is sent again from the beginning, when a person asks for it. Route in: a file, a DataVolume with source upload. Route out:
 * `useUploads`, a request, notices.
 */
import { useSyncExternalStore } from "react";
import * as paths from "../api/paths.ts";
import { asRefusal, Refusal } from "../api/refusal.ts";
import { sendFile, type Sending } from "../api/send.ts";
import { store } from "../api/watch.ts";
import { done, failed } from "../notices.ts";
import type { DataVolume } from "../types/crds.ts";
import { bytes } from "../units.ts";
import { view } from "./view.ts";

/** Longest time until a disk takes bytes, in ms: a node makes it, and a pool may have to get room. */
const READY = 10 * 60_000;
/** Time over which the rate is measured, in ms. */
const WINDOW = 10_000;

export interface Upload {
  /** Project and name of the image. */
  key: string;
  project: string;
  name: string;
  /** Bytes of the file, and those that were sent. */
  size: number;
  sent: number;
  /** Bytes a second; undefined while it is not known. */
  rate: number | undefined;
  state: "preparing" | "sending" | "filling" | "broken";
  /** Why it broke, and what to do. */
  why: string;
}

/** What is asked of the outside; tests play it. */
export interface Outside {
  send: (path: string, file: Blob, onProgress: (sent: number) => void) => Sending;
  volumes: Pick<ReturnType<typeof store<"images">>, "snapshot" | "subscribe">;
  now: () => number;
}

interface Run {
  upload: Upload;
  file: Blob;
  sending: Sending | undefined;
  stop: () => void;
}

/** Bytes a second over the samples of the last seconds: time in ms, bytes. */
export function rate(samples: readonly (readonly [number, number])[]): number | undefined {
  const [first, last] = [samples[0], samples[samples.length - 1]];
  if (!first || !last || last[0] - first[0] < 1000) return undefined;
  return ((last[1] - first[1]) * 1000) / (last[0] - first[0]);
}

const STEPS: [number, string][] = [
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** `3.1 of 8 GiB, 52 MiB a second, 2 min left`. */
export function told(upload: Upload): string {
  switch (upload.state) {
    case "preparing":
      return "Waits for its disk";
    case "filling":
      return "Sent; the node fills the disk";
    case "broken":
      return "Upload broke";
    case "sending": {
      const words = [`${bytes(upload.sent)} of ${bytes(upload.size)}`];
      if (upload.rate) {
        const left = Math.ceil((upload.size - upload.sent) / upload.rate);
        const [length, unit] = STEPS.find(([step]) => left >= step) ?? [1, "s"];
        words.push(`${bytes(upload.rate)} a second`, `${Math.ceil(left / length)} ${unit} left`);
      }
      return words.join(", ");
    }
  }
}

/** The disk takes nothing. */
const stuck = (why: string): Refusal => new Refusal(503, "ServiceUnavailable", why);

/** What to do after a refusal. */
function reason(refusal: Refusal, upload: Upload): string {
  switch (refusal.code) {
    case 0:
      return (
        `The connection broke after ${bytes(upload.sent)} of ${bytes(upload.size)}. The node keeps nothing of a part: ` +
        "send it again from the beginning, or delete the image."
      );
    case 422:
      return `${refusal.message}. Send it or another file again, or delete the image and create it larger.`;
    case 409:
    case 503:
      return `${refusal.message}. Send it again, or delete the image.`;
    default:
      return `${refusal.message}. ${refusal.remedy}`;
  }
}

export class Uploads {
  readonly #runs = new Map<string, Run>();
  readonly #readers = new Set<() => void>();
  readonly #outside: Outside;
  #snapshot: readonly Upload[] = [];

  constructor(outside: Outside) {
    this.#outside = outside;
  }

  readonly subscribe = (reader: () => void): (() => void) => {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  };

  readonly snapshot = (): readonly Upload[] => this.#snapshot;

  /** Sends `file` into the disk of an image that exists. */
  start(project: string, name: string, file: Blob): void {
    const key = `${project}/${name}`;
    this.forget(key);
    const run: Run = {
      upload: { key, project, name, size: file.size, sent: 0, rate: undefined, state: "preparing", why: "" },
      file,
      sending: undefined,
      stop: () => {},
    };
    this.#runs.set(key, run);
    this.#change(run, {});
    void this.#run(run);
  }

  /** The same file once more, from the beginning. */
  again(key: string): void {
    const run = this.#runs.get(key);
    if (run) this.start(run.upload.project, run.upload.name, run.file);
  }

  /** Stops sending; the disk is deleted by who asks. */
  forget(key: string): void {
    const run = this.#runs.get(key);
    this.#runs.delete(key);
    run?.stop();
    run?.sending?.abort();
    this.#tell();
  }

  async #run(run: Run): Promise<void> {
    const { project, name } = run.upload;
    const isCurrent = () => this.#runs.get(run.upload.key) === run;
    try {
      await this.#ready(run);
      if (!isCurrent()) return;
      this.#change(run, { state: "sending" });
      const samples: [number, number][] = [];
      run.sending = this.#outside.send(paths.upload(project, name), run.file, (sent) => {
        const now = this.#outside.now();
        samples.push([now, sent]);
        while (samples.length > 2 && now - (samples[0]?.[0] ?? now) > WINDOW) samples.shift();
        const state = sent >= run.upload.size ? "filling" : "sending";
        if (isCurrent()) this.#change(run, { sent, rate: rate(samples), state });
      });
      await run.sending.done;
      if (!isCurrent()) return;
      this.forget(run.upload.key);
      done(`Upload image ${name}`);
    } catch (error) {
      if (!isCurrent()) return;
      this.#change(run, { state: "broken", why: reason(asRefusal(error), run.upload) });
      failed(`Upload of ${name}`, error);
    }
  }

  /** Waits until the disk takes bytes. */
  #ready(run: Run): Promise<void> {
    const { volumes } = this.#outside;
    const { project, name } = run.upload;
    return new Promise((then, refuse) => {
      const find = (): DataVolume | undefined =>
        volumes.snapshot().all.find((one) => one.metadata.namespace === project && one.metadata.name === name);
      const check = () => {
        const volume = find();
        const end = (act: () => void) => {
          run.stop();
          act();
        };
        if (volume?.status?.phase === "UploadReady") end(then);
        else if (volume?.status?.phase === "Failed") end(() => refuse(stuck(view(volume).why)));
        else if (volume?.status?.phase === "Succeeded") end(() => refuse(stuck("the image has its contents already")));
      };
      const late = setTimeout(() => {
        const volume = find();
        const why = (volume && view(volume).why) || "no node made its disk";
        run.stop();
        refuse(stuck(`the disk took nothing for ${READY / 60_000} min: ${why}`));
      }, READY);
      const unsubscribe = volumes.subscribe(check);
      run.stop = () => {
        clearTimeout(late);
        unsubscribe();
      };
      check();
    });
  }

  #change(run: Run, change: Partial<Upload>): void {
    run.upload = { ...run.upload, ...change };
    this.#tell();
  }

  #tell(): void {
    this.#snapshot = [...this.#runs.values()].map((run) => run.upload);
    for (const reader of this.#readers) reader();
  }
}

/** Those of this window. */
export const uploads = new Uploads({
  send: sendFile,
  volumes: store("images"),
  now: () => Date.now(),
});

/** A window that is closed ends its uploads: the browser asks first. */
function keepOpen(event: BeforeUnloadEvent): void {
  event.preventDefault();
}

uploads.subscribe(() => {
  const isUnderWay = uploads.snapshot().some((one) => one.state === "preparing" || one.state === "sending");
  if (isUnderWay) addEventListener("beforeunload", keepOpen);
  else removeEventListener("beforeunload", keepOpen);
});

export const useUploads = (): readonly Upload[] =>
  useSyncExternalStore(uploads.subscribe, uploads.snapshot, uploads.snapshot);
