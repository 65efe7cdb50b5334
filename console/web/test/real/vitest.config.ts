/**
 * Pages against a real console; each test goes on where the one before ended. A case names the one file that it starts
 * (`tests/src/pages.rs`): the others need another console.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/real/*.test.ts"],
    environment: "node",
    // A node in emulation boots a guest of its own meanwhile.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    bail: 1,
    fileParallelism: false,
    reporters: ["verbose"],
  },
});
