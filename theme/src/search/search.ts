// Search: fetched, with its index, when a reader first opens it.
import MiniSearch, { type SearchResult } from 'minisearch';
import { closeOnBackdrop, element, readJson, siteUrl } from '../page/dom';
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
  page: 3,
  section: 2.5,
  equation: 2,
  figure: 1.5,
  function: 1.3,
  class: 1.3,
  constant: 1.1,
  topic: 0.3,
  erratum: 0.3,
  ledger: 0.3,
};
/** Names of the field for what the book calls otherwise. */
const ALSO: Record<string, string> = {
  fid: 'frechet distance',
  vlb: 'lower bound',
  kl: 'divergence',
  nll: 'likelihood',
  eps: 'noise',
};

/** Words, and for compounds such as q_sample, 2.3 and eq-kernel also their parts. */
function tokenize(text: string): string[] {
  const plain = text.normalize('NFD').replace(/\p{M}/gu, '');
  const words = plain.match(/[\p{L}\p{N}_]+(?:[.'’-][\p{L}\p{N}_]+)*/gu) ?? [];
  return words.flatMap((word) => {
    const pieces = word.split(/[_.'’-]+/).filter(Boolean);
    return pieces.length > 1 ? [word, pieces.join(''), ...pieces] : pieces;
  });
}

function createIndex(entries: Entry[]): MiniSearch {
  const index = new MiniSearch({
    fields: ['title', 'label', 'number', 'text'],
    idField: 'id',
    tokenize,
    searchOptions: {
      boost: { title: 4, label: 4, number: 4 },
      boostDocument: (id) => {
        const { kind, title } = entries[id as number];
        return (WEIGHT[kind] ?? 1) * (title.startsWith('_') ? 0.3 : 1);
      },
      prefix: true,
      fuzzy: (term) => (term.length > 5 ? 0.2 : false),
      combineWith: 'AND',
    },
  });
  index.addAll(entries.map((entry, id) => ({ ...entry, id })));
  return index;
}

/** What the query names outright: an identifier, "eq-kernel", "(2.3)", "fig 3.1". */
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
  return entries.filter(
    (entry) =>
      entry.label?.toLowerCase() === wanted ||
      (IDENTIFIERS.includes(entry.kind) && entry.title.toLowerCase() === wanted),
  );
}

interface Hit {
  entry: Entry;
  terms: string[];
}

function find(entries: Entry[], index: MiniSearch, query: string): Hit[] {
  const words = query.trim();
  const exact = named(entries, words);
  let results: SearchResult[] = index.search(words);
  if (!results.length) {
    const other = words.replace(/\w+/g, (word) => ALSO[word.toLowerCase()] ?? word);
    if (other !== words) results = index.search(other);
  }
  if (!results.length) {
    // Half of the words at least: one of many is no answer.
    const half = Math.ceil(new Set(tokenize(words.toLowerCase())).size / 2);
    results = index
      .search(words, { combineWith: 'OR' })
      .filter(({ queryTerms }) => queryTerms.length >= half);
  }
  const found = results
    .map(({ id, terms }) => ({ entry: entries[id as number], terms }))
    .filter(({ entry }) => !exact.includes(entry));
  const first = exact.map((entry) => ({ entry, terms: tokenize(words) }));
  return [...first, ...found].slice(0, LIMIT);
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
  return (from ? '… ' : '') + text.slice(from, from + 180);
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
  private readonly close = element('button', { type: 'button' }, 'Close');
  private readonly status = element('p', { role: 'status', class: 'search-status' });
  private readonly dialog = element(
    'dialog',
    { class: 'search', 'aria-label': 'Search the book' },
    element(
      'div',
      { class: 'search-bar' },
      this.input,
      this.close,
    ),
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
    this.close.addEventListener('click', () => this.dialog.close());
    closeOnBackdrop(this.dialog);
    document.body.append(this.dialog);
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

let dialog: Promise<SearchDialog> | undefined;

async function fetched(): Promise<SearchDialog> {
  const entries = await readJson<Entry[]>(siteUrl('search.json'));
  return new SearchDialog(entries, createIndex(entries));
}

async function openSearch(): Promise<void> {
  dialog ??= fetched();
  dialog.catch(() => (dialog = undefined)); // The next attempt asks again.
  (await dialog).open();
}

Object.assign(document.currentScript!, { data: openSearch });
