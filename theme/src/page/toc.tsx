import { usePage } from '../site/context';
import { MODULES, type Site } from '../site/site';
import type { TocEntry } from '../site/types';

export interface Part {
  title?: string;
  entries: TocEntry[];
}

/** Of what no chapter is the page: the last thing that a table of contents names. */
const API: TocEntry = {
  title: 'API reference',
  description: 'Every module, every public name.',
  slug: MODULES,
  level: 1,
};

/** Parts are the entries without a page; what follows one belongs to it. */
export function parts(site: Site): Part[] {
  const found: Part[] = [{ entries: [] }];
  for (const entry of [...site.toc, API]) {
    if (!entry.slug) found.push({ title: entry.title, entries: [] });
    else if (entry.slug !== site.index) found.at(-1)!.entries.push(entry);
  }
  return found.filter((part) => part.title || part.entries.length);
}

/** The `{toc}` directive: every chapter with what it gives, part by part. */
export function ChapterList() {
  const { site } = usePage();
  return (
    <nav className="chapters" aria-label="Chapters">
      {parts(site).map((part, i) => (
        <section key={i} className="chapters-part">
          {part.title && <h2>{part.title}</h2>}
          <ol>
            {part.entries.map((entry) => (
              <li key={entry.slug}>
                <a href={site.href(entry.slug!)}>
                  <span className="number">{entry.number}</span>
                  <span className="chapter-title">{entry.title}</span>
                  <span className="chapter-description">{entry.description}</span>
                  {entry.thumbnail && (
                    <img {...site.publish(entry.thumbnail)} alt="" loading="lazy" />
                  )}
                </a>
              </li>
            ))}
          </ol>
        </section>
      ))}
    </nav>
  );
}
