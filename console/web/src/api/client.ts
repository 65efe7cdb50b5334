/**
 * Requests to the console: JSON, the header that changes need, refusals as `Refusal`.
 *
 * Why here: the only place that calls `fetch` (files are sent by `send.ts`). A 401 means that the session has ended, whichever request met it. Route in:
 * method, path, body. Route out: parsed JSON.
 */
import { refusalOf, unreachable } from "./refusal.ts";

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

let ended: () => void = () => {};

/** Sets what is done when the session has ended. */
export function onSessionEnd(then: () => void): void {
  ended = then;
}

/** A request was answered with 401. */
export const sessionEnded = (): void => ended();

/** Asks; the body is sent as JSON. */
export async function ask<T>(method: Method, path: string, body?: unknown, type = "application/json"): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json" };
  // console/src/origin.rs: no other page can send it.
  if (method !== "GET") headers["x-sheaf-console"] = "1";
  if (body !== undefined) headers["content-type"] = type;
  const request: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) request.body = typeof body === "string" ? body : JSON.stringify(body);
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(path, request);
    text = await answer.text();
  } catch {
    throw unreachable();
  }
  let value: unknown;
  try {
    // A log may look like JSON.
    const isText = answer.headers.get("content-type")?.startsWith("text/plain");
    value = isText ? text : text ? JSON.parse(text) : undefined;
  } catch {
    value = text;
  }
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/console/login") ended();
    throw refusalOf(answer.status, value, answer.headers.get("retry-after"));
  }
  return value as T;
}

export const get = <T>(path: string): Promise<T> => ask<T>("GET", path);
export const post = <T>(path: string, body: unknown): Promise<T> => ask<T>("POST", path, body);
/** Replaces an object. */
export const put = <T>(path: string, body: unknown): Promise<T> => ask<T>("PUT", path, body);
/** Changes an object by a JSON merge patch (RFC 7396), or an own thing of the console's by its fields. */
export const patch = <T>(path: string, body: unknown): Promise<T> =>
  ask<T>("PATCH", path, body, path.startsWith("/console/") ? "application/json" : "application/merge-patch+json");
export const remove = <T>(path: string): Promise<T> => ask<T>("DELETE", path);
