/**
 * A server that plays the console: the built page, its own routes, and an API server of objects in memory.
 *
 * Why here: page tests need answers that are documented (docs/console.md, "What is served") without a cluster. What it offers is
 * read from the real server's source (`contract.ts`), and every answer has the real policy. Route in: HTTP. Route out: the
 * page, objects, streams; [`Played`] is what a test changes and looks at.
 */
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import type { Thing } from "../src/types/meta.ts";
import { kinds, policy, rows, target } from "./contract.ts";
import { cluster } from "./objects.ts";
import { playScreen } from "./screen.ts";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES: Record<string, string> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  woff2: "font/woff2",
};
export const PASSWORD = "correct horse battery";
/** The code of every second factor. */
export const CODE = "287082";

interface Refused {
  code: number;
  reason: string;
  message: string;
  causes?: { field: string; message: string; reason: string }[];
  /** The change that is refused: a part of its path; none is the next one. */
  at?: string;
}

/** A request that changed something. */
export interface Asked {
  method: string;
  path: string;
  body: unknown;
}

export interface Played {
  url: string;
  objects: Map<string, Thing[]>;
  asked: Asked[];
  /** What the next change is refused with. */
  refuse: Refused | undefined;
  isClaimable: boolean;
  /** The identity provider's host. */
  sso: string | null;
  isLoggedIn: boolean;
  /** Whether alice administers the cluster. */
  administers: boolean;
  /** Whether alice has a second factor. */
  hasSecond: boolean;
  /** After so many ms a browser opens a stream again that has ended. */
  retry: number;
  /** While it is pending, an upload takes no further bytes. */
  holdUpload: Promise<void> | undefined;
  /** Sets an object and tells every browser. */
  set(plural: string, object: Thing): void;
  gone(plural: string, object: Thing): void;
  /** Cuts every stream of changes. */
  cut(): void;
  /** Ends every stream of changes, as the real server does when a session has ended. */
  end(): void;
  close(): Promise<void>;
}

interface User {
  name: string;
  disabled: boolean;
  created: number;
  roles: unknown[];
  secondFactor: boolean;
}

/** An hour or a day of numbers, as `console/src/metrics.rs` answers: waves, and nothing before half of it. */
function measured(isDay: boolean): object {
  const [every, length] = isDay ? [300, 288] : [30, 120];
  const list = (least: number, most: number, phase: number) =>
    Array.from({ length }, (_, at) =>
      at < length / 4 ? null : least + ((1 + Math.sin(at / 9 + phase)) / 2) * (most - least),
    );
  return {
    every,
    until: 1_796_000_400,
    processors: list(0.2, 1.7, 0),
    memory: list(1.5e9, 1.6e9, 1),
    read: list(0, 4e6, 2),
    written: list(1e5, 9e6, 3),
    received: list(2e4, 8e5, 4),
    sent: list(1e4, 2e6, 5),
  };
}

/** A JSON merge patch (RFC 7396). */
function merged(target: unknown, change: unknown): unknown {
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject(change)) return change;
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(change)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}

const keyOf = (object: Thing): string => `${object.metadata.namespace ?? ""}/${object.metadata.name}`;

async function read(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const part of request) text += String(part);
  return text === "" ? undefined : JSON.parse(text);
}

export async function play(): Promise<Played> {
  const [csp, watched, table] = [policy(), kinds(), rows()];
  const streams = new Set<{ response: ServerResponse; words: string[] }>();
  const users = [
    { name: "alice", disabled: false, created: 1_790_000_000, roles: [{ role: "administer" }], secondFactor: false },
    {
      name: "bob",
      disabled: false,
      created: 1_794_000_000,
      roles: [{ role: "operate", project: "shop" }],
      secondFactor: true,
    },
  ] satisfies User[] as User[];
  const tokens: { id: string; label: string; created: number; ends: number }[] = [
    { id: "00", label: "backup", created: 1_795_000_000, ends: 1_803_000_000 },
  ];
  const wordOf = (plural: string) => watched.find((one) => one.plural === plural)?.word;
  const tell = (plural: string, line: object) => {
    const word = wordOf(plural);
    for (const { response, words } of streams)
      if (word && words.includes(word)) response.write(`data: ${JSON.stringify({ kind: word, ...line })}\n\n`);
  };
  const played: Played = {
    url: "",
    objects: cluster(),
    asked: [],
    refuse: undefined,
    isClaimable: false,
    sso: null,
    isLoggedIn: true,
    administers: true,
    hasSecond: false,
    retry: 500,
    holdUpload: undefined,
    set(plural, object) {
      const all = (played.objects.get(plural) ?? []).filter((one) => keyOf(one) !== keyOf(object));
      played.objects.set(plural, [...all, object]);
      tell(plural, { change: "set", key: keyOf(object), object });
    },
    gone(plural, object) {
      played.objects.set(
        plural,
        (played.objects.get(plural) ?? []).filter((one) => keyOf(one) !== keyOf(object)),
      );
      tell(plural, { change: "gone", key: keyOf(object) });
    },
    cut() {
      for (const { response } of streams) response.destroy();
    },
    end() {
      for (const { response } of streams) response.end();
    },
    close: async () => {
      played.cut();
      server.closeAllConnections();
      await new Promise((then) => server.close(then));
    },
  };

  const json = (response: ServerResponse, code: number, value: unknown) => {
    response.writeHead(code, {
      "content-type": "application/json",
      "content-security-policy": csp,
      "cache-control": "no-store",
    });
    response.end(value === undefined ? "" : JSON.stringify(value));
  };
  const refused = (response: ServerResponse, { code, reason, message, causes }: Refused) =>
    json(response, code, {
      kind: "Status",
      apiVersion: "v1",
      status: "Failure",
      code,
      reason,
      message,
      ...(causes ? { details: { causes } } : {}),
    });

  async function own(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    query: URLSearchParams,
  ): Promise<void> {
    const method = request.method ?? "GET";
    if (path.startsWith("/console/upload/")) return upload(request, response, path);
    const body = (method === "GET" ? undefined : await read(request)) as Record<string, string> | undefined;
    if (method !== "GET") played.asked.push({ method, path, body });
    if (path === "/console/login") {
      const isRight = body?.["user"] === "alice" && body["password"] === PASSWORD;
      if (!isRight)
        return refused(response, { code: 401, reason: "Unauthorized", message: "the name or the password is wrong" });
      if (played.hasSecond && body?.["code"] === undefined)
        return refused(response, {
          code: 401,
          reason: "CodeRequired",
          message: "type the code of your authenticator app, or a recovery code",
        });
      if (played.hasSecond && body?.["code"] !== CODE)
        return refused(response, {
          code: 401,
          reason: "Unauthorized",
          message: "the code is wrong, or was used already",
        });
      played.isLoggedIn = true;
      return json(response, 200, { user: "alice" });
    }
    if (path === "/console/sso") {
      if (method === "PUT") {
        const { provider } = body as unknown as { provider: { issuer: string } | null };
        played.sso = provider && new URL(provider.issuer).host;
        played.set("clusterconfigs", {
          metadata: { name: "cluster" },
          spec: { identityProvider: provider ?? undefined },
        } as unknown as Thing);
        return json(response, 200, undefined);
      }
      return json(response, 200, { provider: played.sso });
    }
    if (path === "/console/claim" && method === "GET") return json(response, 200, { open: played.isClaimable });
    if (path === "/console/claim") {
      if (body?.["code"] !== "7K3M-9QXT")
        return refused(response, { code: 403, reason: "Forbidden", message: "the code is wrong; 9 tries are left" });
      played.isClaimable = false;
      played.isLoggedIn = true;
      return json(response, 200, { user: body["user"] });
    }
    if (!played.isLoggedIn) return refused(response, { code: 401, reason: "Unauthorized", message: "log in first" });
    if (method !== "GET" && request.headers["x-sheaf-console"] === undefined)
      return refused(response, {
        code: 403,
        reason: "Forbidden",
        message: "a change by a session needs the header X-Sheaf-Console",
      });
    if (played.refuse && method !== "GET") {
      const refusal = played.refuse;
      played.refuse = undefined;
      return refused(response, refusal);
    }
    switch (`${method} ${path.split("/")[2]}`) {
      case "GET session":
        return json(response, 200, { user: "alice", ends: null, kubernetesUser: "console:alice" });
      case "POST logout":
        played.isLoggedIn = false;
        return json(response, 204, undefined);
      case "GET second":
        return json(response, 200, { on: played.hasSecond, recoveryCodes: played.hasSecond ? 8 : 0 });
      case "POST second": {
        const step = path.split("/")[3];
        if (step !== "confirm" && body?.["password"] !== PASSWORD)
          return refused(response, { code: 403, reason: "Forbidden", message: "the password is wrong" });
        if (step !== undefined && body?.["code"] !== CODE)
          return refused(response, { code: 403, reason: "Forbidden", message: "the code is wrong" });
        const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        if (step === undefined)
          return json(response, 201, {
            secret,
            uri: `otpauth://totp/Sheaf:alice?secret=${secret}&issuer=Sheaf&algorithm=SHA1&digits=6&period=30`,
          });
        played.hasSecond = step === "confirm";
        const codes = Array.from({ length: 8 }, (_, at) => `AAAA-BBBB-CCCC-DDD${at + 2}`);
        return played.hasSecond ? json(response, 200, { recoveryCodes: codes }) : json(response, 204, undefined);
      }
      case "POST password":
        return json(response, 200, { user: "alice" });
      case "GET users":
        if (!played.administers)
          return refused(response, {
            code: 403,
            reason: "Forbidden",
            message: 'secrets is forbidden: User "console:alice" cannot list resource "secrets" in API group ""',
          });
        return json(response, 200, users);
      case "POST users":
        users.push({
          disabled: false,
          secondFactor: false,
          created: Math.floor(Date.now() / 1000),
          ...(body as unknown as Pick<User, "name" | "roles">),
        });
        return json(response, 201, { name: body?.["name"] });
      case "PATCH users":
      case "DELETE users":
        return json(response, 204, undefined);
      case "GET tokens":
        return json(response, 200, tokens);
      case "POST tokens":
        tokens.push({
          id: String(tokens.length),
          label: body?.["label"] ?? "",
          created: 1_796_000_000,
          ends: 1_803_000_000,
        });
        return json(response, 201, { id: "01", token: `sheaf_01_${"x".repeat(20)}` });
      case "DELETE tokens":
        return json(response, 204, undefined);
      case "GET metrics":
        return query.get("machine")?.startsWith("lab/")
          ? refused(response, { code: 404, reason: "NotFound", message: "nothing was measured of it yet" })
          : json(response, 200, measured(query.get("span") === "day"));
      case "POST join-tokens":
        return json(response, 201, {
          table:
            '[cluster]\nmode = "join"\nserver = "https://192.0.2.100:6443"\ntoken = "abcdef.0123456789abcdef"\n' +
            `ca-hash = "sha256:${"ab".repeat(32)}"\n`,
          ends: Math.floor(Date.now() / 1000) + 3600,
        });
      case "GET watch":
        return watch(response, (query.get("kinds") ?? "").split(","));
      default:
        return refused(response, {
          code: 404,
          reason: "NotFound",
          message: `the console does not offer ${method} ${path}`,
        });
    }
  }

  /** As `console/src/upload.rs`: 204 once the disk is filled; refused as the played node refuses. */
  async function upload(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const [, , , project = "", name = ""] = path.split("/");
    const refusal = played.refuse;
    const length = Number(request.headers["content-length"]);
    if (
      request.headers["x-sheaf-console"] === undefined ||
      request.headers["content-type"] !== "application/octet-stream"
    )
      return refused(response, { code: 403, reason: "Forbidden", message: "a change by a session needs the header" });
    if (refusal) {
      played.refuse = undefined;
      request.resume();
      return refused(response, refusal);
    }
    let bytes = 0;
    for await (const part of request) {
      bytes += (part as Buffer).length;
      await played.holdUpload;
    }
    played.asked.push({ method: "POST", path, body: { bytes, length } });
    const there = played.objects
      .get("datavolumes")
      ?.find((one) => one.metadata.namespace === project && one.metadata.name === name);
    if (there) played.set("datavolumes", { ...there, status: { phase: "Succeeded", progress: "100.0%" } } as Thing);
    return json(response, 204, undefined);
  }

  function watch(response: ServerResponse, words: string[]): void {
    const unknown = words.find((word) => !watched.some((one) => one.word === word));
    if (unknown !== undefined)
      return refused(response, { code: 400, reason: "BadRequest", message: `the console does not watch "${unknown}"` });
    response.writeHead(200, {
      "content-type": "text/event-stream",
      "content-security-policy": csp,
      "cache-control": "no-store",
    });
    response.write(`retry: ${played.retry}\n\n`);
    for (const word of words) {
      const plural = watched.find((one) => one.word === word)?.plural ?? "";
      for (const object of played.objects.get(plural) ?? [])
        response.write(`data: ${JSON.stringify({ kind: word, change: "set", key: keyOf(object), object })}\n\n`);
      response.write(`data: ${JSON.stringify({ kind: word, change: "synced" })}\n\n`);
    }
    const stream = { response, words };
    streams.add(stream);
    response.on("close", () => streams.delete(stream));
  }

  async function api(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const method = request.method ?? "GET";
    const found = target(method, path, table);
    if (!found)
      return refused(response, {
        code: 404,
        reason: "NotFound",
        message: `the console does not offer ${method} ${path}`,
      });
    if (!played.isLoggedIn)
      return refused(response, { code: 401, reason: "Unauthorized", message: "the session has ended; log in again" });
    const body = method === "GET" ? undefined : ((await read(request)) as Thing | undefined);
    const { row, project, name } = found;
    // A question, and no change.
    if (row.kind === "selfsubjectaccessreviews")
      return json(response, 201, { status: { allowed: played.administers } });
    if (method !== "GET") {
      played.asked.push({ method, path, body });
      if (request.headers["x-sheaf-console"] === undefined)
        return refused(response, {
          code: 403,
          reason: "Forbidden",
          message: "a change by a session needs the header X-Sheaf-Console",
        });
      if (played.refuse && path.includes(played.refuse.at ?? "")) {
        const refusal = played.refuse;
        played.refuse = undefined;
        return refused(response, refusal);
      }
    }
    const all = (played.objects.get(row.kind) ?? []).filter(
      (one) => project === undefined || one.metadata.namespace === project,
    );
    const there = all.find((one) => one.metadata.name === name);
    if (there && row.under?.startsWith("proxy/logs")) return logs(response, row.under, request.url ?? "");
    if (row.under)
      return there
        ? json(response, 202, undefined)
        : refused(response, { code: 404, reason: "NotFound", message: `${row.kind} "${name}" not found` });
    if (name && !there)
      return refused(response, { code: 404, reason: "NotFound", message: `${row.kind} "${name}" not found` });
    if (method === "GET" && !name) return json(response, 200, { items: all });
    if (method === "DELETE" && there) played.gone(row.kind, there);
    else if (method === "PATCH" && there) played.set(row.kind, merged(there, body) as Thing);
    else if (method !== "GET" && body) {
      const isPatch = method === "PATCH";
      played.set(row.kind, {
        ...(isPatch ? (merged(there, body) as Thing) : body),
        metadata: {
          uid: "new",
          resourceVersion: "1",
          creationTimestamp: new Date().toISOString(),
          ...there?.metadata,
          ...body.metadata,
        },
      });
    }
    return json(response, method === "POST" ? 201 : 200, there ?? body);
  }

  /** What a node tells of itself. */
  function logs(response: ServerResponse, under: string, url: string): void {
    const isBundle = under.endsWith(".gz");
    const unit = new URL(url, "http://page").searchParams.get("query");
    const text = under.endsWith("node.toml")
      ? 'version = 1\n\n[system]\nhostname = "node-1"\n\n[cluster]\ntoken = "***"\n'
      : `Nov 30 10:00:01.204113 node-1 ${unit}[812]: the lease was renewed\n`;
    response.writeHead(200, { "content-type": isBundle ? "application/gzip" : "text/plain; charset=utf-8" });
    response.end(text);
  }

  const server: Server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://page");
    const done = url.pathname.startsWith("/api/")
      ? api(request, response, url.pathname.slice("/api".length))
      : url.pathname.startsWith("/console/")
        ? own(request, response, url.pathname, url.searchParams)
        : file(response, url.pathname);
    done.catch((error: unknown) => refused(response, { code: 500, reason: "InternalError", message: String(error) }));
  });

  async function file(response: ServerResponse, path: string): Promise<void> {
    const name = path === "/" ? "/index.html" : path;
    const bytes = name.includes("..") ? undefined : await readFile(`${DIST}${name.slice(1)}`).catch(() => undefined);
    if (!bytes) return refused(response, { code: 404, reason: "NotFound", message: `there is no ${name}` });
    response.writeHead(200, {
      "content-type": TYPES[name.split(".").pop() ?? ""] ?? "application/octet-stream",
      "content-security-policy": csp,
    });
    response.end(bytes);
  }

  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (asked) => (asked.has("plain.kubevirt.io") ? "plain.kubevirt.io" : false),
  });
  server.on("upgrade", (request, socket, head) => {
    const path = (request.url ?? "").replace(/^\/api/, "").split("?")[0] ?? "";
    const found = target("GET", path, table);
    if (!found?.row.streams || !played.isLoggedIn) return socket.destroy();
    sockets.handleUpgrade(request, socket, head, (stream) => {
      if (found.row.under === "vnc") return playScreen(stream);
      stream.send(Buffer.from(`\r\n${found.name} login: `));
      stream.on("message", (bytes: Buffer) => stream.send(bytes));
    });
  });
  await new Promise<void>((then) => server.listen(0, "127.0.0.1", then));
  played.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return played;
}
