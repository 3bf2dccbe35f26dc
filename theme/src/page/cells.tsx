import type { ReactNode } from 'react';
import { MyST } from 'myst-to-react';
import type { Node } from '../site/types';
import { measured } from '../site/checks';
import { isRun } from '../site/facts';
import { Code } from './code';
import { usePage } from '../site/context';
import { isLive, Outputs } from './outputs';
import { fileOf } from '../site/package';
import { ChapterList } from './toc';
import { tagged } from '../site/tree';
import { UsedIn } from './uses-line';

function Source({ node, isFolded, isExported }: {
  node: Node;
  isFolded: boolean;
  isExported: boolean;
}) {
  if (node.visibility === 'remove' || !node.value?.trim()) return null;
  const code = <Code value={node.value} lang={node.lang} isExported={isExported} />;
  if (node.visibility !== 'hide' || isFolded) return code;
  return (
    <details className="fold">
      <summary>Show the code</summary>
      {code}
    </details>
  );
}

/** What a cell is for, said above it: the module it becomes, or an exercise. */
function Badges({ block }: { block: Node }) {
  const { site } = usePage();
  const exports = tagged(block, 'export');
  const part = site.package.part(block);
  const isExercise = tagged(block, 'exercise').length > 0;
  if (!exports.length && !isExercise) return null;
  return (
    <p className="badges">
      {exports.map((module) => (
        <a
          className="badge export"
          key={module}
          id={part?.anchor}
          href={site.moduleHref(module) + (part ? `#${part.name}` : '')}
        >
          <span aria-hidden="true">→ </span>
          <span className="sr-only">written to </span>
          {`${site.package.name}/${fileOf(module)}`}
        </a>
      ))}
      {isExercise && <span className="badge exercise">Your turn</span>}
    </p>
  );
}

/** "checked: Equation (3.1) · run as printed · exact, largest error 2e-16", with a link to
 * what the cell verifies. (A summary may hold no links, so this stands before the fold.) */
function CheckLine({ names, block }: { names: string[]; block: Node }) {
  const { site, page } = usePage();
  return (
    <p className="check-line">
      <span className="check-word">checked:</span>{' '}
      {names.map((name, i) => {
        const target = site.targets.get(name);
        if (!target) {
          site.problems.push(
            `${page.location.slice(1)} the tag "check.${name}" names no` +
              ' numbered equation, figure or theorem, and no labelled box',
          );
        }
        const result = measured(block, name, names.length === 1);
        return (
          <span className="checked-name" key={name}>
            {i > 0 && '; '}
            {target ? <a href={target.href}>{target.label}</a> : name}
            {isRun(site.facts.origins.get(name)) && (
              <span className="measured"> · run as printed</span>
            )}
            {result && <span className="measured"> · {result}</span>}
          </span>
        );
      })}
    </p>
  );
}

function Fold({ kind, summary, children }: {
  kind: string;
  summary: string;
  children: ReactNode;
}) {
  return (
    <details className={kind}>
      <summary>{summary}</summary>
      <div className="fold-body">{children}</div>
    </details>
  );
}

/** In a cell that is folded as a whole, hidden code needs no fold of its own. */
function CellBody({ block, isFolded }: { block: Node; isFolded: boolean }) {
  // A cell with a caption holds its code and outputs in one figure: the code goes
  // above, so that the caption sits under what it describes.
  const figure = block.children?.find((child) => child.type === 'container');
  const parts = (figure ?? block).children ?? [];
  const code = parts.find((child) => child.type === 'code');
  const outputs = parts.find((child) => child.type === 'outputs');
  const caption = parts.filter((child) => child.type === 'caption');
  const { site, page } = usePage();
  if (block.data?.tags?.includes('widget') && outputs?.children?.length && !isLive(outputs)) {
    site.problems.push(
      `${page.location.slice(1)} the cell "${code?.value?.trim().split('\n').at(-1)}" is tagged` +
        ' widget, but shows no live figure with a still; end it with what explore() returns',
    );
  }
  const shown = outputs && <Outputs node={outputs} alt={block.data?.alt} />;
  return (
    <>
      <Badges block={block} />
      {code && (
        <Source
          node={code}
          isFolded={isFolded}
          isExported={tagged(block, 'export').length > 0}
        />
      )}
      {figure ? (
        <figure id={figure.html_id}>
          {shown}
          <MyST ast={caption} />
        </figure>
      ) : (
        shown
      )}
      {tagged(block, 'export').length > 0 && <UsedIn block={block} />}
    </>
  );
}

/** A block of the page: running text, or one cell of the notebook. */
export function Block({ node }: { node: Node }) {
  if (node.visibility === 'remove') return null;
  // mystmd turns the directive {toc} into a plain list, in a block of this name.
  if (node.data?.part === 'toc:project') return <ChapterList />;
  if (node.kind !== 'notebook-code') {
    return node.html_id || node.data?.class ? (
      <div id={node.html_id} className={node.data?.class}>
        <MyST ast={node.children} />
      </div>
    ) : (
      <MyST ast={node.children} />
    );
  }
  const checks = tagged(node, 'check');
  const isSolution = tagged(node, 'solution').length > 0;
  const isWrong = tagged(node, 'wrong').length > 0;
  const judges = node.data?.judges === true && !isSolution;
  const fold =
    (isSolution && { kind: 'solution', summary: 'Solution' }) ||
    (isWrong && { kind: 'solution wrong', summary: 'A wrong answer' }) ||
    (judges && { kind: 'fold', summary: 'How an answer is checked' }) ||
    (node.visibility === 'hide' && { kind: 'fold', summary: 'Show the cell' });
  const isFolded = checks.length > 0 || Boolean(fold);
  let body: ReactNode = <CellBody block={node} isFolded={isFolded} />;
  if (checks.length) {
    body = (
      <div className="check">
        <CheckLine names={checks} block={node} />
        <Fold kind="proof-fold" summary="The check">
          {body}
        </Fold>
      </div>
    );
  } else if (fold) {
    body = <Fold {...fold}>{body}</Fold>;
  }
  const isStub = tagged(node, 'exercise').length > 0;
  return (
    <div className={isStub ? 'cell stub' : 'cell'} id={node.html_id}>
      {body}
    </div>
  );
}
