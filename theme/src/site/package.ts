import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, sep } from 'node:path';
import { definitions } from './python';
import type { Node, Page, TocEntry } from './types';
import { tagged, walk } from './tree';

/** The file of a module inside the package: `book/checks.py` of `book.checks`. */
export const fileOf = (module: string) => `${module.replaceAll('.', '/')}.py`;

/** The lines of a module that one cell of a chapter was written to. */
export interface Part {
  /** The line of its mark, `# chapters/NN-name.md`, counted from 1. */
  line: number;
  /** The first name it defines, or its line as `L12`: an id of the module's page. */
  name: string;
  page: Page;
  /** The id of the cell in its chapter. */
  anchor: string;
}

export interface Module {
  name: string;
  file: string;
  source: string;
  summary: string;
  parts: Part[];
  /** Top-level name -> its line. */
  names: Map<string, number>;
}

const MARK = /^# chapters\/\S+\.md$/;

/** The Python package beside the book, and which cell each part of it comes from. */
export class Package {
  readonly modules: Module[] = [];
  private readonly cells = new Map<Node, Part>();

  constructor(
    root: string,
    readonly name: string,
    toc: TocEntry[],
    pages: Map<string, Page>,
    problems: string[],
  ) {
    for (const [module, cells] of exportedCells(toc, pages)) {
      const file = `${name}/${fileOf(module)}`;
      if (!existsSync(join(root, file))) {
        const place = cells[0].page.location.slice(1);
        problems.push(`${place} the tag "export.${module}" names no module: no ${file}`);
        continue;
      }
      const source = readFileSync(join(root, file), 'utf8').trimEnd();
      this.add(module, file, source, cells, problems);
    }
    for (const file of name ? pythonFiles(join(root, name)) : []) {
      const known = this.modules.some((module) => module.file === `${name}/${file}`);
      // The front of a folder may be the exporter's own.
      if (!known && !file.endsWith('/__init__.py')) {
        problems.push(`${name}/${file} no cell exports it`);
      }
    }
  }

  private add(name: string, file: string, source: string, cells: Cell[], problems: string[]) {
    const lines = source.split('\n');
    const marks = lines.flatMap((line, i) => (MARK.test(line) ? [i + 1] : []));
    if (marks.length !== cells.length) {
      problems.push(`${file} is not what the chapters say; run \`make export\``);
      return;
    }
    const defined = definitions(source).map(({ name, from }) => {
      return { name, line: source.slice(0, from).split('\n').length };
    });
    const names = new Map(
      defined.filter(({ line }) => line > marks[0]).map(({ name, line }) => [name, line]),
    );
    const parts = marks.map((line, i): Part => {
      const end = marks[i + 1] ?? Infinity;
      const first = defined.find((each) => each.line > line && each.line < end);
      const own = first?.name ?? `L${line}`;
      const anchor = `export-${name.replaceAll('.', '-')}-${own}`;
      return { line, name: own, page: cells[i].page, anchor };
    });
    parts.forEach((part, i) => this.cells.set(cells[i].node, part));
    const summary = /^"""(.+?)(?:"""|$)/m.exec(source)?.[1] ?? '';
    this.modules.push({ name, file, source, summary, parts, names });
  }

  module(name: string): Module | undefined {
    return this.modules.find((module) => module.name === name);
  }

  /** Where an exported cell went. */
  part(cell: Node): Part | undefined {
    return this.cells.get(cell);
  }
}

const pythonFiles = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true })
        .map((file) => String(file).split(sep).join('/'))
        .filter((file) => file.endsWith('.py'))
    : [];

type Cell = { node: Node; page: Page };

/** Module -> the cells that are written to it, both in reading order. */
function exportedCells(toc: TocEntry[], pages: Map<string, Page>): Map<string, Cell[]> {
  const found = new Map<string, Cell[]>();
  for (const page of toc.flatMap((entry) => pages.get(entry.slug ?? '') ?? [])) {
    for (const node of walk(page.mdast)) {
      if (node.kind !== 'notebook-code') continue;
      for (const module of tagged(node, 'export')) {
        found.set(module, [...(found.get(module) ?? []), { node, page }]);
      }
    }
  }
  return found;
}
