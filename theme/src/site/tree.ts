import type { Node } from './types';

export function* walk(node: Node): Generator<Node> {
  yield node;
  for (const child of node.children ?? []) yield* walk(child);
}

export function find(node: Node, test: (node: Node) => boolean): Node | undefined {
  for (const inner of walk(node)) if (test(inner)) return inner;
  return undefined;
}

/** Does a page show what its cells put out? */
export const hasRun = (page: Node) => find(page, (node) => node.jupyter_data) !== undefined;

export function plainText(node: Node): string {
  return node.value ?? (node.children ?? []).map(plainText).join('');
}

/** The names after `prefix.` in a cell's tags: `check.eq-step` gives `eq-step`. */
export function tagged(block: Node, prefix: string): string[] {
  const tags: unknown = block.data?.tags;
  if (!Array.isArray(tags)) return [];
  return tags
    .filter((tag): tag is string => typeof tag === 'string')
    .filter((tag) => tag.startsWith(`${prefix}.`))
    .map((tag) => tag.slice(prefix.length + 1));
}

/** What a cell printed. */
export function cellText(block: Node): string {
  return [...walk(block)]
    .filter((node) => node.type === 'output')
    .map((node) => node.jupyter_data?.text ?? '')
    .join('');
}

const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"' };

/** A formula as a line of characters: what KaTeX writes for screen readers, without
 * its tags. */
export function mathText(node: Node): string {
  const [, mathml] = /<math[^>]*>(.*?)<annotation/s.exec(node.html ?? '') ?? [];
  if (mathml === undefined) return node.value ?? '';
  return mathml
    .replace(/<msqrt>/g, '√(')
    .replace(/<\/msqrt>/g, ')')
    .replace(/<[^>]+>/g, '')
    .replace(/&#x([\da-f]+);/gi, (_, code) => String.fromCodePoint(parseInt(code, 16)))
    .replace(/&(amp|lt|gt|quot);/g, (_, name) => ENTITIES[name]);
}

/** "**Exercise 3.1.**" begins an exercise. */
export function isExercise(node: Node): boolean {
  const [first] = node.children ?? [];
  const title = node.type === 'paragraph' && first?.type === 'strong' && plainText(first);
  return Boolean(title) && /^Exercise [\dA-Z]+\.\d+\.?$/.test(title as string);
}

export const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
