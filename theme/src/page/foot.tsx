import type { Page } from '../site/types';
import { PRINT, type Site } from '../site/site';
import { Code } from './code';

/** What every page ends with: what the book is, and what can be taken from it. */
export function Foot({ site, page }: { site: Site; page: Page }) {
  const { about } = site;
  const source = site.options.repository;
  const file = (name: string) => `${site.base}/download/${name}`;
  return (
    <footer>
      <p>
        {source && page.location && site.pages.has(page.slug) && (
          <a href={`${source}/blob/main${page.location}`}>
            Source of this page: <code>{page.location.slice(1)}</code>
          </a>
        )}
        {source && <a href={`${source}/issues`}>Report a mistake</a>}
        <a className="printable" href={`${site.base}/${PRINT}/`}>
          The book on one page, to print
        </a>
        <a href={file('notebooks.zip')}>All notebooks</a>
        {about.archive && <a href={file(about.archive)}>Book and program</a>}
        <button type="button" className="keys-button">
          Keyboard shortcuts
        </button>
      </p>
      <details className="cite-this">
        <summary>Cite this</summary>
        <Code value={about.bibtex(site.title)} />
      </details>
      <p>
        <span>
          {site.title}
          {about.version && `, version ${about.version}`}
          {about.date && ', '}
          {about.date && <time dateTime={about.date}>{about.date}</time>}
        </span>
        {about.authors && (
          <span>
            © {about.year} {about.authors}
          </span>
        )}
        {about.licence && <a href={file('LICENSE.txt')}>{about.licence} licence</a>}
      </p>
    </footer>
  );
}
