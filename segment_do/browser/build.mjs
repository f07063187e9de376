// Builds dist/ from src/. The result depends on nothing but the sources and the pinned esbuild; a test compares the two.
import { readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(process.argv[2] ?? join(here, "dist"));
const version = /__version__ = "(.+)"/.exec(readFileSync(join(here, "..", "version.py"), "utf8"))[1];

rmSync(dist, { recursive: true, force: true });

const common = {
  absWorkingDir: here,
  bundle: true,
  charset: "utf8",
  define: { __VERSION__: JSON.stringify(version) },
  legalComments: "none",
  logLevel: "warning",
};
const browser = { ...common, platform: "browser", target: "es2020" };

// react.js uses the module beside it, so that a page has one client class however it imports it.
const besideIt = {
  name: "beside-it",
  setup: (building) =>
    building.onResolve({ filter: /^\.\/index\.js$/ }, () => ({ path: "./analytics.esm.js", external: true })),
};

await Promise.all([
  build({
    ...browser,
    entryPoints: ["src/standalone.ts"],
    outfile: join(dist, "analytics.min.js"),
    format: "iife",
    minify: true,
  }),
  build({ ...browser, entryPoints: ["src/index.ts"], outfile: join(dist, "analytics.esm.js"), format: "esm" }),
  build({
    ...browser,
    entryPoints: ["src/react.ts"],
    outfile: join(dist, "react.js"),
    format: "esm",
    external: ["react"],
    plugins: [besideIt],
  }),
  build({
    ...common,
    entryPoints: ["src/server.ts"],
    outfile: join(dist, "server.js"),
    format: "esm",
    platform: "node",
    target: "node18",
  }),
]);
