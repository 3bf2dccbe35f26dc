// {ledger}: every labelled equation of the book, where it comes from, what computes it,
// whether its print is run, and what its check measured when the book was built.
import { measurements, type Measured } from '../site/checks';
import { usePage } from '../site/context';
import { citedIn, isRun, runAgainst, type Origin } from '../site/facts';
import { isPublic, type Identifier } from '../site/identifiers';
import { ApiLink } from './names';
import type { Definition } from '../site/python';
import type { Site } from '../site/site';
import { Joined } from '../page/joined';
import { WithTex } from '../page/tex';
import { GroupedTable } from './grouped-table';
import { find, hasRun, walk } from '../site/tree';
import type { Node, TocEntry } from '../site/types';

export interface Row {
  label: string;
  number: string;
  href: string;
  /** The statement, as KaTeX has set it. */
  html: string;
  origin: Origin;
  functions: Identifier[];
  check?: { href: string; hasRun: boolean; measured: Measured[] };
}

interface Account {
  entry: TocEntry;
  rows: Row[];
}

const docs = (definition: Definition): string =>
  [definition.doc, ...definition.members.map(docs)].join('\n');

/** Public names whose docstring, or that of a method, names the equation. */
function computedBy(site: Site, label: string): Identifier[] {
  const named = new RegExp(`\\b${label}(?![\\w-])`);
  return site.identifiers.all.filter((each) => isPublic(each) && named.test(docs(each)));
}

function isAsserted(block: Node): boolean {
  const code = find(block, (node) => node.type === 'code' && node.executable);
  return /^\s*assert\b/m.test(code?.value ?? '');
}

function checkOf(site: Site, label: string): Row['check'] {
  const check = site.checks.get(label);
  if (!check) return undefined;
  const measured = measurements(check.block, label, check.isOnly);
  const page = site.pages.get(check.slug)!;
  const ran = hasRun(page.mdast);
  if (ran && !measured.length && !isAsserted(check.block)) {
    site.complain(
      page,
      `the cell tagged "check.${label}" measured nothing that begins with "${label}"` +
        ' and asserts nothing',
    );
  }
  return { href: site.checkOf(label)!, hasRun: ran, measured };
}

function rowOf(site: Site, slug: string, node: Node): Row {
  const label = node.label as string;
  return {
    label,
    number: node.enumerator!,
    href: `${site.href(slug)}#${node.html_id}`,
    html: node.html ?? '',
    origin: site.facts.origins.get(label) ?? {},
    functions: computedBy(site, label),
    check: checkOf(site, label),
  };
}

/** The equations of each chapter that has some. */
export function accounts(site: Site): Account[] {
  return site.toc.flatMap((entry) => {
    const page = entry.number ? site.pages.get(entry.slug!) : undefined;
    const nodes = page ? [...walk(page.mdast)] : [];
    const numbered = nodes.filter((node) => node.type === 'math' && node.label && node.enumerator);
    const rows = numbered.map((node) => rowOf(site, entry.slug!, node));
    return rows.length ? [{ entry, rows }] : [];
  });
}

/** "Ho et al. (2020), eq. 2": the source as plain words. */
export function sourceWords(site: Site, { origin }: Row): string {
  const names = citedIn(origin).map((key) => site.citations.name(key) ?? key);
  return [names.join('; '), origin.place, origin.note].filter(Boolean).join(', ');
}

function Source({ origin }: { origin: Origin }) {
  const { site } = usePage();
  const keys = citedIn(origin);
  for (const key of keys.filter((each) => !site.citations.name(each))) {
    site.problems.push(`chapters/equations.yml no chapter cites "${key}"; cite it where the equation stands`);
  }
  return (
    <>
      <Joined by="; ">
        {keys.map((key) => (
          <a className="cite" href={`#cite-${key}`} key={key}>
            {site.citations.name(key) ?? key}
          </a>
        ))}
      </Joined>
      {origin.place && `, ${origin.place}`}
      {origin.note && (
        <span className="ledger-note">
          {keys.length > 0 && '; '}
          <Note text={origin.note} />
        </span>
      )}
    </>
  );
}

/** A note may name other equations by their labels, and hold TeX. */
function Note({ text }: { text: string }) {
  const { site } = usePage();
  return text.split(/\b(eq-[a-z0-9-]*[a-z0-9])\b/).map((piece, i) => {
    const target = i % 2 ? site.targets.get(piece) : undefined;
    if (!target) return <WithTex key={i} text={piece} />;
    return (
      <a className="xref" key={i} href={target.href}>
        ({target.number})
      </a>
    );
  });
}

const exponent = (value: number) => value.toExponential(0).replace('e+0', '').replace('e+', 'e');

/** A name of the package, linked to its reference. */
function PublicName({ name }: { name: string }) {
  const { site } = usePage();
  const found = site.identifiers.all.find((each) => isPublic(each) && each.name === name);
  return found ? <ApiLink to={found} /> : <code>{name}</code>; // of a library
}

/** "run as printed, against q_sample", or why not. */
function PrintResult({ origin }: { origin: Origin }) {
  if (!isRun(origin)) {
    return <p className="waived">not run as printed: {origin.unrun ?? 'nobody says why'}</p>;
  }
  const names = runAgainst(origin);
  return (
    <p className="run-as-printed">
      run as printed, {names.length ? 'against ' : 'side against side'}
      <Joined>
        {names.map((name) => (
          <PublicName name={name} key={name} />
        ))}
      </Joined>
    </p>
  );
}

function CheckResult({ row }: { row: Row }) {
  if (row.origin.waived) return <span className="waived">waived: {row.origin.waived}</span>;
  const measured = row.check?.measured ?? [];
  return (
    <>
      {measured.map(({ kind, error, allowed }) => (
        <p key={kind}>
          {kind}: <span className="measured">{error}</span>
          <span className="allowed">, allowed {exponent(allowed)}</span>
        </p>
      ))}
      {!measured.length && <p>{row.check?.hasRun ? 'asserted' : 'not run in this build'}</p>}
      <p>
        <a href={row.check?.href} aria-label={`The check of equation (${row.number})`}>
          the check
        </a>
      </p>
    </>
  );
}

function cells(row: Row) {
  return [
    <>
      <a className="xref" href={row.href}>
        ({row.number})
      </a>
      <code className="ledger-label">{row.label}</code>
    </>,
    <div
      className="ledger-statement"
      tabIndex={0}
      role="group"
      aria-label={`equation ${row.number}`}
      dangerouslySetInnerHTML={{ __html: row.html }}
    />,
    <>
      <p>
        <Source origin={row.origin} />
      </p>
      {row.functions.length > 0 && (
        <p className="ledger-functions">
          <Joined>
            {row.functions.map((each) => (
              <ApiLink to={each} key={each.name} />
            ))}
          </Joined>
        </p>
      )}
    </>,
    <>
      <PrintResult origin={row.origin} />
      <CheckResult row={row} />
    </>,
  ];
}

function Totals({ rows }: { rows: Row[] }) {
  const waived = rows.filter((row) => row.origin.waived);
  const measured = rows.filter((row) => row.check?.measured.length);
  const checked = rows.filter((row) => row.check);
  const run = rows.filter((row) => isRun(row.origin));
  const count = (kind: string) =>
    measured.filter((row) => row.check!.measured[0].kind === kind).length;
  const kinds = [...new Set(measured.map((row) => row.check!.measured[0].kind))]
    .sort((a, b) => count(b) - count(a))
    .map((kind) => `${count(kind)} ${kind}`)
    .join(', ');
  const asserted = checked.length - measured.length;
  return (
    <p className="totals">
      <strong>{rows.length} equations</strong>, {run.length} run as printed, {checked.length}{' '}
      checked
      {kinds && ` (${kinds}${asserted ? `, ${asserted} asserted` : ''})`}, {waived.length}{' '}
      waived.
    </p>
  );
}

/** The `{ledger}` directive. */
export function Ledger() {
  const { site } = usePage();
  const all = accounts(site);
  return (
    <>
      <Totals rows={all.flatMap((account) => account.rows)} />
      <GroupedTable
        caption="Every numbered equation and its check"
        columns={[
          ['Equation', '8.5rem'],
          ['Statement'],
          ['Source and code', '13.5rem'],
          ['Print and check', '13rem'],
        ]}
        groups={all.map(({ entry, rows }) => ({
          title: (
            <a href={site.href(entry.slug!)}>
              {entry.number} {entry.title}
            </a>
          ),
          rows: rows.map((row) => ({ id: `row-${row.label}`, cells: cells(row) })),
        }))}
      />
    </>
  );
}
