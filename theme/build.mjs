// Bundles the theme into dist/: render.mjs and serve.mjs run in Node, the one writes
// the site, the other shows a page when it is asked for; assets/ is copied beside the pages as it is.
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { build } from 'esbuild';
import { transform } from 'lightningcss';

const require = createRequire(import.meta.url);
rmSync('dist', { recursive: true, force: true });

/** The oldest browsers that show everything: those that mix colours. */
const OLDEST = { chrome: 111, firefox: 113, safari: 17 };

const common = { bundle: true, minify: true, logLevel: 'warning' };

await build({
  ...common,
  entryPoints: { render: 'src/site/render.tsx', serve: 'src/site/serve.ts' },
  outdir: 'dist',
  outExtension: { '.js': '.mjs' },
  platform: 'node',
  format: 'esm',
  target: 'node20',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
  // Some packages inside are CommonJS and look for `require` at run time.
  banner: {
    js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
  },
});

await build({
  ...common,
  // What few visits need is a file of its own, loaded when it is asked for.
  entryPoints: {
    book: 'src/page/client.ts',
    search: 'src/search/search.ts',
    cloud: 'src/live/cloud-client.ts',
    model: 'src/model/model-client.ts',
    style: 'src/page/book.css',
  },
  outdir: 'dist/assets',
  platform: 'browser',
  // A page that was opened as a file may not load modules.
  format: 'iife',
  target: Object.entries(OLDEST).map(([name, version]) => `${name}${version}`),
  // These browsers all read woff2, so the older formats that KaTeX's stylesheet also
  // names are left out.
  loader: { '.woff2': 'file', '.woff': 'empty', '.ttf': 'empty' },
  assetNames: 'fonts/[name]',
});

// What runs a model is a script of its own, beside the page: no page waits for it.
await build({
  ...common,
  entryPoints: { worker: 'src/model/worker.ts' },
  outdir: 'dist/assets',
  platform: 'browser',
  format: 'esm',
  target: Object.entries(OLDEST).map(([name, version]) => `${name}${version}`),
  loader: { '.wasm': 'file' },
  assetNames: '[name]-[hash]',
});

// light-dark() is younger than that.
const style = 'dist/assets/style.css';
const targets = Object.fromEntries(
  Object.entries(OLDEST).map(([name, version]) => [name, version << 16]),
);
const lowered = transform({
  filename: style,
  code: readFileSync(style),
  minify: true,
  targets,
});
writeFileSync(style, lowered.code);

copyFileSync('src/page/favicon.svg', 'dist/assets/favicon.svg');
copyFileSync(
  require.resolve('@fontsource-variable/source-serif-4/LICENSE'),
  'dist/assets/fonts/source-serif-4-LICENSE.txt',
);
