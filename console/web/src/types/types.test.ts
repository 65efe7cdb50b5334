import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("the types are those of the CRDs: run `npm run types` after a change of them", async () => {
  const { generate } = (await import(new URL("../../tools/types.mjs", import.meta.url).href)) as {
    generate: () => string;
  };
  expect(readFileSync(new URL("crds.ts", import.meta.url), "utf8")).toBe(generate());
});
