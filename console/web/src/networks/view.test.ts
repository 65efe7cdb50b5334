import { expect, test } from "vitest";
import type { Machine } from "../machines/view.ts";
import { meaning, usedBy } from "./view.ts";

test("an access port, a trunk and an untagged network are told apart", () => {
  const of = (rest: object) => meaning(JSON.stringify({ cniVersion: "0.3.1", type: "bridge", bridge: "br1", ...rest }));
  expect(of({ vlan: 100 })).toEqual({ bridge: "br1", vlans: "VLAN 100" });
  expect(of({ vlanTrunk: [{ id: 10 }, { minID: 200, maxID: 209 }] })).toEqual({
    bridge: "br1",
    vlans: "VLANs 10, 200–209, tagged by the guest",
  });
  expect(of({})).toEqual({ bridge: "br1", vlans: "untagged" });
});

test("a definition that Sheaf does not read has no meaning", () => {
  for (const config of [undefined, "", "{", "null", "[]", '{"type": "macvlan"}'])
    expect(meaning(config)).toBeUndefined();
});

test("the machines that use a network are found in its project and in others", () => {
  const machine = (project: string, networkName: string) =>
    ({
      key: `${project}/m`,
      project,
      vm: { spec: { template: { spec: { networks: [{ name: "a", multus: { networkName } }] } } } },
    }) as Machine;
  const all = [machine("shop", "lan"), machine("lab", "shop/lan"), machine("lab", "lan")];
  expect(usedBy({ name: "lan", project: "shop" }, all)).toEqual(["shop/m", "lab/m"]);
});
