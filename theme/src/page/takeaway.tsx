import { basename } from 'node:path';
import type { Node, Page } from '../site/types';
import type { Site } from '../site/site';
import { find, hasRun } from '../site/tree';
import { SetUp } from './cells';
import { DEPTHS } from './depth';

const isCell = (node: Node) => node.kind === 'notebook-code';

/** How to install what the chapter imports, for a reader who has only the notebook. */
function install(site: Site): string {
  const name = `${site.options.package}[lab]`;
  const source = site.options.repository;
  return source ? `pip install '${name} @ git+${source}'` : `pip install './${site.about.archive}[lab]'`;
}

/** Chapters, package and tools as one file. */
function Archive({ site }: { site: Site }) {
  const { archive } = site.about;
  if (!archive) return <>the book and its program</>;
  return <a href={`${site.base}/download/${archive}`}>{archive}</a>;
}

const MEANS = {
  ideas: 'Words, formulas and pictures',
  core: 'With the code that a chapter is about',
  everything: 'With set-up, checks and the code of figures',
};

/** How much code the reader wants to see, here and on every other page. */
function DepthChoice() {
  return (
    <fieldset className="depth choice">
      <legend>Show</legend>
      {DEPTHS.map((depth) => (
        <label key={depth} title={MEANS[depth]}>
          <input type="radio" name="depth" value={depth} defaultChecked={depth === 'core'} />
          <span>{depth}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** A quiet line under the title: this chapter as a notebook, as text, and how to run it. */
export function TakeAway({ site, page }: { site: Site; page: Page }) {
  if (!find(page.mdast, isCell)) return null;
  const chapter = page.location.slice(1);
  const stem = basename(chapter, '.md');
  const file = (extension: string) => `${site.base}/download/${stem}.${extension}`;
  const setUp = find(page.mdast, (node) => node.data?.isSetUp === true);
  return (
    <div className="take-away">
      <a href={file('ipynb')} download>
        {hasRun(page.mdast) ? 'Notebook' : 'Notebook (without outputs)'}
      </a>
      <a href={file('md')}>Markdown</a>
      <details>
        <summary>Run it</summary>
        <div className="take-away-body">
          <p>
            All of it: unpack <Archive site={site} />, then <code>make lab</code>, and double
            click <code>{chapter}</code>.
          </p>
          <p>
            With the notebook alone, beside that file: <code>{install(site)}</code>, then{' '}
            <code>jupyter lab {stem}.ipynb</code>.
          </p>
        </div>
      </details>
      {setUp && <SetUp block={setUp} />}
      <DepthChoice />
    </div>
  );
}
