/** A session that has ended is known by any request, and the login is shown before anything else is answered. */
import { createElement } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { get } from "./api/client.ts";
import { ask, start, useSession } from "./session.ts";

/** Answers by path; a path without one is never answered. */
let answers: Record<string, [number, unknown] | undefined>;

const shown = () => renderToStaticMarkup(createElement(() => JSON.stringify(useSession()))).replaceAll("&quot;", '"');
const ALICE = { user: "alice", kubernetesUser: "console:alice" };
const OUT: [number, unknown] = [401, { message: "log in first" }];

beforeEach(async () => {
  answers = { "/console/session": [200, ALICE] };
  vi.stubGlobal("fetch", (path: string) => {
    const answer = answers[path];
    return answer ? Promise.resolve(Response.json(answer[1], { status: answer[0] })) : new Promise(() => {});
  });
  start();
  await ask();
});
afterEach(() => vi.unstubAllGlobals());

test("any request that is answered by 401 shows the login at once, whatever else is not answered", async () => {
  expect(JSON.parse(shown())).toEqual({ state: "in", ...ALICE });
  answers["/console/users"] = OUT;
  await expect(get("/console/users")).rejects.toMatchObject({ code: 401 });
  expect(JSON.parse(shown())).toEqual({ state: "out", hasEnded: true });
});

test("who logs in again before an answer of the former session comes stays in", async () => {
  let late: (answer: Response) => void = () => {};
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", (path: string) =>
    path === "/console/claim" ? new Promise((then) => (late = then)) : fetch(path),
  );
  answers["/console/users"] = OUT;
  await expect(get("/console/users")).rejects.toMatchObject({ code: 401 });
  await ask();
  late(Response.json({ open: true }));
  await new Promise((then) => setTimeout(then));
  expect(JSON.parse(shown())).toEqual({ state: "in", ...ALICE });
});
