import { cellText, tagged, walk } from './tree';
import type { Node, Page } from './types';

/** The cell that checks something. */
export interface Check {
  slug: string;
  block: Node;
  /** Does the cell check nothing else? */
  isOnly: boolean;
}

/** Where each checked name is checked. The cells get an id on the way, so that the
 * equation can link to its check. */
export function collectChecks(pages: Map<string, Page>) {
  const places = new Map<string, Check>();
  for (const [slug, page] of pages) {
    for (const block of walk(page.mdast)) {
      const names = block.type === 'block' ? tagged(block, 'check') : [];
      // The first check of a name counts; a later one repeats it in another way.
      const fresh = names.filter((name) => !places.has(name));
      if (!fresh.length) continue;
      block.html_id ??= `check-${fresh[0]}`;
      const isOnly = names.length === 1;
      for (const name of fresh) places.set(name, { slug, block, isOnly });
    }
  }
  return places;
}

/** A line that a check has printed. */
export interface Measured {
  label: string;
  /** How it was checked: exact, symbolic, quadrature, Monte Carlo or definition. */
  kind: string;
  error: number;
  allowed: number;
}

/** A number of the text, computed anew. */
interface Recomputed {
  label: string;
  computed: string;
}

const ERROR = /^(.*): ([\w ]+), largest error (\S+), allowed (\S+)$/gm;
const NUMBER = /^(.*): computed (\S+), the text says (\S+)$/gm;

/** Of each way in which a cell checks a name, the line with the largest error. A check
 * may add a second, weaker proof (by drawing): the first one comes first. */
export function measurements(block: Node, name: string, isOnly: boolean): Measured[] {
  const lines = [...cellText(block).matchAll(ERROR)].map(
    ([, label, kind, error, allowed]): Measured => {
      return { label, kind, error: Number(error), allowed: Number(allowed) };
    },
  );
  const first = lines.filter(({ label }) => label.split(/[,\s]/)[0] === name);
  // "eq-reverse-chain with eq-decoder" measures both at once.
  const own = first.length ? first : lines.filter(({ label }) => label.split(/[,\s]/).includes(name));
  const worst = new Map<string, Measured>();
  for (const line of own.length || !isOnly ? own : lines) {
    const known = worst.get(line.kind);
    if (!known || line.error > known.error) worst.set(line.kind, line);
  }
  return [...worst.values()];
}

/** The numbers of the text that a cell has computed. */
export function recomputed(block: Node): Recomputed[] {
  return [...cellText(block).matchAll(NUMBER)].map(([, label, computed]) => {
    return { label, computed };
  });
}

/** What a cell measured for one of the names it checks, as its output says. */
export function measured(block: Node, name: string, isOnly: boolean): string | undefined {
  const [first] = measurements(block, name, isOnly);
  if (first) return `${first.kind}, largest error ${first.error}`;
  const numbers = isOnly ? recomputed(block).length : 0;
  if (!numbers) return undefined;
  return numbers === 1 ? 'the number agrees' : `${numbers} numbers agree`;
}
