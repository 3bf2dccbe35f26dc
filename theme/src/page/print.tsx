import { renderToStaticMarkup } from 'react-dom/server';
import type { TocEntry } from '../site/types';
import type { Site } from '../site/site';
import { Article, renderIn } from './page';
import { Parts } from './toc';

const quoted = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`;

const heading = ({ number, title }: TocEntry) => [number, title].filter(Boolean).join('  ');

/** Each chapter has pages of its own name, so that their heads can say which it is. */
function pageRules(chapters: TocEntry[]): string {
  return chapters
    .map((entry) => {
      const name = `chapter-${entry.slug}`;
      return (
        `@page ${name}{@top-left{content:${quoted(heading(entry))}}}` +
        `#${entry.slug}{page:${name}}`
      );
    })
    .join('\n');
}

/**
 * A chapter's HTML, fit to stand beside all others: its ids are its own, its links
 * stay inside the document, and nothing waits to be opened or scrolled to.
 */
function embed(site: Site, slug: string, html: string): string {
  const ids = (names: string) => names.split(' ').map((name) => `${slug}--${name}`).join(' ');
  const pages = new Map([...site.pages.keys()].map((other) => [site.href(other), other]));
  const href = (url: string): string => {
    const [path, hash] = url.split('#');
    if (url.startsWith('#')) return ` href="#${slug}--${hash}"`;
    const other = pages.get(path);
    // The front page is not printed: its place is the title page.
    if (other === site.index) return ' href="#book"';
    if (other) return ` href="#${other}${hash ? `--${hash}` : ''}"`;
    // A file of the site is not part of the document.
    return url.startsWith('/') ? '' : ` href="${url}"`;
  };
  return html
    .replace(/ (id|for|aria-labelledby|aria-controls|aria-describedby)="([^"]+)"/g, (_, name, value) =>
      ` ${name}="${ids(value)}"`,
    )
    .replace(/ href="([^"]*)"/g, (_, url) => href(url))
    .replaceAll(' loading="lazy"', '')
    .replace(/<details(?![^>]* open)/g, '<details open=""');
}

function Contents({ site }: { site: Site }) {
  const show = ({ slug, number, title }: TocEntry) =>
    site.pages.has(slug!) && (
      <a href={`#${slug}`}>
        <span className="number">{number}</span>
        <span>{title}</span>
        {/* Filled in by tools/pdf.py, once the pages are known. */}
        <span className="page-of" data-of={slug} />
      </a>
    );
  return (
    <nav className="print-contents" aria-labelledby="contents-title">
      <h1 id="contents-title">Contents</h1>
      <Parts site={site} show={show} />
    </nav>
  );
}

/** All chapters in one page, with a title page and a table of contents. */
export function renderPrint(site: Site): string {
  const chapters = site.toc.filter(({ slug }) => slug && slug !== site.index);
  const bodies = chapters.map(({ slug }) => {
    const page = site.pages.get(slug!)!;
    const html = renderIn(site, page, <Article site={site} page={page} />);
    return `<section class="chapter" id="${slug}">${embed(site, page.slug, html)}</section>`;
  });
  const front = (
    <>
      <header className="title-page" id="book">
        <h1>{site.title}</h1>
        <p>{site.description}</p>
      </header>
      <Contents site={site} />
    </>
  );
  const head = (
    <head>
      <meta charSet="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      <meta name="robots" content="noindex" />
      <title>{site.title}</title>
      <link rel="icon" href={`${site.base}/assets/favicon.svg`} type="image/svg+xml" />
      <link rel="stylesheet" href={`${site.base}/assets/style.css`} />
      <style dangerouslySetInnerHTML={{ __html: pageRules(chapters) }} />
    </head>
  );
  return (
    `<!doctype html><html lang="en" data-theme="light">${renderToStaticMarkup(head)}` +
    `<body class="whole-book">${renderToStaticMarkup(front)}` +
    `<main>${bodies.join('\n')}</main></body></html>`
  );
}
