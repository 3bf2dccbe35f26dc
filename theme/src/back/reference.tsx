// The reference above a module's source: each public name with its docstring.
import { MyST } from '../page/nodes';
import { highlight } from '../page/code';
import { Docstring } from '../site/docstring';
import { isPublic, type Identifier } from '../site/identifiers';
import { UsesLine } from '../page/uses-line';
import type { Definition } from '../site/python';
import type { Site } from '../site/site';

function Signature({ text }: { text: string }) {
  return (
    <pre className="signature" tabIndex={0} role="group" aria-label="signature">
      <code dangerouslySetInnerHTML={{ __html: highlight(text) }} />
    </pre>
  );
}

/** Fields need no words of their own: what they mean stands in the class's docstring. */
function Members({ members }: { members: Definition[] }) {
  const fields = members.filter((each) => each.kind === 'constant');
  const methods = members.filter((each) => each.kind === 'function');
  return (
    <>
      {fields.length > 0 && <Signature text={fields.map((each) => each.signature).join('\n')} />}
      {methods.map((method) => (
        <div className="method" key={method.name}>
          <Signature text={method.signature} />
          {method.doc && <Docstring doc={method.doc} />}
        </div>
      ))}
    </>
  );
}

function Place({ site, each }: { site: Site; each: Identifier }) {
  const chapter = site.numberOf(each.slug);
  const title = each.heading?.children ?? [
    { type: 'text', value: site.pages.get(each.slug)?.frontmatter.title ?? '' },
  ];
  return (
    <p className="reference-place">
      explained in{' '}
      <a href={`${site.href(each.slug)}#${each.id}`}>
        chapter {chapter}, <MyST ast={title} />
      </a>
      <UsesLine before=" · used in " uses={site.usesOf(each)} />
      {' · '}
      <a href={`#${each.name}`}>source</a>
    </p>
  );
}

/** The public names of a module, in the order of its source. */
export const publicNames = (site: Site, module: string): Identifier[] =>
  site.identifiers.all.filter((each) => each.module === module && isPublic(each));

export const referenceId = (name: string) => `api-${name}`;

export function Reference({ site, module }: { site: Site; module: string }) {
  return (
    <div className="reference">
      {publicNames(site, module).map((each) => (
        <section key={each.name} aria-labelledby={referenceId(each.name)}>
          <h2 id={referenceId(each.name)}>{each.name}</h2>
          <Signature text={each.signature} />
          {each.doc && <Docstring doc={each.doc} />}
          <Members members={each.members} />
          <Place site={site} each={each} />
        </section>
      ))}
    </div>
  );
}
