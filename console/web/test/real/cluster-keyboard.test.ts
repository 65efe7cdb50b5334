/**
 * The pages on a real control plane by keyboard alone: log in, create a machine, stop it, delete it. `tests/tests/console_pages.rs` starts the
 * control plane and this, after `cluster-storage.test.ts`.
 *
 * Why here: one whole task shows that nothing on the way needs a mouse, also what appears later: lists that are read, a machine that
 * starts, a menu, a dialog. Nothing here clicks, fills or focuses; a test that reads looks at the page or asks the API server. Route in: `anna`,
 * the image `small`, the network `lan100`. Route out: nothing is left.
 */
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import { type Desk, ground, KEY, PASSWORD } from "./ground.ts";

const MACHINE = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines/by-hand";
/** Stops of Tab on the longest way across a page. */
const MOST = 90;

const on = ground();

/** What has the focus: its identifier, name or text. */
const focused = (desk: Desk) =>
  desk.page.evaluate<string[]>(
    "(({ id, ariaLabel, textContent }) => [id, ariaLabel ?? '', textContent ?? ''])(document.activeElement)",
  );

const press = (desk: Desk, key: string) => desk.page.keyboard.press(key);
const type = (desk: Desk, text: string) => desk.page.keyboard.type(text);

/** Tab until that has the focus. */
async function tabTo(desk: Desk, wanted: string): Promise<void> {
  const seen: string[] = [];
  for (let stop = 0; stop < MOST; stop += 1) {
    const there = await focused(desk);
    if (there.includes(wanted)) return;
    seen.push(there.find((word) => word !== "") ?? "");
    await press(desk, "Tab");
  }
  throw new Error(`Tab does not reach ${wanted}; it passed ${seen.join(", ")}`);
}

/** Chooses by its first letters what is offered. */
async function choose(desk: Desk, id: string, letters: string): Promise<void> {
  await desk.page.locator(`#${id} option`, { hasText: letters }).first().waitFor({ state: "attached" });
  await tabTo(desk, id);
  await type(desk, letters);
}

test("the login is typed", async () => {
  const { desk } = on;
  await desk.heading("Log in to Sheaf");
  await tabTo(desk, "pf-login-username-id");
  await type(desk, "anna");
  await tabTo(desk, "pf-login-password-id");
  await type(desk, PASSWORD);
  await press(desk, "Enter");
  await desk.heading("Overview");
});

test("the navigation leads to the machines, and a machine is created in five entries", async () => {
  const { desk } = on;
  await tabTo(desk, "Machines");
  await press(desk, "Enter");
  await desk.heading("Machines");
  await tabTo(desk, "Create machine");
  await press(desk, "Enter");
  await desk.heading("Create machine");
  await tabTo(desk, "name");
  await type(desk, "by-hand");
  await choose(desk, "image", "small");
  await tabTo(desk, "disk");
  await press(desk, "Control+a");
  await type(desk, "1");
  await choose(desk, "size", "u1.nano");
  await tabTo(desk, "key");
  await type(desk, KEY);
  await choose(desk, "network", "lan100");
  await tabTo(desk, "Create and start");
  await press(desk, "Enter");
  await desk.heading("by-hand");
  await desk.becomes(MACHINE, {
    spec: {
      instancetype: { name: "u1.nano" },
      template: { spec: { networks: [{ multus: { networkName: "default/lan100" } }] } },
    },
    status: { printableStatus: "Running" },
  });
});

test("it is shut down by its button", async () => {
  const { desk } = on;
  await desk.button("Shut down").waitFor();
  await tabTo(desk, "Shut down");
  await press(desk, "Enter");
  await desk.page.getByText("Stopped", { exact: true }).first().waitFor();
  await desk.becomes(MACHINE, { spec: { runStrategy: "Halted" }, status: { printableStatus: "Stopped" } });
});

test("it is deleted by the menu, once its name is typed, and Escape leaves the dialog before", async () => {
  const { desk } = on;
  const open = async () => {
    await tabTo(desk, "Actions of default/by-hand");
    await press(desk, "Enter");
    await desk.page.getByRole("menuitem", { name: "Delete" }).waitFor();
    for (let step = 0; step < 10 && !(await focused(desk)).includes("Delete"); step += 1)
      await press(desk, "ArrowDown");
    await press(desk, "Enter");
    await desk.dialog.waitFor();
  };
  await open();
  await press(desk, "Escape");
  await desk.dialog.waitFor({ state: "detached" });
  await open();
  await tabTo(desk, "confirm-name");
  await type(desk, "by-hand");
  await tabTo(desk, "Delete");
  await press(desk, "Enter");
  await desk.heading("Machines");
  await desk.vanishes(MACHINE);
  await expect
    .poll(() => desk.status("/api/apis/cdi.kubevirt.io/v1beta1/namespaces/default/datavolumes/by-hand-root"), {
      timeout: PATIENT,
    })
    .toBe(404);
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(on.wrong()).toEqual([]);
});
