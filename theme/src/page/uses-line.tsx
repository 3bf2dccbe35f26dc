import { usePage } from '../site/context';
import { fileOf } from '../site/package';
import type { Uses } from '../site/uses';
import type { Node } from '../site/types';
import { Joined } from './joined';

/** "used in chapters 4, 6, 9 · posterior.py, sampling.py", every name a link. */
export function UsesLine({ before, uses }: { before: string; uses: Uses }) {
  const { site } = usePage();
  const chapters = site.toc.filter(({ slug = '' }) => uses.chapters.has(slug));
  const modules = [...uses.modules].filter((name) => site.package.module(name));
  if (!chapters.length && !modules.length) return null;
  return (
    <>
      {before}
      {chapters.length > 0 && (chapters.length === 1 ? 'chapter ' : 'chapters ')}
      <Joined>
        {chapters.map(({ slug, number }) => (
          <a href={`${site.href(slug!)}#${uses.chapters.get(slug!)}`} key={slug}>
            {number}
          </a>
        ))}
      </Joined>
      {chapters.length > 0 && modules.length > 0 && ' · '}
      <Joined>
        {modules.map((module) => (
          <a className="file" href={site.moduleHref(module)} key={module}>
            {fileOf(module)}
          </a>
        ))}
      </Joined>
    </>
  );
}

/** Under an exported cell: who uses what it defines. */
export function UsedIn({ block }: { block: Node }) {
  const { site } = usePage();
  const defined = site.identifiers.all.filter((each) => each.block === block);
  const uses = site.usesOf(...defined);
  if (!uses.chapters.size && !uses.modules.size) return null;
  return (
    <p className="used-in">
      <UsesLine before="used in: " uses={uses} />
    </p>
  );
}
