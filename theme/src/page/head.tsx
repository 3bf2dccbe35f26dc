import type { Node, Page } from '../site/types';
import type { Site } from '../site/site';
import { find } from '../site/tree';
import { earlyDepth } from './depth';

/** Runs before anything is drawn: a remembered choice shows without a flash. */
const EARLY_SCRIPT =
  "(function(e){e.classList.add('js');" +
  // Without its script the page is the one that needs none.
  "addEventListener('error',function(x){" +
  "if(/book\\.js/.test(x.target.src||''))e.classList.remove('js')},true);" +
  "try{var t=localStorage.getItem('theme');" +
  "if(t==='dark'||t==='light')e.dataset.theme=t}catch(_){}})(document.documentElement)";

/** Fonts that every page of their kind needs: asked for at once, not when the
 * stylesheet is read. */
function fonts(page: Page): string[] {
  const isMaths = (node: Node) => node.type === 'math' || node.type === 'inlineMath';
  const maths = ['KaTeX_Main-Regular', 'KaTeX_Math-Italic'];
  return ['source-serif-4-latin-wght-normal', ...(find(page.mdast, isMaths) ? maths : [])];
}

/** What search engines read: the book, or a chapter of it. */
function structured(site: Site, page: Page, name: string, description: string): string {
  const { about } = site;
  const isBook = page.slug === site.index;
  const author = about.authors && { '@type': 'Organization', name: about.authors };
  const book = { '@type': 'Book', name: site.title, url: about.url };
  const data = {
    '@context': 'https://schema.org',
    ...(isBook ? book : { '@type': 'Chapter', name, isPartOf: book }),
    description,
    author,
    inLanguage: 'en',
    dateModified: about.date,
  };
  return JSON.stringify(data).replaceAll('<', '\\u003c');
}

/** What a page says to programs that cite it or show a link to it. */
function Told({ site, page, description }: { site: Site; page: Page; description: string }) {
  const { about } = site;
  const name = page.frontmatter.title ?? site.title;
  const cited = {
    author: about.authors,
    citation_title: name,
    citation_inbook_title: name === site.title ? undefined : site.title,
    citation_author: about.authors,
    citation_publication_date: about.date?.replaceAll('-', '/') ?? about.year,
    citation_language: 'en',
    'twitter:card': 'summary',
  };
  const shared = {
    'og:type': page.slug === site.index ? 'book' : 'article',
    'og:site_name': site.title,
    'og:title': name,
    'og:description': description,
  };
  const isListed = site.pages.has(page.slug);
  return (
    <>
      {Object.entries(cited).map(
        ([key, value]) => value && <meta key={key} name={key} content={value} />,
      )}
      {Object.entries(shared).map(
        ([key, value]) => value && <meta key={key} property={key} content={value} />,
      )}
      {isListed && (
        <script
          type="application/ld+json"
          dangerouslySetInnerHTML={{ __html: structured(site, page, name, description) }}
        />
      )}
    </>
  );
}

export function Head({ site, page, title }: { site: Site; page: Page; title: string }) {
  const asset = (name: string) => `${site.base}/assets/${name}`;
  const description = page.frontmatter.description ?? site.description;
  return (
    <head>
      <meta charSet="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      <meta name="color-scheme" content="light dark" />
      <title>{title}</title>
      {description && <meta name="description" content={description} />}
      <meta name="theme-color" content="#fdfcf9" media="(prefers-color-scheme: light)" />
      <meta name="theme-color" content="#16191d" media="(prefers-color-scheme: dark)" />
      <Told site={site} page={page} description={description} />
      <link rel="icon" href={`${site.base}/favicon.ico`} sizes="32x32" />
      <link rel="icon" href={asset('favicon.svg')} type="image/svg+xml" />
      <link rel="apple-touch-icon" href={`${site.base}/apple-touch-icon.png`} />
      <script dangerouslySetInnerHTML={{ __html: `${EARLY_SCRIPT};${earlyDepth()}` }} />
      {fonts(page).map((font) => (
        <link
          key={font}
          rel="preload"
          href={asset(`fonts/${font}.woff2`)}
          as="font"
          type="font/woff2"
          crossOrigin="anonymous"
        />
      ))}
      <link rel="stylesheet" href={asset('style.css')} />
      <script defer src={asset('book.js')} />
    </head>
  );
}
