// Previews: what a link leads to, shown beside it on hover and on keyboard focus.
// They stay while the pointer is on them, and Escape takes them away.
import { between, cleanLinks, element, once, readJson, siteUrl } from './dom';

const SHOW_AFTER = 250;
const HIDE_AFTER = 250;
const GAP = 8;
const LINKS = 'article a[href], .preview a[href]';
const WHOLE = '.equation, figure, .box, .cell, .endnotes li, p, table, .table-box';

interface Described {
  signature: string;
  summary: string;
  place: string;
}

const pages = new Map<string, Promise<Document>>();
const names = once(() => readJson<Record<string, Described>>(siteUrl('identifiers.json')));

/** Another page, whose addresses are written from where it lies. */
async function fetched(url: URL): Promise<Document> {
  const answer = await fetch(url.pathname);
  if (!answer.ok) throw new Error(`${url.pathname}: ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const base = page.createElement('base');
  base.href = url.href;
  page.head.prepend(base);
  for (const link of page.links) link.setAttribute('href', link.href);
  for (const image of page.images) image.setAttribute('src', image.src);
  cleanLinks(page.querySelectorAll<HTMLAnchorElement>('a[href]'));
  return page;
}

async function pageAt(url: URL): Promise<Document> {
  if (url.pathname === location.pathname) return document;
  if (!pages.has(url.pathname)) pages.set(url.pathname, fetched(url));
  return pages.get(url.pathname)!;
}

/** A copy that can stand in a page which holds the original. */
function copy(original: Element): Element {
  const made = document.importNode(original, true);
  for (const each of [made, ...made.querySelectorAll('*')]) {
    each.removeAttribute('id');
    each.removeAttribute('tabindex');
    each.removeAttribute('role');
    if (each instanceof HTMLDetailsElement) each.open = true;
    if (each instanceof HTMLAnchorElement) each.tabIndex = -1;
  }
  made.querySelectorAll('.copy, .anchor, script').forEach((each) => each.remove());
  return made;
}

/** A heading with the beginning of its section, or a page with its first lines. */
function beginning(heading: Element): Element[] {
  const shown = [heading];
  for (let next = heading.nextElementSibling; next; next = next.nextElementSibling) {
    if (/^H\d$/.test(next.tagName) || shown.length > 2) break;
    if (next.matches('p, ul, ol, .equation, .signature, .standfirst')) shown.push(next);
  }
  return shown;
}

function whatIsAt(page: Document, hash: string): Element[] {
  if (!hash) {
    const title = page.querySelector('article h1');
    return title ? beginning(title) : [];
  }
  const target = page.getElementById(decodeURIComponent(hash.slice(1)));
  if (!target) return [];
  if (/^H\d$/.test(target.tagName)) return beginning(target);
  if (target.matches('dt')) return [target, target.nextElementSibling!];
  // Of a check, what it found: its code is a click away.
  if (target.matches('.check')) return [...target.querySelectorAll('.check-line, .outputs')];
  const whole = target.matches(WHOLE) ? target : target.closest(WHOLE);
  return whole ? [whole] : [];
}

async function described(name: string): Promise<Element[]> {
  const about = (await names())[name];
  if (!about) return [];
  return [
    element('pre', { class: 'preview-signature' }, about.signature),
    ...(about.summary ? [element('p', {}, about.summary)] : []),
    element('p', { class: 'preview-place' }, about.place),
  ];
}

async function content(link: HTMLAnchorElement): Promise<Element[]> {
  const url = new URL(link.href);
  const definition = /^#def-(.+)$/.exec(url.hash);
  if (definition) return described(definition[1]);
  return whatIsAt(await pageAt(url), url.hash).map(copy);
}

/** Links to places of this book; not the ones that only move about the page. */
function isPreviewable(link: HTMLAnchorElement): boolean {
  const url = new URL(link.href);
  const isOurs = url.origin === location.origin;
  if (!isOurs || link.matches('.anchor, .caption-number')) return false;
  const isHere = url.pathname === location.pathname;
  if (isHere && !url.hash) return false;
  const target = isHere && document.getElementById(decodeURIComponent(url.hash.slice(1)));
  // The number of an equation is a link to the equation around it.
  return !(target && target.contains(link)) && /(\/|\.html)$/.test(url.pathname);
}

class Preview {
  private readonly box = element('div', {
    class: 'preview',
    id: 'preview',
    role: 'tooltip',
  });
  private link: HTMLAnchorElement | undefined;
  private timer = 0;

  constructor() {
    document.addEventListener('pointerover', (event) => this.over(event));
    document.addEventListener('focusin', (event) => this.focused(event));
    document.addEventListener('focusout', () => this.later());
    document.addEventListener('click', () => this.hide());
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.hide();
    });
    addEventListener('resize', () => this.hide());
  }

  private over(event: PointerEvent): void {
    if (event.pointerType !== 'mouse') return;
    const target = event.target as Element;
    const link = target.closest<HTMLAnchorElement>(LINKS);
    if (this.box.contains(target) || (link && link === this.link)) clearTimeout(this.timer);
    else if (link && isPreviewable(link)) this.soon(link);
    else this.later();
  }

  private focused(event: FocusEvent): void {
    const link = (event.target as Element).closest<HTMLAnchorElement>(LINKS);
    if (link?.matches(':focus-visible') && isPreviewable(link)) this.soon(link);
  }

  private soon(link: HTMLAnchorElement): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.show(link), SHOW_AFTER);
  }

  private later(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.hide(), HIDE_AFTER);
  }

  private async show(link: HTMLAnchorElement): Promise<void> {
    this.hide();
    this.link = link;
    // Without an answer there is no preview; the link itself still works.
    const shown = await content(link).catch(() => []);
    if (this.link !== link || !shown.length) return;
    this.box.replaceChildren(...shown);
    document.body.append(this.box);
    link.setAttribute('aria-describedby', this.box.id);
    this.place(link);
  }

  /** Below the line of the link, or above it where there is more room. */
  private place(link: HTMLAnchorElement): void {
    const at = link.getClientRects()[0] ?? link.getBoundingClientRect();
    const below = innerHeight - at.bottom - 2 * GAP;
    const above = at.top - 2 * GAP;
    const isBelow = below >= Math.min(this.box.scrollHeight, 260) || below >= above;
    const style = this.box.style;
    style.maxHeight = `${between(80, isBelow ? below : above, 420)}px`;
    const { width, height } = this.box.getBoundingClientRect();
    const edge = document.documentElement.clientWidth - width - GAP;
    style.left = `${Math.max(GAP, Math.min(at.left - 12, edge)) + scrollX}px`;
    style.top = `${(isBelow ? at.bottom + GAP : at.top - GAP - height) + scrollY}px`;
  }

  private hide(): void {
    clearTimeout(this.timer);
    this.link?.removeAttribute('aria-describedby');
    this.link = undefined;
    this.box.remove();
  }
}

export function previews(): void {
  new Preview();
}
