// Where the names that the package gets from a cell are used: in other cells of the
// book, and by them in the modules of the package.
import { cellSource, type Identifier, type Identifiers } from './identifiers';
import { freeNames } from './python';
import { tagged, walk } from './tree';
import type { Node, Page, TocEntry } from './types';

/** A cell that uses a name; of each chapter the first. */
export interface Place {
  slug: string;
  id: string;
}

export interface Uses {
  chapters: Place[];
  modules: string[];
}

export const NO_USES: Uses = { chapters: [], modules: [] };

function add(uses: Uses, slug: string, block: Node): void {
  if (!uses.chapters.some((place) => place.slug === slug)) {
    uses.chapters.push({ slug, id: block.html_id! });
  }
  for (const module of tagged(block, 'export')) {
    if (!uses.modules.includes(module)) uses.modules.push(module);
  }
}

/** The names of the package that a cell looks up, each once. */
function usedBy(block: Node, slug: string, root: string, identifiers: Identifiers) {
  const names = freeNames(cellSource(block), root)
    .filter((use) => !use.isImport && !identifiers.shadowed.get(slug)?.has(use.name))
    .map((use) => identifiers.unambiguous.get(use.name));
  const isForeign = (each: Identifier | undefined): each is Identifier =>
    each !== undefined && each.block !== block;
  return [...new Set(names.filter(isForeign))];
}

/** Uses by name, in reading order. Cells get an id on the way. */
export function collectUses(
  toc: TocEntry[],
  pages: Map<string, Page>,
  identifiers: Identifiers,
  root: string,
): Map<Identifier, Uses> {
  const found = new Map<Identifier, Uses>();
  for (const { slug, number } of toc) {
    // The front page shows cells of the chapters: they count where they stand.
    if (!slug || !number) continue;
    let count = 0;
    for (const block of walk(pages.get(slug)!.mdast)) {
      if (block.kind !== 'notebook-code') continue;
      count += 1;
      for (const each of usedBy(block, slug, root, identifiers)) {
        block.html_id ??= `cell-${count}`;
        const uses = found.get(each) ?? { chapters: [], modules: [] };
        add(uses, slug, block);
        found.set(each, uses);
      }
    }
  }
  return found;
}

/** The uses of several names as one. */
export function together(all: Uses[]): Uses {
  const chapters = new Map<string, Place>();
  for (const place of all.flatMap((uses) => uses.chapters)) {
    if (!chapters.has(place.slug)) chapters.set(place.slug, place);
  }
  return {
    chapters: [...chapters.values()],
    modules: [...new Set(all.flatMap((uses) => uses.modules))],
  };
}
