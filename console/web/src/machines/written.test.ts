/**
 * Everything that the pages of machines and images write, as a file that the suite sends to the real API server
 * (`tests/tests/console_files.rs`): so that no page writes what the server does not take. `UPDATE=1 npm test` writes it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { machine as played } from "../../test/objects.ts";
import * as paths from "../api/paths.ts";
import { build as image, buildUpload } from "../images/view.ts";
import * as change from "./change.ts";
import { build as machine, EMPTY } from "./create/build.ts";
import * as access from "./access.ts";
import * as copies from "./copies.ts";
import * as resize from "./resize.ts";
import { machines } from "./view.ts";

const FILE = new URL("../../../../tests/manifests/console/written.json", import.meta.url);
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";
const NOW = 1_796_000_000_000;

/** The machine web of the project default, which has what the test of the suite creates. */
function web() {
  const [vm] = played({ project: "default", name: "web", status: "Stopped" });
  // What the server gives is not in the file; UID is put there by who sends it.
  vm.metadata = { name: "web", namespace: "default", uid: "UID" };
  return machines([vm], [])[0]!;
}

test("what the pages write is in the file that the suite sends to the API server", () => {
  const one = web();
  const { vm } = one;
  const project = "default";
  const upload = { project, name: "mine", size: "8", isIso: true };
  const from = { project, kind: "machine" as const, name: "web" };
  const keys = access.withKeys(vm, KEY, "agent", "admin", NOW);
  const seeded = access.withKeys(vm, KEY, "cloud-init", "", NOW);
  const password = access.withPassword(vm, "admin", "correct horse battery", NOW);
  const form = { ...EMPTY, name: "blog", project, image: "debian-13", key: KEY };
  const own = machine({ ...form, name: "old" });
  const web1 = paths.machine(project, "web");
  const written = [
    ["POST", paths.image(project), buildUpload(upload)],
    ["POST", paths.image(project), image({ ...upload, url: "https://example.org/a.iso", checksum: "ab".repeat(32) })],
    ["POST", paths.image(project), change.blank(project, "web-data", "1", "sheaf")],
    ["POST", paths.image(project), change.medium(one, "cd", "debian-iso", NOW)],
    ["POST", paths.machine(project), machine(form)],
    ["POST", paths.machine(project), machine({ ...form, source: "iso", network: "bridge" })],
    ["POST", paths.machine(project), own],
    ["PATCH", web1, change.withNic(vm, "lan", "default/lan100")],
    ["PATCH", web1, change.withState(vm, "default", "down")],
    ["PATCH", web1, change.withState(vm, "default", "up")],
    ["PATCH", web1, resize.sized(vm, "u1.small")],
    ["PATCH", web1, keys.patch],
    ["PATCH", web1, seeded.patch],
    ["PATCH", web1, password.patch],
    ["PATCH", web1, access.withoutCredential(vm, 0)],
    ["POST", paths.secret(project), keys.secret],
    ["POST", paths.secret(project), password.secret],
    ["POST", paths.clone(project), copies.cloned(from, "twin", NOW)],
    ["POST", paths.clone(project), copies.cloned({ ...from, kind: "snapshot", name: "web-monday" }, "twin", NOW)],
    ["POST", paths.exported(project), copies.exporting(from, NOW)],
    ["POST", paths.exported(project), copies.exporting({ ...from, kind: "snapshot", name: "web-monday" }, NOW)],
    ["PUT", paths.act("virtualmachines", project, "web", "addvolume"), change.adding("data", "web-data")],
  ];
  // A line each.
  const lines = written.map((request) => JSON.stringify(request)).join(",\n");
  const { apiVersion, kind, metadata, spec } = vm;
  const text = `{"machine": ${JSON.stringify({ apiVersion, kind, metadata, spec })},\n"written": [\n${lines}\n]}\n`;
  if (process.env["UPDATE"]) writeFileSync(FILE, text);
  expect(readFileSync(FILE, "utf8")).toBe(text);
});
