// What the book says of itself: of everything here, what is known.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const read = (root: string, file: string) =>
  existsSync(join(root, file)) ? readFileSync(join(root, file), 'utf8') : '';

export class About {
  readonly version?: string;
  readonly licence?: string;
  readonly year?: string;
  readonly authors?: string;
  /** The day of the newest change, such as 2026-11-27: tools/book.py asks git. */
  readonly date = process.env.BOOK_DATE || undefined;
  /** The file below download/ that holds chapters, package and tools. */
  readonly archive?: string;

  constructor(
    root: string,
    readonly name: string,
    /** Where the site will lie, without a slash at its end. */
    readonly url?: string,
  ) {
    const licence = read(root, 'LICENSE');
    this.licence = /^(\w+) License/.exec(licence)?.[1];
    [, this.year, this.authors] = /Copyright \(c\) (\d{4}) (.+)/.exec(licence) ?? [];
    this.version = /^__version__ = "(.+)"/m.exec(read(root, `${name}/__init__.py`))?.[1];
    if (this.version && existsSync(join(root, 'pyproject.toml'))) {
      this.archive = `${name}-${this.version}.tar.gz`;
    }
  }

  bibtex(title: string): string {
    const fields = {
      title: `{${title}}`,
      // A group, not a person with a last name; LaTeX stops at a bare underscore.
      author: this.authors && `{{${this.authors.replaceAll('_', '\\_')}}}`,
      year: this.year,
      version: this.version,
      url: this.url,
    };
    const rows = Object.entries(fields).filter(([, value]) => value);
    const lines = rows.map(([name, value]) => `  ${name.padEnd(7)} = {${value}}`);
    return `@book{${this.name || 'book'},\n${lines.join(',\n')}\n}`;
  }
}
