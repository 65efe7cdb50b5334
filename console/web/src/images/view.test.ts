import { expect, test } from "vitest";
import type { DataVolume } from "../types/crds.ts";
import { build, buildUpload, check, checkUpload, images, type NewImage, view } from "./view.ts";

const DIGITS = "ab".repeat(32);
const FORM: NewImage = {
  project: "shop",
  name: "debian-13",
  url: "https://images.example.org/debian.qcow2",
  checksum: `${DIGITS}  debian.qcow2`,
  size: "8",
  isIso: false,
};

test("a checksum is taken as people copy it", () => {
  expect(check(FORM)).toEqual({});
  for (const checksum of [DIGITS, `sha256:${DIGITS}`, `  ${DIGITS.toUpperCase()} *x`]) {
    expect(build({ ...FORM, checksum }).spec.source.http?.checksum).toBe(`sha256:${DIGITS}`);
  }
  expect(check({ ...FORM, checksum: "abc" }).checksum).toBe(
    "64 hexadecimal digits, as the server of the image publishes them.",
  );
  expect(check({ ...FORM, url: "docker://quay.io/x:1", checksum: "" })).toEqual({});
  expect(check({ ...FORM, url: "https://me:secret@x/y" }).url).toBe(
    "A URL that begins with https://, http:// or docker://, without a user name.",
  );
});

test("an image is filled at once, and says that it is an ISO", () => {
  const volume = build({ ...FORM, isIso: true });
  expect(volume.metadata.annotations).toEqual({ "cdi.kubevirt.io/storage.bind.immediate.requested": "true" });
  expect(view(volume).isIso).toBe(true);
  expect(view(build(FORM)).isIso).toBe(false);
});

test("disks of machines and empty disks are not images", () => {
  const image = build(FORM);
  const owned: DataVolume = {
    ...image,
    metadata: {
      ...image.metadata,
      name: "web-root",
      ownerReferences: [{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "web", uid: "1" }],
    },
  };
  const blank: DataVolume = { ...image, spec: { ...image.spec, source: { blank: {} } } };
  expect(images([image, owned, blank]).map((one) => one.name)).toEqual(["debian-13"]);
});

test("an image on its way has its progress, and one that waits has the reason", () => {
  const image = build(FORM);
  expect(view({ ...image, status: { phase: "ImportInProgress", progress: "42.5%" } })).toMatchObject({
    state: "Downloading",
    progress: 42.5,
  });
  const waiting = view({
    ...image,
    status: {
      phase: "ImportScheduled",
      progress: "N/A",
      conditions: [{ type: "Running", status: "False", message: "the server does not answer" }],
    },
  });
  expect(waiting).toMatchObject({ state: "Waiting", progress: undefined, why: "the server does not answer" });
  expect(view({ ...image, status: { phase: "Succeeded" } })).toMatchObject({ state: "Ready", isReady: true, why: "" });
});

test("an upload waits for its file on a disk that is made at once, and is as large as the disk in the file", () => {
  const form = { project: "shop", name: "mine", size: "8", isIso: true };
  expect(buildUpload(form)).toMatchObject({
    metadata: {
      name: "mine",
      namespace: "shop",
      labels: { "console.sheaf.dev/image": "iso" },
      annotations: { "cdi.kubevirt.io/storage.bind.immediate.requested": "true" },
    },
    spec: { source: { upload: {} }, storage: { resources: { requests: { storage: "8Gi" } } } },
  });
  const file = { format: "qcow2", isIso: false, bytes: 10 * 2 ** 30, wrong: "" };
  expect(checkUpload(form, file)).toEqual({ size: "The disk in the file has 10 GiB; give it 10 GiB or more." });
  expect(checkUpload({ ...form, size: "10" }, file)).toEqual({});
  expect(checkUpload(form, { ...file, bytes: undefined })).toEqual({});
  expect(checkUpload(form, { ...file, wrong: "This is a zip archive." }).file).toBe("This is a zip archive.");
  expect(checkUpload({ ...form, name: "Mine" }, undefined)).toEqual({
    file: "Choose a file.",
    name: "Lowercase letters, digits, hyphens and dots.",
  });
  const waiting = view({ ...buildUpload(form), status: { phase: "UploadReady", progress: "N/A" } });
  expect(waiting).toMatchObject({ state: "Waits for an upload", takesFile: true, isReady: false });
});
