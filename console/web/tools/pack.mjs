/**
 * Packs the files of `dist.new` with gzip, and fails if the first load is more than its budget; else it becomes `dist`.
 *
 * Why here: the server packs nothing itself (`console/src/assets.rs`). A file whose packed form is not smaller stays plain.
 * The first load is what a browser fetches before it shows the overview: the page, its scripts and styles, the fonts that
 * it has text in. Route in: `dist.new`. Route out: `dist` with `*.gz` beside the files; a table.
 */
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const NEW = fileURLToPath(new URL("../dist.new/", import.meta.url));
/** KB (1000 bytes) of the first load, packed. */
const BUDGET = 500;
/** Fonts that the overview has text in: text and headings. */
const FIRST_FONTS = /RedHat(Text|Display)VF-(?!Italic)[^/]*\.woff2$/;

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else if (!entry.name.startsWith(".") && !entry.name.endsWith(".gz")) yield path;
  }
}

const sizes = new Map();
let whole = 0;
for (const path of files(NEW)) {
  const plain = readFileSync(path);
  const packed = gzipSync(plain, { level: 9 });
  const isSmaller = packed.length < plain.length && !/\.(woff2|png)$/.test(path);
  if (isSmaller) writeFileSync(`${path}.gz`, packed);
  sizes.set(`/${relative(NEW, path)}`, isSmaller ? packed.length : plain.length);
  whole += statSync(path).size + (isSmaller ? packed.length : 0);
}

const page = readFileSync(join(NEW, "index.html"), "utf8");
const named = [...page.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map((match) => match[1]);
const fonts = [...sizes.keys()].filter((name) => FIRST_FONTS.test(name));
const first = new Set(["/index.html", ...named, ...fonts]);
let total = 0;
for (const name of first) {
  const size = sizes.get(name);
  if (size === undefined) throw new Error(`pack: ${name} is named by index.html and is not in dist`);
  total += size;
  console.log(`${String(size).padStart(8)} ${name}`);
}
console.log(`${String(total).padStart(8)} first load; ${whole} bytes in the program`);
if (total > BUDGET * 1000) {
  console.error(
    `pack: the first load has ${total} bytes, ${BUDGET} KB are allowed; load what is not needed first by import()`,
  );
  process.exit(1);
}
rmSync(DIST, { recursive: true, force: true });
renameSync(NEW, DIST);
