import type { Node } from './types';

export function* walk(node: Node): Generator<Node> {
  yield node;
  for (const child of node.children ?? []) yield* walk(child);
}

export function find(node: Node, test: (node: Node) => boolean): Node | undefined {
  for (const inner of walk(node)) if (test(inner)) return inner;
  return undefined;
}

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
