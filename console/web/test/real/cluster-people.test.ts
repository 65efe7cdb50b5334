/**
 * The pages on a real control plane: who may come in, and what each sees. `tests/tests/console_pages.rs` starts the control plane and this.
 *
 * Why here: users, roles, second factors, tokens and sessions are the console's, and what they allow is the API server's; a browser and
 * both show that they agree. Route in: the code of a claim. Route out: `anna`, who administers the cluster, and `bob`, who operates
 * the project shop; all other users that were made are gone again.
 */
import { createHmac } from "node:crypto";
import { request } from "playwright-core";
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import { type Desk, given, ground, ORIGIN, PASSWORD } from "./ground.ts";

const OTHER = "another correct horse";
const MACHINES = (project: string) => `/api/apis/kubevirt.io/v1/namespaces/${project}/virtualmachines`;

const on = ground();
let bob: Desk;

/** Base 32 of RFC 4648, as secrets of authenticator apps are written. */
function bytes(secret: string): Buffer {
  const bits = [...secret].map((one) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(one).toString(2).padStart(5, "0"));
  return Buffer.from((bits.join("").match(/.{8}/g) ?? []).map((one) => Number.parseInt(one, 2)));
}

/** Codes of an authenticator app (RFC 6238). Each is good once, and one step before and after is taken: so three follow each other at once. */
function app(secret: string): () => Promise<string> {
  let last = 0;
  const now = () => Math.floor(Date.now() / 30_000);
  return async () => {
    last = Math.max(last + 1, now() - 1);
    await expect.poll(now, { timeout: PATIENT, interval: 500 }).toBeGreaterThanOrEqual(last - 1);
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(last));
    const digest = createHmac("sha1", bytes(secret)).update(counter).digest();
    const at = (digest.at(-1) ?? 0) & 15;
    return String((digest.readUInt32BE(at) & 0x7fff_ffff) % 1_000_000).padStart(6, "0");
  };
}

/** Opens a part of the administration. Users and tokens are read when the page opens, so it is left before. */
async function tab(desk: Desk, name: string): Promise<void> {
  await desk.at("/");
  await desk.heading("Overview");
  await desk.at("/administration");
  await desk.page.getByRole("tab", { name }).click();
}

async function logOut(desk: Desk, user: string): Promise<void> {
  await desk.button(`User ${user}`).click();
  await desk.page.getByRole("menuitem", { name: "Log out" }).click();
  await desk.heading("Log in to Sheaf");
}

/** Users as the console has them. */
const users = async () => (await on.desk.page.request.get(`${ORIGIN}/console/users`)).json() as Promise<object[]>;

test("the cluster is claimed by the code, and its overview says what there is", async () => {
  const { desk } = on;
  await desk.claim(given("SHEAF_CODE"), "anna");
  await desk.text("What runs where");
  await desk.page.getByText("fleet-0000").first().waitFor();
  await desk.accessible();
});

test("a project is created once its name is one, and is deleted by its name", async () => {
  const { desk } = on;
  const { page } = desk;
  const attic = "/api/v1/namespaces/attic";
  await tab(desk, "Projects");
  await desk.row(/shop Ready 0 /);
  await desk.button("Create project").click();
  await page.locator("#project-name").fill("sheaf-attic");
  await desk.agree("Create");
  await desk.says("Names that begin with kube- or sheaf- are the cluster's own.");
  await desk.accessible();
  await page.locator("#project-name").fill("attic");
  await desk.agree("Create");
  await desk.row(/attic Ready 0 /);
  await desk.becomes(attic, { status: { phase: "Active" } });
  await desk.accessible();
  await desk.choose("project attic", "Delete");
  await desk.says("It has no machines.");
  await desk.dialog.getByRole("textbox").fill("attic");
  await desk.accessible();
  await desk.agree("Delete");
  await desk.gone(/^attic /);
  await desk.vanishes(attic);
});

test("users are created with a role in a project and with one for the whole cluster", async () => {
  const { desk } = on;
  const { page } = desk;
  await tab(desk, "Users and roles");
  await desk.button("Create user").click();
  await page.locator("#user-name").fill("Bob");
  await desk.newPassword("short");
  expect(await desk.button("Create").isDisabled()).toBe(true);
  await desk.newPassword(PASSWORD);
  await desk.select("grant-project", "shop");
  await page.locator("#grant-role").selectOption("operate");
  await desk.button("Add role").click();
  await desk.accessible();
  await desk.agree("Create");
  // The server's own words, in the dialog.
  await desk.dialog.getByRole("alert").or(desk.dialog.locator(".pf-v6-c-alert")).first().waitFor();
  await page.locator("#user-name").fill("bob");
  await desk.agree("Create");
  await desk.row(/bob Operate in shop/);

  await desk.button("Create user").click();
  await page.locator("#user-name").fill("vera");
  await desk.newPassword(PASSWORD);
  await desk.button("Add role").click();
  await desk.agree("Create");
  await desk.row(/vera View the cluster/);
  await desk.accessible();
  expect(await users()).toMatchObject([
    { name: "anna", roles: [{ role: "administer" }] },
    { name: "bob", roles: [{ role: "operate", project: "shop" }] },
    { name: "vera", roles: [{ role: "view" }] },
  ]);
});

test("who operates one project sees only what is in it, and is told so", async () => {
  bob = await on.visitor();
  await bob.logIn("bob");
  await bob.accessible();
  await bob.at("/machines");
  await bob.text("No machines yet");
  for (const [hash, words] of [
    ["/nodes", "No nodes are shown"],
    ["/storage", "No pools"],
    ["/updates", "No nodes are shown"],
    ["/administration", "are managed by administrators of the cluster. Ask one of them."],
  ] as const) {
    await bob.at(hash);
    await bob.text(words);
    await bob.accessible();
  }
  expect(await bob.status(MACHINES("shop"))).toBe(200);
  for (const path of [
    MACHINES("default"),
    "/api/api/v1/nodes",
    "/api/apis/sheaf.dev/v1alpha1/storagepools",
    "/console/users",
  ])
    expect([path, await bob.status(path)]).toEqual([path, 403]);
});

test("who views the cluster sees its nodes and changes nothing", async () => {
  const vera = await on.visitor();
  await vera.logIn("vera");
  await vera.at("/nodes");
  await vera.row(/fleet-0001 Ready/);
  await vera.button("Add a node").click();
  await vera.agree("Make token");
  await vera.says("only administrators of the cluster make tokens for nodes");
  await vera.accessible();
  await vera.page.keyboard.press("Escape");
  await vera.at("/networks");
  await vera.text("Private, behind the node's address");
  await vera.page.close();
});

test("roles of a user are changed, and hold at once", async () => {
  const { desk } = on;
  await tab(desk, "Users and roles");
  await desk.choose("vera", "Change roles or password");
  await desk.button("Remove View the cluster").click();
  await desk.page.locator("#grant-role").selectOption("administer");
  await desk.select("grant-project", "shop");
  await desk.button("Add role").click();
  await desk.accessible();
  await desk.agree("Save");
  await desk.row(/vera Administer in shop/);
  const vera = await on.visitor();
  await vera.logIn("vera");
  const statuses = async () => [await vera.status("/api/api/v1/nodes"), await vera.status(MACHINES("shop"))];
  await expect.poll(statuses, { timeout: PATIENT, interval: 500 }).toEqual([403, 200]);
  await vera.page.close();
});

test("a second factor is set up with an app, asked for at the login, and good once", async () => {
  const { page } = bob;
  await tab(bob, "Own password and tokens");
  await page.locator("#second-password").fill(PASSWORD);
  await bob.button("Set up").click();
  await page.locator("svg.sheaf-qr path").waitFor();
  const code = app(await page.getByLabel("Secret").inputValue());
  await bob.accessible();
  const first = await code();
  await page.locator("#second-code").fill(first);
  await bob.button("Confirm").click();
  await bob.text("8 recovery codes are left");
  await bob.accessible();
  await logOut(bob, "bob");

  await bob.present("bob");
  await page.locator("#login-code").fill(first);
  await bob.accessible();
  await page.keyboard.press("Enter");
  await bob.text("the code is wrong, or was used already");
  await page.locator("#login-code").fill(await code());
  await page.keyboard.press("Enter");
  await bob.isIn("bob");
  await tab(on.desk, "Users and roles");
  await on.desk.row(/bob Operate in shop May log in Password Yes/);
});

test("an administrator removes the second factor of who has lost the app", async () => {
  const { desk } = on;
  await desk.choose("bob", "Remove second factor");
  await desk.says("bob then logs in with the password alone");
  await desk.accessible();
  await desk.agree("Remove");
  await desk.row(/bob Operate in shop May log in Password –/);
  await logOut(bob, "bob");
  await bob.logIn("bob");
});

test("a program uses a token in the name of its user until it is deleted", async () => {
  const { page } = bob;
  await tab(bob, "Own password and tokens");
  await page.locator("#token-label").fill("backups");
  await page.locator("#token-days").fill("7");
  await bob.button("Create token").click();
  await bob.text("Copy the token now: it is not shown again");
  const token = await page.getByLabel("Token", { exact: true }).inputValue();
  await bob.accessible();
  const program = await request.newContext({
    ignoreHTTPSErrors: true,
    extraHTTPHeaders: { Authorization: `Bearer ${token}` },
  });
  const answers = async () => {
    const paths = [MACHINES("shop"), MACHINES("default"), "/console/users"];
    return Promise.all(paths.map(async (path) => (await program.get(`${ORIGIN}${path}`)).status()));
  };
  expect(await answers()).toEqual([200, 403, 403]);
  await bob.button("Delete token backups").click();
  await bob.agree("Delete");
  await bob.text("No tokens");
  await expect.poll(answers, { timeout: PATIENT, interval: 500 }).toEqual([401, 401, 401]);
  await program.dispose();
});

test("a user who is disabled is out at once, and comes in again once he is enabled", async () => {
  const { desk } = on;
  await desk.choose("bob", "Disable");
  await desk.row(/bob Operate in shop Disabled/);
  expect(await bob.status("/console/session")).toBe(401);
  await bob.heading("Log in to Sheaf");
  await bob.text("The session has ended.");
  await bob.present("bob");
  await bob.text("the name or the password is wrong");
  await desk.choose("bob", "Enable");
  await desk.row(/bob Operate in shop May log in/);
  await bob.logIn("bob");
});

test("a user changes the own password, and other sessions end", async () => {
  const [vera, elsewhere] = [await on.visitor(), await on.visitor()];
  await vera.logIn("vera");
  await elsewhere.logIn("vera");
  await tab(vera, "Own password and tokens");
  await vera.page.locator("#old-password").fill("wrong password");
  await vera.newPassword(OTHER);
  await vera.button("Change the password").click();
  await vera.text(/is wrong/);
  await vera.page.locator("#old-password").fill(PASSWORD);
  await vera.button("Change the password").click();
  await vera.text("The password was changed");
  expect(await elsewhere.status("/console/session")).toBe(401);
  await elsewhere.heading("Log in to Sheaf");
  await elsewhere.logIn("vera", OTHER);
  await elsewhere.page.close();
  await vera.page.close();
});

test("a user is deleted by name, and is nobody any more", async () => {
  const { desk } = on;
  await desk.choose("vera", "Delete");
  const sure = desk.dialog.getByRole("button", { name: "Delete", exact: true });
  expect(await sure.isDisabled()).toBe(true);
  await desk.dialog.getByRole("textbox").fill("vera");
  await desk.accessible();
  await sure.click();
  await desk.gone(/^vera /);
  expect(await users()).toMatchObject([{ name: "anna" }, { name: "bob" }]);
});

test("an identity provider that the API server does not take is refused at its entry, another one is set and removed", async () => {
  const { desk } = on;
  const { page } = desk;
  const config = "/apis/sheaf.dev/v1alpha1/clusterconfigs/cluster";
  await tab(desk, "Identity provider");
  await desk.text("None: users log in by a password.");
  await desk.button("Set up").click();
  await page.locator("#provider-issuer").fill("https://kubernetes.default.svc");
  await desk.accessible();
  await desk.agree("Save");
  await desk.says("the cluster's own service accounts");
  await page.locator("#provider-issuer").fill("https://login.example.org");
  await page.locator("#provider-clientSecret").fill("s3cret");
  await desk.agree("Save");
  await desk.text("https://login.example.org");
  await desk.accessible();
  await desk.becomes(config, {
    spec: { identityProvider: { issuer: "https://login.example.org", clientID: "sheaf", usernameClaim: "email" } },
  });

  await page.getByRole("tab", { name: "Users and roles" }).click();
  await desk.button("Create user").click();
  await page.locator("#user-name").fill("carol");
  await page.getByLabel("Name at login.example.org").fill("carol@example.org");
  await desk.agree("Create");
  await desk.row(/carol none May log in carol@example\.org/);
  const carol = await on.visitor();
  const link = carol.page.getByRole("link", { name: "Log in at login.example.org" });
  await link.waitFor();
  expect(await link.getAttribute("href")).toBe("/console/sso/begin");
  await carol.accessible();
  await carol.page.close();
  await desk.choose("carol", "Delete");
  await desk.dialog.getByRole("textbox").fill("carol");
  await desk.agree("Delete");
  await desk.gone(/^carol /);

  await page.getByRole("tab", { name: "Identity provider" }).click();
  await desk.button("Remove").click();
  await desk.agree("Remove");
  await desk.text("None: users log in by a password.");
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(on.wrong()).toEqual([]);
});
