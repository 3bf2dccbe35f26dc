// {modules} and {names}: the package, by module and by name.
import { Fragment } from 'react';
import { usePage } from '../site/context';
import { DocWords } from '../site/docstring';
import { isPublic, type Identifier } from '../site/identifiers';
import { importsFrom } from '../site/python';
import { Joined } from '../page/joined';
import { UsesLine } from '../page/uses-line';
import { fileOf, type Module } from '../site/package';
import { referenceId } from './reference';

/** A name of the package, linked to its reference. */
export function ApiLink({ to: { module, name } }: { to: Identifier }) {
  const { site } = usePage();
  return (
    <a className="file" href={`${site.moduleHref(module)}#${referenceId(name)}`}>
      {name}
    </a>
  );
}

function ModuleEntry({ module }: { module: Module }) {
  const { site } = usePage();
  // The front of the package names every module, but imports none until it is asked.
  const isFront = module.name === '__init__';
  const imports = isFront ? [] : importsFrom(module.source, site.package.name);
  return (
    <div>
      <dt>
        <a className="file" href={site.moduleHref(module.name)}>
          {module.name}
        </a>
      </dt>
      <dd>
        <DocWords text={module.summary} />
        {imports.length > 0 && (
          <span className="imports">
            imports{' '}
            <Joined by="; ">
              {imports.map(({ module: from, names }) => (
                <Fragment key={from}>
                  {names.join(', ')} from{' '}
                  <a className="file" href={site.moduleHref(from)}>
                    {from}
                  </a>
                </Fragment>
              ))}
            </Joined>
          </span>
        )}
      </dd>
    </div>
  );
}

/** The `{modules}` directive: every module, in the order of the book. */
export function Modules() {
  const { site } = usePage();
  return (
    <dl className="modules">
      {site.package.modules.map((module) => (
        <ModuleEntry module={module} key={module.name} />
      ))}
    </dl>
  );
}

function NameEntry({ each }: { each: Identifier }) {
  const { site } = usePage();
  return (
    <div>
      <dt>
        <ApiLink to={each} />{' '}
        <span className="name-kind">{each.kind}</span>
      </dt>
      <dd>
        <DocWords text={each.summary} />
        <span className="name-places">
          in{' '}
          <a className="file" href={site.moduleHref(each.module)}>
            {fileOf(each.module)}
          </a>
          , defined in{' '}
          <a href={`${site.href(each.slug)}#${each.id}`}>
            chapter {site.numberOf(each.slug)}
          </a>
          <UsesLine before=", used in " uses={site.usesOf(each)} />
        </span>
      </dd>
    </div>
  );
}

const letterOf = ({ name }: Identifier) => name[0].toUpperCase();

/** The `{names}` directive: every public name, by its first letter. */
export function Names() {
  const { site } = usePage();
  const names = site.identifiers.all
    .filter(isPublic)
    .sort((a, b) => a.name.toLowerCase().localeCompare(b.name.toLowerCase(), 'en'));
  const letters = [...new Set(names.map(letterOf))];
  return (
    <>
      <nav className="letters" aria-label="Letters">
        {letters.map((letter) => (
          <a key={letter} href={`#letter-${letter.toLowerCase()}`}>
            {letter}
          </a>
        ))}
      </nav>
      {letters.map((letter) => (
        <section key={letter} aria-labelledby={`letter-${letter.toLowerCase()}`}>
          <h3 id={`letter-${letter.toLowerCase()}`}>{letter}</h3>
          <dl className="names-of-letter">
            {names
              .filter((each) => letterOf(each) === letter)
              .map((each) => (
                <NameEntry each={each} key={`${each.module}.${each.name}`} />
              ))}
          </dl>
        </section>
      ))}
    </>
  );
}
