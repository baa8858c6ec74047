// Builds ../static in two passes: `stage`, the drawing with three.js and Spark, and `page`, all the rest, which is small
// and shows itself before the other has come. Beside them the licences of what is inside, and a hash of these sources, by
// which a test finds a stale build where there is no Node.
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

export default defineConfig(({ mode }) => {
  const stage = mode === "stage";
  const file = stage ? "stage" : "viewer";
  return {
    define: { "process.env.NODE_ENV": JSON.stringify("production") },
    plugins: [record()],
    build: {
      outDir: "../static",
      emptyOutDir: stage, // the first pass
      target: "es2022",
      chunkSizeWarningLimit: 4000,
      lib: {
        entry: stage ? "src/stage.ts" : "src/main.ts",
        formats: ["iife"],
        name: stage ? "splatdistillStage" : "splatdistillPage",
        fileName: () => `${file}.js`,
        cssFileName: file,
      },
    },
  };
});
