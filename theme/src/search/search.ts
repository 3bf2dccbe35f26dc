// Search: fetched, with its index, when a reader first opens it.
import MiniSearch, { type SearchResult } from 'minisearch';
import { closeButton, dialog, element, once, readJson, siteUrl } from '../page/dom';
import type { Entry } from './search-index';

const LIMIT = 30;
const KINDS: Record<string, string> = {
  eq: 'equation',
  fig: 'figure',
  tab: 'table',
  ex: 'exercise',
};
const IDENTIFIERS = ['function', 'class', 'constant'];
/** What a reader means first: chapters before the tables that list everything. */
const WEIGHT: Record<string, number> = {
  page: 4,
  section: 2.5,
  equation: 2,
  figure: 1.5,
  term: 1.2,
  function: 0.8,
  class: 0.8,
  module: 0.6,
  constant: 0.5,
  topic: 0.1,
  erratum: 0.1,
  ledger: 0.1,
};
/** What a reader may call otherwise than the book, by its pieces. */
const ALSO: Record<string, string> = {
  fid: 'frechet distance',
  vlb: 'evidence lower bound',
  elbo: 'evidence lower bound',
  'variational bound': 'evidence lower bound',
  kl: 'divergence',
  nll: 'likelihood',
  'negative log likelihood': 'likelihood',
  cfg: 'classifier free guidance',
  'classifier free guidance': 'without a classifier',
  α: 'alpha bar',
  eps: 'noise',
  epsilon: 'noise',
  sampler: 'sampling',
  unet: 'u net',
  latents: 'latent',
};
const SMALL = new Set('a an and are do does how i in is it of on or the to what why'.split(' '));

/** Without accents, and without the bars and hats of formulas. */
const fold = (text: string) => text.normalize('NFD').replace(/[\p{M}ˉ]/gu, '');

/** The pieces of words such as q_sample, 2.3 and eq-kernel. */
const pieces = (text: string) => fold(text).match(/[\p{L}\p{N}]+/gu) ?? [];

/** Words, and for compounds also their pieces. */
function tokenize(text: string): string[] {
  const words = fold(text).match(/[\p{L}\p{N}_]+(?:[.'’-][\p{L}\p{N}_]+)*/gu) ?? [];
  return words.flatMap((word) => {
    const parts = pieces(word);
    return parts.length > 1 ? [word, parts.join(''), ...parts] : parts;
  });
}

/** An appendix, and what begins with an underscore, comes after the rest. */
function weight({ kind, title, page }: Entry): number {
  const isAside = (/^[A-Z] /.test(page) && kind !== 'term') || title.startsWith('_');
  return (WEIGHT[kind] ?? 1) * (isAside ? 0.15 : 1);
}

function createIndex(entries: Entry[]): MiniSearch {
  const index = new MiniSearch({
    fields: ['title', 'label', 'number', 'text'],
    idField: 'id',
    tokenize,
    searchOptions: {
      tokenize: pieces,
      boost: { title: 4, label: 4, number: 4 },
      boostDocument: (id) => weight(entries[id as number]),
      prefix: (term) => term.length > 1,
      fuzzy: (term) => (term.length > 5 ? 0.2 : false),
      combineWith: 'AND',
    },
  });
  index.addAll(entries.map((entry, id) => ({ ...entry, id })));
  return index;
}

/** What the query names outright: a page, "eq-kernel", "(2.3)", "fig 3.1", an identifier
 * that is no plain word. */
function named(entries: Entry[], query: string): Entry[] {
  const wanted = query.toLowerCase();
  const number = /^(eq|fig|tab|ex)?[a-z]*\.?\s*\(?([a-z\d]+\.\d+)\)?$/.exec(wanted);
  if (number) {
    const kind = KINDS[number[1]];
    return entries.filter(
      (entry) =>
        entry.number?.toLowerCase() === number[2] && (!kind || entry.kind === kind),
    );
  }
  const isNamed = ({ kind, title, label }: Entry) =>
    label?.toLowerCase() === wanted ||
    (kind === 'page' && title.toLowerCase() === wanted) ||
    (IDENTIFIERS.includes(kind) && title === query && /[_A-Z\d]/.test(query));
  return entries.filter(isNamed);
}

/** The query, and what else it may be called. */
function readings(query: string): string[] {
  const words = pieces(query.toLowerCase()).filter((word) => !SMALL.has(word));
  const plain = ` ${words.join(' ')} `;
  const others = Object.entries(ALSO).flatMap(([name, other]) =>
    plain.includes(` ${name} `) ? plain.replace(name, other) : [],
  );
  // A word in two pieces is also written as one.
  const joined = /^\p{L}+[-_]\p{L}+$/u.test(query) ? [words.join('')] : [];
  return [words.length ? plain : query, ...others, ...joined];
}

interface Hit {
  entry: Entry;
  terms: string[];
}

function find(entries: Entry[], index: MiniSearch, query: string): Hit[] {
  const words = query.trim();
  const exact = named(entries, words);
  const queries = readings(words);
  let results: SearchResult[] = index.search({ combineWith: 'OR', queries });
  if (!results.length) {
    // Half of the words at least: one of many is no answer.
    const half = Math.ceil(new Set(pieces(queries[0])).size / 2);
    results = index
      .search(queries[0], { combineWith: 'OR' })
      .filter(({ queryTerms }) => queryTerms.length >= half);
  }
  const found = results
    .map(({ id, terms }) => ({ entry: entries[id as number], terms }))
    .filter(({ entry }) => !exact.includes(entry));
  const hits = [...exact.map((entry) => ({ entry, terms: tokenize(words) })), ...found];
  // A term that is asked for by its name stands beside the best of the chapters.
  const names = queries.map((each) => each.trim());
  const isAsked = ({ entry }: Hit) =>
    entry.kind === 'term' &&
    entry.title.split(', ').some((name) => names.includes(pieces(name.toLowerCase()).join(' ')));
  const asked = hits.filter(isAsked);
  const others = hits.filter((hit) => !asked.includes(hit));
  return [...others.slice(0, 1), ...asked, ...others.slice(1)].slice(0, LIMIT);
}

/** The text with every found word marked. */
function marked(text: string, terms: string[]): (string | HTMLElement)[] {
  if (!terms.length) return [text];
  const longest = [...terms].sort((a, b) => b.length - a.length);
  const escaped = longest.map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join('|')})`, 'giu');
  return text
    .split(pattern)
    .map((piece, i) => (i % 2 ? element('mark', {}, piece) : piece));
}

/** The part of a text around the first found word. */
function excerpt(text: string, terms: string[]): string {
  const lower = text.toLowerCase();
  const places = terms.map((term) => lower.indexOf(term)).filter((place) => place >= 0);
  const start = Math.max(0, Math.min(...places, text.length) - 60);
  const from = start && places.length ? text.indexOf(' ', start) + 1 : 0;
  const words = text.slice(from).match(/^.{0,180}(?=\s|$)/s)?.[0] ?? '';
  return (from ? '… ' : '') + words + (from + words.length < text.length ? ' …' : '');
}

function option({ entry, terms }: Hit, i: number): HTMLAnchorElement {
  const isName = IDENTIFIERS.includes(entry.kind);
  const title = isName ? 'hit-title hit-name' : 'hit-title';
  const link = element(
    'a',
    {
      role: 'option',
      id: `search-option-${i}`,
      href: siteUrl(entry.href),
      tabindex: '-1',
      'aria-selected': 'false',
    },
    element('span', { class: 'hit-kind' }, entry.kind),
    element('span', { class: title }, ...marked(entry.title, terms)),
    element('span', { class: 'hit-page' }, entry.kind === 'page' ? '' : entry.page),
  );
  const words = excerpt(entry.text, terms);
  if (words) link.append(element('span', { class: 'hit-text' }, ...marked(words, terms)));
  return link;
}

const WHAT = 'Chapters, equations, figures, exercises and every name of the package.';

function counted(hits: number): string {
  if (hits === LIMIT) return `The first ${LIMIT} results`;
  if (hits) return hits === 1 ? '1 result' : `${hits} results`;
  return 'Nothing in the book matches this.';
}

class SearchDialog {
  private readonly input = element('input', {
    // Not "search": there Escape would empty the field before it closes the dialog.
    type: 'text',
    inputmode: 'search',
    role: 'combobox',
    placeholder: 'Words, q_sample, eq 2.3 …',
    autocomplete: 'off',
    autocapitalize: 'off',
    spellcheck: 'false',
    enterkeyhint: 'go',
    'aria-label': 'Search the book',
    'aria-autocomplete': 'list',
    'aria-expanded': 'false',
    'aria-controls': 'search-results',
  });
  private readonly list = element('div', {
    role: 'listbox',
    id: 'search-results',
    'aria-label': 'Results',
  });
  private readonly status = element('p', { role: 'status', class: 'search-status' });
  private readonly dialog = dialog(
    { class: 'search', 'aria-label': 'Search the book' },
    element('div', { class: 'search-bar' }, this.input, closeButton()),
    this.list,
    this.status,
  );
  private selected = -1;

  constructor(
    private readonly entries: Entry[],
    private readonly index: MiniSearch,
  ) {
    this.input.addEventListener('input', () => this.update());
    this.input.addEventListener('keydown', (event) => this.key(event));
    this.list.addEventListener('click', (event) => this.follow(event));
    this.list.addEventListener('pointermove', (event) => {
      const hovered = (event.target as Element).closest('[role=option]');
      if (hovered) this.select([...this.list.children].indexOf(hovered), false);
    });
    this.update();
  }

  open(): void {
    if (!this.dialog.open) this.dialog.showModal();
    this.input.focus();
    this.input.select();
  }

  private update(): void {
    const query = this.input.value.trim();
    const hits = query ? find(this.entries, this.index, query) : [];
    this.list.replaceChildren(...hits.map(option));
    this.list.hidden = !hits.length;
    this.input.setAttribute('aria-expanded', String(hits.length > 0));
    this.list.scrollTop = 0;
    this.select(hits.length ? 0 : -1);
    this.status.textContent = query ? counted(hits.length) : WHAT;
  }

  private select(i: number, scroll = true): void {
    this.list.children[this.selected]?.setAttribute('aria-selected', 'false');
    this.selected = i;
    const option = this.list.children[i];
    option?.setAttribute('aria-selected', 'true');
    if (option) this.input.setAttribute('aria-activedescendant', option.id);
    else this.input.removeAttribute('aria-activedescendant');
    if (scroll) option?.scrollIntoView({ block: 'nearest' });
  }

  private key(event: KeyboardEvent): void {
    const count = this.list.children.length;
    if (event.key === 'Enter') {
      event.preventDefault();
      (this.list.children[this.selected] as HTMLElement | undefined)?.click();
    } else if (count && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
      event.preventDefault();
      const step = event.key === 'ArrowDown' ? 1 : -1;
      this.select((this.selected + step + count) % count);
    }
  }

  /** The dialog gives the focus back before the page moves. */
  private follow(event: MouseEvent): void {
    const isPlain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.button);
    if (isPlain && (event.target as Element).closest('a')) this.dialog.close();
  }
}

const fetched = once(async () => {
  const entries = await readJson<Entry[]>(siteUrl('search.json'));
  return new SearchDialog(entries, createIndex(entries));
});

const openSearch = async () => (await fetched()).open();

Object.assign(document.currentScript!, { data: openSearch });
