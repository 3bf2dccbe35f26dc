import { cellText, tagged, walk } from './tree';
import type { Node, Page } from './types';

/** Where each checked name is checked. The cells get an id on the way, so that the
 * equation can link to its check. */
export function collectChecks(pages: Map<string, Page>) {
  const places = new Map<string, { slug: string; id: string }>();
  for (const [slug, page] of pages) {
    for (const block of walk(page.mdast)) {
      const names = block.type === 'block' ? tagged(block, 'check') : [];
      // The first check of a name counts; a later one repeats it in another way.
      const fresh = names.filter((name) => !places.has(name));
      if (!fresh.length) continue;
      block.html_id ??= `check-${fresh[0]}`;
      for (const name of fresh) places.set(name, { slug, id: block.html_id });
    }
  }
  return places;
}

interface Measured {
  label: string;
  kind: string;
  error: number;
}

const ERROR = /^(.*): ([\w ]+), largest error (\S+), allowed \S+$/gm;
const NUMBER = /^.*: computed \S+, the text says \S+$/gm;

function worst(lines: Measured[]): string | undefined {
  if (!lines.length) return undefined;
  // A check may add a second, weaker proof (by drawing): the first one is named.
  const kind = lines[0].kind;
  const errors = lines.filter((line) => line.kind === kind).map((line) => line.error);
  return `${kind}, largest error ${Math.max(...errors)}`;
}

/** What a cell measured for one of the names it checks, as its output says. */
export function measured(block: Node, name: string, isOnly: boolean): string | undefined {
  const text = cellText(block);
  const lines = [...text.matchAll(ERROR)].map(([, label, kind, error]) => {
    return { label, kind, error: Number(error) };
  });
  const own = lines.filter(({ label }) => label.split(/[,\s]/)[0] === name);
  const found = worst(own.length || !isOnly ? own : lines);
  const numbers = isOnly ? [...text.matchAll(NUMBER)].length : 0;
  if (found || !numbers) return found;
  return numbers === 1 ? 'the number agrees' : `${numbers} numbers agree`;
}
