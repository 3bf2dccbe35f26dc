// A preview: renders each page when a browser asks for it, from what mystmd's content
// server has at that moment. mystmd runs this (build.start in template.yml) and tells
// open pages over a websocket when a chapter has changed.
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { renderMissing } from '../page/page';
import { DATA, documents } from './documents';
import { basePath, bookRoot, setting } from './settings';
import { Site } from './site';

const TYPES: Record<string, string> = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};

const host = process.env.HOST ?? 'localhost';
const port = Number(setting('PORT'));
const contentPort = setting('CONTENT_CDN_PORT');
const base = basePath();
const bundled = dirname(fileURLToPath(import.meta.url));
/** Images of every page that has been shown, whatever has changed since. */
const assets = new Map<string, Buffer>();

const RELOAD =
  `<script>new WebSocket('ws://'+location.hostname+':${contentPort}/socket').onmessage=` +
  `e=>{if(JSON.parse(e.data).type==='RELOAD')location.reload()}</script>`;

type Answer = { status?: number; type: string; body: string | Buffer };

function page(site: Site, path: string): Answer {
  const found = documents(site).find(({ href }) => site.below(href) === path);
  const html = found ? found.html() : renderMissing(site);
  for (const [file, bytes] of site.assets) assets.set(file, bytes);
  for (const problem of new Set(site.problems)) console.error(`⛔️ ${problem}`);
  const body = html.replace('</body>', () => `${RELOAD}</body>`);
  return { status: found ? 200 : 404, type: '.html', body };
}

async function answer(path: string): Promise<Answer> {
  const type = extname(path);
  const known = assets.get(path);
  if (known) return { type, body: known };
  if (path.startsWith('assets/')) {
    return { type, body: await readFile(join(bundled, normalize(path))) };
  }
  const site = await Site.load(`http://${host}:${contentPort}`, base, bookRoot());
  return DATA[path] ? { type, body: JSON.stringify(DATA[path](site)) } : page(site, path);
}

async function respond(request: IncomingMessage, response: ServerResponse) {
  const { pathname } = new URL(request.url ?? '/', 'http://preview');
  const path = decodeURIComponent(pathname.slice(base.length)).replace(/^\//, '');
  try {
    const { status = 200, type, body } = await answer(path);
    const headers = {
      'content-type': TYPES[type] ?? 'application/octet-stream',
      'cache-control': 'no-store',
    };
    response.writeHead(status, headers).end(body);
  } catch (error) {
    console.error(`⛔️ theme: /${path}: ${(error as Error).message}`);
    response.writeHead(500, { 'content-type': 'text/plain' }).end(String(error));
  }
}

createServer((request, response) => void respond(request, response)).listen(
  port,
  host,
  () => console.log(`The preview is at http://${host}:${port}`),
);
