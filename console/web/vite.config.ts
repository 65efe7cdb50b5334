/**
 * How the page is built: files below `assets/` are named by their content, nothing is inline (the Content-Security-Policy of
 * `console/src/headers.rs` forbids it), and screens are chunks of their own that load when they are opened.
 */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  build: {
    // tools/pack.mjs puts it in the place of `dist` when it is whole: a build of the program never finds half of it.
    outDir: "dist.new",
    target: "es2022",
    // Nothing is inlined as a data: URL; fonts would be refused by the policy.
    assetsInlineLimit: 0,
    // The polyfill is a script of its own that every browser of es2022 has no need of.
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1500,
  },
  // The machine may be busy with virtual machines of other tests.
  test: {
    include: ["src/**/*.test.{ts,tsx}"],
    environment: "node",
    testTimeout: 120_000,
    // Their CommonJS form, which vitest would take, cannot import styles.
    alias: [{ find: /^(@patternfly\/react-(core|table))$/, replacement: "$1/dist/esm/index.js" }],
    server: { deps: { inline: [/@patternfly/] } },
  },
});
