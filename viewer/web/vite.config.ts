// Builds ../static: the page, one script, one style sheet, the licences of what is inside, and a hash of these sources,
// by which a test finds a stale build where there is no Node.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const INSIDE = ["three", "@sparkjsdev/spark", "fflate"];

function sources(folder = ""): string[] {
  return readdirSync(join(import.meta.dirname, folder), { withFileTypes: true })
    .filter((entry) => entry.name !== "node_modules")
    .flatMap((entry) => (entry.isDirectory() ? sources(`${folder}${entry.name}/`) : [folder + entry.name]));
}

function record(): Plugin {
  return {
    name: "record",
    closeBundle() {
      const hash = createHash("sha256");
      for (const name of sources().sort()) {
        hash.update(`${name}\0`).update(readFileSync(join(import.meta.dirname, name))).update("\0");
      }
      const out = join(import.meta.dirname, "../static");
      writeFileSync(join(out, "BUILD.json"), `${JSON.stringify({ sources: hash.digest("hex") })}\n`);
      const licences = INSIDE.map((name) => {
        const text = readFileSync(join(import.meta.dirname, "node_modules", name, "LICENSE"), "utf8");
        return `${name}\n\n${text.trim()}\n`;
      });
      writeFileSync(join(out, "LICENSES.txt"), licences.join("\n---\n\n"));
    },
  };
}

export default defineConfig({
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  plugins: [record()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 4000,
    lib: { entry: "src/main.ts", formats: ["iife"], name: "viewer", fileName: () => "viewer.js", cssFileName: "viewer" },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8017" } },
});
