// {errata} and {coverage}: the study notes that the book follows, seen from the book.
import { basename } from 'node:path';
import { MyST } from '../page/nodes';
import { recomputed } from '../site/checks';
import { usePage } from '../site/context';
import { NOTES, type Covered, type Erratum } from '../site/facts';
import { Joined } from '../page/joined';
import { WithTex } from '../page/tex';
import { find, plainText } from '../site/tree';
import { GroupedTable } from './grouped-table';

/** Entries by their note, in the order in which they stand. */
function byNote<T>(entries: T[], noteOf: (entry: T) => number): [number, T[]][] {
  const groups = new Map<number, T[]>();
  for (const entry of entries) {
    const note = noteOf(entry);
    groups.set(note, [...(groups.get(note) ?? []), entry]);
  }
  return [...groups].sort(([a], [b]) => a - b);
}

const noteOf = ({ where }: Erratum) => Number(/\d+/.exec(where)?.[0]);

/** "line 3" or "lines 3–7". */
function lineWords(lines: string | number): string {
  const words = `${lines}`.replace('-', '–');
  return `${/\D/.test(words) ? 'lines' : 'line'} ${words}`;
}

/** "S1:33, S2:44" as words: the note is said by the group, unless it is another. */
function placeWords(entry: Erratum): string {
  const own = noteOf(entry);
  const places = entry.where.split(/,\s*/).map((place) => {
    const [, note, line] = /^S(\d+):(.+)$/.exec(place) ?? [, own, place];
    const words = lineWords(line);
    return Number(note) === own ? words : `note ${note}, ${words}`;
  });
  return places.join('; ');
}

/** What the check of a callout computed, as it printed it. */
function Numbers({ callout }: { callout: string }) {
  const { site } = usePage();
  const check = site.checks.get(callout);
  const numbers = check ? recomputed(check.block) : [];
  if (!numbers.length) return null;
  return (
    <ul className="recomputed">
      {numbers.map(({ label, computed }, i) => (
        <li key={i}>
          {label}: <span className="measured">{computed}</span>
        </li>
      ))}
    </ul>
  );
}

function CalloutLink({ callout }: { callout: string }) {
  const { site, page } = usePage();
  const target = site.targets.get(callout);
  if (!target) {
    site.problems.push(`${NOTES} no box is labelled "${callout}"`);
    return null;
  }
  const where = target.slug === page.slug ? 'below' : `chapter ${site.numberOf(target.slug)}`;
  return (
    <p>
      <a href={target.href}>{target.title}</a>, {where}
    </p>
  );
}

function cells(erratum: Erratum) {
  return [
    <>
      {placeWords(erratum)}
      <span className="erratum-kind">{erratum.kind}</span>
    </>,
    <code className="quote">{erratum.quote}</code>,
    <p>
      <WithTex text={erratum.correct} />
    </p>,
    erratum.callout ? (
      <>
        <CalloutLink callout={erratum.callout} />
        <Numbers callout={erratum.callout} />
      </>
    ) : (
      <p className="not-yet">not yet: {erratum['not-yet']}</p>
    ),
  ];
}

/** The `{errata}` directive. */
export function Errata() {
  const { site } = usePage();
  const { errata, typos } = site.facts;
  const open = errata.filter(({ callout }) => !callout).length;
  const count = (kind: string) => errata.filter((each) => each.kind === kind).length;
  return (
    <>
      <p className="totals">
        <strong>{errata.length} places</strong>: {count('wrong')} wrong, {count('imprecise')}{' '}
        imprecise, {count('remark')} remarks. {errata.length - open} are shown in a box, {open}{' '}
        not yet.
      </p>
      <GroupedTable
        caption="What the notes say and what is right"
        columns={[
          ['Where', '6rem'],
          ['The notes say'],
          ['What is right'],
          ['Shown and computed', '17rem'],
        ]}
        groups={byNote(errata, noteOf).map(([note, entries]) => ({
          title: `Note ${note}`,
          rows: entries.map((erratum) => ({
            id: `erratum-${errata.indexOf(erratum) + 1}`,
            cells: cells(erratum),
          })),
        }))}
      />
      {typos && <p>Words that the notes misspell: {typos}.</p>}
    </>
  );
}

/** The place that "02-diffusion-kernel#eq-kernel" names, by its title. */
function Treated({ name }: { name: string }) {
  const { site } = usePage();
  const [stem, id] = name.split('#');
  const pages = [...site.pages];
  const [slug, page] = pages.find(([, each]) => basename(each.location, '.md') === stem) ?? [];
  const node = page && find(page.mdast, (each) => !id || each.html_id === id);
  if (!slug || !node) {
    site.problems.push(`${NOTES} "${name}" is no place of the book`);
    return name;
  }
  const target = id ? site.targets.get(node.identifier ?? id) : undefined;
  const number = target?.number ? undefined : site.numberOf(slug); // it may hold its own
  const title = target?.title ?? (id ? plainText(node) : page.frontmatter.title);
  return (
    <a href={`${site.href(slug)}${id ? `#${id}` : ''}`}>
      {number && <span className="number">{number} </span>}
      {node.type === 'heading' ? <MyST ast={node.children} /> : title}
    </a>
  );
}

function CoveredItem({ covered }: { covered: Covered }) {
  const { lines, item, treated } = covered;
  const missing = covered['not-yet'];
  const { site } = usePage();
  const id = `topic-${site.facts.coverage.indexOf(covered) + 1}`;
  return (
    <li id={id} className={missing ? 'not-yet' : undefined}>
      <span className="covered-item">
        <WithTex text={item} />
      </span>
      <span className="covered-lines">{lineWords(lines)}</span>
      <span className="covered-places">
        {missing && `not yet: ${missing}`}
        <Joined by=" · ">{treated?.map((name) => <Treated name={name} key={name} />)}</Joined>
      </span>
    </li>
  );
}

/** The `{coverage}` directive. */
export function Coverage() {
  const { site } = usePage();
  const { coverage } = site.facts;
  const open = coverage.filter((covered) => covered['not-yet']).length;
  return (
    <>
      <p className="totals">
        <strong>{coverage.length} topics</strong> of the notes, {coverage.length - open}{' '}
        treated in this book, {open} not yet.
      </p>
      {byNote(coverage, (entry) => entry.note).map(([note, entries]) => (
        <section key={note} className="coverage" aria-labelledby={`note-${note}`}>
          <h2 id={`note-${note}`}>Note {note}</h2>
          <ul>
            {entries.map((covered, i) => (
              <CoveredItem covered={covered} key={i} />
            ))}
          </ul>
        </section>
      ))}
    </>
  );
}
