import { expect, test } from "vitest";
import type { NodeNetworkEnactment, NodeNetworkPolicy, NodeNetworkState } from "../types/crds.ts";
import { bridges, build, check, config, EMPTY, ranges } from "./build.ts";
import * as policies from "./policies.ts";
import { meaning } from "./view.ts";

type Links = NonNullable<NonNullable<NodeNetworkState["status"]>["links"]>;
const state = (nodeName: string, links: Links): NodeNetworkState => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeNetworkState",
  metadata: { name: nodeName },
  spec: { nodeName },
  status: { links },
});
const STATES = [
  state("n1", [
    { name: "br0", kind: "bridge" },
    { name: "br1", kind: "bridge", vlanAware: true },
    { name: "masq0", kind: "bridge" },
    { name: "enp1s0", kind: "nic" },
  ]),
  state("n2", [
    { name: "br0", kind: "bridge" },
    { name: "bond1", kind: "bond" },
    { name: "enp1s0", kind: "nic" },
  ]),
];

test("bridges of the nodes can be picked, but for the private one", () => {
  expect(bridges(STATES)).toEqual([
    { name: "br0", nodes: ["n1", "n2"], vlanAware: false },
    { name: "br1", nodes: ["n1"], vlanAware: true },
  ]);
});

test("a network is a bridge and a number, and means what the list says of it", () => {
  const form = { ...EMPTY, name: "lan", bridge: "br1", vlans: "100" };
  expect(check(form, bridges(STATES))).toEqual({});
  expect(JSON.parse(config(form))).toEqual({ cniVersion: "0.3.1", type: "bridge", bridge: "br1", vlan: 100 });
  expect(meaning(config(form))).toEqual({ bridge: "br1", vlans: "VLAN 100" });
  const trunk = { ...form, tagging: "trunk" as const, vlans: "10, 200-209" };
  expect(check(trunk, bridges(STATES))).toEqual({});
  expect(meaning(config(trunk))?.vlans).toBe("VLANs 10, 200–209, tagged by the guest");
  expect(meaning(config({ ...form, tagging: "untagged", vlans: "" }))?.vlans).toBe("untagged");
  expect(build({ ...form, project: "shop", isShared: true }).metadata).toEqual({
    name: "lan",
    namespace: "shop",
    labels: { "sheaf.dev/shared": "true" },
  });
  expect(build({ ...form, isShared: true }).metadata.labels, "default is for all").toBeUndefined();
});

test("what is no VLAN, and a bridge that filters none, is refused at its entry", () => {
  const form = { ...EMPTY, name: "lan", bridge: "br1", vlans: "100" };
  const wrong = (change: Partial<typeof form>) => check({ ...form, ...change }, bridges(STATES));
  for (const vlans of ["", "0", "4095", "1.5", "x"])
    expect(wrong({ vlans })).toEqual({ vlans: "A VLAN is a number from 1 to 4094." });
  for (const vlans of ["", "9-5", "1,,2", "a", "1-5000"])
    expect(wrong({ tagging: "trunk", vlans })).toEqual({
      vlans: "Numbers and ranges from 1 to 4094: 10, 200-209.",
    });
  expect(wrong({ bridge: "br0" })).toEqual({
    bridge: "VLANs need a bridge that filters them on every node: set VLAN-aware in a change of links.",
  });
  expect(wrong({ bridge: "" })).toEqual({ bridge: "Choose a bridge." });
  expect(wrong({ bridge: "br0", tagging: "untagged", vlans: "" })).toEqual({});
  expect(wrong({ name: "Lan 1" })).toEqual({ name: "Lowercase letters, digits and hyphens." });
  expect(ranges("10, 200–209")).toEqual([
    { first: 10, last: 10 },
    { first: 200, last: 209 },
  ]);
});

const BRIDGE = { ...policies.EMPTY, name: "uplink", link: "br1", ports: "enp2s0, bond1 enp2s0" };

test("a change of links has the one link that was asked for", () => {
  expect(policies.check(BRIDGE)).toEqual({});
  expect(policies.build(BRIDGE).spec).toEqual({
    maxUnavailable: 1,
    network: { bridges: [{ name: "br1", ports: ["enp2s0", "bond1"], vlanAware: true }] },
  });
  const vlan = { ...policies.EMPTY, name: "s", kind: "vlan" as const, link: "stor", id: "100", parent: "br1" };
  expect(policies.build({ ...vlan, dhcp: true, mtu: "9000", node: "n1" }).spec).toEqual({
    nodeSelector: { "kubernetes.io/hostname": "n1" },
    maxUnavailable: 1,
    network: { vlans: [{ name: "stor", id: 100, parent: "br1", dhcp: true, mtu: 9000 }] },
  });
  expect(policies.build({ ...BRIDGE, kind: "bond", link: "bond2", mode: "802.3ad" }).spec.network).toEqual({
    bonds: [{ name: "bond2", ports: ["enp2s0", "bond1"], mode: "802.3ad" }],
  });
  expect(policies.links(STATES)).toEqual([
    { name: "bond1", nodes: 1 },
    { name: "enp1s0", nodes: 2 },
  ]);
});

test("what no node can have is refused at its entry before a node tries it", () => {
  const wrong = (change: Partial<typeof BRIDGE>) => policies.check({ ...BRIDGE, ...change });
  expect(wrong({ name: "a.b" })).toEqual({ name: "Lowercase letters, digits and hyphens, 40 at most." });
  expect(wrong({ link: "a-name-of-16-abcd" })).toEqual({ link: "Up to 15 letters, digits, - _ and a dot, as br1." });
  expect(wrong({ ports: " " })).toEqual({ ports: "Name the NICs or links, as enp2s0, bond1." });
  expect(wrong({ ports: "br1" })).toEqual({ ports: "It cannot be a port of itself." });
  expect(wrong({ ports: "a b c d e f g h i" })).toEqual({ ports: "At most 8." });
  expect(wrong({ mtu: "100" })).toEqual({ mtu: "From 1280 to 9216 bytes." });
  expect(wrong({ kind: "vlan", id: "4095", parent: "br1" })).toEqual({
    id: "A number from 1 to 4094.",
    parent: "Name the link that carries it, as bond1 or br1.",
  });
});

const policy = {
  metadata: { name: "uplink", generation: 4 },
  ...{ spec: policies.build(BRIDGE).spec },
} as NodeNetworkPolicy;
const enactment = (nodeName: string, status: NodeNetworkEnactment["status"]): NodeNetworkEnactment => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeNetworkEnactment",
  metadata: { name: `uplink.${nodeName}` },
  spec: { nodeName, policy: "uplink" },
  ...(status ? { status } : {}),
});

test("a trial counts down, and what was rolled back comes first with its reason and its probes", () => {
  const began = Date.parse("2026-11-30T12:00:00Z");
  const all = [
    enactment("n1", { phase: "Applied", appliedGeneration: 4 }),
    enactment("n2", { phase: "Trying", startedAt: "2026-11-30T12:00:00Z", appliedGeneration: 3 }),
    enactment("n3", {
      phase: "RolledBack",
      message: "vlan stor has no address: DHCP does not answer; rolled back",
      failedProbe: "links",
      probes: [{ name: "links", before: true, after: false, restored: true, message: "no address" }],
    }),
  ];
  const rows = policies.enactments(policy, all, began + 12_500);
  expect(rows.map(({ node, state: word, left, runs }) => [node, word, left, runs])).toEqual([
    ["n3", "Rolled back", undefined, "no"],
    ["n2", "On trial", 28, "version 3 of the change"],
    ["n1", "Applied", undefined, "yes"],
  ]);
  expect(rows[0]?.probes).toEqual([
    { name: "links", text: "before: passed, after: failed, rolled back: passed (no address)" },
  ]);
  expect(policies.enactments(policy, all, began + 99_000)[1]?.left).toBe(0);
  expect(policies.enactments({ ...policy, metadata: { name: "other" } }, all, 0)).toEqual([]);
});

test("a change of links is described in words", () => {
  expect(policies.linksText(policy)).toBe("bridge br1");
  expect(policies.nodesText(policy)).toBe("every node");
  const selector = { "kubernetes.io/hostname": "n1", rack: "a" };
  expect(policies.nodesText({ ...policy, spec: { ...policy.spec, nodeSelector: selector } })).toBe(
    "n1, nodes with rack=a",
  );
  expect(policies.phase(policy)).toEqual(["Not begun", "info"]);
});
