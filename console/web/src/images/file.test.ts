import { expect, test } from "vitest";
import { HEAD, known, named } from "./file.ts";

/** First bytes with `text` at `offset`. */
function head(offset: number, text: string): Uint8Array {
  const first = new Uint8Array(HEAD);
  [...text].forEach((character, index) => (first[offset + index] = character.charCodeAt(0)));
  return first;
}

test("the size of a disk is taken from the file: of qcow2 the one that the guest sees", () => {
  const qcow2 = head(0, "QFI\xfb\x00\x00\x00\x03");
  new DataView(qcow2.buffer).setBigUint64(24, 5n * 2n ** 30n);
  expect(known(qcow2, 300 << 20, "a.qcow2")).toEqual({ format: "qcow2", isIso: false, bytes: 5 * 2 ** 30, wrong: "" });
  expect(known(head(32769, "CD001"), 700 << 20, "x.img")).toMatchObject({
    format: "ISO",
    isIso: true,
    bytes: 700 << 20,
  });
  expect(known(head(0, ""), 4096, "disk.img")).toEqual({ format: "raw", isIso: false, bytes: 4096, wrong: "" });
});

test("what a file unpacks to is not known before", () => {
  for (const [text, packing] of [
    ["\xfd7zXZ\x00", "xz"],
    ["\x28\xb5\x2f\xfd", "zstd"],
    ["\x1f\x8b\x08", "gzip"],
  ] as const)
    expect(known(head(0, text), 9, "debian.iso.xz")).toEqual({
      format: `packed by ${packing}`,
      isIso: true,
      bytes: undefined,
      wrong: "",
    });
});

test("a file that a node would refuse is refused with what to do, before it is sent", () => {
  const wrong = (offset: number, text: string) => known(head(offset, text), 9000, "x").wrong;
  const convert = "Convert it, for example with qemu-img convert -O qcow2.";
  expect(wrong(0, "KDMV")).toBe(`This is a VMDK image. ${convert}`);
  expect(wrong(0, "vhdxfile")).toBe(`This is a VHDX image. ${convert}`);
  expect(wrong(64, "\x7f\x10\xda\xbe")).toBe(`This is a VDI image. ${convert}`);
  expect(wrong(257, "ustar")).toBe("This is a tar archive. Choose the image in it.");
  expect(wrong(0, "PK\x03\x04")).toBe("This is a zip archive. Choose the image in it.");
  expect(known(new Uint8Array(), 0, "x").wrong).toBe("The file is empty. Choose another one.");
  const backed = head(0, "QFI\xfb");
  new DataView(backed.buffer).setBigUint64(8, 512n);
  expect(known(backed, 9000, "x").wrong).toBe(
    "This image is only what changed since another image. Convert it with qemu-img convert -O qcow2.",
  );
});

test("a name follows the file", () => {
  expect(named("debian-13-genericcloud-amd64.qcow2")).toBe("debian-13-genericcloud-amd64");
  expect(named("https://x/y/Alpine_3.22.ISO.xz?a=b")).toBe("alpine-3-22");
});
