// What the YAML files beside the chapters say; tools/ledger.py has judged their form.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

/** Where an equation comes from, and how its print is run. */
export interface Origin {
  cite?: string | string[];
  place?: string;
  note?: string;
  waived?: string;
  /** Functions of the package that the print is run against, or `sides`. */
  run?: string | string[];
  /** Why the print is not run. */
  unrun?: string;
}

/** Where the book departs from what the notes say. */
export interface Erratum {
  /** Note and line: "S1:33". */
  where: string;
  /** A remark corrects nothing. */
  kind: 'wrong' | 'imprecise' | 'remark';
  quote: string;
  correct: string;
  /** The label of the box that shows it, or why there is none. */
  callout?: string;
  'not-yet'?: string;
}

/** Something that the notes treat. */
export interface Covered {
  note: number;
  lines: string | number;
  item: string;
  /** The places of the book that treat it too, or what it waits for. */
  treated?: string[];
  'not-yet'?: string;
}

const EQUATIONS = 'chapters/equations.yml';
export const NOTES = 'chapters/notes.yml';

export const citedIn = (origin: Origin): string[] => [origin.cite ?? []].flat();

/** Is the equation run as it is printed? `make check` has refused what does not hold. */
export const isRun = (origin?: Origin): boolean => origin?.run !== undefined;

/** The functions that the print is run against; none when its sides are compared. */
export const runAgainst = (origin: Origin): string[] =>
  [origin.run ?? []].flat().filter((name) => name !== 'sides');

function read(root: string, file: string): any {
  const path = join(root, file);
  return existsSync(path) ? parse(readFileSync(path, 'utf8')) : undefined;
}

export class Facts {
  readonly origins: Map<string, Origin>;
  readonly errata: Erratum[];
  /** Misspelt words, for which no row is needed. */
  readonly typos: string;
  readonly coverage: Covered[];

  constructor(root: string) {
    this.origins = new Map(Object.entries(read(root, EQUATIONS) ?? {}));
    const notes = read(root, NOTES);
    this.errata = notes?.errata ?? [];
    this.typos = notes?.typos ?? '';
    this.coverage = notes?.coverage ?? [];
  }

  /** The sources of all equations, each once. */
  cited(): string[] {
    return [...new Set([...this.origins.values()].flatMap(citedIn))];
  }
}
