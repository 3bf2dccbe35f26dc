import hljs from 'highlight.js/lib/core';
import python from 'highlight.js/lib/languages/python';
import { usePage } from '../site/context';
import { definitionId } from '../site/identifiers';
import { definitions, freeNames } from '../site/python';
import type { Site } from '../site/site';

hljs.registerLanguage('python', python);

/** A name in the source that gets a tag of its own. */
interface Mark {
  from: number;
  name: string;
  open: string;
  close: string;
}

/** Names of the package lead to the cell that defines them. */
function links(site: Site, slug: string, source: string): Mark[] {
  const { unambiguous, shadowed } = site.identifiers;
  const seen = new Set<string>();
  const marks: Mark[] = [];
  for (const { name, from } of freeNames(source, site.options.package ?? '')) {
    const target = unambiguous.get(name);
    if (!target || shadowed.get(slug)?.has(name)) continue;
    // Code names the same thing many times: one stop for the Tab key is enough.
    const skip = seen.has(name) ? ' tabindex="-1"' : '';
    const open = `<a class="name" href="${site.href(target.slug)}#${target.id}"${skip}>`;
    marks.push({ from, name, open, close: '</a>' });
    seen.add(name);
  }
  return marks;
}

/** Each name that an exported cell defines can be linked to. */
function anchors(source: string): Mark[] {
  return definitions(source).map(({ name, from }) => {
    const open = `<span class="defined" id="${definitionId(name)}">`;
    return { from, name, open, close: '</span>' };
  });
}

/** Put marks into highlighted code: names are never split, so each mark lies in one
 * piece of text between tags. */
function insert(html: string, marks: Mark[]): string {
  const waiting = [...marks].sort((a, b) => a.from - b.from);
  let at = 0;
  let out = '';
  for (const piece of html.match(/<[^>]+>|&[^;]+;|[^<&]+/g) ?? []) {
    if (piece.startsWith('<') || piece.startsWith('&')) {
      out += piece;
      at += piece.startsWith('&') ? 1 : 0;
      continue;
    }
    let done = 0;
    while (waiting.length && waiting[0].from < at + piece.length) {
      const { from, name, open, close } = waiting.shift()!;
      out += piece.slice(done, from - at) + open + name + close;
      done = from - at + name.length;
    }
    out += piece.slice(done);
    at += piece.length;
  }
  return out;
}

interface CodeProps {
  value: string;
  lang?: string;
  id?: string;
  /** The names defined here get anchors: this is where the package comes from. */
  isExported?: boolean;
}

/** Python as HTML with classes for its colours. */
export const highlight = (python: string): string =>
  hljs.highlight(python, { language: 'python' }).value;

/** Python is coloured here, so that the page needs no script for it. */
function Python({ value, isExported }: CodeProps) {
  const { site, page } = usePage();
  const marks = links(site, page.slug, value);
  const all = isExported ? [...marks, ...anchors(value)] : marks;
  return <code dangerouslySetInnerHTML={{ __html: insert(highlight(value), all) }} />;
}

export function Code({ value, lang, id, isExported }: CodeProps) {
  // A box that scrolls sideways must be reachable by keyboard.
  return (
    <div className="code" id={id}>
      <pre tabIndex={0} role="group" aria-label={lang ? `${lang} code` : 'code'}>
        {lang === 'python' ? (
          <Python value={value} isExported={isExported} />
        ) : (
          <code>{value}</code>
        )}
      </pre>
    </div>
  );
}
