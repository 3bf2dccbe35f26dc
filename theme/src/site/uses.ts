// Where the names that the package gets from a cell are used: in other cells of the
// book, and by them in the modules of the package.
import { cellSource, type Identifier, type Identifiers } from './identifiers';
import { freeNames } from './python';
import { tagged, walk } from './tree';
import type { Node, Page, TocEntry } from './types';

export interface Uses {
  /** Of each chapter, by its slug, the id of the first cell. */
  chapters: Map<string, string>;
  modules: Set<string>;
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
        const uses: Uses = found.get(each) ?? together([]);
        found.set(each, uses);
        if (!uses.chapters.has(slug)) uses.chapters.set(slug, block.html_id);
        for (const module of tagged(block, 'export')) uses.modules.add(module);
      }
    }
  }
  return found;
}

/** The uses of several names as one. */
export const together = (all: Uses[]): Uses => ({
  // Of two cells in a chapter the one that is set last counts: the first.
  chapters: new Map(all.flatMap(({ chapters }) => [...chapters]).reverse()),
  modules: new Set(all.flatMap(({ modules }) => [...modules])),
});
