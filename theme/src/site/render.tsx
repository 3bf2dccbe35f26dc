// Writes the whole site into BUILD_DIRECTORY. mystmd runs this (build.render in
// template.yml) while its content server answers at CONTENT_CDN.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { basePath, bookRoot, setting } from './settings';
import { DATA, documents } from './documents';
import { relative } from './relative';
import { Site } from './site';
import { renderMissing } from '../page/page';

/** Links to a place in a page of this book that no element of the page bears. */
function deadAnchors(rendered: Record<'href' | 'html' | 'source', string>[]): string[] {
  const places = new Map<string, Set<string>>();
  for (const { href, html } of rendered) {
    const ids = [...html.matchAll(/<[a-z][^<>]*? id="([^"]+)"/gi)].map((found) => found[1]);
    places.set(href, new Set(ids));
  }
  const dead: string[] = [];
  for (const { href, source, html } of rendered) {
    for (const [, path, id] of html.matchAll(/ href="([^"#]*)#([^"]+)"/g)) {
      const ids = places.get(path || href);
      if (!ids || ids.has(id)) continue;
      dead.push(`${source} a link leads to "${id}", which is not on the page it names`);
    }
  }
  return dead;
}

/** A page that says where it lies, if that is known. */
function withAddress({ about }: Site, html: string, path: string): string {
  if (!about.url) return html;
  const address = `${about.url}/${path}`;
  const said = `<link rel="canonical" href="${address}"/><meta property="og:url" content="${address}"/>`;
  return html.replace('</title>', () => `</title>${said}`);
}

const sitemap = (addresses: string[]) =>
  '<?xml version="1.0" encoding="UTF-8"?>\n' +
  '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n' +
  addresses.map((address) => `<url><loc>${address}</loc></url>\n`).join('') +
  '</urlset>\n';

async function main(): Promise<number> {
  const out = setting('BUILD_DIRECTORY');
  const cdn = setting('CONTENT_CDN');

  const write = (name: string, content: string | Buffer) => {
    const file = join(out, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  };

  // What other MyST and Sphinx projects read to refer to this book. Fetched before the
  // long work on the pages, during which the server would close the connection.
  const xref = await (await fetch(`${cdn}/myst.xref.json`)).json();
  for (const reference of xref.references ?? []) {
    reference.data = reference.data?.replace(/^\/content/, '');
  }
  write('myst.xref.json', JSON.stringify(xref));
  const inventory = await fetch(`${cdn}/objects.inv`);
  if (inventory.ok) write('objects.inv', Buffer.from(await inventory.arrayBuffer()));
  const site = await Site.load(cdn, basePath(), bookRoot());

  for (const [slug, page] of site.pages) write(`${slug}.json`, JSON.stringify(page));
  const rendered = documents(site).map((each) => ({ ...each, html: each.html() }));
  for (const { href, html } of rendered) {
    const path = site.below(href);
    write(`${path}index.html`, relative(withAddress(site, html, path), site.base, path));
  }
  site.problems.push(...deadAnchors(rendered));
  write('404.html', renderMissing(site));
  if (site.about.url) {
    const listed = rendered.slice(0, -1).map(({ href }) => `${site.about.url}/${site.below(href)}`);
    write('sitemap.xml', sitemap(listed));
    write('robots.txt', `User-agent: *\nAllow: /\nSitemap: ${site.about.url}/sitemap.xml\n`);
  }
  // A page that was opened as a file may run a script beside it, but not read JSON.
  const writeData = (name: string, json: string | Buffer) => {
    write(name, json);
    write(`${name}.js`, `document.currentScript.data=${json}`);
  };
  for (const [name, data] of Object.entries(DATA)) writeData(name, JSON.stringify(data(site)));
  for (const [path, bytes] of site.assets) {
    (path.endsWith('.json') ? writeData : write)(path, bytes);
  }

  const assets = join(dirname(fileURLToPath(import.meta.url)), 'assets');
  cpSync(assets, join(out, 'assets'), { recursive: true });
  // A host that runs pages through Jekyll would drop names it does not like.
  write('.nojekyll', '');

  // In the form of mystmd's own messages, so that a log is read in one way.
  for (const problem of new Set(site.problems)) console.error(`⛔️ ${problem}`);
  return site.problems.length ? 1 : 0;
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(`⛔️ theme: ${error.stack ?? error.message}`);
    process.exit(1);
  },
);
