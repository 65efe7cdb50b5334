/**
 * The pages on a real control plane: a machine is created, operated and described. `tests/tests/console_pages.rs` starts the control plane
 * and this, after `cluster-storage.test.ts`.
 *
 * Why here: a machine is what the API server, sheaf-controller, the scheduler and an agent make of what a page wrote. Nodes run machines as
 * domains in memory that obey the power button: a machine starts and stops, and nobody is in it. Route in: `anna`, a pool, an image, a
 * network. Route out: the machine `web` of default, which runs.
 */
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import type { VirtualMachineInstance } from "../../src/types/crds.ts";
import { ground, KEY } from "./ground.ts";

const KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/default";
const WEB = `${KUBEVIRT}/virtualmachines/web`;
const INSTANCE = `${KUBEVIRT}/virtualmachineinstances/web`;

const on = ground("anna");

/** Which run of the machine it is. */
const run = async () => (await on.desk.read<VirtualMachineInstance>(INSTANCE).catch(() => undefined))?.metadata.uid;

test("a machine is created from an image, with a size, a key and a network, and runs where its image is", async () => {
  const { desk } = on;
  await desk.at("/machines");
  await desk.text("No machines yet");
  await desk.page.getByRole("link", { name: "Create machine" }).first().click();
  await desk.heading("Create machine");
  await desk.enter({ name: "web", project: "default", image: "small", network: "default/lan100" });
  await desk.accessible();
  await desk.button("Create and start").click();
  await desk.heading("web");
  await desk.page.getByText("Running", { exact: true }).first().waitFor();
  await desk.accessible();
  await desk.becomes(WEB, {
    spec: {
      runStrategy: "Always",
      instancetype: { name: "u1.nano" },
      template: { spec: { networks: [{ multus: { networkName: "default/lan100" } }] } },
    },
    status: { printableStatus: "Running" },
  });
  await desk.becomes(INSTANCE, { status: { phase: "Running", nodeName: "fleet-0000" } });
  await desk.text("Created with the SSH keys ssh-ed25519 me@desk.");
  await desk.at("/machines/default/web/events");
  await desk.row(/Normal (Started|Created|SuccessfulCreate)/);
  await desk.accessible();
  await desk.at("/");
  await desk.row(/fleet-0000 Ready 1/);
  await desk.accessible();
});

test("a name that is taken is refused at its entry", async () => {
  const { desk } = on;
  await desk.at("/create");
  await desk.enter({ name: "web", project: "default", image: "small", network: "masquerade" });
  await desk.button("Create and start").click();
  await desk.text("There is a machine of this name in the project.");
  await desk.accessible();
});

test("a machine is shut down, started, restarted and powered off, and its state follows without reload", async () => {
  const { desk } = on;
  await desk.at("/machines");
  await desk.row(/web default Running fleet-0000/);
  await desk.accessible();
  await desk.choose("default/web", "Shut down");
  await desk.row(/web default Stopped/);
  await desk.becomes(WEB, { spec: { runStrategy: "Halted" }, status: { printableStatus: "Stopped" } });
  await desk.vanishes(INSTANCE);
  await desk.choose("default/web", "Start");
  await desk.row(/web default Running fleet-0000/);
  const first = await run();
  await desk.at("/machines/default/web");
  await desk.button("Restart").click();
  await expect.poll(run, { timeout: PATIENT, interval: 500 }).not.toBe(first);
  await desk.becomes(INSTANCE, { status: { phase: "Running" } });
  await desk.button("Shut down").waitFor();
  await desk.choose("default/web", "Power off");
  await desk.says("what it has not written to its disks is lost");
  await desk.accessible();
  await desk.agree("Power off");
  await desk.page.getByText("Stopped", { exact: true }).first().waitFor();
  await desk.button("Start").click();
  await desk.page.getByText("Running", { exact: true }).first().waitFor();
});

test("YAML is refused by the server with the line, and saved when it is right", async () => {
  const { desk } = on;
  await desk.at("/machines/default/web/yaml");
  const area = desk.page.getByLabel("YAML of machine web");
  await area.waitFor();
  await expect.poll(() => area.inputValue(), { timeout: PATIENT }).toContain("runStrategy:");
  const whole = await area.inputValue();
  const selected = () =>
    area.evaluate((one) => {
      const { value, selectionStart, selectionEnd } = one as HTMLTextAreaElement;
      return value.slice(selectionStart, selectionEnd);
    });
  await area.fill(whole.replace(/runStrategy: \w+/, "runStrategy: Sometimes"));
  await desk.button("Save").click();
  await desk.text(/spec\.runStrategy: .*"Sometimes"/);
  await desk.accessible();
  await desk.button(/^Line \d+$/).click();
  expect(await selected()).toBe("  runStrategy: Sometimes");
  await area.fill(`${whole}\nspec: {}`);
  await desk.button("Save").click();
  await desk.text("The text is not YAML");
  await area.fill(whole.replace("spec:\n", "spec:\n  colour: red\n"));
  await desk.button("Save").click();
  await desk.text(/unknown field "spec\.colour"/);
  await area.fill(whole.replace("metadata:\n", "metadata:\n  labels:\n    tier: front\n"));
  await desk.button("Save").click();
  await desk.text("Change machine web");
  await desk.becomes(WEB, { metadata: { labels: { tier: "front" } } });
});

test("another size waits for the next restart, and the machine says so", async () => {
  const { desk } = on;
  await desk.at("/machines/default/web");
  await desk.choose("default/web", "Change size");
  await desk.select("resize-size", "u1.micro");
  await desk.accessible();
  await desk.agree("Change size");
  await desk.text("A change takes effect after the next restart");
  await desk.accessible();
  await desk.becomes(WEB, { spec: { instancetype: { name: "u1.micro" } } });
  const first = await run();
  await desk.button("Restart").click();
  await expect.poll(run, { timeout: PATIENT, interval: 500 }).not.toBe(first);
  await desk.page.getByText("A change takes effect after the next restart").waitFor({ state: "detached" });
  await desk.becomes(INSTANCE, { status: { phase: "Running" }, spec: { domain: { memory: { guest: "1Gi" } } } });
});

test("keys and a password are added in Secrets that nobody reads here, and one is removed", async () => {
  const { desk } = on;
  const { page } = desk;
  await desk.at("/machines/default/web");
  await desk.button("Add SSH keys").click();
  await page.locator("#key-text").fill(KEY);
  await page.locator("#key-user").fill("admin");
  await desk.accessible();
  await desk.agree("Add");
  await desk.row(/SSH keys of admin/);
  await desk.button("Set a password").click();
  await page.locator("#password-user").fill("root");
  await page.locator("#password-new").fill("a password of twelve");
  await page.locator("#password-new-again").fill("a password of twelve");
  await desk.accessible();
  await desk.agree("Set");
  await desk.row(/Passwords By the guest's agent/);
  await desk.accessible();
  const vm = await desk.read<{ spec: { template: { spec: { accessCredentials: object[] } } } }>(WEB);
  expect(vm.spec.template.spec.accessCredentials).toMatchObject([
    { sshPublicKey: { propagationMethod: { qemuGuestAgent: { users: ["admin"] } } } },
    { userPassword: {} },
  ]);
  expect(await desk.status("/api/api/v1/namespaces/default/secrets")).toBe(404);
  await desk.page
    .getByRole("row", { name: /Passwords/ })
    .getByRole("button")
    .click();
  await page.getByRole("menuitem", { name: "Remove" }).click();
  await desk.agree("Remove");
  await desk.gone(/Passwords By the guest's agent/);
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(on.wrong()).toEqual([]);
});
