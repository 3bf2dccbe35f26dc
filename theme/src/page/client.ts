// Comforts on top of a page that reads well without them: the dark theme, copy
// buttons, how much code is shown, the contents drawer on narrow screens, the place in
// the outline, large pictures, search, previews and keys.
import { cleanLinks, closeButton, dialog, element, load, onceAFrame, remember, siteUrl } from './dom';
import { showDepth } from './depth';
import type { Models } from '../model/model-client';
import { keys } from './keys';
import { previews } from './preview';
import { liveFigures, say } from '../live/live-client';

const root = document.documentElement;

function themeToggle(): void {
  const button = document.querySelector<HTMLButtonElement>('.theme-toggle')!;
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
    const about = { type: 'button', class: 'copy', 'aria-label': 'Copy the code' };
    const button = element('button', about, 'Copy');
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
  const link = document.querySelector<HTMLAnchorElement>('.contents-link')!;
  const contents = document.getElementById('contents')!;
  link.setAttribute('role', 'button');
  link.setAttribute('aria-controls', 'contents');
  const set = (open: boolean) => {
    root.classList.toggle('drawer-open', open);
    link.setAttribute('aria-expanded', String(open));
    if (open) contents.querySelector<HTMLElement>('[aria-current], a')?.focus();
  };
  const isOpen = () => root.classList.contains('drawer-open');
  link.addEventListener('click', (event) => {
    event.preventDefault();
    set(!isOpen());
  });
  link.addEventListener('keydown', (event) => {
    if (event.key !== ' ') return;
    event.preventDefault();
    link.click();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !isOpen()) return;
    set(false);
    link.focus();
  });
  document.addEventListener('click', (event) => {
    const target = event.target as Element;
    const isInside = contents.contains(target) && !target.closest('.outline a');
    if (isOpen() && !isInside && !link.contains(target)) set(false);
  });
  set(false);
}

/** A link may lead to something inside a closed box: open the way to it. */
function openTarget(): void {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id ? document.getElementById(id) : null;
  // A link to a cell means what is in its fold.
  const cell = target?.matches('.cell, .badge') ? target.closest('.cell') : undefined;
  let box = target?.closest('details') ?? cell?.querySelector('details') ?? null;
  if (!box) return;
  for (; box; box = box.parentElement?.closest('details') ?? null) {
    box.open = true;
    box.dataset.touched = 'true';
  }
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

/** Where the reader is: the section in the contents, and the share of the page. */
function place(): void {
  const contents = document.getElementById('contents')!;
  const links = new Map<Element, HTMLAnchorElement>();
  for (const link of document.querySelectorAll<HTMLAnchorElement>('.outline a')) {
    const heading = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (heading) links.set(heading, link);
  }
  let current: HTMLAnchorElement | undefined;
  const update = () => {
    const long = root.scrollHeight - innerHeight;
    const read = long > 0 ? Math.min(scrollY / long, 1) : 0;
    // A link brings a heading to about the fifth of the window.
    const above = [...links].filter(([each]) => each.getBoundingClientRect().top < 180);
    root.style.setProperty('--read', read.toFixed(4));
    const [, next] = above.at(-1) ?? [...links][0] ?? [];
    if (!next || next === current) return;
    current?.removeAttribute('aria-current');
    next.setAttribute('aria-current', 'true');
    current = next;
    // The contents follow the text; the page itself is not moved.
    const [box, line] = [contents, next].map((each) => each.getBoundingClientRect());
    if (line.top < box.top || line.bottom > box.bottom) {
      contents.scrollTop += line.top - box.top - box.height / 3;
    }
  };
  const soon = onceAFrame(update);
  addEventListener('scroll', soon, { passive: true });
  addEventListener('resize', soon);
  soon();
}

function depthChoice(): void {
  for (const radio of document.querySelectorAll<HTMLInputElement>('.depth input')) {
    radio.addEventListener('change', () => {
      remember('depth', radio.value === 'core' ? null : radio.value);
      showDepth(radio.value);
    });
  }
  // What is opened by hand stays open whatever is chosen.
  document.addEventListener('click', (event) => {
    const summary = (event.target as Element).closest('summary');
    if (summary?.parentElement) summary.parentElement.dataset.touched = 'true';
  });
}

/** A still picture opens as large as the window, and scrolls where it is larger. */
function pictures(): void {
  let shown: HTMLDialogElement | undefined;
  const about = { tabindex: '0', role: 'group', 'aria-label': 'picture' };
  const view = element('div', { class: 'large-view', ...about });
  document.addEventListener('click', (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>('main a.enlarge');
    const still = link?.querySelector('img');
    if (!still || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    // A picture that is not there yet has its size in the page.
    const [width, height] = ['width', 'height'].map((side) => Number(still.getAttribute(side)) || 1);
    const picture = element('img', { src: still.src, alt: still.alt });
    picture.style.width = `max(${width}px, min(94vw, ${(85 * width) / height}dvh))`;
    view.replaceChildren(picture);
    shown ??= dialog({ class: 'large', 'aria-label': 'Picture' }, closeButton(), view);
    shown.showModal();
  });
}

cleanLinks(document.querySelectorAll<HTMLAnchorElement>('a[href]'));
themeToggle();
liveFigures();
const models = document.querySelectorAll<HTMLElement>('.model');
if (models.length) {
  load<Models>(siteUrl('assets/model.js')).then(
    (begin) => begin(models),
    () => models.forEach((box) => say(box, 'What runs this model could not be loaded.')),
  );
}
copyButtons();
drawer();
depthChoice();
pictures();
place();
scrollers();
openTarget();
keys();
previews();
addEventListener('hashchange', openTarget);
// Paper has no closed boxes.
addEventListener('beforeprint', () => {
  for (const box of document.querySelectorAll('details')) box.open = true;
});
