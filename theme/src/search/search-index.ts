// What search looks through: one entry for each page, section, numbered equation,
// figure, table, exercise, box, module and name of the package, and row of the back
// matter. Written when the site is.
import { accounts, sourceWords, type Row as EquationRow } from '../back/ledger';
import { withoutTex } from '../page/tex';
import { capital, isExercise, mathText, walk } from '../site/tree';
import type { Site } from '../site/site';
import type { Node, Page } from '../site/types';

export interface Entry {
  kind: string;
  title: string;
  /** Address from the root of the site, without a slash in front. */
  href: string;
  page: string;
  text: string;
  /** What a reader may type to get here and nowhere else. */
  label?: string;
  number?: string;
}

// Display formulas are unreadable in a line of text; those with a number are entries.
const SILENT = ['captionNumber', 'code', 'math', 'outputs'];
const BLOCKS = ['paragraph', 'listItem', 'tableRow', 'caption', 'definitionTerm'];

function text(node: Node): string {
  if (SILENT.includes(node.type)) return '';
  if (node.type === 'inlineMath') return mathText(node);
  // A reference that is still its label says nothing to a reader.
  if (node.type === 'mystRole') return '…';
  const inner = node.value ?? (node.children ?? []).map(text).join('');
  const spaced = node.type === 'tableCell' || BLOCKS.includes(node.type);
  return spaced ? `${inner} ` : inner;
}

const clean = (words: string) => words.replace(/\s+/g, ' ').trim();

class PageIndex {
  readonly entries: Entry[];
  /** The page itself, until the first heading. */
  private section: Entry;
  private lastParagraph = '';
  private readonly place: Pick<Entry, 'href' | 'page'>;

  constructor(site: Site, slug: string, page: Page) {
    const entry = site.toc.find((each) => each.slug === slug);
    const title = page.frontmatter.title ?? site.title;
    const name = entry?.number ? `${entry.number} ${title}` : title;
    this.place = { href: pathOf(site, slug), page: name };
    const description = page.frontmatter.description ?? '';
    this.section = { kind: 'page', title, ...this.place, text: `${description} ` };
    this.entries = [this.section];
    this.visit(page.mdast);
    for (const each of this.entries) each.text = clean(each.text);
  }

  private add(kind: string, title: string, node: Node, words: string): Entry {
    const href = `${this.place.href}#${node.html_id}`;
    const { label, enumerator: number } = node;
    const entry = { kind, title, page: this.place.page, href, text: words };
    this.entries.push(number ? { ...entry, label, number } : entry);
    return entry;
  }

  private visit(node: Node): void {
    if (node.data?.part === 'toc:project') return;
    if (node.type === 'heading' && node.html_id) {
      const unnumbered = { ...node, enumerator: undefined };
      this.section = this.add('section', clean(text(node)), unnumbered, '');
    } else if (node.type === 'math') {
      this.equation(node);
    } else if (node.type === 'container' && node.enumerator) {
      this.figure(node);
    } else if (isExercise(node)) {
      this.exercise(node);
    } else if (node.type === 'glossary') {
      this.glossary(node);
    } else if (BLOCKS.includes(node.type)) {
      this.lastParagraph = text(node);
      this.section.text += this.lastParagraph;
    } else {
      this.box(node);
      for (const child of node.children ?? []) this.visit(child);
    }
  }

  private equation(node: Node): void {
    if (!node.enumerator || !node.html_id) return;
    const before = clean(this.lastParagraph).split(/(?<=[.?!]) /).at(-1);
    const title = `Equation (${node.enumerator})`;
    this.add('equation', title, node, `${before} ${mathText(node)}`);
  }

  private figure(node: Node): void {
    const caption = node.children?.find((child) => child.type === 'caption');
    const title = `${capital(node.kind)} ${node.enumerator}`;
    this.add(node.kind, title, node, caption ? text(caption) : '');
  }

  private exercise(node: Node): void {
    const [title, ...rest] = node.children!;
    const name = clean(text(title)).replace(/\.$/, '');
    const numbered = { ...node, enumerator: name.split(' ')[1] };
    this.add('exercise', name, numbered, rest.map(text).join(''));
  }

  private glossary(node: Node): void {
    const parts = node.children!.flatMap((list) => list.children ?? []);
    parts.forEach((part, i) => {
      if (part.type !== 'definitionTerm') return;
      this.add('term', clean(text(part)), part, text(parts[i + 1]));
    });
  }

  private box(node: Node): void {
    const [first, ...rest] = node.children ?? [];
    if (!node.html_id || first?.type !== 'admonitionTitle') return;
    this.add('note', text(first), node, rest.map(text).join(''));
  }
}

const pathOf = (site: Site, slug: string) => site.below(site.href(slug));

const moduleName = (site: Site, module: string) =>
  `${site.options.package ?? ''}.${module}`.replace(/^\.|\.__init__$/, '');

function modules(site: Site): Entry[] {
  return site.package.modules.map(({ name, file, summary }) => {
    const href = site.below(site.moduleHref(name));
    return { kind: 'module', title: file, page: site.package.name, href, text: summary };
  });
}

function identifiers(site: Site): Entry[] {
  return site.identifiers.all.map(({ name, kind, slug, id, module, signature, summary }) => {
    const href = `${pathOf(site, slug)}#${id}`;
    const page = moduleName(site, module);
    return { kind, title: name, page, href, text: summary || signature };
  });
}

/** What the preview of a name shows. */
export function identifierPreviews(site: Site) {
  const previews = [...site.identifiers.unambiguous.values()].map(
    ({ name, slug, module, signature, summary }) => {
      const page = site.pages.get(slug)?.frontmatter.title;
      const place = `${moduleName(site, module)} · ${page}`;
      return [name, { signature, summary, place }];
    },
  );
  return Object.fromEntries(previews);
}

type Row = Pick<Entry, 'kind' | 'title' | 'text'> & { id: string };

function equationRow(site: Site, row: EquationRow): Row {
  const functions = row.functions.map(({ name }) => name).join(', ');
  const kinds = row.check?.measured.map(({ kind }) => kind).join(', ') || 'asserted';
  const text = clean(`${sourceWords(site, row)}. ${functions} ${kinds}`);
  return { kind: 'ledger', title: `Ledger, equation (${row.number})`, id: `row-${row.label}`, text };
}

/** Directives of the back matter, and the rows that they make. */
const ROWS: Record<string, (site: Site) => Row[]> = {
  ledger: (site) =>
    accounts(site).flatMap(({ rows }) => rows.map((row) => equationRow(site, row))),
  errata: ({ facts }) =>
    facts.errata.map(({ quote, correct }, i) => {
      return { kind: 'erratum', title: quote, id: `erratum-${i + 1}`, text: withoutTex(correct) };
    }),
  coverage: ({ facts }) =>
    facts.coverage.map(({ item }, i) => {
      return { kind: 'topic', title: withoutTex(item), id: `topic-${i + 1}`, text: '' };
    }),
};

function rowsOn(site: Site, slug: string, { mdast, frontmatter }: Page): Entry[] {
  const page = frontmatter.title ?? site.title;
  const directives = [...walk(mdast)].flatMap((node) => ROWS[node.type] ?? []);
  return directives
    .flatMap((rows) => rows(site))
    .map(({ id, ...row }) => ({ ...row, page, href: `${pathOf(site, slug)}#${id}` }));
}

export function searchIndex(site: Site): Entry[] {
  const pages = [...site.pages];
  return [
    ...pages.flatMap(([slug, page]) => new PageIndex(site, slug, page).entries),
    ...modules(site),
    ...identifiers(site),
    ...pages.flatMap(([slug, page]) => rowsOn(site, slug, page)),
  ];
}
