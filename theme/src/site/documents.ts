// All that the theme makes out of a site, for who writes it and for who shows a preview.
import { renderModule, renderModules } from '../back/modules';
import { renderPage } from '../page/page';
import { renderPrint } from '../page/print';
import { identifierPreviews, searchIndex } from '../search/search-index';
import { PRINT, type Site } from './site';

/** A page of the site. */
interface Document {
  href: string;
  /** The file that it is made from, said with what is wrong in it. */
  source: string;
  html: () => string;
}

/** Every page; the last one holds all chapters once more, to be printed. */
export function documents(site: Site): Document[] {
  const { name, modules } = site.package;
  return [
    ...[...site.pages].map(([slug, page]) => ({
      href: site.href(slug),
      source: page.location.slice(1),
      html: () => renderPage(site, page),
    })),
    { href: site.moduleHref(), source: `${name}/`, html: () => renderModules(site) },
    ...modules.map((module) => ({
      href: site.moduleHref(module.name),
      source: module.file,
      html: () => renderModule(site, module),
    })),
    { href: site.href(PRINT), source: 'the printed book:', html: () => renderPrint(site) },
  ];
}

/** What search and the previews of names read, by its file. */
export const DATA: Record<string, (site: Site) => unknown> = {
  'search.json': searchIndex,
  'identifiers.json': identifierPreviews,
};
