import type { ReactNode } from 'react';
import { DEFAULT_RENDERERS, MyST } from 'myst-to-react';
import type { Node } from '../site/types';
import { Block } from './cells';
import { Code } from './code';
import { usePage } from '../site/context';
import { isRun } from '../site/facts';
import { Ledger } from '../back/ledger';
import { Modules, Names } from '../back/names';
import { Coverage, Errata } from '../back/notes';
import { Enlarge, Outputs } from './outputs';
import { capital, find, isExercise, plainText } from '../site/tree';

type Props = { node: Node };

const Inner = ({ node }: Props) => <MyST ast={node.children ?? []} />;

const classes = (node: Node): string[] => (node.class ?? '').split(/\s+/).filter(Boolean);

function Paragraph({ node }: Props) {
  return (
    <p id={node.html_id} className={isExercise(node) ? 'exercise-text' : undefined}>
      <Inner node={node} />
    </p>
  );
}

function Heading({ node }: Props) {
  const Tag = `h${Math.min(node.depth, 6)}` as 'h2';
  const id = node.html_id;
  return (
    <Tag id={id}>
      {node.enumerator && <span className="heading-number">{node.enumerator} </span>}
      <Inner node={node} />
      {id && (
        <a className="anchor" href={`#${id}`} aria-label="Link to this section">
          #
        </a>
      )}
    </Tag>
  );
}

/** A tick that leads to the cell where this book checks the claim beside it. It says
 * whether the equation itself is run, as it is printed. */
function Checked({ node, what }: { node: Node; what: string }) {
  const { site } = usePage();
  const href = site.checkOf(node.identifier);
  if (!href) return null;
  const run = isRun(site.facts.origins.get(node.identifier ?? '')) ? 'run as printed' : undefined;
  const label = `The check of ${what}${run ? `, which is ${run}` : ''}`;
  return (
    <a className="checked" href={href} aria-label={label} title={run}>
      ✓
    </a>
  );
}

function EquationNumber({ node }: Props) {
  const text = `(${node.enumerator})`;
  // Without a label there is nothing to link to.
  if (!node.html_id) return <span className="equation-number">{text}</span>;
  return (
    <span className="equation-number">
      <a href={`#${node.html_id}`}>{text}</a>
      <Checked node={node} what={`equation ${text}`} />
    </span>
  );
}

function Maths({ node }: Props) {
  const number = node.enumerator;
  return (
    <div className="equation" id={node.html_id}>
      <div
        className="equation-body"
        tabIndex={0}
        role="group"
        aria-label={number ? `equation ${number}` : 'equation'}
        dangerouslySetInnerHTML={{ __html: node.html ?? node.value ?? '' }}
      />
      {number && <EquationNumber node={node} />}
    </div>
  );
}

function InlineMaths({ node }: Props) {
  const html = node.html ?? node.value ?? '';
  return <span className="maths" dangerouslySetInnerHTML={{ __html: html }} />;
}

function Link({ node }: Props) {
  const { site, page } = usePage();
  const local = node.internal || node.static || node.url?.startsWith('/');
  // mystmd says nothing of a relative link to a file that is not in the book.
  if (local ? !site.has(node.url) : !/^([a-z][a-z+.-]*:|#)/i.test(node.url)) {
    site.problems.push(
      `${page.location.slice(1)} the link to "${node.urlSource ?? node.url}" leads nowhere`,
    );
  }
  return (
    <a
      href={local ? site.link(node.url) : node.url}
      rel={local ? undefined : 'noreferrer'}
      className={node.class}
    >
      <Inner node={node} />
    </a>
  );
}

function CrossReference({ node }: Props) {
  const { site } = usePage();
  const page = node.remote && node.url ? site.link(node.url) : '';
  return (
    <a className="xref" href={`${page}#${node.html_id ?? node.identifier}`}>
      <Inner node={node} />
    </a>
  );
}

function Image({ node }: Props) {
  const { site, page } = usePage();
  if (!node.alt?.trim()) {
    site.problems.push(
      `${page.location.slice(1)} the image "${node.urlSource ?? node.url}" has no` +
        ' alternative text',
    );
  }
  const image = site.bytes(node.url) ? site.publish(node.url) : { src: node.url };
  const style = node.width ? { width: node.width } : undefined;
  return <img {...image} alt={node.alt ?? ''} style={style} />;
}

/** The picture of a figure; elsewhere an image may stand in a link of its own. */
function FigureImage({ node }: Props) {
  const { site } = usePage();
  const image = site.bytes(node.url) ? site.publish(node.url) : { src: node.url };
  return (
    <Enlarge {...image}>
      <Image node={node} />
    </Enlarge>
  );
}

function Container({ node }: Props) {
  const { site, page } = usePage();
  const isCode = node.kind === 'code';
  const children = node.children ?? [];
  if (node.kind === 'figure' && !children.some((child) => child.type === 'caption')) {
    const image = children.find((child) => child.type === 'image');
    site.problems.push(
      `${page.location.slice(1)} the figure "${image?.urlSource ?? image?.url ?? ''}"` +
        ' has no caption',
    );
  }
  return (
    <figure id={node.html_id} className={[`figure-${node.kind}`, ...classes(node)].join(' ')}>
      {isCode && <MyST ast={node.children?.filter((child) => child.type === 'caption')} />}
      {children
        .filter((child) => !isCode || child.type !== 'caption')
        .map((child, i) =>
          child.type === 'image' ? (
            <FigureImage node={child} key={i} />
          ) : (
            <MyST ast={[child]} key={i} />
          ),
        )}
    </figure>
  );
}

function CaptionNumber({ node }: Props) {
  return (
    <a className="caption-number" href={`#${node.html_id}`}>
      <Inner node={node} />
    </a>
  );
}

function Table({ node }: Props) {
  const rows = node.children ?? [];
  const isHead = (row: Node) => row.children?.every((cell) => cell.header);
  const split = rows.findIndex((row) => !isHead(row));
  const head = split < 0 ? rows : rows.slice(0, split);
  const body = split < 0 ? [] : rows.slice(split);
  return (
    <div className="table-box" tabIndex={0} role="group" aria-label="table">
      <table>
        {head.length > 0 && (
          <thead>
            <MyST ast={head} />
          </thead>
        )}
        <tbody>
          <MyST ast={body} />
        </tbody>
      </table>
    </div>
  );
}

/** A titled box; with the class `dropdown` it starts closed. */
function Box({ node, kind, title, rest }: {
  node: Node;
  kind: string;
  title: ReactNode;
  rest: Node[];
}) {
  const name = ['box', kind, ...classes(node)].join(' ');
  if (classes(node).includes('dropdown')) {
    return (
      <details className={name} id={node.html_id} open={node.open}>
        <summary className="box-title">{title}</summary>
        <MyST ast={rest} />
      </details>
    );
  }
  return (
    <aside className={name} id={node.html_id}>
      {title && (
        <p className="box-title">
          {title}
          <Checked node={node} what="this box" />
        </p>
      )}
      <MyST ast={rest} />
    </aside>
  );
}

function split(node: Node): { title?: Node; rest: Node[] } {
  const [first, ...rest] = node.children ?? [];
  return first?.type === 'admonitionTitle'
    ? { title: first, rest }
    : { rest: node.children ?? [] };
}

function Admonition({ node }: Props) {
  const { title, rest } = split(node);
  const heading = title && <MyST ast={title.children ?? []} />;
  return <Box node={node} kind={node.kind ?? ''} title={heading} rest={rest} />;
}

function Numbered({ node }: Props) {
  const { title, rest } = split(node);
  const kind: string = node.type === 'proof' ? node.kind : node.type;
  const heading = (
    <>
      {capital(kind)}
      {node.enumerator && ` ${node.enumerator}`}
      {title && (
        <span className="box-name">
          {' '}
          (<MyST ast={title.children ?? []} />)
        </span>
      )}
    </>
  );
  return <Box node={node} kind={`numbered ${kind}`} title={heading} rest={rest} />;
}

function Solution({ node }: Props) {
  const { title, rest } = split(node);
  return (
    <details className="solution" id={node.html_id}>
      <summary>{title ? <MyST ast={title.children ?? []} /> : 'Solution'}</summary>
      <div className="fold-body">
        <MyST ast={rest} />
      </div>
    </details>
  );
}

function Details({ node }: Props) {
  const [first, ...rest] = node.children ?? [];
  const hasSummary = first?.type === 'summary';
  return (
    <details className="box dropdown" id={node.html_id} open={node.open}>
      <summary className="box-title">
        {hasSummary ? <MyST ast={first.children ?? []} /> : 'More'}
      </summary>
      <MyST ast={hasSummary ? rest : node.children} />
    </details>
  );
}

function Cite({ node }: Props) {
  return (
    <a className="cite" href={`#cite-${node.label}`}>
      <Inner node={node} />
    </a>
  );
}

function CiteGroup({ node }: Props) {
  const isParenthetical = node.kind === 'parenthetical';
  return (
    <span>
      {isParenthetical && '('}
      {node.children?.map((child, i) => (
        <span key={i}>
          {i > 0 && '; '}
          <MyST ast={[child]} />
        </span>
      ))}
      {isParenthetical && ')'}
    </span>
  );
}

/** Where there is a margin the note stands in it, beside the words it belongs to. */
function FootnoteReference({ node }: Props) {
  const { page } = usePage();
  const note = find(
    page.mdast,
    ({ type, identifier }) => type === 'footnoteDefinition' && identifier === node.identifier,
  );
  return (
    <>
      <sup>
        <a
          className="footnote"
          href={`#footnote-${node.identifier}`}
          id={`footnote-ref-${node.identifier}`}
          aria-label={`Footnote ${node.enumerator}`}
        >
          {node.enumerator}
        </a>
      </sup>
      <span className="margin-note">
        <span className="number">{node.enumerator} </span>
        <MyST ast={note?.children?.flatMap((each) => each.children ?? []) ?? []} />
      </span>
    </>
  );
}

function Tabs({ node }: Props) {
  return (
    <div className="tabs">
      {node.children?.map((tab, i) => (
        <section key={i}>
          <p className="tab-title">{tab.title}</p>
          <MyST ast={tab.children ?? []} />
        </section>
      ))}
    </div>
  );
}

function Aside({ node }: Props) {
  return (
    <Box node={node} kind={node.kind ?? 'aside'} title={undefined} rest={node.children ?? []} />
  );
}

/** A node that no renderer knows would vanish quietly: it fails the build instead. */
function Unknown({ node }: Props) {
  const { site, page } = usePage();
  const name = node.name ?? node.type;
  const file = page.location.slice(1);
  site.problems.push(`${file} the theme cannot show "${name}" (${node.type})`);
  return <>{plainText(node)}</>;
}

/** mystmd leaves the roles in a cell's caption as they are: references are made here. */
function Role({ node }: Props) {
  const { site } = usePage();
  const target = site.targets.get(node.value?.trim() ?? '');
  if (!target || !['eq', 'numref', 'ref'].includes(node.name)) {
    return <Unknown node={node} />;
  }
  return (
    <a className="xref" href={target.href}>
      {node.name === 'eq' && target.number ? `(${target.number})` : target.label}
    </a>
  );
}

const OWN_RENDERERS = {
  DefaultComponent: Unknown,
  mystDirective: Unknown,
  mystRole: Role,
  abbreviation: ({ node }: Props) => (
    <abbr title={node.title}>
      <Inner node={node} />
    </abbr>
  ),
  admonition: Admonition,
  aside: Aside,
  block: Block,
  caption: ({ node }: Props) => (
    <figcaption>
      <Inner node={node} />
    </figcaption>
  ),
  captionNumber: CaptionNumber,
  cite: Cite,
  citeGroup: CiteGroup,
  code: ({ node }: Props) => (
    <Code value={node.value ?? ''} lang={node.lang} id={node.html_id} />
  ),
  container: Container,
  coverage: Coverage,
  crossReference: CrossReference,
  definitionList: ({ node }: Props) => (
    <dl>
      <Inner node={node} />
    </dl>
  ),
  details: Details,
  errata: Errata,
  embed: ({ node }: Props) => <Inner node={node} />,
  exercise: Numbered,
  footnoteDefinition: () => null,
  footnoteReference: FootnoteReference,
  glossary: ({ node }: Props) => <Inner node={node} />,
  heading: Heading,
  html: ({ node }: Props) => (
    <div dangerouslySetInnerHTML={{ __html: node.value ?? '' }} />
  ),
  image: Image,
  inlineCode: ({ node }: Props) => <code>{node.value}</code>,
  inlineExpression: ({ node }: Props) => <Inner node={node} />,
  inlineMath: InlineMaths,
  ledger: Ledger,
  legend: ({ node }: Props) => (
    <figcaption>
      <Inner node={node} />
    </figcaption>
  ),
  link: Link,
  math: Maths,
  mathGroup: ({ node }: Props) => <Inner node={node} />,
  modules: Modules,
  names: Names,
  outputs: ({ node }: Props) => <Outputs node={node} />,
  paragraph: Paragraph,
  proof: Numbered,
  raw: ({ node }: Props) =>
    node.format === 'html' || node.lang === 'html' ? (
      <div dangerouslySetInnerHTML={{ __html: node.value ?? '' }} />
    ) : null,
  solution: Solution,
  tabSet: Tabs,
  table: Table,
  thematicBreak: () => <hr />,
};

export const RENDERERS = { ...DEFAULT_RENDERERS, ...OWN_RENDERERS };
