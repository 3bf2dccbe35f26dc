import { Fragment, type ReactNode } from 'react';
import { MyST } from 'myst-to-react';
import type { Node, Page, Target } from './types';
import type { Site } from './site';
import { Code } from './code';
import { usePage } from './context';
import { Outputs } from './outputs';
import { tagged } from './tree';

function Source({ node, isFolded }: { node: Node; isFolded: boolean }) {
  if (node.visibility === 'remove' || !node.value?.trim()) return null;
  const code = <Code value={node.value} lang={node.lang} />;
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
          href={`${site.moduleHref(module)}#${part?.name}`}
        >
          <span aria-hidden="true">→ </span>
          <span className="sr-only">written to </span>
          {`${site.package.name}/${module}.py`}
        </a>
      ))}
      {isExercise && <span className="badge exercise">Exercise</span>}
    </p>
  );
}

/** What the tags `check.NAME` of a cell name; a name that nothing bears is a problem. */
function checkedTargets(site: Site, page: Page, names: string[]): Target[] {
  return names.flatMap((name) => {
    const target = site.targets.get(name);
    if (target) return [target];
    site.problems.push(
      `${page.location.slice(1)} the tag "check.${name}" names no` +
        ' numbered equation, figure or theorem, and no labelled box',
    );
    return [];
  });
}

/** A closed check says what it verifies; a link there would clash with opening it. */
function Check({ names, children }: { names: string[]; children: ReactNode }) {
  const { site, page } = usePage();
  const targets = checkedTargets(site, page, names);
  const summary = (
    <>
      <span className="check-word">checked:</span>{' '}
      {targets.map((target) => target.label).join(', ')}
    </>
  );
  return (
    <Fold kind="check" summary={summary}>
      <p className="fine check-targets">
        Verifies{' '}
        {targets.map((target, i) => (
          <Fragment key={target.href}>
            {i > 0 && ', '}
            <a href={target.href}>{target.label}</a>
          </Fragment>
        ))}
      </p>
      {children}
    </Fold>
  );
}

function Fold({ kind, summary, children }: {
  kind: string;
  summary: ReactNode;
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
  const shown = outputs && <Outputs node={outputs} alt={block.data?.alt} />;
  return (
    <>
      <Badges block={block} />
      {code && <Source node={code} isFolded={isFolded} />}
      {figure ? (
        <figure id={figure.html_id}>
          {shown}
          <MyST ast={caption} />
        </figure>
      ) : (
        shown
      )}
    </>
  );
}

/** A block of the page: running text, or one cell of the notebook. */
export function Block({ node }: { node: Node }) {
  if (node.visibility === 'remove') return null;
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
  const isFolded = checks.length > 0 || isSolution || node.visibility === 'hide';
  let body: ReactNode = <CellBody block={node} isFolded={isFolded} />;
  if (checks.length) {
    body = <Check names={checks}>{body}</Check>;
  } else if (isSolution) {
    body = (
      <Fold kind="solution" summary="Solution">
        {body}
      </Fold>
    );
  } else if (node.visibility === 'hide') {
    body = (
      <Fold kind="fold" summary="Show the cell">
        {body}
      </Fold>
    );
  }
  return (
    <div className="cell" id={node.html_id}>
      {body}
    </div>
  );
}
