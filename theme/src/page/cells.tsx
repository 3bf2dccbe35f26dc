import { Fragment, type ReactNode } from 'react';
import { MyST } from './nodes';
import type { Site } from '../site/site';
import type { Node, Page, Target } from '../site/types';
import { measured } from '../site/checks';
import { isRun } from '../site/facts';
import { Code } from './code';
import { usePage } from '../site/context';
import type { Depth } from './depth';
import { Fold } from './fold';
import { Joined } from './joined';
import { isLive, Outputs, type Shown } from './outputs';
import { fileOf } from '../site/package';
import { definitions } from '../site/python';
import { ChapterList } from './toc';
import { cellText, tagged } from '../site/tree';
import { UsedIn } from './uses-line';

/** Code of more lines than these is read by who opens it: what the book exports, or a
 * step on the way. */
const LONG = { exported: 14, other: 5 };

const linesOf = (text: string) => text.trim().split('\n').length;

/** "q_sample, at_step": what a cell defines. Of a step on the way the functions alone;
 * its variables say little. */
function title(block: Node, code: Node): string {
  const isExported = tagged(block, 'export').length > 0;
  const names = definitions(code.value ?? '')
    .filter(({ kind }) => isExported || kind !== 'constant')
    .map(({ name }) => name);
  return [...names.slice(0, 2), ...(names.length > 2 ? ['…'] : [])].join(', ') || 'Code';
}

/** Is all that a cell printed, if anything, the words of checks? */
const isProof = (block: Node) =>
  cellText(block)
    .split('\n')
    .every((line) => /, allowed \S+$|, the text says \S+$|^$/.test(line));

/** Plumbing is open to who asks for everything: set-up, the lab kit, what is long, and
 * what only proves something. */
function depthOf(block: Node, code: Node): Depth {
  const exports = tagged(block, 'export');
  const isMatter = exports.length > 0 || tagged(block, 'exercise').length > 0;
  const isKit = exports.some((module) => module.startsWith('book.'));
  const isShort = linesOf(code.value ?? '') <= (isMatter ? LONG.exported : LONG.other);
  const isTold = isMatter || !cellText(block) || !isProof(block);
  return isShort && isTold && !isKit && code.visibility !== 'hide' ? 'core' : 'everything';
}

/** Code under one quiet line that opens it, at some depths from the start. */
function Source({ block, code, name, children }: {
  block: Node;
  code: Node;
  name?: string;
  children?: ReactNode;
}) {
  const count = linesOf(code.value ?? '');
  const summary = (
    <>
      <span className="source-name">{name ?? title(block, code)}</span>
      {`, ${count} line${count === 1 ? '' : 's'}`}
    </>
  );
  const depth = name ? 'everything' : depthOf(block, code);
  return (
    <Fold kind="fold source" depth={depth} summary={summary}>
      <PlainSource block={block} code={code} />
      {children}
    </Fold>
  );
}

function PlainSource({ block, code }: { block: Node; code: Node }) {
  const isExported = tagged(block, 'export').length > 0;
  return <Code value={code.value ?? ''} lang={code.lang} isExported={isExported} />;
}

/** What a chapter imports before it begins: it stands with what a reader takes away. */
export function SetUp({ block }: { block: Node }) {
  const code = block.children?.find((child) => child.type === 'code');
  return (
    <Fold kind="set-up" depth="everything" id={block.html_id} summary="Set-up code">
      <PlainSource block={block} code={code!} />
    </Fold>
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

/** What a check has to say of one name: where it leads, and what it measured. */
interface Finding {
  name: string;
  target?: Target;
  said: string;
}

function findings(site: Site, page: Page, block: Node): Finding[] {
  const names = tagged(block, 'check');
  return names.map((name) => {
    const target = site.targets.get(name);
    if (!target) {
      const what = 'no numbered equation, figure or theorem, and no labelled box';
      site.complain(page, `the tag "check.${name}" names ${what}`);
    }
    const run = isRun(site.facts.origins.get(name)) && 'run as printed';
    const result = measured(block, name, names.length === 1);
    return { name, target, said: [run, result].filter(Boolean).join(' · ') };
  });
}

/** A tick and a short name; opened, what is checked ("Equation (3.1) · run as printed ·
 * exact, largest error 2e-16", a link) and the cell that does it. */
function Check({ block, children }: { block: Node; children: ReactNode }) {
  const { site, page } = usePage();
  const found = findings(site, page, block);
  const short = found.map(({ name, target }) =>
    target?.number ? target.label.replace(/^Equation /, '') : target?.title ?? name,
  );
  const told = found.map(({ target, name, said }) =>
    [target?.label ?? name, said].filter(Boolean).join(' · '),
  );
  const summary = (
    <>
      <span className="sr-only">checked: </span>
      {short.join(', ')}
    </>
  );
  return (
    <Fold kind="proof-fold" depth="everything" summary={summary} title={told.join('; ')}>
      <div className="fold-body">
        <p className="check-line">
          <span className="check-word">checked:</span>{' '}
          <Joined by="; ">
            {found.map(({ name, target, said }) => (
              <Fragment key={name}>
                {target ? <a href={target.href}>{target.label}</a> : name}
                {said && <span className="measured"> · {said}</span>}
              </Fragment>
            ))}
          </Joined>
        </p>
        {children}
      </div>
    </Fold>
  );
}

/** In a cell that is folded as a whole, hidden code needs no fold of its own. */
function CellBody({ block, isFolded }: { block: Node; isFolded: boolean }) {
  // A cell with a caption holds its code and outputs in one figure: the picture comes
  // first, its caption sits under it, and who asks for the code finds it below.
  const figure = block.children?.find((child) => child.type === 'container');
  const parts = (figure ?? block).children ?? [];
  const found = parts.find((child) => child.type === 'code');
  const code = found?.visibility !== 'remove' && found?.value?.trim() ? found : undefined;
  const outputs = parts.find((child) => child.type === 'outputs');
  const caption = parts.filter((child) => child.type === 'caption');
  const { site, page } = usePage();
  const isWidget = block.data?.tags?.includes('widget');
  if (isWidget && outputs?.children?.length && !isLive(outputs)) {
    site.complain(
      page,
      `the cell "${code?.value?.trim().split('\n').at(-1)}" is tagged widget, but shows no` +
        ' live figure with a still; end it with what explore() returns',
    );
  }
  const shown = (only?: Shown) =>
    outputs && <Outputs node={outputs} alt={block.data?.alt} only={only} isFolded={isFolded} />;
  if (figure || isWidget) {
    return (
      <>
        {figure ? (
          <figure id={figure.html_id}>
            {shown('pictures')}
            <MyST ast={caption} />
          </figure>
        ) : (
          shown('pictures')
        )}
        {code && (
          <Source block={block} code={code} name="Code of this figure">
            {shown('words')}
          </Source>
        )}
      </>
    );
  }
  const usedIn = tagged(block, 'export').length > 0 && <UsedIn block={block} />;
  // What folded code has proved is folded with it.
  const isQuiet = code && depthOf(block, code) === 'everything' && isProof(block);
  return (
    <>
      <Badges block={block} />
      {code && !isFolded && (
        <Source block={block} code={code}>
          {isQuiet && shown('words')}
          {usedIn}
        </Source>
      )}
      {code && isFolded && <PlainSource block={block} code={code} />}
      {shown(isQuiet && !isFolded ? 'pictures' : undefined)}
      {isFolded && usedIn}
    </>
  );
}

/** A block of the page: running text, or one cell of the notebook. */
export function Block({ node }: { node: Node }) {
  if (node.data?.isSetUp) return null;
  // mystmd turns the directive {toc} into a plain list, in a block of this name.
  if (node.data?.part === 'toc:project') return <ChapterList />;
  if (node.kind !== 'notebook-code') {
    return <MyST ast={node.children} />;
  }
  const is = (kind: string) => tagged(node, kind).length > 0;
  const isCheck = is('check');
  const fold =
    (is('solution') && { kind: 'solution', summary: 'Solution' }) ||
    (is('wrong') && { kind: 'solution wrong', summary: 'A wrong answer' }) ||
    (node.data?.judges && { kind: 'fold', summary: 'How an answer is checked' });
  const body = <CellBody block={node} isFolded={isCheck || Boolean(fold)} />;
  const kind = isCheck ? ' check' : is('exercise') ? ' stub' : '';
  return (
    <div className={`cell${kind}`} id={node.html_id}>
      {isCheck && <Check block={node}>{body}</Check>}
      {!isCheck && fold && (
        <Fold {...fold}>
          <div className="fold-body">{body}</div>
        </Fold>
      )}
      {!isCheck && !fold && body}
    </div>
  );
}
