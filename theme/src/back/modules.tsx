import type { ReactNode } from 'react';
import type { Page } from '../site/types';
import { MODULES, type Site } from '../site/site';
import type { Module, Part } from '../site/package';
import { highlight } from '../page/code';
import { DocWords } from '../site/docstring';
import { Modules } from './names';
import { Frame, Outline, renderWhole, type FrameProps } from '../page/page';
import { publicNames, Reference, referenceId } from './reference';

/** Colours may span lines: each line is given all the spans it lies in. */
function highlightedLines(source: string): string[] {
  const open: string[] = [];
  const html = highlight(source);
  return html.split('\n').map((line) => {
    const before = open.join('');
    for (const [tag] of line.matchAll(/<span[^>]*>|<\/span>/g)) {
      if (tag === '</span>') open.pop();
      else open.push(tag);
    }
    return before + line + '</span>'.repeat(open.length);
  });
}

/** The line that the exporter writes above each part, as a link to its cell. */
function Mark({ site, part }: { site: Site; part: Part }) {
  const { location, slug, frontmatter } = part.page;
  return (
    <a className="mark" href={`${site.href(slug)}#${part.anchor}`}>
      # {location.slice(1)} <span className="mark-title">{frontmatter.title}</span>
    </a>
  );
}

function Listing({ site, module }: { site: Site; module: Module }) {
  const marks = new Map(module.parts.map((part) => [part.line, part]));
  const names = new Map([...module.names].map(([name, line]) => [line, name]));
  return (
    <div className="code listing">
      <pre tabIndex={0} role="group" aria-label={module.file}>
        <code>
          {highlightedLines(module.source).map((html, i) => {
            const number = i + 1;
            const part = marks.get(number);
            const name = names.get(number);
            return (
              <span className="line" id={`L${number}`} key={number}>
                <a
                  className="line-number"
                  href={`#L${number}`}
                  tabIndex={-1}
                  aria-label={`Line ${number}`}
                  data-line={number}
                />
                {part && <Mark site={site} part={part} />}
                {!part && (
                  <span
                    className="line-text"
                    id={name}
                    dangerouslySetInnerHTML={{ __html: html }}
                  />
                )}
                {'\n'}
              </span>
            );
          })}
        </code>
      </pre>
    </div>
  );
}

/** What the contents list below a module's page: its reference, or what its source
 * names. */
function NamesIn({ site, module }: { site: Site; module: Module }) {
  const names = publicNames(site, module.name).map(({ name }) => {
    return { id: referenceId(name), words: name };
  });
  const links = names.length
    ? [...names, { id: 'source', words: 'Source' }]
    : [...module.names.keys()].map((name) => ({ id: name, words: name }));
  return <Outline label="Names in this module" className="names" links={links} />;
}

interface Shown extends FrameProps {
  title: string;
  description: string;
  kicker: ReactNode;
  standfirst: ReactNode;
}

/** A page that no chapter holds. */
function render(site: Site, shown: Shown): string {
  const { title, description, kicker, standfirst, children, ...frame } = shown;
  const frontmatter = { title, description };
  const page: Page = { slug: MODULES, location: '', frontmatter, mdast: { type: 'root' } };
  return renderWhole(
    site,
    page,
    <Frame {...frame}>
      <article>
        <p className="kicker">{kicker}</p>
        <h1>
          <code>{title}</code>
        </h1>
        <p className="standfirst">{standfirst}</p>
        {children}
      </article>
    </Frame>,
  );
}

/** The page of one module: the reference of its public names, and its source, each part
 * linked to the cell it comes from. */
export const renderModule = (site: Site, module: Module): string =>
  render(site, {
    title: module.file,
    description: module.summary,
    kicker: <a href={site.moduleHref()}>API reference</a>,
    standfirst: <DocWords text={module.summary} />,
    className: 'module',
    outline: <NamesIn site={site} module={module} />,
    children: (
      <>
        <Reference site={site} module={module.name} />
        <h2 id="source">Source</h2>
        <Listing site={site} module={module} />
      </>
    ),
  });

/** The list of all modules, in the order in which the book writes them. */
export const renderModules = (site: Site): string =>
  render(site, {
    title: site.package.name,
    description: `The modules of ${site.package.name}, in the order of the book.`,
    kicker: 'API reference',
    standfirst:
      'Every line of it stands in a chapter. The modules, in the order in which the book ' +
      'writes them; each page lists the public names of its module.',
    children: <Modules />,
  });
