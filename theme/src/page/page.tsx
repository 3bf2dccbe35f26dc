import type { ReactNode } from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import type { Page, TocEntry } from '../site/types';
import type { Site } from '../site/site';
import { PageProvider, usePage } from '../site/context';
import { Foot } from './foot';
import { Head } from './head';
import { MyST } from './nodes';
import { TakeAway } from './takeaway';
import { Parts, parts } from './toc';
import { find, walk } from '../site/tree';

/** `outline` is what this page holds: it stands below its entry. */
function Contents({ outline }: { outline?: ReactNode }) {
  const { site, page } = usePage();
  const show = ({ slug, number, title }: TocEntry) => (
    <>
      <a href={site.href(slug!)} aria-current={slug === page.slug ? 'page' : undefined}>
        <span className="number">{number}</span>
        <span>{title}</span>
      </a>
      {slug === page.slug && outline}
    </>
  );
  return (
    <nav id="contents" aria-label="Table of contents">
      <Parts site={site} show={show} />
    </nav>
  );
}

interface OutlineProps {
  label: string;
  className?: string;
  links: { id: string; level?: number; words: ReactNode }[];
}

/** What a page holds, below its entry in the contents. */
export function Outline({ label, className = '', links }: OutlineProps) {
  if (links.length < 2) return null;
  return (
    <ol className={`outline ${className}`} aria-label={label}>
      {links.map(({ id, level, words }) => (
        <li key={id} className={level ? `level-${level}` : undefined}>
          <a href={`#${id}`}>{words}</a>
        </li>
      ))}
    </ol>
  );
}

function Sections({ page }: { page: Page }) {
  const headings = [...walk(page.mdast)].filter(
    (node) => node.type === 'heading' && node.depth <= 3,
  );
  const links = headings.map(({ html_id: id, depth: level, children }) => {
    return { id: id!, level, words: <span><MyST ast={children} /></span> };
  });
  return <Outline label="On this page" links={links} />;
}

function Bibliography({ page }: { page: Page }) {
  const { order = [], data = {} } = page.references?.cite ?? {};
  if (!order.length) return null;
  return (
    <section className="endnotes" aria-labelledby="references">
      <h2 id="references">References</h2>
      <ul>
        {order.map((label) => (
          <li
            key={label}
            id={`cite-${label}`}
            dangerouslySetInnerHTML={{ __html: data[label].html.replaceAll(' target="_blank"', '') }}
          />
        ))}
      </ul>
    </section>
  );
}

function Neighbours({ site, slug }: { site: Site; slug: string }) {
  const pages = site.toc.filter((entry) => entry.slug);
  const here = pages.findIndex((entry) => entry.slug === slug);
  const link = (rel: string, word: string, entry?: TocEntry) =>
    entry && (
      <a className={word.toLowerCase()} rel={rel} href={site.href(entry.slug!)}>
        <span>{word}</span>
        {entry.title}
      </a>
    );
  return (
    <nav className="neighbours" aria-label="Previous and next page">
      {link('prev', 'Previous', pages[here - 1])}
      {link('next', 'Next', pages[here + 1])}
    </nav>
  );
}

function Masthead({ site }: { site: Site }) {
  return (
    <header className="masthead">
      <a className="contents-link" href="#contents">
        <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
          <path d="M2 5h16M2 10h16M2 15h16" stroke="currentColor" strokeWidth="1.6" />
        </svg>
        <span className="sr-only">Contents</span>
      </a>
      <a className="book-title" href={`${site.base}/`}>
        {site.title}
      </a>
      <button
        type="button"
        className="search-button"
        aria-label="Search"
        aria-keyshortcuts="Control+K /"
      >
        <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
          <circle cx="8.5" cy="8.5" r="5.5" fill="none" stroke="currentColor" strokeWidth="1.6" />
          <path d="M12.7 12.7 18 18" stroke="currentColor" strokeWidth="1.6" />
        </svg>
        <span className="search-word">Search</span>
        <kbd aria-hidden="true">/</kbd>
      </button>
      <button type="button" className="theme-toggle">
        <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
          <circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" strokeWidth="1.6" />
          <path d="M10 3a7 7 0 0 1 0 14z" fill="currentColor" />
        </svg>
        <span className="sr-only">Dark theme</span>
      </button>
    </header>
  );
}

function Kicker({ site, slug }: { site: Site; slug: string }) {
  const part = parts(site).find((each) => each.entries.some((entry) => entry.slug === slug));
  const number = site.toc.find((entry) => entry.slug === slug)?.number;
  const kind = number && /^\d/.test(number) ? 'Chapter' : 'Appendix';
  const words = [number && `${kind} ${number}`, part?.title].filter(Boolean);
  return words.length ? <p className="kicker">{words.join(' · ')}</p> : null;
}

export interface FrameProps {
  className?: string;
  outline?: ReactNode;
  children: ReactNode;
}

/** What every page of the site has around its text. */
export function Frame({ className, outline, children }: FrameProps) {
  const { site, page } = usePage();
  const heading = page.frontmatter.title ?? site.title;
  const title = heading === site.title ? heading : `${heading} — ${site.title}`;
  return (
    <html lang="en">
      <Head site={site} page={page} title={title} />
      <body>
        <a className="skip" href="#main-text">
          Skip to the text
        </a>
        <Masthead site={site} />
        <div className={['layout', className].filter(Boolean).join(' ')}>
          <Contents outline={outline} />
          {/* The hyphen keeps it apart from the Python names that module pages bear. */}
          <main id="main-text" tabIndex={-1}>
            {children}
            <Foot site={site} page={page} />
          </main>
        </div>
      </body>
    </html>
  );
}

/** The text of a page, from its title to its references. */
export function Article({ site, page }: { site: Site; page: Page }) {
  const isLanding = page.slug === site.index;
  return (
    <article>
      {!isLanding && <Kicker site={site} slug={page.slug} />}
      <h1>{page.frontmatter.title ?? site.title}</h1>
      {page.frontmatter.description && (
        <p className="standfirst">{page.frontmatter.description}</p>
      )}
      <TakeAway site={site} page={page} />
      <MyST ast={page.mdast.children} />
      <Bibliography page={page} />
    </article>
  );
}

/** A table of many columns takes the margin, too. */
const isWide = (page: Page) =>
  find(page.mdast, (node) => ['ledger', 'errata'].includes(node.type)) !== undefined;

function Document({ site, page }: { site: Site; page: Page }) {
  const isLanding = page.slug === site.index;
  return (
    <Frame
      className={isLanding ? 'landing' : isWide(page) ? 'wide' : undefined}
      outline={isLanding ? undefined : <Sections page={page} />}
    >
      <Article site={site} page={page} />
      <Neighbours site={site} slug={page.slug} />
    </Frame>
  );
}

/** HTML of something that reads the page it stands in. */
export const renderIn = (site: Site, page: Page, body: ReactNode): string =>
  renderToStaticMarkup(<PageProvider value={{ site, page }}>{body}</PageProvider>);

/** A whole file of HTML. */
export const renderWhole = (site: Site, page: Page, frame: ReactNode): string =>
  `<!doctype html>${renderIn(site, page, frame)}`;

/** One page. Problems and files met on the way are left in `site`. */
export const renderPage = (site: Site, page: Page): string =>
  renderWhole(site, page, <Document site={site} page={page} />);

/** In a browser: the book may lie below a path that nobody named. */
const FIND_THE_BOOK = `addEventListener('error', async ({ target }) => {
  if (!/style\\.css$/.test(target.href)) return;
  const isThere = async (path) => (await fetch(path + '/assets/book.js')).ok;
  let path = location.pathname;
  do path = path.slice(0, path.lastIndexOf('/')); while (path && !(await isThere(path)));
  for (const each of path ? document.querySelectorAll('[href^="/"], script[src]') : []) {
    const name = each.src ? 'src' : 'href';
    const copy = each.src ? document.createElement('script') : each;
    copy[name] = path + each.getAttribute(name);
    copy.onload = () => document.documentElement.classList.add('js');
    if (copy !== each) each.replaceWith(copy);
  }
}, true)`;

/** The page a server shows for an address it does not know. */
export function renderMissing(site: Site): string {
  const words = { type: 'text', value: 'The table of contents lists every page.' };
  const page = {
    slug: '404',
    location: '/404',
    frontmatter: { title: 'There is no such page' },
    mdast: {
      type: 'root',
      children: [{ type: 'paragraph', children: [words] }],
    },
  };
  const html = renderPage(site, page);
  return html.replace('<link', () => `<script>${FIND_THE_BOOK}</script><link`);
}
