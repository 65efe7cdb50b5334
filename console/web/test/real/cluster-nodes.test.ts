/**
 * The pages on a real control plane: nodes that join, rest and leave, and updates of all of them. `tests/tests/console_pages.rs` starts the
 * control plane and this, after `cluster-changes.test.ts`.
 *
 * Why here: what is in the way, what is lost and what follows is decided by sheaf-controller and agents, and only shown by the page. Agents are
 * real but for updates: nobody installs a release, so the update of one node stays requested, and one of all nodes waits for it. Route in:
 * `anna`, three nodes; the machine `till` of shop runs on fleet-0000, where its disk is. Route out: fleet-0000 has left, with what was on it.
 */
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import type { Thing } from "../../src/types/meta.ts";
import { ground } from "./ground.ts";

const SHEAF = "/apis/sheaf.dev/v1alpha1";
const NODE = "/api/v1/nodes/fleet-0000";
const TILL = "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/till";

const on = ground("anna");

/** Writes another run strategy into the YAML of bob's machine. */
async function runs(strategy: string): Promise<void> {
  const { desk } = on;
  await desk.at("/machines/shop/till/yaml");
  const area = desk.page.getByLabel("YAML of machine till");
  await area.waitFor();
  await expect.poll(() => area.inputValue(), { timeout: PATIENT }).toContain("runStrategy:");
  await area.fill((await area.inputValue()).replace(/runStrategy: \w+/, `runStrategy: ${strategy}`));
  await desk.button("Save").click();
  await desk.becomes(TILL, { spec: { runStrategy: strategy } });
}

test("the administrator sees all nodes and what one of them has", async () => {
  const { desk } = on;
  await desk.at("/nodes");
  for (const name of ["fleet-0000", "fleet-0001", "fleet-0002"]) await desk.row(new RegExp(`${name} Ready`));
  await desk.accessible();
  await desk.at("/nodes/fleet-0000");
  await desk.row(/shop\/till Running/);
  await desk.row(/default Ready/);
  await desk.row(/fleet-0000-A/);
  await desk.row(/br1 bridge/);
  await desk.accessible();
});

test("a node is added with a table that holds a token for it, and one of the control plane by a command", async () => {
  const { desk } = on;
  const { page } = desk;
  await desk.at("/nodes");
  await desk.button("Add a node").click();
  await page.locator("#add-name").fill("fleet-0009");
  await page.locator("#add-role-control-plane").check();
  await desk.says("sheaf-agent token create --control-plane --node fleet-0009");
  await desk.accessible();
  await page.locator("#add-role-machines").check();
  await desk.agree("Make token");
  await desk.says(/Valid for one node, for (59|60) more minutes/);
  const table = (await page.locator("#join-table").textContent()) ?? "";
  expect(table).toMatch(/^\[cluster\]\nmode = "join"\n/);
  expect(table).toMatch(/token = "[a-z0-9]{6}\.[a-z0-9]{16}"/);
  expect(table).toMatch(/ca-hash = "sha256:[0-9a-f]{64}"/);
  await desk.accessible();
  // The other one is the cross in the corner.
  await desk.dialog.getByRole("button", { name: "Close", exact: true }).last().click();
});

test("a maintenance is blocked by a machine that would not start again, named with the remedy, and cancelled", async () => {
  const { desk } = on;
  await runs("Once");
  await desk.at("/nodes/fleet-0000");
  await desk.button("Start maintenance").click();
  await desk.says("1 machine shut down");
  await desk.page.locator("#maintenance-deadline").fill("0");
  await desk.agree("Start maintenance");
  await desk.says("From 1 minute to 10080, a week.");
  await desk.page.locator("#maintenance-deadline").fill("30");
  await desk.page.locator("#maintenance-reason").fill("new memory");
  await desk.accessible();
  await desk.agree("Start maintenance");
  await desk.heading(/Maintenance: new memory/);
  await desk.text(/VM shop\/till: its runStrategy Once does not start it again/);
  await desk.accessible();
  await desk.becomes(`${SHEAF}/nodemaintenances/fleet-0000`, {
    spec: { deadlineSeconds: 1800, reason: "new memory" },
    status: { phase: "Blocked" },
  });
  await desk.becomes(NODE, { spec: { unschedulable: true } });
  await desk.button("Cancel maintenance").click();
  await desk.button("Start maintenance").waitFor();
  await desk.vanishes(`${SHEAF}/nodemaintenances/fleet-0000`);
  const cordoned = async () =>
    (await desk.read<Thing & { spec: { unschedulable?: boolean } }>(NODE)).spec.unschedulable;
  await expect.poll(cordoned, { timeout: PATIENT, interval: 500 }).toBeFalsy();
});

test("a maintenance shuts the machine down, rests, and starts it again at its end", async () => {
  const { desk } = on;
  await runs("Always");
  await desk.at("/nodes/fleet-0000");
  await desk.button("Start maintenance").click();
  await desk.agree("Start maintenance");
  await desk.row(/shop\/till Shut down Its disks are here: it starts when the maintenance ends/);
  await desk.button("End maintenance").waitFor();
  await desk.accessible();
  await desk.becomes(`${SHEAF}/nodemaintenances/fleet-0000`, { status: { phase: "InMaintenance" } });
  // Its next instance waits for the node.
  const isReady = async () => (await desk.read<Thing & { status: { ready?: boolean } }>(TILL)).status.ready ?? false;
  expect(await isReady()).toBe(false);
  await desk.at("/nodes");
  await desk.row(/fleet-0000 In maintenance/);
  await desk.at("/");
  await desk.text(/maintenance/i);
  await desk.accessible();
  await desk.at("/nodes/fleet-0000");
  await desk.button("End maintenance").click();
  await desk.button("Start maintenance").waitFor();
  await desk.row(/shop\/till Running/);
});

test("a removal lists what is lost, is cancelled, and goes on once the losses are confirmed by the node's name", async () => {
  const { desk } = on;
  const { page } = desk;
  const removal = `${SHEAF}/noderemovals/fleet-0000`;
  const start = async () => {
    await desk.at("/nodes/fleet-0000");
    await desk.choose("fleet-0000", "Remove node");
    await page.locator("#removal-reason").fill("sold");
    await desk.accessible();
    await desk.agree("Start removal");
    await desk.heading(/Removal of fleet-0000: Something is in the way/);
    await desk.text("Would be lost:");
  };
  await start();
  await desk.text(/disk shop\/till-root \(1 GiB\)/);
  await desk.accessible();
  await desk.button("Cancel removal").click();
  await desk.agree("Cancel removal");
  await desk.button("Start maintenance").waitFor();
  await desk.vanishes(removal);

  await start();
  await desk.button(/^Confirm \d+ losses$/).click();
  const sure = desk.dialog.getByRole("button", { name: "Confirm losses", exact: true });
  expect(await sure.isDisabled()).toBe(true);
  await desk.dialog.getByRole("textbox").fill("fleet-0000");
  await desk.accessible();
  await sure.click();
  await desk.heading(/Removal of fleet-0000: It was removed/);
  await desk.accessible();
  await desk.vanishes(NODE);
  await desk.becomes(removal, { status: { phase: "Removed" } });
});

test("the name of the node that has left is released, and its record deleted", async () => {
  const { desk } = on;
  await desk.at("/nodes");
  await desk.button("Release the name").click();
  await desk.dialog.getByRole("textbox").fill("fleet-0000");
  await desk.accessible();
  await desk.agree("Release");
  await desk.text("The name fleet-0000 is free");
  await desk.button("Delete the record").click();
  await desk.vanishes(`${SHEAF}/noderemovals/fleet-0000`);
  await desk.gone(/fleet-0000/);
});

test("one node is updated alone", async () => {
  const { desk } = on;
  const { page } = desk;
  await desk.at("/nodes/fleet-0002");
  await desk.choose("fleet-0002", "Update this node");
  await page.locator("#update-version").fill("0.9.1");
  await page.locator("#update-at").fill("https://releases.example.org/sheaf-0.9.1");
  await desk.accessible();
  await desk.agree("Start update");
  await desk.becomes(`${SHEAF}/nodeupdates/fleet-0002`, { spec: { nodeName: "fleet-0002", version: "0.9.1" } });
});

test("an update of all nodes is refused at its entry, started, paused, resumed and cancelled", async () => {
  const { desk } = on;
  const { page } = desk;
  const update = `${SHEAF}/clusterupdates/sheaf-0.9.0`;
  await desk.at("/updates");
  await desk.text("No update was requested");
  await desk.accessible();
  await desk.button("Update nodes").click();
  await desk.agree("Start update");
  await desk.says("A version is as 0.2.0 or 0.2.0-rc.1.");
  await page.locator("#update-version").fill("0.9.0");
  await page.locator("#update-at").fill("https://anna:secret@releases.example.org/sheaf");
  await page.locator("#update-maxUnavailable").fill("1");
  await desk.accessible();
  await desk.agree("Start update");
  await page.locator("#update-at-help").waitFor();
  await page.locator("#update-at").fill("https://releases.example.org/sheaf");
  await desk.agree("Start update");
  await desk.heading("Update to 0.9.0");
  await desk.text(/fleet-0002 has a NodeUpdate for 0\.9\.1 that was made by hand/);
  await desk.accessible();
  await desk.button("Pause").click();
  await desk.button("Resume").waitFor();
  await desk.becomes(update, { spec: { paused: true }, status: { phase: "Paused" } });
  await desk.button("Resume").click();
  await desk.button("Pause").waitFor();
  await desk.becomes(update, { spec: { paused: false } });
  await desk.button("Cancel update").click();
  await desk.says("No further node is begun.");
  await desk.accessible();
  await desk.agree("Cancel update");
  await desk.becomes(update, { spec: { cancelled: true }, status: { phase: "Cancelled" } });
  await desk.choose("sheaf-0.9.0", "Delete the record");
  await desk.agree("Delete");
  await desk.text("No update was requested");
  await desk.vanishes(update);
});

test("the update of one node is withdrawn", async () => {
  const { desk } = on;
  await desk.at("/updates");
  await desk.choose("fleet-0002", "Withdraw update");
  await desk.says("The node has not begun.");
  await desk.accessible();
  await desk.agree("Withdraw");
  await desk.vanishes(`${SHEAF}/nodeupdates/fleet-0002`);
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(on.wrong()).toEqual([]);
});
