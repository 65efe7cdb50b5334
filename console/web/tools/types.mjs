/**
 * Writes `src/types/crds.ts`: the kinds of `controller/api/crds/*.json` as TypeScript types.
 *
 * Why here: the page and the API server then agree on every field; a test (`types.test.ts`) holds the file up to date.
 * A type that occurs twice with the same shape is written once. Fields that Sheaf refuses by name have no description and
 * no shape; they are left out. Route in: the CRDs. Route out: text; `node tools/types.mjs` writes it, and with
 * `--check` only says whether it is as it would be written.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const CRDS = new URL("../../../controller/api/crds/", import.meta.url);
const OUT = new URL("../src/types/crds.ts", import.meta.url);

/** The kinds that pages have, by file; all others are not written. */
const FILES = [
  "blockdevices.sheaf.dev",
  "clusterconfigs.sheaf.dev",
  "clusterupdates.sheaf.dev",
  "datavolumes.cdi.kubevirt.io",
  "network-attachment-definitions.k8s.cni.cncf.io",
  "nodemaintenances.sheaf.dev",
  "nodenetworkenactments.sheaf.dev",
  "nodenetworkpolicies.sheaf.dev",
  "nodenetworkstates.sheaf.dev",
  "noderemovals.sheaf.dev",
  "nodeupdates.sheaf.dev",
  "storagepools.sheaf.dev",
  "virtualmachineclones.clone.kubevirt.io",
  "virtualmachineclusterinstancetypes.instancetype.kubevirt.io",
  "virtualmachineclusterpreferences.instancetype.kubevirt.io",
  "virtualmachineinstances.kubevirt.io",
  "virtualmachinerestores.snapshot.kubevirt.io",
  "virtualmachines.kubevirt.io",
  "virtualmachinesnapshots.snapshot.kubevirt.io",
  // Last: their volumes are not those that are called Volume.
  "virtualmachineexports.export.kubevirt.io",
];

/** Least length of a shape that gets a name of its own when it occurs again. */
const NAMED_FROM = 120;

const isRefused = (schema) => !schema.description && schema["x-kubernetes-preserve-unknown-fields"] === true;

/** The type of a schema, as text; `names` has the names of shapes that occur more than once. */
function shape(schema, names, indent) {
  if (schema["x-kubernetes-int-or-string"]) return "number | string";
  if (schema.enum)
    return schema.enum
      .filter((value) => value !== null)
      .map((value) => JSON.stringify(value))
      .join(" | ");
  switch (schema.type) {
    case "string":
      return "string";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "array": {
      const item = shape(schema.items ?? {}, names, indent);
      return /^[\w]+$/.test(item) ? `${item}[]` : `Array<${item}>`;
    }
    case "object":
      return object(schema, names, indent);
    default:
      return "unknown";
  }
}

function object(schema, names, indent) {
  const fields = Object.entries(schema.properties ?? {}).filter(([, field]) => !isRefused(field));
  if (fields.length === 0) {
    const values = schema.additionalProperties;
    return values && values !== true ? `Record<string, ${shape(values, names, indent)}>` : "Record<string, unknown>";
  }
  const key = names && plain(schema);
  if (key && names.has(key)) return names.get(key);
  return body(schema, fields, names, indent);
}

function body(schema, fields, names, indent) {
  const required = new Set(schema.required ?? []);
  const inner = `${indent}  `;
  const lines = fields.map(([name, field]) => {
    const text = field.description?.replace(/\s+/g, " ").replaceAll("*/", "*\\/");
    const comment = text ? `${inner}/** ${text} */\n` : "";
    return `${comment}${inner}${name}${required.has(name) ? "" : "?"}: ${shape(field, names, inner)};`;
  });
  return `{\n${lines.join("\n")}\n${indent}}`;
}

/** The shape without names: equal for equal shapes. */
const plain = (schema) => shape(schema, null, "");

/** Every object schema below `schema`, with the name of its field. */
function* objects(schema, name) {
  if (schema.type === "array" && schema.items) yield* objects(schema.items, name.replace(/s$/, ""));
  if (schema.type !== "object") return;
  if (schema.properties) yield [name, schema];
  for (const [key, field] of Object.entries(schema.properties ?? {})) yield* objects(field, key);
  if (schema.additionalProperties && schema.additionalProperties !== true)
    yield* objects(schema.additionalProperties, name);
}

const capital = (name) => name[0].toUpperCase() + name.slice(1);

/** The whole file. */
export function generate() {
  const kinds = FILES.map((file) => {
    const crd = JSON.parse(readFileSync(new URL(`${file}.json`, CRDS), "utf8"));
    const stored = crd.spec.versions.find((version) => version.storage);
    const { spec, status } = stored.schema.openAPIV3Schema.properties;
    return { kind: crd.spec.names.kind, apiVersion: `${crd.spec.group}/${stored.name}`, spec, status };
  });
  const seen = new Map();
  for (const { kind, spec, status } of kinds) {
    for (const [part, schema] of [
      ["Spec", spec],
      ["Status", status],
    ]) {
      if (!schema) continue;
      for (const [name, found] of objects(schema, kind + part)) {
        const key = plain(found);
        const entry = seen.get(key) ?? { count: 0, name: capital(name), schema: found };
        entry.count += 1;
        // A top-level spec names the shape, wherever it was seen first.
        if (found === schema) Object.assign(entry, { name: kind + part, count: Infinity });
        seen.set(key, entry);
      }
    }
  }
  const names = new Map();
  const taken = new Set(["Condition", ...kinds.map(({ kind }) => kind)]);
  for (const [key, entry] of seen) {
    if (entry.count < 2 || (entry.count !== Infinity && key.length < NAMED_FROM)) continue;
    const isCondition = ["type", "status", "reason", "message"].every((field) => entry.schema.properties[field]);
    let name = isCondition ? "Condition" : entry.name;
    for (let number = 2; !isCondition && taken.has(name); number += 1) name = `${entry.name}${number}`;
    taken.add(name);
    if (!names.has(key)) names.set(key, name);
  }
  const parts = [
    "// Written by `npm run types` from controller/api/crds; do not edit.\n",
    'import type { Meta } from "./meta";\n',
  ];
  const written = new Set();
  for (const [key, name] of names) {
    if (written.has(name)) continue;
    written.add(name);
    const { schema } = seen.get(key);
    const fields = Object.entries(schema.properties).filter(([, field]) => !isRefused(field));
    const text = schema.description ? `/** ${schema.description.replace(/\s+/g, " ")} */\n` : "";
    parts.push(`${text}export interface ${name} ${body(schema, fields, names, "")}\n`);
  }
  for (const { kind, apiVersion, spec, status } of kinds) {
    const lines = [
      `  apiVersion: ${JSON.stringify(apiVersion)};`,
      `  kind: ${JSON.stringify(kind)};`,
      "  metadata: Meta;",
      ...(spec ? [`  spec: ${names.get(plain(spec))};`] : []),
      ...(status ? [`  status?: ${names.get(plain(status))};`] : []),
    ];
    parts.push(`export interface ${kind} {\n${lines.join("\n")}\n}\n`);
  }
  return parts.join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!process.argv.includes("--check")) writeFileSync(OUT, generate());
  else if (readFileSync(OUT, "utf8") !== generate()) {
    console.error("types: src/types/crds.ts is not up to date; run `npm run types`");
    process.exit(1);
  }
}
