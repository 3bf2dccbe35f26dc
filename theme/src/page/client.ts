// Comforts on top of a page that reads well without them: the dark theme, copy
// buttons, the contents drawer on narrow screens, the place in the outline, search,
// previews and keys.
import { cleanLinks, remember } from './dom';
import { keys } from './keys';
import { previews } from './preview';

import { liveFigures } from '../live/live-client';

const root = document.documentElement;

function themeToggle(): void {
  const button = document.querySelector<HTMLButtonElement>('.theme-toggle');
  if (!button) return;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const show = () => button.setAttribute('aria-pressed', String(isDark()));
  button.addEventListener('click', () => {
    const next = isDark() ? 'light' : 'dark';
    root.dataset.theme = next;
    // Back at what the system asks for: follow the system again.
    remember('theme', (next === 'dark') === system.matches ? null : next);
    show();
  });
  system.addEventListener('change', show);
  show();
}

function copyButtons(): void {
  if (!navigator.clipboard) return;
  for (const box of document.querySelectorAll<HTMLElement>('.code')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = 'Copy';
    button.setAttribute('aria-label', 'Copy the code');
    button.addEventListener('click', async () => {
      const text = box.querySelector('code')?.textContent ?? '';
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = 'Copied';
      } catch {
        button.textContent = 'Not copied';
      }
      setTimeout(() => (button.textContent = 'Copy'), 1500);
    });
    box.append(button);
  }
}

function drawer(): void {
  const link = document.querySelector<HTMLAnchorElement>('.contents-link');
  const contents = document.getElementById('contents');
  if (!link || !contents) return;
  link.setAttribute('role', 'button');
  link.setAttribute('aria-controls', 'contents');
  const set = (open: boolean) => {
    root.classList.toggle('drawer-open', open);
    link.setAttribute('aria-expanded', String(open));
    if (open) contents.querySelector('a')?.focus();
  };
  const isOpen = () => root.classList.contains('drawer-open');
  link.addEventListener('click', (event) => {
    event.preventDefault();
    set(!isOpen());
  });
  link.addEventListener('keydown', (event) => {
    if (event.key !== ' ') return;
    event.preventDefault();
    set(!isOpen());
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !isOpen()) return;
    set(false);
    link.focus();
  });
  document.addEventListener('click', (event) => {
    const target = event.target as Node;
    if (isOpen() && !contents.contains(target) && !link.contains(target)) set(false);
  });
  set(false);
}

/** A link may lead to something inside a closed box: open the way to it. */
function openTarget(): void {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id ? document.getElementById(id) : null;
  // A link to a check leads to its cell, and what matters there is in the fold.
  let box = target?.closest('details') ?? target?.querySelector('.check > details') ?? null;
  if (!box) return;
  for (; box; box = box.parentElement?.closest('details') ?? null) box.open = true;
  target?.scrollIntoView();
}

/** Only what scrolls is a stop for the Tab key: a page has a hundred formulas and
 * pieces of code, and on a wide screen they fit. */
function scrollers(): void {
  const boxes = document.querySelectorAll<HTMLElement>('main [role=group][tabindex]');
  const update = () => {
    // Read everything, then write everything: the page is laid out once.
    const scrolls = [...boxes].map(
      (box) =>
        box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1,
    );
    boxes.forEach((box, i) => {
      if (scrolls[i]) box.tabIndex = 0;
      else box.removeAttribute('tabindex');
    });
  };
  addEventListener('resize', update);
  document.addEventListener('toggle', update, true);
  void document.fonts.ready.then(update);
}

function outline(): void {
  const links = new Map<string, HTMLAnchorElement>();
  for (const link of document.querySelectorAll<HTMLAnchorElement>('.outline a')) {
    links.set(decodeURIComponent(link.hash.slice(1)), link);
  }
  if (!links.size) return;
  const headings = [...links.keys()].flatMap((id) => document.getElementById(id) ?? []);
  const update = () => {
    const above = headings.filter((each) => each.getBoundingClientRect().top < 120);
    const current = above.at(-1) ?? headings[0];
    for (const [id, link] of links) {
      if (id === current.id) link.setAttribute('aria-current', 'true');
      else link.removeAttribute('aria-current');
    }
  };
  let waiting = false;
  addEventListener(
    'scroll',
    () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        update();
      });
    },
    { passive: true },
  );
  update();
}

cleanLinks(document.querySelectorAll<HTMLAnchorElement>('a[href]'));
themeToggle();
liveFigures();
copyButtons();
drawer();
outline();
scrollers();
openTarget();
keys();
previews();
addEventListener('hashchange', openTarget);
// Paper has no closed boxes.
addEventListener('beforeprint', () => {
  for (const box of document.querySelectorAll('details')) box.open = true;
});
