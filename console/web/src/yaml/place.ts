/**
 * YAML of an object, and where in it a refused field is.
 *
 * Why here: the server names a field by its path; who edits text looks for a line. Pure. Route in: objects, text. Route out:
 * text, objects, lines (from 1).
 */
import { isMap, isSeq, LineCounter, parseDocument, stringify } from "yaml";

/** The object as people edit it: without what the server writes itself. */
export function show(object: object): string {
  const { status: _status, metadata, ...rest } = object as { status?: unknown; metadata: Record<string, unknown> };
  const {
    managedFields: _managed,
    creationTimestamp: _created,
    generation: _generation,
    uid: _uid,
    ...kept
  } = metadata;
  const { apiVersion, kind, ...parts } = rest as Record<string, unknown>;
  return stringify({ apiVersion, kind, metadata: kept, ...parts }, { lineWidth: 0 });
}

export type Read = { object: Record<string, unknown> } | { line: number; message: string };

/** The object in `text`, or where it cannot be read. */
export function read(text: string): Read {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const error = document.errors[0];
  if (error) return { line: lines.linePos(error.pos[0]).line, message: error.message };
  const object: unknown = document.toJS();
  if (typeof object !== "object" || object === null || Array.isArray(object))
    return { line: 1, message: "An object has keys such as apiVersion and kind." };
  return { object: object as Record<string, unknown> };
}

/** `spec.disks[0].name` as keys. */
export function keys(field: string): (string | number)[] {
  return [...field.matchAll(/\[(\d+)\]|\[["']?([^\]"']+)["']?\]|([^.[\]]+)/g)].map((match) =>
    match[1] !== undefined ? Number(match[1]) : (match[2] ?? match[3] ?? ""),
  );
}

/** The line of `field`, or of what is nearest above it. */
export function lineOf(text: string, field: string): number {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  let node: unknown = document.contents;
  let offset = 0;
  for (const key of keys(field)) {
    if (isMap(node)) {
      const pair = node.items.find((item) => String(item.key) === String(key));
      const found = pair?.key as { range?: [number, number, number] } | undefined;
      if (!pair || !found?.range) break;
      offset = found.range[0];
      node = pair.value;
    } else if (isSeq(node)) {
      const item = node.items[Number(key)] as { range?: [number, number, number] } | undefined;
      if (!item?.range) break;
      offset = item.range[0];
      node = item;
    } else break;
  }
  return lines.linePos(offset).line;
}

/** Offset of the first character of a line, and of its end. */
export function span(text: string, line: number): [number, number] {
  const before = text
    .split("\n")
    .slice(0, line - 1)
    .join("\n").length;
  const begin = line > 1 ? before + 1 : 0;
  const end = text.indexOf("\n", begin);
  return [begin, end < 0 ? text.length : end];
}
