// Keys: search, the pages before and after, and a dialog that lists them all.
import { closeButton, dialog, element, load, once, recall, remember, siteUrl } from './dom';

const SETTING = 'single-keys';
const singleKeys = () => recall(SETTING) !== 'off';

const OWN_KEYS =
  'input, textarea, select, [contenteditable], audio, video, dialog, ' +
  '[role=slider], [role=tab], [role=radio], [role=listbox], [role=menu]';

/** Would this element, or a box around it, scroll sideways? */
function scrollsSideways(start: Element | null): boolean {
  for (let box = start; box; box = box.parentElement) {
    if (box.scrollWidth <= box.clientWidth + 1) continue;
    if (box === document.documentElement) return true;
    if (/auto|scroll/.test(getComputedStyle(box).overflowX)) return true;
  }
  return false;
}

function turnPage(rel: 'prev' | 'next'): void {
  document.querySelector<HTMLAnchorElement>(`.neighbours a[rel=${rel}]`)?.click();
}

const ROWS: [string[], string][] = [
  [['Ctrl K', '/'], 'Search'],
  [['←', '→'], 'Previous and next page'],
  [['?'], 'This list'],
  [['Esc'], 'Close a preview or a dialog'],
];

function shortcutsDialog(): HTMLDialogElement {
  const toggle = element('input', { type: 'checkbox' });
  toggle.checked = singleKeys();
  toggle.addEventListener('change', () => remember(SETTING, toggle.checked ? null : 'off'));
  const rows = ROWS.map(([keys, what]) => {
    const shown = keys.flatMap((key, i) => [...(i ? [' '] : []), element('kbd', {}, key)]);
    return element('div', {}, element('dt', {}, ...shown), element('dd', {}, what));
  });
  return dialog(
    { class: 'shortcuts', 'aria-labelledby': 'shortcuts-title' },
    element('h2', { id: 'shortcuts-title' }, 'Keyboard'),
    element('dl', {}, ...rows),
    element('label', {}, toggle, ' Single keys (/, ?, ← and →) are on'),
    closeButton(),
  );
}

let shortcuts: HTMLDialogElement | undefined;

function showShortcuts(): void {
  shortcuts ??= shortcutsDialog();
  if (!shortcuts.open) shortcuts.showModal();
}

/** Search is a script of its own, which few visits need. */
const search = once(() => load<() => Promise<void>>(siteUrl('assets/search.js')));

async function openSearch(): Promise<void> {
  try {
    await (await search())();
  } catch (error) {
    const says = element('p', {}, `Search could not be loaded (${error}). Try again.`);
    const note = dialog({ class: 'search', 'aria-label': 'Search' }, says);
    note.addEventListener('close', () => note.remove());
    note.showModal();
  }
}

function onKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return;
  const target = event.target as Element;
  const isCommand = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
  if (isCommand && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    if (!document.querySelector('dialog[open]:not(.search)')) void openSearch();
    return;
  }
  const isModified = event.ctrlKey || event.metaKey || event.altKey;
  if (isModified || !singleKeys() || target.closest(OWN_KEYS)) return;
  if (document.querySelector('dialog[open]')) return;
  const isTurn = event.key === 'ArrowLeft' || event.key === 'ArrowRight';
  if (event.key === '/') {
    event.preventDefault();
    void openSearch();
  } else if (event.key === '?') {
    showShortcuts();
  } else if (isTurn && !event.shiftKey && !scrollsSideways(target)) {
    turnPage(event.key === 'ArrowLeft' ? 'prev' : 'next');
  }
}

export function keys(): void {
  document.addEventListener('keydown', onKey);
  document.querySelector('.search-button')?.addEventListener('click', () => void openSearch());
  document.querySelector('.keys-button')?.addEventListener('click', showShortcuts);
}
