/** Page tests: a browser against the built page and a server that plays the console. One after the other: there is one browser. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/*.test.ts"],
    environment: "node",
    // A page on a machine that is busy with virtual machines.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    fileParallelism: false,
    // A line a page as it is done: a run takes minutes.
    reporters: ["verbose"],
  },
});
