import { expect, test } from "vitest";
import { keys, lineOf, read, show, span } from "./place.ts";

const VM = {
  spec: { runStrategy: "Always", template: { spec: { networks: [{ name: "default" }, { name: "lan" }] } } },
  status: { ready: true },
  kind: "VirtualMachine",
  apiVersion: "kubevirt.io/v1",
  metadata: { name: "web", uid: "1", resourceVersion: "7", managedFields: [], generation: 3 },
};
const TEXT = `apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: web
  resourceVersion: "7"
spec:
  runStrategy: Always
  template:
    spec:
      networks:
        - name: default
        - name: lan
`;

test("an object is shown as people edit it, with the version that it was read at", () => {
  expect(show(VM)).toBe(TEXT);
  expect(read(TEXT)).toEqual({
    object: {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachine",
      metadata: { name: "web", resourceVersion: "7" },
      spec: VM.spec,
    },
  });
});

test("a field that the server refuses has its line", () => {
  expect(keys("spec.template.spec.networks[1].name")).toEqual(["spec", "template", "spec", "networks", 1, "name"]);
  expect(lineOf(TEXT, "spec.template.spec.networks[1].name")).toBe(12);
  expect(lineOf(TEXT, "spec.runStrategy")).toBe(7);
  expect(lineOf(TEXT, "spec.template.spec.networks[7].name"), "what is nearest above it").toBe(10);
  expect(lineOf(TEXT, "")).toBe(1);
});

test("text that is not YAML has the line of the mistake", () => {
  expect(read("a: 1\nb: [\n")).toMatchObject({ line: 3 });
  expect(read("a: 1\na: 2\n")).toMatchObject({ line: 2, message: "Map keys must be unique" });
  expect(read("just words")).toEqual({ line: 1, message: "An object has keys such as apiVersion and kind." });
});

test("a line can be selected", () => {
  const [begin, end] = span(TEXT, 7);
  expect(TEXT.slice(begin, end)).toBe("  runStrategy: Always");
  expect(span("a", 1)).toEqual([0, 1]);
});
