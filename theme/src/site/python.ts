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
  /** The whole docstring, without the margin of its lines. */
  doc: string;
  /** Of a class: its fields, and the methods that others call. */
  members: Definition[];
}

interface Use {
  name: string;
  from: number;
  /** Is this the line that imports it? */
  isImport: boolean;
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
    const isImport = node.parent!.name === 'ImportStatement';
    if (what === 'uses') uses.push({ name, from: node.from, isImport });
  }
  return uses.filter((use) => !bound.has(use.name));
}

/** Text whose lines after the first begin where the outermost of them does. */
function dedent(text: string): string {
  const [first, ...rest] = text.split('\n');
  const margins = rest.filter((line) => line.trim()).map((line) => line.search(/\S/));
  const margin = Math.min(...margins);
  return [first, ...rest.map((line) => line.slice(margin))].join('\n').trim();
}

function docstring(body: SyntaxNode, source: string): string {
  const first = [...children(body)].find((child) => child.name !== ':');
  const text = first?.firstChild;
  if (first?.name !== 'ExpressionStatement' || text?.name !== 'String') return '';
  const quotes = /^\w*("""|'''|"|')|("""|'''|"|')$/g;
  return dedent(source.slice(text.from, text.to).replace(quotes, '').trim());
}

function scope(node: SyntaxNode, source: string): Definition {
  const name = node.getChild('VariableName')!;
  const body = node.getChild('Body')!;
  const doc = docstring(body, source);
  const isClass = node.name === 'ClassDefinition';
  return {
    name: source.slice(name.from, name.to),
    kind: isClass ? 'class' : 'function',
    from: name.from,
    signature: source
      .slice(node.from, body.from)
      .replace(/\s+/g, ' ')
      .replace(/\( /g, '(')
      .replace(/,? \)/g, ')')
      .trim(),
    summary: doc.split('\n')[0],
    doc,
    members: isClass ? members(body, source) : [],
  };
}

const isPublic = (name: string) => name === '__init__' || !name.startsWith('_');

/** The fields of a class, how to make one, and its public methods. */
function members(body: SyntaxNode, source: string): Definition[] {
  return [...children(body)]
    .flatMap((statement) => defined(statement, source))
    .filter(({ name, kind, signature }) =>
      // A constant without a type is a detail; one with a type is a field.
      kind === 'constant' ? /^\w+:/.test(signature) : isPublic(name),
    );
}

/** What one statement defines. */
function defined(statement: SyntaxNode, source: string): Definition[] {
  const inner = statement.name === 'DecoratedStatement' ? statement.lastChild! : statement;
  if (SCOPES.includes(inner.name)) {
    const decorators = source.slice(statement.from, inner.from);
    const found = scope(inner, source);
    return [{ ...found, signature: decorators.replace(/\n\s+/g, '\n') + found.signature }];
  }
  if (inner.name !== 'AssignStatement') return [];
  const signature = source.slice(inner.from, inner.to).split('\n')[0];
  const isTarget = (child: SyntaxNode) =>
    isBefore(child, 'AssignOp') || isBefore(child, 'TypeDef');
  return inner.getChildren('VariableName').filter(isTarget).map((child) => {
    const name = source.slice(child.from, child.to);
    const about = { signature, summary: '', doc: '', members: [] };
    return { name, kind: 'constant', from: child.from, ...about };
  });
}

/** What the top level of a cell defines. */
export function definitions(source: string): Definition[] {
  return [...children(parser.parse(source).topNode)].flatMap((statement) =>
    defined(statement, source),
  );
}

/** A module of the package that a piece of code imports, and what from it. */
interface Imported {
  module: string;
  names: string[];
}

/** What a module imports from the others of its package, wherever in the module. */
export function importsFrom(source: string, root: string): Imported[] {
  const found = new Map<string, Set<string>>();
  parser.parse(source).iterate({
    enter(node) {
      if (node.name !== 'ImportStatement') return;
      const text = source.slice(node.from, node.to).replace(/[()\s]+/g, ' ');
      const [, module, list] = new RegExp(`^from ${root}\\.([\\w.]+) import (.+)$`).exec(text) ?? [];
      if (!module) return;
      const names = list.split(',').map((name) => name.trim().split(' as ')[0]);
      const known = found.get(module) ?? new Set();
      found.set(module, new Set([...known, ...names.filter(Boolean)]));
    },
  });
  return [...found].map(([module, names]) => ({ module, names: [...names] }));
}
