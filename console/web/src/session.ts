/**
 * Who is logged in.
 *
 * Why here: every page depends on it, and any request may find that the session has ended. Route in: `/console/session`,
 * `/console/claim`. Route out: `useSession`.
 */
import { useSyncExternalStore } from "react";
import { get, onSessionEnd, post } from "./api/client.ts";
import { asRefusal, type Refusal } from "./api/refusal.ts";
import { closeWatch, onStreamEnd } from "./api/watch.ts";

/** Between two questions while the console does not answer, in ms. */
const RETRY = 3000;

export type Session =
  | { state: "asking" }
  | { state: "unreachable"; refusal: Refusal }
  /** No user exists: the first administrator is claimed by a code. */
  | { state: "claim" }
  | { state: "out"; hasEnded: boolean }
  | { state: "in"; user: string; kubernetesUser: string };

let session: Session = { state: "asking" };
const readers = new Set<() => void>();

function become(next: Session): void {
  session = next;
  for (const reader of readers) reader();
}

/** Asks the console who is logged in. */
export async function ask(): Promise<void> {
  try {
    const answer = await get<{ user: string; kubernetesUser: string }>("/console/session");
    become({ state: "in", ...answer });
  } catch (error) {
    const refusal = asRefusal(error);
    if (refusal.code === 401) return;
    // A page that is open stays: the banner says that changes do not arrive.
    if (session.state === "in") return;
    become({ state: "unreachable", refusal });
    setTimeout(() => void ask(), RETRY);
  }
}

async function out(): Promise<void> {
  // Several requests may find it at once.
  if (session.state === "out" || session.state === "claim") return;
  const hasEnded = session.state === "in";
  closeWatch();
  // Who was in sees the login at once, however long the next answer takes.
  if (hasEnded) become({ state: "out", hasEnded });
  const before = session;
  const { open } = await get<{ open: boolean }>("/console/claim").catch(() => ({ open: false }));
  // Somebody may have logged in meanwhile.
  if (session === before) become(open ? { state: "claim" } : { state: "out", hasEnded });
}

/** Shows the login in the place of the claim, for those who have an account. */
export function toLogin(): void {
  become({ state: "out", hasEnded: false });
}

/** Logs in; a refusal with the reason `CodeRequired` asks for a code of the second factor besides. */
export async function login(user: string, password: string, code: string): Promise<void> {
  await post("/console/login", { user, password, ...(code === "" ? {} : { code }) });
  await ask();
}

export async function claim(code: string, user: string, password: string): Promise<void> {
  await post("/console/claim", { code, user, password });
  await ask();
}

export async function logout(): Promise<void> {
  await post("/console/logout", {});
  closeWatch();
  become({ state: "out", hasEnded: false });
}

/** Asks for the first time, and follows the end of sessions. */
export function start(): void {
  onSessionEnd(() => void out());
  onStreamEnd(ask);
  void ask();
}

const now = (): Session => session;

export function useSession(): Session {
  // The third is for tests, which render pages to text.
  return useSyncExternalStore(
    (reader) => {
      readers.add(reader);
      return () => readers.delete(reader);
    },
    now,
    now,
  );
}
