/**
 * What the real server serves, read from its source: so that the played one offers no more.
 *
 * Why here: a page test against a server that is kinder than the real one proves nothing. Route in:
 * `console/src/{headers,watch,proxy/table}.rs`. Route out: the policy, kinds, rows. A source that this does not understand is
 * an error.
 */
import { readFileSync } from "node:fs";

const source = (path: string): string => readFileSync(new URL(`../../src/${path}`, import.meta.url), "utf8");

/** The Content-Security-Policy. */
export function policy(): string {
  const found = /CONTENT_SECURITY_POLICY: &str = "([^"]+)"/.exec(source("headers.rs"))?.[1];
  if (!found) throw new Error("headers.rs has no CONTENT_SECURITY_POLICY any more");
  return found.replace(/\\\n\s*/g, "");
}

export interface Watched {
  word: string;
  group: string;
  version: string;
  plural: string;
}

/** Kinds of `/console/watch`. */
export function kinds(): Watched[] {
  const text = source("watch.rs").replaceAll("SHEAF,", '("sheaf.dev", "v1alpha1"),');
  const found = [...text.matchAll(/kind\(\s*"(\w+)",\s*\("([^"]*)", "([^"]+)"\),\s*"([^"]+)"/g)];
  if (found.length < 10) throw new Error("watch.rs is not understood any more");
  return found.map(([, word = "", group = "", version = "", plural = ""]) => ({ word, group, version, plural }));
}

export interface Row {
  group: string;
  version: string;
  kind: string;
  isNamespaced: boolean;
  under: string | undefined;
  verbs: string[];
  /** Which objects of the kind, as the table has it. */
  only: string | undefined;
  streams: boolean;
}

/** Rows of the proxy. */
export function rows(): Row[] {
  const text = source("proxy/table.rs");
  const verbs = (word: string): string[] => {
    if (word === "READ") return ["Read"];
    if (word === "ALL") return ["Read", "Create", "Change", "Delete"];
    if (word === "ACT") return ["Act"];
    if (word === "OPEN") return ["Open"];
    return word.replace(/[&[\]\s]/g, "").split(",");
  };
  const plain = [
    ...text.matchAll(
      /^ +(?:only\((Only::\w+(?:\([^)]*\))?), )?row\("([^"]*)", "([^"]+)", ("[^"]+"|VM|VMI), (Namespace|Cluster), ([^)]+)\)\)?,$/gm,
    ),
  ].map(([, only, group = "", version = "", kind = "", scope = "", list = ""]): Row => ({
    group,
    version,
    kind: named(kind),
    isNamespaced: scope === "Namespace",
    under: undefined,
    verbs: verbs(list),
    only,
    streams: false,
  }));
  const part = (kind: string, under: string, list: string, streams: boolean): Row => ({
    group: "subresources.kubevirt.io",
    version: "v1",
    kind: named(kind),
    isNamespaced: true,
    under,
    verbs: verbs(list),
    only: undefined,
    streams,
  });
  const parts = [...text.matchAll(/^ {4}part\((VM|VMI), "([^"]+)", ([^)]+)\),$/gm)].map(
    ([, kind = "", under = "", list = ""]) => part(kind, under, list, false),
  );
  const streams = [...text.matchAll(/^ {4}stream\("([^"]+)"\),$/gm)].map(([, under = ""]) =>
    part("VMI", under, "OPEN", true),
  );
  const node = plain.find(({ group, kind }) => group === "" && kind === "nodes");
  if (!node) throw new Error("proxy/table.rs has no nodes any more");
  const ofNode = [...text.matchAll(/^ {4}of_node\("([^"]+)"\),$/gm)].map(([, under = ""]): Row => ({
    ...node,
    under,
    verbs: ["Open"],
  }));
  if (plain.length < 20 || parts.length < 10 || streams.length < 2)
    throw new Error("proxy/table.rs is not understood any more");
  return [...plain, ...parts, ...streams, ...ofNode];
}

function named(word: string): string {
  if (word === "VM") return "virtualmachines";
  return word === "VMI" ? "virtualmachineinstances" : word.replaceAll('"', "");
}

/** Whether a row is about this object, as `is_meant` of `console/src/proxy.rs` says. */
function isMeant(only: string | undefined, project: string | undefined, name: string | undefined): boolean {
  if (only === undefined) return true;
  if (only === "Only::Projects") return !/^(kube|sheaf)-/.test(project ?? "");
  const [, inProject, called] = /^Only::Object\("([^"]+)", "([^"]+)"\)$/.exec(only) ?? [];
  if (called === undefined) throw new Error("proxy/table.rs is not understood any more");
  return project === inProject && name === called;
}

export interface Target {
  row: Row;
  project: string | undefined;
  name: string | undefined;
}

/** The row of a request, as `console/src/proxy.rs` finds it; undefined if the console does not offer it. */
export function target(method: string, path: string, all: readonly Row[]): Target | undefined {
  const words = path.split("/").slice(1);
  const [root, ...rest] = words;
  const [group, version, tail] = root === "api" ? ["", rest[0], rest.slice(1)] : [rest[0], rest[1], rest.slice(2)];
  const isNamespaced = tail[0] === "namespaces" && tail.length > 2;
  const project = isNamespaced ? tail[1] : undefined;
  const [kind, name, ...below] = isNamespaced ? tail.slice(2) : tail;
  const under = below.length > 0 ? below.join("/") : undefined;
  const row = all.find(
    (one) => one.group === group && one.version === version && one.kind === kind && one.under === under,
  );
  const verb = under
    ? { GET: "Open", PUT: "Act" }[method]
    : name
      ? { GET: "Read", PUT: "Change", PATCH: "Change", DELETE: "Delete" }[method]
      : { GET: "Read", POST: "Create" }[method];
  if (!row || !verb || !row.verbs.includes(verb)) return undefined;
  if (!isMeant(row.only, project, name)) return undefined;
  const fits = row.isNamespaced === isNamespaced || (row.isNamespaced && verb === "Read" && !name);
  return fits ? { row, project, name } : undefined;
}
