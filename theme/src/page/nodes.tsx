import type { ElementType, FunctionComponent } from 'react';
import type { Node } from '../site/types';
import { Block } from './cells';
import { Code } from './code';
import { usePage } from '../site/context';
import { isRun } from '../site/facts';
import { Ledger } from '../back/ledger';
import { Modules, Names } from '../back/names';
import { Coverage, Errata } from '../back/notes';
import { Joined } from './joined';
import { Enlarge, Outputs } from './outputs';
import { isExercise, plainText } from '../site/tree';

type Props = { node: Node };

/** What nodes of a page look like; each type has a component below. */
export function MyST({ ast = [] }: { ast?: Node[] }) {
  return ast.map((node, i) => {
    const Component = COMPONENTS[node.type] ?? Unknown;
    return <Component node={node} key={i} />;
  });
}

const Inner = ({ node }: Props) => <MyST ast={node.children} />;

/** A node that is an element of HTML. */
const as =
  (Tag: ElementType) =>
  ({ node }: Props) => (
    <Tag id={node.html_id}>
      <Inner node={node} />
    </Tag>
  );

/** An element that holds HTML which has been made before. */
const html = (node: Node) => ({ dangerouslySetInnerHTML: { __html: node.html ?? '' } });

function Paragraph({ node }: Props) {
  return (
    <p id={node.html_id} className={isExercise(node) ? 'exercise-text' : undefined}>
      <Inner node={node} />
    </p>
  );
}

function List({ node }: Props) {
  return node.ordered ? (
    <ol start={node.start}>
      <Inner node={node} />
    </ol>
  ) : (
    <ul>
      <Inner node={node} />
    </ul>
  );
}

function Heading({ node }: Props) {
  const Tag = `h${Math.min(node.depth, 6)}` as 'h2';
  const id = node.html_id;
  return (
    <Tag id={id}>
      <Inner node={node} />
      <a className="anchor" href={`#${id}`} aria-label="Link to this section">
        #
      </a>
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

/** What has a number has a label, so that it can be linked to. */
function Maths({ node }: Props) {
  const number = node.enumerator;
  const label = number ? `equation ${number}` : 'equation';
  return (
    <div className="equation" id={node.html_id}>
      <div className="equation-body" tabIndex={0} role="group" aria-label={label} {...html(node)} />
      {number && (
        <span className="equation-number">
          <a href={`#${node.html_id}`}>({number})</a>
          <Checked node={node} what={`equation (${number})`} />
        </span>
      )}
    </div>
  );
}

function Link({ node }: Props) {
  const { site, page } = usePage();
  const local = node.internal || node.static || node.url?.startsWith('/');
  // mystmd says nothing of a relative link to a file that is not in the book.
  if (local ? !site.has(node.url) : !/^([a-z][a-z+.-]*:|#)/i.test(node.url)) {
    site.complain(page, `the link to "${node.urlSource ?? node.url}" leads nowhere`);
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
    site.complain(page, `the image "${node.urlSource ?? node.url}" has no alternative text`);
  }
  return <img {...site.image(node.url)} alt={node.alt ?? ''} style={{ width: node.width }} />;
}

/** A picture in a figure can be enlarged; elsewhere it may stand in a link of its own. */
function Container({ node }: Props) {
  const { site, page } = usePage();
  const children = node.children ?? [];
  const image = children.find((child) => child.type === 'image');
  if (node.kind === 'figure' && !children.some((child) => child.type === 'caption')) {
    site.complain(page, `the figure "${image?.urlSource ?? image?.url ?? ''}" has no caption`);
  }
  return (
    <figure id={node.html_id} className={`figure-${node.kind}`}>
      {image && (
        <Enlarge {...site.image(image.url)}>
          <Image node={image} />
        </Enlarge>
      )}
      <MyST ast={children.filter((child) => child !== image)} />
    </figure>
  );
}

function Table({ node }: Props) {
  const rows = node.children ?? [];
  const isHead = (row: Node) => row.children!.every((cell) => cell.header);
  return (
    <div className="table-box" tabIndex={0} role="group" aria-label="table">
      <table>
        <thead>
          <MyST ast={rows.filter(isHead)} />
        </thead>
        <tbody>
          <MyST ast={rows.filter((row) => !isHead(row))} />
        </tbody>
      </table>
    </div>
  );
}

/** A titled box; a dropdown starts closed. */
function Box({ node }: Props) {
  const [title, ...rest] = node.children!;
  const kind = node.type === 'details' ? 'dropdown' : node.class;
  const name = ['box', node.kind, kind].filter(Boolean).join(' ');
  if (kind === 'dropdown') {
    return (
      <details className={name} id={node.html_id} open={node.open}>
        <summary className="box-title">
          <Inner node={title} />
        </summary>
        <MyST ast={rest} />
      </details>
    );
  }
  return (
    <aside className={name} id={node.html_id}>
      <p className="box-title">
        <Inner node={title} />
        <Checked node={node} what="this box" />
      </p>
      <MyST ast={rest} />
    </aside>
  );
}

/** A link to a place of this page. */
const leadsTo =
  (className: string, id: (node: Node) => string) =>
  ({ node }: Props) => (
    <a className={className} href={`#${id(node)}`}>
      <Inner node={node} />
    </a>
  );

const Cite = leadsTo('cite', ({ label }) => `cite-${label}`);

function CiteGroup({ node }: Props) {
  const cited = node.children?.map((child, i) => <Cite node={child} key={i} />);
  const all = <Joined by="; ">{cited}</Joined>;
  return node.kind === 'parenthetical' ? <>({all})</> : all;
}

/** A node that no component shows would vanish quietly: it fails the build instead. */
function Unknown({ node }: Props) {
  const { site, page } = usePage();
  const name = node.name ?? node.identifier ?? node.type;
  site.complain(page, `the theme cannot show "${name}" (${node.type})`);
  return plainText(node);
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

const COMPONENTS: Record<string, FunctionComponent<Props>> = {
  admonition: Box,
  block: Block,
  blockquote: as('blockquote'),
  break: () => <br />,
  caption: as('figcaption'),
  captionNumber: leadsTo('caption-number', (node) => node.html_id!),
  cite: Cite,
  citeGroup: CiteGroup,
  code: ({ node }) => <Code value={node.value ?? ''} lang={node.lang} id={node.html_id} />,
  comment: () => null,
  container: Container,
  coverage: Coverage,
  crossReference: CrossReference,
  definitionDescription: as('dd'),
  definitionList: as('dl'),
  definitionTerm: as('dt'),
  details: Box,
  embed: Inner,
  emphasis: as('em'),
  errata: Errata,
  glossary: Inner,
  heading: Heading,
  image: Image,
  inlineCode: ({ node }) => <code>{node.value}</code>,
  inlineMath: ({ node }) => <span className="maths" {...html(node)} />,
  ledger: Ledger,
  link: Link,
  list: List,
  listItem: as('li'),
  math: Maths,
  modules: Modules,
  mystRole: Role,
  names: Names,
  outputs: ({ node }) => <Outputs node={node} />,
  paragraph: Paragraph,
  span: as('span'),
  strong: as('strong'),
  subscript: as('sub'),
  superscript: as('sup'),
  table: Table,
  tableCell: ({ node }) => as(node.header ? 'th' : 'td')({ node }),
  tableRow: as('tr'),
  text: ({ node }) => node.value,
  thematicBreak: () => <hr />,
};
