// Bundles the theme into dist/: render.mjs and serve.mjs run in Node, the one writes
// the site, the other shows a page when it is asked for; assets/ is copied beside the pages as it is.
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { build } from 'esbuild';

const require = createRequire(import.meta.url);
rmSync('dist', { recursive: true, force: true });

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
  // The code component of myst-to-react is replaced by our own; its highlighter
  // would be most of the bundle and is never called.
  alias: { 'react-syntax-highlighter': './src/page/no-highlighter.ts' },
  // Some packages inside are CommonJS and look for `require` at run time.
  banner: {
    js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
  },
});

await build({
  ...common,
  entryPoints: { book: 'src/page/client.ts', style: 'src/page/book.css' },
  outdir: 'dist/assets',
  platform: 'browser',
  format: 'esm',
  // What few visits need (search) is a file of its own, fetched when it is asked for.
  splitting: true,
  chunkNames: '[name]-[hash]',
  target: ['chrome123', 'firefox120', 'safari17.5'],
  // Browsers that know light-dark() all read woff2, so the older formats that
  // KaTeX's stylesheet also names are left out.
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
  target: ['chrome123', 'firefox120', 'safari17.5'],
  loader: { '.wasm': 'file' },
  assetNames: '[name]-[hash]',
});

mkdirSync('dist/assets', { recursive: true });
copyFileSync('src/page/favicon.svg', 'dist/assets/favicon.svg');
copyFileSync(
  require.resolve('@fontsource-variable/source-serif-4/LICENSE'),
  'dist/assets/fonts/source-serif-4-LICENSE.txt',
);
