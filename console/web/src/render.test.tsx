/**
 * Every page, rendered to text from the objects of the page tests: what it says, without a browser.
 *
 * The browser's part (policy, axe, what people do) is in `test/`.
 */
import type { ReactNode } from "react";
import { renderToString } from "react-dom/server";
import { beforeAll, expect, test } from "vitest";
import { kinds } from "../test/contract.ts";
import { cluster } from "../test/objects.ts";
import Administration from "./admin/page.tsx";
import { Projects } from "./admin/projects.tsx";
import type { Kind } from "./api/kinds.ts";
import { store } from "./api/watch.ts";
import { Claim } from "./entry/claim.tsx";
import { Login } from "./entry/login.tsx";
import Images from "./images/page.tsx";
import CreateMachine from "./machines/create/page.tsx";
import { Machines } from "./machines/list.tsx";
import MachinePage from "./machines/page.tsx";
import Networks from "./networks/page.tsx";
import Nodes from "./nodes/list.tsx";
import NodePage from "./nodes/page.tsx";
import { Overview } from "./overview/page.tsx";
import { Plot } from "./plots/plot.tsx";
import type { Tab } from "./route.ts";
import PolicyPage from "./networks/policy.tsx";
import Storage from "./storage/page.tsx";
import Updates from "./updates/page.tsx";

beforeAll(() => {
  const objects = cluster();
  for (const { word, plural } of kinds()) {
    const there = store(word as Kind);
    for (const object of objects.get(plural) ?? []) {
      there.set(`${object.metadata.namespace ?? ""}/${object.metadata.name}`, object as never);
    }
    there.synced();
    there.flush();
  }
});

/** The text of a page, without its tags. */
const text = (page: ReactNode): string =>
  renderToString(page)
    .replace(/<[^>]+>/g, " ")
    .replaceAll("&#x27;", "'")
    .replaceAll("&amp;", "&")
    .replace(/\s+/g, " ");

const machine = (name: string, tab: Tab, project = "shop") =>
  text(<MachinePage project={project} name={name} tab={tab} />);

test("the overview names each problem with its remedy, and what runs where", () => {
  const shown = text(<Overview />);
  expect(shown).toContain("Machine lab/render");
  expect(shown).toContain("0/3 nodes are available: 3 Insufficient memory.");
  expect(shown).toContain("12 sectors could not be read; 3 % of its spare blocks are left");
  expect(shown).toContain("Add another disk to its pool; the data are moved, and the page says when it can be pulled.");
  expect(shown).toContain("4 problems");
  expect(shown).toMatch(/node-1 Ready 2 20 GiB/);
});

test("the list of machines has state, node and address of each", () => {
  const shown = text(<Machines />);
  expect(shown).toMatch(/db shop Running node-1 192\.0\.2\.41 16 GiB/);
  expect(shown).toMatch(/build lab Stopped – – u1\.large/);
  expect(shown).toContain("Create machine");
});

test("a machine shows its parts behind tabs", () => {
  expect(machine("web-1", "state")).toContain("Always: started again whenever it ends");
  expect(machine("web-1", "disks")).toMatch(/root Disk \(virtio\) web-1-root 20 GiB vda Ready/);
  expect(machine("web-1", "disks")).toContain("Add disk");
  expect(machine("web-1", "state")).toContain("Keys and passwords None was added.");
  expect(machine("web-1", "networks")).toMatch(
    /default private, behind the node's address 100\.127\.240\.10 given by its node/,
  );
  expect(machine("db", "snapshots")).toContain("The guest's file systems were frozen");
  expect(machine("web-2", "snapshots")).toContain("It is no backup.");
  expect(machine("render", "state", "lab")).toContain("0/3 nodes are available: 3 Insufficient memory.");
  expect(machine("none", "state")).toContain("Machine shop/none is not here");
});

test("a plot says in words what its picture shows", () => {
  const values = [null, 2048, 4096];
  const measured = {
    every: 30,
    until: 0,
    processors: [],
    memory: [],
    read: values,
    written: [],
    received: [],
    sent: [],
  };
  const lines = [
    { name: "Read", values },
    { name: "Written", values: [null, null, null] },
  ];
  const page = renderToString(<Plot title="Disks" unit="bytes/s" lines={lines} measured={measured} level="h2" />);
  expect(page).toContain("Disks. Read: last 4 KiB/s, at most 4 KiB/s; Written: last –, at most 0 B/s.");
  expect(page).toContain("Read 4 KiB/s, Written –");
});

test("a new machine takes five entries", () => {
  const shown = text(<CreateMachine />);
  for (const entry of ["1. Name", "2. Image", "3. Size", "4. Key", "5. Network"]) expect(shown).toContain(entry);
  expect(shown).not.toContain("6. ");
  expect(shown).toContain("This project has none that is ready.");
});

test("images have their progress or the reason of their failure, and disks of machines are not among them", () => {
  const shown = text(<Images />);
  expect(shown).toContain("42%");
  expect(shown).toContain("the file has another SHA-256 than spec.source.http.checksum");
  expect(shown).not.toContain("web-1-root");
});

test("pools, networks and nodes say how they are", () => {
  expect(text(<Storage tab="pools" />)).toMatch(/default node-2 Degraded/);
  expect(text(<Networks tab="networks" />)).toContain("VLANs 10, 200–209, tagged by the guest");
  expect(text(<Nodes />)).toMatch(/node-3 In maintenance no VM runs here/);
  const node = text(<NodePage name="node-3" />);
  expect(node).toContain("Maintenance: new memory");
  expect(node).toContain("End maintenance");
  expect(text(<Nodes />)).toContain("Add a node");
  expect(text(<Storage tab="disks" />)).toContain("unused, with ext4 on /dev/sda1");
  expect(text(<NodePage name="node-1" />)).toContain("Start maintenance");
});

test("a node of the control plane says when it was saved last, and how to save it elsewhere", () => {
  const shown = text(<NodePage name="node-1" />);
  expect(shown).toContain("the newest, etcd-20261130T060000Z, is of 2026-11-30T06:00:00Z");
  expect(shown).toContain("sheaf-agent snapshot save control-plane.tar");
  expect(text(<NodePage name="node-2" />)).not.toContain("Backup of the control plane");
  expect(text(<NodePage name="node-2" />), "its update is on trial").toContain("Release 0.2.0 is wanted.");
});

test("a node that was removed leaves a record and its name", () => {
  const shown = text(<NodePage name="node-9" />);
  expect(shown).toContain("nothing of node-9 is left in the cluster");
  for (const act of ["Release the name", "Delete the record"]) expect(shown).toContain(act);
  expect(text(<Nodes />)).toContain("Removal of node-9");
});

test("updates say what nodes run and where each stands, changes of links how long a trial still lasts", () => {
  const updates = text(<Updates />);
  expect(updates).toContain("Running: 2 nodes 0.2.0, 1 node 0.1.0");
  expect(updates).toContain("1 of 3 updated, 0 failed");
  expect(updates).toMatch(/node-3 0\.1\.0 0\.1\.0 To be begun node-2 is being updated/);
  expect(text(<Networks tab="policies" />)).toMatch(/uplink Being changed bridge br1 every node 1 of 3/);
  const policy = text(<PolicyPage name="uplink" />);
  expect(policy).toMatch(/node-2 tries it: \d+ s/);
  expect(policy).toContain("before: passed, after: passed");
});

test("login and claim begin empty, and the administration asks what it may offer", () => {
  expect(text(<Login hasEnded />)).toContain("The session has ended.");
  expect(text(<Claim />)).toContain("The code is on the screen of the node that made the cluster.");
  const shown = text(<Administration user="alice" />);
  expect(shown).toContain("Administration");
  expect(shown).not.toContain("Users and roles");
  expect(text(<Projects />)).toMatch(/Create project .* shop Ready 4 /);
});

test("no page says what a Pod, a claim or a class is", () => {
  const pages = [
    <Overview />,
    <Machines />,
    <CreateMachine />,
    <Images />,
    <Storage tab="pools" />,
    <Networks tab="networks" />,
    <Networks tab="policies" />,
    <Nodes />,
    <NodePage name="node-1" />,
    <Updates />,
    <Projects />,
  ];
  for (const page of pages)
    expect(text(page)).not.toMatch(/\b(pods?|claims?|classes|namespaces?|persistentvolume\w*)\b/i);
});
