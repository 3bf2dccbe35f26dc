// Small helpers that every script of a page shares.

const own = (document.currentScript as HTMLScriptElement).src;
export const isFile = location.protocol === 'file:';

/** Address of a page or file of this site, wherever the site lies. */
export function siteUrl(path: string): string {
  // Where no server adds it, the name of the page's file is said.
  const named = isFile ? path.replace(/(^|\/)(?=#|$)/, '$1index.html') : path;
  return new URL(`../${named}`, own).href;
}

/** Links name a page's file, for who has no server; with one, addresses are clean. */
export function cleanLinks(links: Iterable<HTMLAnchorElement>): void {
  if (isFile) return;
  for (const link of links) {
    if (link.origin === location.origin && link.pathname.endsWith('/index.html')) {
      link.pathname = link.pathname.slice(0, -'index.html'.length);
    }
  }
}

/** What a script leaves in its own `data` when it has run. */
export function load<T>(src: string): Promise<T> {
  const script = element('script', { src });
  return new Promise((resolve, reject) => {
    script.onload = () => resolve((script as unknown as { data: T }).data);
    script.onerror = () => reject(new Error(`${src} did not arrive`));
    document.head.append(script);
  });
}

/** The JSON at an address; a page opened as a file runs it as a script. */
export async function readJson<T>(url: string): Promise<T> {
  if (isFile) return load(`${url}.js`);
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer.json();
}

/** What is fetched once; after a failure the next one who asks tries again. */
export function once<T>(fetched: () => Promise<T>): () => Promise<T> {
  let kept: Promise<T> | undefined;
  return () => {
    kept ??= fetched();
    kept.catch(() => (kept = undefined));
    return kept;
  };
}

export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, string> = {},
  ...children: (string | Node)[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A canvas with one pixel for each number: red, green, blue and how much of them. */
export function pixels(
  columns: number,
  rows: number,
  color: (i: number) => number[],
): HTMLCanvasElement {
  const canvas = element('canvas', { width: `${columns}`, height: `${rows}` });
  const image = new ImageData(columns, rows);
  for (let i = 0; i < columns * rows; i += 1) image.data.set(color(i), 4 * i);
  canvas.getContext('2d')!.putImageData(image, 0, 0);
  return canvas;
}

/** The same work, done once a frame however often it is asked for. */
export function onceAFrame(work: () => void): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/** A dialog, in the page. A press on the page behind it closes it. */
export function dialog(
  attributes: Record<string, string>,
  ...inside: (string | Node)[]
): HTMLDialogElement {
  const made = element('dialog', attributes, ...inside);
  made.addEventListener('pointerdown', ({ target }) => target === made && made.close());
  document.body.append(made);
  return made;
}

/** The button that closes the dialog which it stands in. */
export function closeButton(): HTMLButtonElement {
  const button = element('button', { type: 'button' }, 'Close');
  button.addEventListener('click', () => button.closest('dialog')!.close());
  return button;
}

/** Begins with each of the boxes once, when it comes near the window. */
export function whenNear(
  boxes: Iterable<HTMLElement>,
  begin: (box: HTMLElement) => void,
  rootMargin = '600px',
): void {
  const seen = (entries: IntersectionObserverEntry[]) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      begin(target as HTMLElement);
    }
  };
  const watcher = new IntersectionObserver(seen, { rootMargin });
  for (const box of boxes) watcher.observe(box);
}

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

/** Where an arrow key leads: so much to the right, so much up. */
export const arrow = ({ key }: KeyboardEvent): [number, number] | undefined => ARROWS[key];

export const between = (low: number, value: number, high: number): number =>
  Math.min(high, Math.max(low, value));

/** What is remembered; storage may be refused, and then nothing is. */
export function recall(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // The choice then lasts for this page.
  }
}
