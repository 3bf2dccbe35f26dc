import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { imageSize } from 'image-size';
import type { Asset, Node, Page, Target, TocEntry } from './types';
import { About } from './about';
import { collectChecks, type Check } from './checks';
import { Citations } from './citations';
import { Facts } from './facts';
import { collectIdentifiers, type Identifier, type Identifiers } from './identifiers';
import { Package } from './package';
import { collectUses, NO_USES, type Uses } from './uses';
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
  readonly assets = new Map<string, Asset>();
  readonly problems: string[] = [];
  readonly about: About;
  readonly package: Package;
  readonly citations: Citations;
  /** What the YAML files beside the chapters say. */
  readonly facts: Facts;
  private readonly uses: Map<Identifier, Uses>;

  private constructor(
    readonly title: string,
    readonly description: string,
    readonly options: Record<string, string | undefined>,
    readonly base: string,
    readonly index: string,
    readonly toc: TocEntry[],
    readonly pages: Map<string, Page>,
    readonly targets: Map<string, Target>,
    readonly checks: Map<string, Check>,
    readonly identifiers: Identifiers,
    private readonly files: Map<string, Buffer>,
    root: string,
  ) {
    const url = options.url?.replace(/\/$/, '');
    this.about = new About(root, options.package ?? '', url);
    this.package = new Package(root, options.package ?? '', toc, pages, this.problems);
    this.uses = collectUses(toc, pages, identifiers, this.package.name);
    this.citations = new Citations(pages);
    this.facts = new Facts(root);
    this.citations.listOn(pages, this.facts.cited());
  }

  static async load(cdn: string, base: string, root: string): Promise<Site> {
    const config = JSON.parse((await get(`${cdn}/config.json`)).toString());
    const project = config.projects[0];
    const toc: TocEntry[] = [
      { title: project.title, level: 1, slug: project.index },
      ...project.pages,
    ];
    const slugs = toc.flatMap((entry) => entry.slug ?? []);
    const loaded = await Promise.all(
      slugs.map(async (slug): Promise<[string, Page]> => {
        const path = `${cdn}/content/${slug}.json`;
        return [slug, JSON.parse((await get(path)).toString())];
      }),
    );
    const pages = new Map(loaded);
    for (const page of pages.values()) {
      addIds(page.mdast);
      markAnswerChecks(page.mdast);
      markSetUp(page.mdast);
    }
    for (const entry of toc) {
      const page = entry.slug ? pages.get(entry.slug) : undefined;
      if (!page) continue;
      entry.description = page.frontmatter.description;
      entry.thumbnail = page.frontmatter.thumbnail;
      const prefix = page.frontmatter.numbering?.enumerator?.enumerator;
      entry.number = prefix?.endsWith('.%s') ? prefix.slice(0, -3) : undefined;
    }
    const shown = toc.flatMap((entry) => entry.thumbnail ?? []);
    const inside = [...pages.values()].flatMap((page) => fileUrls(page.mdast));
    const paths = new Set([...shown, ...inside]);
    const files = new Map<string, Buffer>();
    for (const path of paths) files.set(path, await get(cdn + path));
    return new Site(
      config.title ?? project.title ?? '',
      project.description ?? '',
      config.options ?? {},
      base,
      project.index,
      toc,
      pages,
      collectTargets(base, project.index, pages),
      collectChecks(pages),
      collectIdentifiers(pages),
      files,
      root,
    );
  }

  /** Address of a page, always with its closing slash: no redirect on the way. */
  href(slug: string): string {
    return slug === this.index ? `${this.base}/` : `${this.base}/${slugPath(slug)}/`;
  }

  /** Address of the cell that checks an equation, a figure or a box. */
  checkOf(name: string | undefined): string | undefined {
    const place = name ? this.checks.get(name) : undefined;
    return place && `${this.href(place.slug)}#${place.id}`;
  }

  /** The number of a page's chapter. */
  numberOf(slug: string | undefined): string | undefined {
    return this.toc.find((entry) => entry.slug === slug)?.number;
  }

  usesOf(identifier: Identifier): Uses {
    return this.uses.get(identifier) ?? NO_USES;
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
    const path = url.split('#')[0];
    const slugs = [...this.pages.keys()].map((slug) => `/${slugPath(slug)}`);
    return path === '/' || this.files.has(path) || slugs.includes(path.replace(/\/$/, ''));
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
    this.assets.set(name, { path: `build/${name}`, bytes });
    const { width, height } = /\.(png|svg)$/.test(name) ? imageSize(bytes) : {};
    return { src: `${this.base}/build/${name}`, width, height };
  }
}

/** mystmd joins nested folders with dots in file names and slashes in addresses. */
export const slugPath = (slug: string) => slug.replaceAll('.', '/');

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

interface Named {
  label: string;
  title: string;
}

/** What a numbered node or a box is called in a reference, and by its own title. */
function nameOf(node: Node): Named | undefined {
  const number = node.enumerator;
  if (node.type === 'admonition') {
    const title = node.children?.find((child) => child.type === 'admonitionTitle');
    if (!title) return undefined;
    const [label, ...rest] = plainText(title).split(': ');
    return { label, title: capital(rest.join(': ') || label) };
  }
  const label = number && numberedLabel(node, number);
  return label ? { label, title: label } : undefined;
}

function numberedLabel(node: Node, number: string): string | undefined {
  if (node.type === 'math') return `Equation (${number})`;
  if (['container', 'proof'].includes(node.type)) return `${capital(node.kind)} ${number}`;
  return node.type === 'exercise' ? `Exercise ${number}` : undefined;
}

function collectTargets(base: string, index: string, pages: Map<string, Page>) {
  const targets = new Map<string, Target>();
  for (const [slug, page] of pages) {
    const path = slug === index ? `${base}/` : `${base}/${slugPath(slug)}/`;
    for (const node of walk(page.mdast)) {
      const named = nameOf(node);
      if (!named || !node.identifier) continue;
      const href = `${path}#${node.html_id}`;
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
