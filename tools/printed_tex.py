"""Read the equations of the book: TeX in, a tree of what it claims out.

Recursive descent over the TeX that the chapters use:

    sum     := ['-'] product (('+' | '-') product)*
    product := power (['\\cdot' | '/'] power)*
    power   := atom ['^' argument]

Nothing is guessed: what the parser does not know is an error, with its line. Two
conventions of print are built in: a sum, a product sign, a gradient and an average
without brackets reach to the end of their product, and `\\ln` takes one factor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Spacing and the size of brackets say nothing.
SPACE = {"\\left", "\\right", "\\big", "\\Big", "\\bigl", "\\bigr"}
SPACE |= {"\\,", "\\;", "\\!", "\\:", "\\ ", "\\displaystyle", "\\blacksquare"}
BREAK = {"\\quad", "\\qquad", "\\\\", "\\Longrightarrow", "&", ";"}
RELATIONS = {"=", "\\propto", "\\ge", "\\le", "\\sim", "\\leftarrow", "\\mapsto"}
OPENED = {"(": ")", "[": "]", "\\{": "\\}", "{": "}"}
OPENED |= {"\\lVert": "\\rVert", "\\langle": "\\rangle"}
CLOSING = set(OPENED.values())
ACCENTS = {"\\bar", "\\tilde", "\\hat"}
FONTS = {"\\mathrm", "\\mathcal", "\\text"}
FUNCTIONS = {"\\ln", "\\exp", "\\cos", "\\sin", "\\tan", "\\arctan", "\\tanh"}
LETTERS = {"\\alpha", "\\beta", "\\gamma", "\\delta", "\\epsilon", "\\zeta"}
LETTERS |= {"\\eta", "\\theta", "\\kappa", "\\lambda", "\\mu", "\\nu", "\\xi"}
LETTERS |= {"\\pi", "\\rho", "\\sigma", "\\tau", "\\phi", "\\chi", "\\psi"}
LETTERS |= {"\\ell", "\\omega", "\\Delta", "\\Phi", "\\Sigma", "\\max", "\\min"}
LETTERS |= {"\\partial", "\\varnothing"}
STOPS = RELATIONS | BREAK | CLOSING
STOPS |= {"+", "-", ",", ".", "\\mid", "\\Vert", "\\dots", "\\cdots", ""}
TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\d+(?:\.\d+)?|\S", re.S)


class Unreadable(ValueError):
    """TeX that the parser does not know, and the line inside the equation."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line, self.why = line, why


class Node(NamedTuple):
    """What the evaluator computes: `kind` names its rule, `parts` what goes in."""

    kind: str
    parts: tuple[Any, ...]


class Symbol(NamedTuple):
    """A letter with its accents, and its index as a tree and as it is written."""

    base: str
    index: Any = None
    label: str = ""


Tree = Node | Symbol


@dataclass
class Claim:
    """One chain `a = b = c` of an equation: n relations, with their lines, and n + 1
    sides."""

    sides: list[Tree]
    relations: list[tuple[str, int]] = field(default_factory=list)

    def pairs(self) -> list[tuple[str, int, Tree, Tree]]:
        """(relation, line, left, right) of each link of the chain."""
        links = zip(self.relations, self.sides, self.sides[1:], strict=False)
        return [(name, line, a, b) for (name, line), a, b in links]


def bases(tree: Any) -> set[str]:
    """The letters that a tree holds, without their indices."""
    if isinstance(tree, Symbol):
        return {tree.base} | bases(tree.index)
    parts = tree if isinstance(tree, tuple | list) else ()
    return set().union(*map(bases, parts))


def is_pair(index: Any) -> bool:
    """Do two letters stand side by side in an index? That may mean two things."""
    return (
        isinstance(index, Node)
        and index.kind == "times"
        and all(isinstance(part, Symbol) for part in index.parts)
    )


def number(value: float) -> Node:
    return Node("number", (value,))


def joined_rows(tokens: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Without the ends of rows that go on: the next begins with '&' and a sign."""
    kept, skip = [], 0
    for i, (token, _) in enumerate(tokens):
        if token == "\\\\" and tokens[i + 1 : i + 2] and tokens[i + 1][0] == "&":
            j = i + 2
            while j < len(tokens) and tokens[j][0] in {"\\quad", "\\qquad"}:
                j += 1
            if j < len(tokens) and tokens[j][0] in {"+", "-"}:
                skip = j - i
        if skip == 0:
            kept.append(tokens[i])
        skip = max(skip - 1, 0)
    return kept


class Parser:
    """One equation. `functions` are the names after which a bracket holds arguments;
    after any other name it is a factor."""

    def __init__(self, tex: str, functions: Collection[str] = ()) -> None:
        self.tex = re.sub(r"(?<!\\)%.*", "", tex)
        self.functions = functions
        found = [(match[0], match.start()) for match in TOKEN.finditer(self.tex)]
        self.tokens, self.at = found, 0
        self.check_brackets()
        self.tokens, self.at = [pair for pair in found if pair[0] not in SPACE], 0
        self.asides: list[Claim] = []  # what stands below braces

    # ------------------------------------------------------------------ tokens

    def peek(self, ahead: int = 0) -> str:
        """A coming token; nothing after the last one."""
        place = self.at + ahead
        return self.tokens[place][0] if place < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise self.error(f"{wanted or 'more'} is expected before {self.here()}")
        self.at += 1
        return token

    def skip(self, *tokens: str) -> bool:
        """Pass over these tokens, if they come next."""
        found = all(self.peek(i) == token for i, token in enumerate(tokens))
        self.at += len(tokens) * found
        return found

    def here(self) -> str:
        return self.peek() or "the end"

    def line(self) -> int:
        """How many lines of the equation lie before the present token."""
        if not self.tokens:
            return 0
        place = self.tokens[min(self.at, len(self.tokens) - 1)][1]
        return self.tex.count("\n", 0, place)

    def error(self, why: str) -> Unreadable:
        return Unreadable(self.line(), why)

    def check_brackets(self) -> None:
        """Each \\left has a bracket and its \\right, or the page shows nonsense."""
        depth = 0
        for at, (token, _) in enumerate(self.tokens):
            self.at = at
            if token in {"\\left", "\\right"}:
                depth += 1 if token == "\\left" else -1
                if self.peek(1) not in {*OPENED, *CLOSING}:
                    raise self.error(f"no bracket follows {token}")
            if depth < 0:
                raise self.error("\\right closes what no \\left has opened")
        if depth:
            raise self.error("\\left is not closed by a \\right")

    # ------------------------------------------------------------------ claims

    def claims(self) -> list[Claim]:
        """All that the equation claims, in its order."""
        self.open_aligned()
        found = []
        while self.peek():
            if self.peek() in BREAK | {",", "."}:
                self.at += 1
            else:
                found.append(self.claim())
        return found + self.asides

    def open_aligned(self) -> None:
        """Drop the frame of aligned rows; '&' stays only where a new cell begins."""
        kept, frame = [], 0
        for i, (token, place) in enumerate(self.tokens):
            if token in {"\\begin", "\\end"}:
                frame = len("{aligned}") + 1
                words = "".join(t for t, _ in self.tokens[i + 1 : i + frame])
                if words != "{aligned}":
                    self.at = i
                    raise self.error(f"the parser does not know {token}{words}")
            following = self.tokens[i + 1][0] if i + 1 < len(self.tokens) else ""
            inside = following in RELATIONS or (i and self.tokens[i - 1][0] in OPENED)
            if not frame and not (token == "&" and inside):
                kept.append((token, place))
            frame = max(frame - 1, 0)
        self.tokens = joined_rows(kept)

    def claim(self) -> Claim:
        if self.peek() == "(" and self.is_remark():
            self.take("(")
            claim = self.chain()
            self.take(")")
            return claim
        claim = self.chain()
        if self.peek() not in BREAK | {"", ",", "."}:
            raise self.error(f"the parser cannot read on at {self.here()}")
        return claim

    def chain(self) -> Claim:
        claim = Claim([self.side()])
        while self.peek() in RELATIONS:
            claim.relations.append((self.peek(), self.line()))
            self.at += 1
            claim.sides.append(self.side())
        if not claim.relations:
            raise self.error("this claims nothing: no relation stands here")
        return claim

    def side(self) -> Tree:
        """A sum, or a range such as `1, \\dots, T`."""
        node = self.sum()
        if self.skip(",", "\\dots", ","):
            return Node("range", (node, self.sum()))
        return node

    def is_remark(self) -> bool:
        """Is this bracket a remark such as `(v_t = \\tilde\\beta_t)`?"""
        depth = 0
        for token, _ in self.tokens[self.at :]:
            depth += (token in OPENED) - (token in CLOSING)
            if depth == 0:
                return False
            if depth == 1 and token == "=":
                return True
        return False

    # ------------------------------------------------------------------ sums

    def sum(self) -> Tree:
        if self.skip("-"):
            node: Tree = Node("minus", (self.product(),))
        else:
            node = self.product()
        while self.peek() in {"+", "-"}:
            kind = {"+": "add", "-": "subtract"}[self.take()]
            node = Node(kind, (node, self.product()))
        return node

    def product(self) -> Tree:
        node = self.power()
        while self.peek() not in STOPS and not self.at_differential():
            if self.skip("/"):
                node = Node("divide", (node, self.power()))
            elif self.skip("\\cdot"):
                node = Node("dot", (node, self.power()))
            else:
                node = Node("times", (node, self.power()))
        return node

    def at_differential(self) -> bool:
        return [self.peek(i) for i in range(4)] == ["\\mathrm", "{", "d", "}"]

    def power(self) -> Tree:
        node = self.atom()
        return Node("power", (node, self.argument())) if self.skip("^") else node

    def argument(self) -> Tree:
        """What '_', '^' and \\frac take: one token, or a group in braces."""
        if not self.skip("{"):
            token = self.peek()
            if len(token) > 1 and token[0].isdigit():  # TeX would take one digit
                raise self.error(f"{token} needs braces")
            if token in COMMANDS or token in FUNCTIONS or token in OPENED:
                raise self.error(f"{token} needs braces around it and what it takes")
            return self.atom(bare=True)
        node = self.sum()
        self.take("}")
        return node

    def words(self) -> str:
        """The tokens of an argument, as they are written."""
        if self.peek() in FONTS:
            self.at += 1
        if not self.skip("{"):
            if self.peek() in STOPS:
                raise self.error(f"an argument is missing before {self.here()}")
            return self.take()
        depth, found = 1, []
        while depth:
            token = self.take()
            depth += (token == "{") - (token == "}")
            found.append(token)
        return re.sub(r"^\\(?:mathrm|text)\{(.*)\}$", r"\1", "".join(found[:-1]))

    def arguments(self, close: str) -> list[list[Tree]]:
        """What stands up to `close`, in groups that bars separate."""
        groups: list[list[Tree]] = [[]]
        while True:
            is_open = self.skip("\\dots")
            groups[-1].append(Node("dots", ()) if is_open else self.sum())
            if self.skip(close):
                return groups
            if self.skip("\\mid") or self.skip("\\Vert"):
                groups.append([])
            else:
                self.take(",")

    # ------------------------------------------------------------------ atoms

    def atom(self, bare: bool = False) -> Tree:
        """One factor; `bare` for one token that takes no index of its own."""
        token = self.peek()
        if token in STOPS:
            raise self.error(f"a symbol is missing before {self.here()}")
        if token[0].isdigit():
            return number(float(self.take()))
        if token in OPENED:
            return self.bracket()
        if token in COMMANDS:
            self.at += 1
            return COMMANDS[token](self)
        if token in FUNCTIONS:
            return self.function()
        return self.symbol(bare)

    def function(self) -> Tree:
        """`\\ln q`, `\\cos^2(a)`."""
        name = self.take()
        power = self.argument() if self.skip("^") else None
        node = Node("apply", (name, self.atom()))
        return Node("power", (node, power)) if power else node

    def bracket(self) -> Tree:
        opened = self.take()
        items = self.arguments(OPENED[opened])
        if len(items) > 1:
            raise self.error("a bar stands in a bracket that is no law")
        if opened == "\\langle":
            return Node("inner", tuple(items[0]))
        if len(items[0]) > 1:
            return Node("row", tuple(items[0]))
        return Node("norm", tuple(items[0])) if opened == "\\lVert" else items[0][0]

    def symbol(self, bare: bool = False) -> Tree:
        base = self.base()
        if bare:
            return Symbol(base)
        while self.skip("'"):
            base += "'"
        symbol = self.indexed(base)
        known = {symbol.base, f"{symbol.base}_{symbol.label}"} & set(self.functions)
        if known and self.peek() in {"(", "[", "\\{"}:
            groups = self.arguments(OPENED[self.take()])
            return Node("call", (symbol, groups))
        return symbol

    def base(self) -> str:
        """The letter, with its accent or font."""
        base = self.take()
        if base in ACCENTS:
            return base + self.words()
        if base in FONTS:
            words = self.words()
            return base + words if base == "\\mathcal" else words
        if not re.fullmatch(r"[A-Za-z]", base) and base not in LETTERS:
            self.at -= 1
            raise self.error(f"the parser does not know {base}")
        return base

    def indexed(self, base: str) -> Symbol:
        """The letter with what hangs below it, and perhaps a star above."""
        index, label = None, ""
        if self.skip("_"):
            start = self.at
            label, end = self.words(), self.at
            self.at = start
            try:
                index = self.argument()
            except Unreadable:  # a name such as n_\mathrm{warm}, no number
                index = None
            if is_pair(index):
                raise self.error(f"{base}_{label} has two indices, or their product")
            self.at = end
        for mark in ("\\star", "\\top"):  # the best one; a matrix, transposed
            if self.skip("^", mark):
                base += mark
        return Symbol(base, index, label)

    # ------------------------------------------------------------------ commands

    def fraction(self) -> Tree:
        above = self.argument()
        return Node("divide", (above, self.argument()))

    def underbrace(self) -> Tree:
        """A named part: when it is a symbol, not words, that is one more claim."""
        node = self.argument()
        self.take("_")
        if self.peek(1) == "\\text":
            self.words()
        else:
            line = self.line()
            self.asides.append(Claim([self.argument(), node], [("=", line)]))
        return node

    def bounds(self) -> tuple[str, Tree | None, Tree | None]:
        """The index of a sum, and its bounds if they are printed."""
        self.take("_")
        braced = self.skip("{")
        index = self.take()
        if not braced or self.skip("}"):
            return index, None, None
        self.take("=")
        low = self.sum()
        self.take("}")
        self.take("^")
        return index, low, self.argument()

    def summed(self) -> Tree:
        return Node("sum", (*self.bounds(), self.product()))

    def multiplied(self) -> Tree:
        return Node("product", (*self.bounds(), self.product()))

    def gradient(self) -> Tree:
        """Of numbers a divergence, `\\nabla \\cdot`, is the same."""
        self.skip("\\cdot")
        return Node("gradient", (self.product(),))

    def integral(self) -> Tree:
        body, over = self.sum(), list[Tree]()
        while self.at_differential() or self.peek() == "\\cdots":
            if self.skip("\\cdots"):
                over.append(Node("dots", ()))
            else:
                self.at += 4
                over.append(self.symbol())
        return Node("integral", (body, over))

    def logarithm(self) -> Tree:
        self.take("_")
        base = Node("apply", ("\\ln", self.argument()))
        return Node("divide", (Node("apply", ("\\ln", self.atom())), base))

    def minimum(self) -> Tree:
        """Of numbers, `\\min(a, b)`, or over a function, `\\min_g`."""
        if self.skip("_"):
            return Node("least", (self.words(), self.product()))
        self.take("(")
        return Node("minimum", tuple(self.arguments(")")[0]))

    def maximum(self) -> Tree:
        self.take("(")
        return Node("maximum", tuple(self.arguments(")")[0]))

    def expectation(self) -> Tree:
        """`\\mathbb{E}`: its law if printed, what is averaged, and what is given."""
        if not self.skip("{", "E", "}"):
            raise self.error("the parser knows \\mathbb{E} only")
        law: list[Tree] = []
        if self.skip("_"):
            braced = self.skip("{")
            law = self.arguments("}")[0] if braced else [self.atom(bare=True)]
        if self.skip("["):
            (body, *_), *given = self.arguments("]")
            return Node("mean", (law, body, given[0] if given else []))
        return Node("mean", (law, self.product(), []))

    def upright(self) -> Tree:
        """`\\mathrm{KL}(p \\Vert q)`, or a name in upright letters."""
        if self.skip("{", "K", "L", "}"):
            self.take("(")
            groups = self.arguments(")")
            if [len(group) for group in groups] != [1, 1]:
                raise self.error("a divergence is written KL(p \\Vert q)")
            return Node("divergence", (groups[0][0], groups[1][0]))
        self.at -= 1
        return self.symbol()


COMMANDS: dict[str, Callable[[Parser], Tree]] = {
    "\\frac": Parser.fraction,
    "\\tfrac": Parser.fraction,
    "\\sqrt": lambda parser: Node("root", (parser.argument(),)),
    "\\underbrace": Parser.underbrace,
    "\\sum": Parser.summed,
    "\\prod": Parser.multiplied,
    "\\nabla": Parser.gradient,
    "\\int": Parser.integral,
    "\\log": Parser.logarithm,
    "\\min": Parser.minimum,
    "\\max": Parser.maximum,
    "\\mathbb": Parser.expectation,
    "\\mathrm": Parser.upright,
}


def read(tex: str, functions: Collection[str] = ()) -> list[Claim]:
    """What an equation claims; raises Unreadable, with the line inside it."""
    return Parser(tex, functions).claims()
