// Writes the whole site into BUILD_DIRECTORY. mystmd runs this (build.render in
// template.yml) while its content server answers at CONTENT_CDN.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { basePath, setting } from './settings';
import { Site, slugPath } from './site';
import { renderMissing, renderPage } from './page';
import { identifierPreviews, searchIndex } from './search-index';

/** Links to a place in a page of this book that no element of the page bears. */
function deadAnchors(site: Site, rendered: Map<string, string>): string[] {
  const places = new Map<string, Set<string>>();
  for (const [slug, html] of rendered) {
    const ids = [...html.matchAll(/<[a-z][^<>]*? id="([^"]+)"/gi)].map((found) => found[1]);
    places.set(site.href(slug), new Set(ids));
  }
  const dead: string[] = [];
  for (const [slug, html] of rendered) {
    for (const [, path, id] of html.matchAll(/ href="([^"#]*)#([^"]+)"/g)) {
      const ids = places.get(path || site.href(slug));
      if (!ids || ids.has(id)) continue;
      const file = site.pages.get(slug)?.location.slice(1);
      dead.push(`${file} a link leads to "${id}", which is not on the page it names`);
    }
  }
  return dead;
}

async function main(): Promise<number> {
  const out = setting('BUILD_DIRECTORY');
  const cdn = setting('CONTENT_CDN');
  const site = await Site.load(cdn, basePath());

  const write = (name: string, content: string | Buffer) => {
    const file = join(out, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  };

  const rendered = new Map<string, string>();
  for (const [slug, page] of site.pages) {
    const folder = slug === site.index ? '' : `${slugPath(slug)}/`;
    const html = renderPage(site, page);
    rendered.set(slug, html);
    write(`${folder}index.html`, html);
    write(`${slug}.json`, JSON.stringify(page));
  }
  site.problems.push(...deadAnchors(site, rendered));
  write('404.html', renderMissing(site));
  write('search.json', JSON.stringify(searchIndex(site)));
  write('identifiers.json', JSON.stringify(identifierPreviews(site)));
  for (const asset of site.assets.values()) write(asset.path, asset.bytes);

  // What other MyST and Sphinx projects read to refer to this book.
  const xref = await (await fetch(`${cdn}/myst.xref.json`)).json();
  for (const reference of xref.references ?? []) {
    reference.data = reference.data?.replace(/^\/content/, '');
  }
  write('myst.xref.json', JSON.stringify(xref));
  const inventory = await fetch(`${cdn}/objects.inv`);
  if (inventory.ok) write('objects.inv', Buffer.from(await inventory.arrayBuffer()));

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
