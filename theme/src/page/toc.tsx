import type { ReactNode } from 'react';
import { usePage } from '../site/context';
import { MODULES, type Site } from '../site/site';
import type { TocEntry } from '../site/types';

interface Part {
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

interface PartsProps {
  site: Site;
  Title?: 'p' | 'h2';
  /** What is said of a page; nothing, where it is not named. */
  show: (entry: TocEntry) => ReactNode;
}

/** The pages of the book, part by part. */
export function Parts({ site, Title = 'p', show }: PartsProps) {
  return parts(site).map(({ title, entries }, i) => (
    <section className="part" key={i}>
      {title && <Title className="part-title">{title}</Title>}
      <ol>
        {entries.map((entry) => {
          const shown = show(entry);
          return shown && <li key={entry.slug}>{shown}</li>;
        })}
      </ol>
    </section>
  ));
}

/** The `{toc}` directive: every chapter with what it gives. */
export function ChapterList() {
  const { site } = usePage();
  const show = ({ slug, number, title, description, thumbnail }: TocEntry) => (
    <a href={site.href(slug!)}>
      <span className="number">{number}</span>
      <span className="chapter-title">{title}</span>
      <span className="chapter-description">{description}</span>
      {thumbnail && <img {...site.publish(thumbnail)} alt="" loading="lazy" />}
    </a>
  );
  return (
    <nav className="chapters" aria-label="Chapters">
      <Parts site={site} Title="h2" show={show} />
    </nav>
  );
}
