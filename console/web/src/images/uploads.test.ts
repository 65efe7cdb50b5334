import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { refusalOf, unreachable } from "../api/refusal.ts";
import { Store } from "../api/store.ts";
import type { DataVolume } from "../types/crds.ts";
import { rate, told, type Upload, Uploads } from "./uploads.ts";
import { buildUpload } from "./view.ts";

type Phase = NonNullable<NonNullable<DataVolume["status"]>["phase"]>;

/** An upload of 1000 bytes into shop/disk, with the outside in the test's hands. */
function ground() {
  const volumes = new Store<DataVolume>();
  const sent: {
    path: string;
    progress: (bytes: number) => void;
    end: (error?: unknown) => void;
    isAborted: boolean;
  }[] = [];
  const uploads = new Uploads({
    volumes,
    now: () => Date.now(),
    send: (path, _file, progress) => {
      const one = { path, progress, end: (_error?: unknown) => {}, isAborted: false };
      const done = new Promise<void>((then, refuse) => {
        one.end = (error) => (error === undefined ? then() : refuse(error as Error));
      });
      sent.push(one);
      return { done, abort: () => (one.isAborted = true) };
    },
  });
  const phase = (phase: Phase, message = "") => {
    const volume = buildUpload({ project: "shop", name: "disk", size: "1", isIso: false });
    const conditions = [{ type: "Running", status: "False" as const, message }];
    volumes.set("shop/disk", { ...volume, status: { phase, conditions } });
    volumes.flush();
  };
  const now = () => uploads.snapshot()[0];
  const settle = () => vi.advanceTimersByTimeAsync(0);
  return { uploads, sent, phase, now, settle };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const FILE = new Blob(["x".repeat(1000)]);

test("a file is sent once its disk takes it, and the upload is over when the node has filled it", async () => {
  const { uploads, sent, phase, now, settle } = ground();
  uploads.start("shop", "disk", FILE);
  phase("UploadScheduled");
  await settle();
  expect([now()?.state, sent.length]).toEqual(["preparing", 0]);
  phase("UploadReady");
  await settle();
  expect([now()?.state, sent[0]?.path]).toEqual(["sending", "/console/upload/shop/disk"]);
  sent[0]?.progress(1000);
  expect(now()?.state).toBe("filling");
  sent[0]?.end();
  await settle();
  expect(uploads.snapshot()).toEqual([]);
});

test("what broke says how far it was, and is sent again from the beginning when it is asked for", async () => {
  const { uploads, sent, phase, now, settle } = ground();
  phase("UploadReady");
  uploads.start("shop", "disk", FILE);
  await settle();
  sent[0]?.progress(512);
  sent[0]?.end(unreachable());
  await settle();
  expect(now()).toMatchObject({
    state: "broken",
    why:
      "The connection broke after 512 B of 1000 B. The node keeps nothing of a part: send it again from the beginning, or " +
      "delete the image.",
  });
  uploads.again("shop/disk");
  await settle();
  expect(now()).toMatchObject({ state: "sending", sent: 0, why: "" });
  expect(sent).toHaveLength(2);
});

test("a refusal of the node has its words and what to do", async () => {
  for (const [code, message, why] of [
    [
      422,
      "the image is larger than the volume",
      "the image is larger than the volume. Send it or another file again, or delete the image and create it larger.",
    ],
    [503, "the pool is full", "the pool is full. Send it again, or delete the image."],
    [403, "it is forbidden", "it is forbidden. Ask an administrator for a role that may do this."],
  ] as const) {
    const { uploads, sent, phase, now, settle } = ground();
    phase("UploadReady");
    uploads.start("shop", "disk", FILE);
    await settle();
    sent[0]?.end(refusalOf(code, { message }));
    await settle();
    expect(now()?.why).toBe(why);
  }
});

test("a disk that cannot be made ends the upload with the reason, at once or after ten minutes", async () => {
  const { uploads, sent, phase, now, settle } = ground();
  uploads.start("shop", "disk", FILE);
  phase("UploadScheduled", "the pool default has promised all it has");
  await vi.advanceTimersByTimeAsync(10 * 60_000);
  expect(now()?.why).toContain("the disk took nothing for 10 min: the pool default has promised all it has");
  uploads.again("shop/disk");
  phase("Failed", "the volume is lost");
  await settle();
  expect(now()?.why).toContain("the volume is lost");
  expect(sent).toEqual([]);
});

test("a cancelled upload sends nothing more and says nothing more", async () => {
  const { uploads, sent, phase, settle } = ground();
  phase("UploadReady");
  uploads.start("shop", "disk", FILE);
  await settle();
  uploads.forget("shop/disk");
  sent[0]?.progress(10);
  sent[0]?.end(unreachable());
  await settle();
  expect([sent[0]?.isAborted, uploads.snapshot()]).toEqual([true, []]);
});

test("progress has bytes, rate and time left", () => {
  const GIB = 2 ** 30;
  const upload: Upload = {
    key: "shop/disk",
    project: "shop",
    name: "disk",
    size: 8 * GIB,
    sent: 2 * GIB,
    rate: undefined,
    state: "sending",
    why: "",
  };
  expect(told(upload)).toBe("2 GiB of 8 GiB");
  expect(told({ ...upload, rate: 64 * 2 ** 20 })).toBe("2 GiB of 8 GiB, 64 MiB a second, 2 min left");
  expect(rate([[0, 0]])).toBeUndefined();
  expect(
    rate([
      [0, 0],
      [500, 900],
    ]),
  ).toBeUndefined();
  expect(
    rate([
      [0, 0],
      [1000, 100],
      [2000, 500],
    ]),
  ).toBe(250);
});
