/**
 * What a file is, by its first bytes: as a node sees it (`agent/src/volumes/fill/image.rs`), so that a file that it would refuse is not
 * sent for an hour first.
 *
 * Pure. Route in: the first bytes of a file, its size, its name. Route out: a `Known`. Sources: qcow2 of QEMU's docs/interop/qcow2.rst (size
 * at byte 24, big-endian), ECMA-119 (a volume descriptor `CD001` in sector 16).
 */

/** So many first bytes tell everything: the descriptor of an ISO is at 32 KiB. */
export const HEAD = 33 * 1024;

export interface Known {
  /** For people. */
  format: string;
  isIso: boolean;
  /** Bytes of the disk in it; undefined where only unpacking would tell. */
  bytes: number | undefined;
  /** Why no node takes it, and what to do; empty if it may be sent. */
  wrong: string;
}

const CONVERT = "Convert it, for example with qemu-img convert -O qcow2.";
const UNPACK = "Choose the image in it.";

/** Formats that nodes refuse: offset, bytes, name, what to do. */
const REFUSED: [number, string, string, string][] = [
  [0, "KDMV", "a VMDK image", CONVERT],
  [0, "COWD", "a VMDK image", CONVERT],
  [0, "vhdxfile", "a VHDX image", CONVERT],
  [0, "conectix", "a VHD image", CONVERT],
  [64, "\x7f\x10\xda\xbe", "a VDI image", CONVERT],
  [257, "ustar", "a tar archive", UNPACK],
  [0, "PK\x03\x04", "a zip archive", UNPACK],
  [0, "BZh", "compressed by bzip2", "Unpack it, or compress it by xz, zstd or gzip."],
  [0, "7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK],
  [0, "%PDF", "a document", "Choose a disk image."],
];

const PACKED: [string, string][] = [
  ["\xfd7zXZ\x00", "xz"],
  ["\x28\xb5\x2f\xfd", "zstd"],
  ["\x1f\x8b\x08", "gzip"],
];

/** What a file of `size` bytes is that begins with `first` (at least `HEAD` of them, or all). */
export function known(first: Uint8Array, size: number, name: string): Known {
  const at = (offset: number, text: string) =>
    [...text].every((character, index) => first[offset + index] === character.charCodeAt(0));
  const byName = /\.iso(\.|$)/i.test(name);
  if (size === 0) return { format: "", isIso: false, bytes: 0, wrong: "The file is empty. Choose another one." };
  for (const [offset, text, what, remedy] of REFUSED)
    if (at(offset, text)) return { format: what, isIso: false, bytes: undefined, wrong: `This is ${what}. ${remedy}` };
  const packing = PACKED.find(([text]) => at(0, text))?.[1];
  if (packing) return { format: `packed by ${packing}`, isIso: byName, bytes: undefined, wrong: "" };
  if (at(0, "QFI\xfb")) {
    const view = new DataView(first.buffer, first.byteOffset, first.byteLength);
    // A node opens no other file than the one that is sent.
    if (first.length >= 16 && view.getBigUint64(8) !== 0n)
      return {
        format: "qcow2",
        isIso: false,
        bytes: undefined,
        wrong: "This image is only what changed since another image. Convert it with qemu-img convert -O qcow2.",
      };
    return {
      format: "qcow2",
      isIso: false,
      bytes: first.length >= 32 ? Number(view.getBigUint64(24)) : undefined,
      wrong: "",
    };
  }
  return at(32769, "CD001")
    ? { format: "ISO", isIso: true, bytes: size, wrong: "" }
    : { format: "raw", isIso: byName, bytes: size, wrong: "" };
}

/** `debian-13` of a path or URL of `debian-13.qcow2`, as a name of an image. */
export const named = (url: string): string =>
  (url.split(/[?#]/)[0]?.split("/").pop() ?? "")
    .toLowerCase()
    .replace(/\.(qcow2|raw|img|iso)?(\.(xz|gz|zst))?$/, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "");
