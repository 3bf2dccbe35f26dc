import { definitions, type Definition } from './python';
import { tagged, walk } from './tree';
import type { Node, Page } from './types';

/** A name that the package gets from a cell of the book. */
export interface Identifier extends Definition {
  slug: string;
  module: string;
  id: string;
  /** The cell that defines it, and the heading that the cell stands under. */
  block: Node;
  heading?: Node;
}

export interface Identifiers {
  all: Identifier[];
  /** By name, without the names that more than one module defines. */
  unambiguous: Map<string, Identifier>;
  /** For each page, the names that some other cell of the page defines for itself. */
  shadowed: Map<string, Set<string>>;
}

/** The files of a package that hold none of its public names. */
const WITHOUT_NAMES = /(^|\.)__(init|main)__$/;

/** Does the package offer this name to its users? */
export const isPublic = ({ name, module }: Identifier) =>
  !name.startsWith('_') && !WITHOUT_NAMES.test(module);

export const definitionId = (name: string) => `def-${name}`;

/** The Python of a cell, whether or not a figure is wrapped around it. */
export function cellSource(block: Node): string {
  if (block.kind !== 'notebook-code') return '';
  for (const node of walk(block)) {
    if (node.type === 'code' && node.executable) return node.value ?? '';
  }
  return '';
}

export function collectIdentifiers(pages: Map<string, Page>): Identifiers {
  const all: Identifier[] = [];
  const shadowed = new Map<string, Set<string>>();
  for (const [slug, page] of pages) {
    const local = new Set<string>();
    shadowed.set(slug, local);
    let heading: Node | undefined;
    for (const block of walk(page.mdast)) {
      if (block.type === 'heading') heading = block;
      const defined = definitions(cellSource(block));
      const [module] = tagged(block, 'export');
      for (const each of defined) {
        if (module) all.push({ ...each, slug, module, id: definitionId(each.name), block, heading });
        else local.add(each.name);
      }
    }
  }
  const unambiguous = new Map<string, Identifier>();
  for (const each of all) {
    const isAlone = all.every((other) => other === each || other.name !== each.name);
    if (isAlone) unambiguous.set(each.name, each);
  }
  return { all, unambiguous, shadowed };
}
