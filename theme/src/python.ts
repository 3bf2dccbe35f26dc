// What a cell of Python defines and which names it uses, read from its syntax tree.
import type { SyntaxNode } from '@lezer/common';
import { parser } from '@lezer/python';

export interface Definition {
  name: string;
  kind: 'function' | 'class' | 'constant';
  /** Where the name stands in the source. */
  from: number;
  signature: string;
  /** The first line of the docstring. */
  summary: string;
}

export interface Use {
  name: string;
  from: number;
}

const SCOPES = ['FunctionDefinition', 'ClassDefinition'];
const STRINGS = ['String', 'FormatString', 'ContinuedString'];
const GROUPS = ['TupleExpression', 'ArrayExpression', 'ParenthesizedExpression'];

function* children(node: SyntaxNode): Generator<SyntaxNode> {
  for (let child = node.firstChild; child; child = child.nextSibling) yield child;
}

function* names(node: SyntaxNode): Generator<SyntaxNode> {
  if (node.name === 'VariableName') yield node;
  if (STRINGS.includes(node.name)) return;
  for (const child of children(node)) yield* names(child);
}

/** Is there a sibling of this name after the node? */
function isBefore(node: SyntaxNode, sibling: string): boolean {
  for (let next = node.nextSibling; next; next = next.nextSibling) {
    if (next.name === sibling) return true;
  }
  return false;
}

/** `x` in `for x in y`, where there may be several `for` in a row. */
function isLoopVariable(node: SyntaxNode): boolean {
  let previous = node.prevSibling;
  while (previous && previous.name !== 'in' && previous.name !== 'for') {
    previous = previous.prevSibling;
  }
  return previous?.name === 'for';
}

type Role = 'binds' | 'uses' | 'neither';

function roleInImport(node: SyntaxNode, source: string, root: string): Role {
  if (isBefore(node, 'import') || node.nextSibling?.name === 'as') return 'neither';
  const [first, second] = children(node.parent!);
  const isOurs = first.name === 'from' && source.slice(second.from, second.to) === root;
  return isOurs && node.prevSibling?.name !== 'as' ? 'uses' : 'binds';
}

/** Does a name stand here to be given a value, or to be looked up? */
function role(node: SyntaxNode, source: string, root: string): Role {
  const parent = node.parent!;
  const previous = node.prevSibling?.name;
  if (parent.name === 'ImportStatement') return roleInImport(node, source, root);
  if (previous === 'as') return 'binds';
  switch (parent.name) {
    case 'FunctionDefinition':
    case 'ClassDefinition':
    case 'ScopeStatement':
    case 'UpdateStatement':
      return 'binds';
    case 'ParamList':
      return previous === 'AssignOp' ? 'uses' : 'binds';
    case 'ArgList':
      return node.nextSibling?.name === 'AssignOp' ? 'neither' : 'uses';
    case 'AssignStatement':
    case 'NamedExpression':
      return isBefore(node, 'AssignOp') ? 'binds' : 'uses';
  }
  if (isLoopVariable(node)) return 'binds';
  // A target may be a group of names: (a, b) = ...
  return GROUPS.includes(parent.name) ? role(parent, source, root) : 'uses';
}

/** The names a piece of code looks up but never binds itself; `root` is the package
 * whose imports count as a look-up. */
export function freeNames(source: string, root: string): Use[] {
  const bound = new Set<string>();
  const uses: Use[] = [];
  for (const node of names(parser.parse(source).topNode)) {
    const name = source.slice(node.from, node.to);
    const what = role(node, source, root);
    if (what === 'binds') bound.add(name);
    if (what === 'uses') uses.push({ name, from: node.from });
  }
  return uses.filter((use) => !bound.has(use.name));
}

function docstring(body: SyntaxNode, source: string): string {
  const first = [...children(body)].find((child) => child.name !== ':');
  const text = first?.firstChild;
  if (first?.name !== 'ExpressionStatement' || text?.name !== 'String') return '';
  const quotes = /^\w*("""|'''|"|')|("""|'''|"|')$/g;
  return source.slice(text.from, text.to).replace(quotes, '').trim().split('\n')[0];
}

function scope(node: SyntaxNode, source: string): Definition {
  const name = node.getChild('VariableName')!;
  const body = node.getChild('Body')!;
  return {
    name: source.slice(name.from, name.to),
    kind: node.name === 'ClassDefinition' ? 'class' : 'function',
    from: name.from,
    signature: source
      .slice(node.from, body.from)
      .replace(/\s+/g, ' ')
      .replace(/\( /g, '(')
      .replace(/,? \)/g, ')')
      .trim(),
    summary: docstring(body, source),
  };
}

/** What the top level of a cell defines. */
export function definitions(source: string): Definition[] {
  const found: Definition[] = [];
  for (const statement of children(parser.parse(source).topNode)) {
    const inner =
      statement.name === 'DecoratedStatement' ? statement.lastChild! : statement;
    if (SCOPES.includes(inner.name)) found.push(scope(inner, source));
    if (inner.name !== 'AssignStatement') continue;
    const signature = source.slice(inner.from, inner.to).split('\n')[0];
    for (const child of inner.getChildren('VariableName')) {
      if (!isBefore(child, 'AssignOp')) continue;
      const name = source.slice(child.from, child.to);
      found.push({ name, kind: 'constant', from: child.from, signature, summary: '' });
    }
  }
  return found;
}
