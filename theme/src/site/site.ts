import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { imageSize } from 'image-size';
import type { Node, Page, Target, TocEntry } from './types';
import { About } from './about';
import { collectChecks, type Check } from './checks';
import { Citations } from './citations';
import { Facts } from './facts';
import { collectIdentifiers, type Identifier, type Identifiers } from './identifiers';
import { Package } from './package';
import { collectUses, together, type Uses } from './uses';
import { capital, find, isExercise, plainText, tagged, walk } from './tree';

interface Picture {
  src: string;
  width?: number;
  height?: number;
}

/** The folder of the site that shows the package. */
export const MODULES = 'modules';

/** Where the whole book lies as one page, for the PDF. */
export const PRINT = 'print';

/**
 * The whole book: its pages, what they refer to, and the files they show.
 *
 * Everything is fetched before the first page is rendered, so that rendering is
 * a plain function and a page can name the equations of any other.
 */
export class Site {
  /** Files of the site that pages show, by their paths. */
  readonly assets = new Map<string, Buffer>();
  readonly problems: string[] = [];
  readonly title: string;
  readonly description: string;
  readonly options: Record<string, string | undefined>;
  readonly index: string;
  readonly targets: Map<string, Target>;
  readonly checks: Map<string, Check>;
  readonly identifiers: Identifiers;
  readonly about: About;
  readonly package: Package;
  readonly citations: Citations;
  /** What the YAML files beside the chapters say. */
  readonly facts: Facts;
  private readonly uses: Map<Identifier, Uses>;

  private constructor(
    config: any,
    readonly base: string,
    readonly toc: TocEntry[],
    readonly pages: Map<string, Page>,
    private readonly files: Map<string, Buffer>,
    root: string,
  ) {
    const [project] = config.projects;
    this.title = config.title ?? project.title;
    this.description = project.description ?? '';
    this.options = config.options ?? {};
    this.index = project.index;
    this.targets = collectTargets(this);
    this.checks = collectChecks(pages);
    this.identifiers = collectIdentifiers(pages);
    const name = this.options.package ?? '';
    this.about = new About(root, name, this.options.url?.replace(/\/$/, ''));
    this.package = new Package(root, name, toc, pages, this.problems);
    this.uses = collectUses(toc, pages, this.identifiers, name);
    this.citations = new Citations(pages);
    this.facts = new Facts(root);
    this.citations.listOn(pages, this.facts.cited());
  }

  static async load(cdn: string, base: string, root: string): Promise<Site> {
    const read = async (path: string) => JSON.parse((await get(cdn + path)).toString());
    const config = await read('/config.json');
    const [project] = config.projects;
    const first = { title: project.title, level: 1, slug: project.index };
    const toc: TocEntry[] = [first, ...project.pages];
    const pages = new Map<string, Page>();
    const paths = new Set<string>();
    for (const entry of toc) {
      if (!entry.slug) continue;
      const page: Page = await read(`/content/${entry.slug}.json`);
      pages.set(entry.slug, page);
      addIds(page.mdast);
      markAnswerChecks(page.mdast);
      markSetUp(page.mdast);
      const { description, thumbnail, numbering } = page.frontmatter;
      const number = /^(.*)\.%s$/.exec(numbering?.enumerator?.enumerator ?? '')?.[1];
      Object.assign(entry, { description, thumbnail, number });
      for (const path of [thumbnail ?? [], fileUrls(page.mdast)].flat()) paths.add(path);
    }
    const files = new Map<string, Buffer>();
    for (const path of paths) files.set(path, await get(cdn + path));
    return new Site(config, base, toc, pages, files, root);
  }

  /** Address of a page, always with its closing slash: no redirect on the way. mystmd
   * joins nested folders with dots in file names and slashes in addresses. */
  href(slug: string): string {
    return slug === this.index ? `${this.base}/` : `${this.base}/${slug.replaceAll('.', '/')}/`;
  }

  /** An address as it is below the root of the site. */
  below(href: string): string {
    return href.slice(this.base.length + 1);
  }

  /** Address of the cell that checks an equation, a figure or a box. */
  checkOf(name: string | undefined): string | undefined {
    const place = name ? this.checks.get(name) : undefined;
    return place && `${this.href(place.slug)}#${place.block.html_id}`;
  }

  /** The number of a page's chapter. */
  numberOf(slug: string | undefined): string | undefined {
    return this.toc.find((entry) => entry.slug === slug)?.number;
  }

  /** Where names are used, as one. */
  usesOf(...identifiers: Identifier[]): Uses {
    return together(identifiers.flatMap((each) => this.uses.get(each) ?? []));
  }

  /** Address of a module's page, or of the list of them. */
  moduleHref(module?: string): string {
    const path = module?.replaceAll('.', '/');
    return `${this.base}/${MODULES}/${path ? `${path}/` : ''}`;
  }

  /** Address of a link that mystmd wrote from the root of the site. */
  link(url: string): string {
    const [path, hash] = url.split('#');
    const file = this.files.has(path) ? this.publish(path).src : undefined;
    const isIndex = path === '/' || path === `/${this.index}`;
    const page = isIndex ? `${this.base}/` : `${this.base}${path.replace(/\/?$/, '/')}`;
    return (file ?? page) + (hash ? `#${hash}` : '');
  }

  /** Is there a page or a file at an address that mystmd wrote? */
  has(url: string): boolean {
    const [path] = url.split('#');
    const slug = path.slice(1).replaceAll('/', '.').replace(/\.$/, '');
    return path === '/' || this.files.has(path) || this.pages.has(slug);
  }

  bytes(path: string): Buffer | undefined {
    return this.files.get(path);
  }

  /** Put a fetched file on the site. */
  publish(path: string): Picture {
    return this.write(basename(path), this.files.get(path)!);
  }

  /** A picture at an address that mystmd wrote: one of this site, or of another. */
  image(url: string): Picture {
    return this.files.has(url) ? this.publish(url) : { src: url };
  }

  /** Fail the build, and say on which page. */
  complain(page: Page, words: string): void {
    this.problems.push(`${page.location.slice(1)} ${words}`);
  }

  /** Put generated content on the site under the hash of its bytes. */
  publishContent(content: string | Buffer, extension: string) {
    const hash = createHash('sha256').update(content).digest('hex').slice(0, 20);
    return this.write(`${hash}${extension}`, Buffer.from(content));
  }

  /** A picture has its size, so that a page does not jump while it loads. */
  private write(name: string, bytes: Buffer): Picture {
    this.assets.set(`build/${name}`, bytes);
    const { width, height } = /\.(png|svg)$/.test(name) ? imageSize(bytes) : {};
    return { src: `${this.base}/build/${name}`, width, height };
  }
}

async function get(url: string): Promise<Buffer> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return Buffer.from(await answer.arrayBuffer());
}

/** Local files a page shows: images, downloads, outputs too large for its JSON. */
function fileUrls(tree: Node): string[] {
  const urls: string[] = [];
  for (const node of walk(tree)) {
    if (node.type === 'image' || (node.type === 'link' && node.static)) {
      urls.push(node.url);
    }
    const data = node.type === 'output' ? node.jupyter_data : undefined;
    if (!data) continue;
    urls.push(data.path, ...Object.values<any>(data.data ?? {}).map((item) => item.path));
  }
  return urls.filter((url) => url?.startsWith('/'));
}

/** What a numbered node or a box is called in a reference, and by its own title. */
function nameOf(node: Node): Pick<Target, 'label' | 'title'> | undefined {
  if (node.type === 'admonition') {
    const title = node.children?.find((child) => child.type === 'admonitionTitle');
    if (!title) return undefined;
    const [label, ...rest] = plainText(title).split(': ');
    return { label, title: capital(rest.join(': ') || label) };
  }
  const { type, kind, enumerator: number } = node;
  if (!number || !['math', 'container'].includes(type)) return undefined;
  const label = type === 'math' ? `Equation (${number})` : `${capital(kind)} ${number}`;
  return { label, title: label };
}

function collectTargets(site: Site) {
  const targets = new Map<string, Target>();
  for (const [slug, page] of site.pages) {
    for (const node of walk(page.mdast)) {
      const named = nameOf(node);
      if (!named || !node.identifier) continue;
      const href = `${site.href(slug)}#${node.html_id}`;
      targets.set(node.identifier, { ...named, href, slug, number: node.enumerator });
    }
  }
  return targets;
}

const slugify = (words: string) =>
  words
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '');

/** Exercises, and boxes without a label, get an id that search can lead to. */
function addIds(tree: Node): void {
  for (const node of walk(tree)) {
    const [title] = node.children ?? [];
    if (isExercise(node) || title?.type === 'admonitionTitle') {
      node.html_id ??= slugify(plainText(title));
    }
  }
}

/** The code after an exercise's stub judges the answer: that is for later. */
function markAnswerChecks(tree: Node): void {
  let isAfterStub = false;
  for (const block of walk(tree)) {
    if (block.kind !== 'notebook-code') continue;
    if (isAfterStub) block.data = { ...block.data, judges: true };
    isAfterStub = tagged(block, 'exercise').length > 0;
  }
}

/** Hidden code before anything else is run: imports and the like. */
function markSetUp(tree: Node): void {
  const first = find(tree, (node) => node.kind === 'notebook-code');
  const code = first?.children?.find((child) => child.type === 'code');
  const isSilent = !first?.children?.some((child) => child.children?.length);
  if (first && code?.visibility === 'hide' && isSilent && !tagged(first, 'export').length) {
    first.data = { ...first.data, isSetUp: true };
  }
}
