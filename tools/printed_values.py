"""What a printed expression is worth: trees in, numbers out, in float64.

Nothing is simplified. A sign, an index or a root that differs on the page differs in
the numbers. Averages and integrals are sums over nodes: each variable that is averaged
over gets an axis of its own, in front of those that are there already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeGuard

import numpy as np
import torch
from printed_tex import Node, Symbol, Tree
from torch import Tensor

F64 = torch.float64
HERMITE = 48  # nodes of an average under a normal law
GRID = torch.linspace(-9, 9, 101, dtype=F64)  # of an integral; widths are above 0.25
FUNCTIONS = {
    "\\ln": torch.log,
    "\\tan": torch.tan,
    "\\tanh": torch.tanh,
    "\\arctan": torch.atan,
    "\\exp": torch.exp,
    "\\cos": torch.cos,
    "\\sin": torch.sin,
}
NORMAL = "\\mathcalN"
TOLD = {"t", "T", "D"}  # these have a value by themselves

Key = tuple[str, Any]  # the base of a symbol and its index: a number, words or None


class Refused(ValueError):
    """An expression that has no value, and why."""


def as_tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=F64)


@cache
def hermite() -> tuple[Tensor, Tensor]:
    """Nodes and weights of an average under the standard normal law."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(HERMITE)
    return torch.tensor(nodes), torch.tensor(weights / math.sqrt(2 * math.pi))


def distance(a: Any, b: Any) -> float:
    """The largest relative difference; infinite where something is not finite."""
    plain = (as_tensor(each).as_subclass(Tensor) for each in (a, b))
    a, b = torch.broadcast_tensors(*plain)
    worst = float(((a - b).abs() / (a.abs() + b.abs() + 1e-12)).max())
    return worst if math.isfinite(worst) else math.inf


class Mixture:
    """A law whose parts are normal: (weight, mean, variance) each, which broadcast.

    The density is that of torch.distributions, which shares nothing with the book. With
    `dims` above 1 the last axis of a value is a vector.
    """

    def __init__(self, *parts: tuple[Any, Any, Any], dims: int = 1) -> None:
        self.parts = [tuple(map(as_tensor, part)) for part in parts]
        self.dims = dims

    def log_prob(self, y: Tensor) -> Tensor:
        logs = []
        for weight, mean, variance in self.parts:
            law = torch.distributions.Normal(mean, variance.sqrt(), validate_args=False)
            one = law.log_prob(y)
            logs.append((one.sum(-1) if self.dims > 1 else one) + weight.log())
        return torch.logsumexp(torch.stack(torch.broadcast_tensors(*logs)), 0)

    def nodes(self, depth: int) -> tuple[Tensor, Tensor]:
        """Values and weights on a new axis in front of `depth` others."""
        node, share = (a.reshape(-1, *[1] * depth) for a in hermite())
        values = [mean + variance.sqrt() * node for _, mean, variance in self.parts]
        weights = [weight * share for weight, _, _ in self.parts]
        shape = torch.broadcast_shapes(*[a.shape for a in values + weights])
        wide = [
            torch.cat([a.expand(shape) for a in each]) for each in (values, weights)
        ]
        return wide[0], wide[1]


STANDARD = Mixture((1.0, 0.0, 1.0))


@dataclass(frozen=True)
class Density:
    """A symbol that is a law: `make(env, targets, given)` is the law that the printed
    arguments ask for. An argument is (base, index, value)."""

    make: Callable[..., Any]


@dataclass(frozen=True)
class Named:
    """A function that looks at the names of its arguments, not their values alone:
    `call(env, *groups)`, each a list of (base, index, value)."""

    call: Callable[..., Any]


@dataclass(frozen=True)
class Unevaluated:
    """A function that is given the tree of its argument: `call(env, tree)`."""

    call: Callable[..., Any]


@dataclass(frozen=True)
class Letter:
    """A symbol that means several things: alone (a function of the environment), with
    an index (entries, or a function of the environment and the index), or called."""

    alone: Callable[[Env], Any] | None = None
    entries: Any = None
    call: Any = None


@dataclass(frozen=True)
class Layer:
    """A learned map that is printed as a factor, such as S in `S h`."""

    apply: Callable[[Tensor], Tensor]

    def __mul__(self, other: Tensor) -> Tensor:
        return self.apply(other)


def entry_of(value: Any, i: Any) -> Any:
    """An entry of a table, which is a list or a mapping; None where there is none."""
    if isinstance(value, Mapping):
        return value.get(i)
    is_there = isinstance(value, list) and isinstance(i, int) and 0 <= i < len(value)
    return value[i] if is_there else None


@dataclass(frozen=True)
class Env:
    """Where an expression is evaluated: the meaning of its symbols, the step t, and
    the values of what is summed or averaged over."""

    symbols: Mapping[str, Any]
    t: int | None = 2
    T: int = 3
    steps: tuple[int, ...] = ()  # all t at which the equation is run
    dims: int = 1  # above 1 the last axis of every value is a vector
    copies: int = 1  # with dims = 1: a number stands for a vector of so many equal ones
    gradient_by: Key | None = None
    ranges: Mapping[str, range] = field(default_factory=dict)
    is_real: bool = False  # one dimension, where a variance is a plain number
    is_matrix: bool = False  # the equation is one of matrices, where I is a term
    identity: float | None = None  # what I is worth, inside a covariance
    index: Mapping[str, int] = field(default_factory=dict)
    bound: Mapping[Key, Any] = field(default_factory=dict)
    depth: int = 0  # how many axes the bound variables have

    # ------------------------------------------------------------------ symbols

    def bind(self, bound: Mapping[Key, Any], axes: int = 0) -> Env:
        return replace(self, bound={**self.bound, **bound}, depth=self.depth + axes)

    def key(self, symbol: Symbol) -> Key:
        """The base of a printed symbol and its index, evaluated."""
        base, index, label = symbol
        if not label:
            return base, None
        if f"{base}_{label}" in self.symbols:
            return f"{base}_{label}", None
        try:
            return base, self.integer(index)
        except Refused:
            return base, label

    def integer(self, tree: Tree | None) -> int:
        if tree is None:
            raise Refused("an index is no number")
        value = self.value(tree)
        if not isinstance(value, Tensor) or value.ndim or not float(value).is_integer():
            raise Refused(f"an index is {value}, no whole number")
        return int(value)

    def lookup(self, symbol: Symbol, is_called: bool = False) -> Any:
        """What a symbol stands for here; raises Refused when nobody has said it."""
        base, i = self.key(symbol)
        if (base, i) in self.bound:
            return self.bound[base, i]
        found = (
            self.without_index(base, is_called) if i is None else self.entry(base, i)
        )
        if found is None:
            shown = base if i is None else f"{base}_{i}"
            raise Refused(f"unknown symbol {shown}")
        return found

    def without_index(self, base: str, is_called: bool) -> Any:
        if base in self.index:
            return self.index[base]
        if base == "I" and "I" not in self.symbols:
            return self.unit()
        if base in TOLD and base not in self.symbols:
            return self.told(base)
        value = self.symbols.get(base)
        if not isinstance(value, Letter):
            return value
        if is_called:
            return value.call
        return value.alone(self) if value.alone else None

    def entry(self, base: str, i: Any) -> Any:
        value = self.symbols.get(base)
        if not isinstance(value, Letter):
            return entry_of(value, i)
        if callable(value.entries):
            return value.entries(self, i)
        return entry_of(value.entries, i)

    def told(self, base: str) -> int:
        given = {"t": self.t, "T": self.T, "D": self.dims * self.copies}[base]
        if given is None:
            raise Refused("no t is given here")
        return given

    def unit(self) -> float:
        """The identity: a unit in a covariance, a term in an equation of matrices."""
        if self.is_matrix:
            return 1.0
        if self.identity is None:
            raise Refused("I stands where no covariance is")
        return self.identity

    def arguments(self, trees: list[Tree]) -> list[tuple[Any, Any, Any]]:
        """(base, index, value) of each, with `z_1, \\dots, z_T` written out."""
        found: list[tuple[Any, Any, Any]] = []
        for k, tree in enumerate(trees):
            if tree == Node("dots", ()):
                found += self.left_out(trees[k - 1], trees[k + 1])
                continue
            key = self.key(tree) if isinstance(tree, Symbol) else (None, None)
            found.append((*key, self.known(tree)))
        return found

    def left_out(self, first: Tree, last: Tree) -> list[tuple[Any, Any, Any]]:
        """What dots between two arguments stand for: `1, \\dots, T` or z_1 to z_T."""
        if not (isinstance(first, Symbol) and first.label and isinstance(last, Symbol)):
            low, high = self.integer(first), self.integer(last)
            return [(None, None, as_tensor(i)) for i in range(low + 1, high)]
        (base, low), (other, high) = self.key(first), self.key(last)
        if base != other or not isinstance(low, int) or not isinstance(high, int):
            raise Refused("the neighbours of the dots are no row of variables")
        keys = [(base, i) for i in range(low + 1, high)]
        return [(*key, self.bound.get(key, self.entry(*key))) for key in keys]

    def known(self, tree: Tree) -> Any:
        """The value of an argument; None for one that is but named."""
        try:
            return self.value(tree)
        except Refused:
            return None

    # ------------------------------------------------------------------ claims

    def error(self, relation: str, left: Tree, right: Tree) -> float:
        """How far two sides are from what the page claims of them."""
        if is_empty(relation, left, right):
            raise Refused("the same stands on both sides")
        if isinstance(left, Symbol) and self.key(left) == ("t", None):
            return self.error_of_steps(relation, right)
        if relation == "\\sim":
            law = self.symbols["\\sim"](self, left)
            shape = [9, *[self.dims] * (self.dims > 1)]
            places = torch.randn(shape, generator=seeded(0), dtype=F64)
            return distance(law(places), self.law(right)[0].log_prob(places))
        if relation in {"\\leftarrow", "\\mapsto"}:
            base, after = self.symbols.get("after", (None, None))
            if not isinstance(left, Symbol) or self.key(left) != (base, None):
                raise Refused("something else becomes new here")
            return distance(after, self.value(right))
        a, b = self.value(left), self.beside(left, right)
        if relation in {"\\ge", "\\le"}:
            return self.excess(a, b) if relation == "\\ge" else self.excess(b, a)
        if relation == "\\propto":
            a, b = a / a.flatten()[0], b / b.flatten()[0]
        return distance(a, b)

    def excess(self, a: Tensor, b: Tensor) -> float:
        """How far b is above a. A bound that is far away would hide every slip, so the
        symbols must have a case where both are equal."""
        if "is tight" not in self.symbols:
            raise Refused("nobody says where the two sides of this bound are equal")
        is_tight = self.symbols["is tight"]
        return distance(a, b) if is_tight else float((b - a).max().clamp(min=0))

    def error_of_steps(self, relation: str, right: Tree) -> float:
        """`t = 1, \\dots, T`, `t \\ge 2`: the steps at which the equation is run."""
        if relation == "\\sim":
            law, _ = self.law(right)
            return 0.0 if law == list(range(1, self.T + 1)) else math.inf
        if relation == "\\ge":
            stated = tuple(range(self.integer(right), self.T + 1))
        elif isinstance(right, Node) and right.kind == "range":
            low, high = map(self.integer, right.parts)
            stated = tuple(range(low, high + 1))
        else:
            raise Refused("this says nothing of the steps t")
        return 0.0 if stated == self.steps else math.inf

    def beside(self, left: Tree, right: Tree) -> Tensor:
        """The right side; a law without a variable is taken at that of the left."""
        if is_law_alone(right) and isinstance(left, Node) and left.kind == "call":
            target = self.law(left)[1]
            return self.law(right)[0].log_prob(target).exp()
        return self.value(right)

    # ------------------------------------------------------------------ laws

    def law(self, tree: Tree) -> tuple[Any, Any]:
        """The law that a printed density stands for, and the value of its variable."""
        if isinstance(tree, Symbol) and isinstance(self.lookup(tree), Mixture):
            return self.lookup(tree), None
        if not isinstance(tree, Node) or tree.kind != "call":
            raise Refused("this is no density")
        symbol, groups = tree.parts
        if self.key(symbol) == (NORMAL, None):
            return self.normal(groups)
        density = self.lookup(symbol, is_called=True)
        if not isinstance(density, Density):
            raise Refused(f"{symbol.base} is no density")
        targets = self.arguments(groups[0])
        given = self.arguments(groups[1]) if groups[1:] else []
        return density.make(self, targets, given), targets[-1][2]

    def normal(self, groups: list[list[Tree]]) -> tuple[Mixture, Any]:
        """N(mean, variance), or N(variable | mean, variance)."""
        mean, covariance = self.pair(groups[-1])
        law = Mixture(
            (1.0, self.value(mean), self.variance(covariance)), dims=self.dims
        )
        return law, self.value(groups[0][0]) if groups[1:] else None

    def pair(self, trees: list[Tree]) -> list[Tree]:
        if len(trees) != 2:
            raise Refused("a normal law has a mean and a variance")
        return trees

    def variance(self, covariance: Tree) -> Tensor:
        """The factor of I, which must be there unless all is one-dimensional."""
        if self.is_real:
            return self.value(covariance)
        one, two = (
            replace(self, identity=unit).value(covariance) for unit in (1.0, 2.0)
        )
        if distance(two, 2 * one) > 1e-12:
            raise Refused("a covariance must be a number times I")
        return one

    # ------------------------------------------------------------------ expressions

    def value(self, tree: Tree) -> Any:
        """A tensor, but for a layer."""
        if isinstance(tree, Symbol):
            value = self.lookup(tree)
            if isinstance(value, Layer):
                return value
            if not isinstance(value, Tensor | float | int):
                raise Refused(f"{tree.base} stands alone, but is no number")
            return as_tensor(value)
        return getattr(self, f"of_{tree.kind}")(*tree.parts)

    def of_number(self, value: float) -> Tensor:
        return as_tensor(value)

    def of_minus(self, a: Tree) -> Tensor:
        return -self.value(a)

    def of_add(self, a: Tree, b: Tree) -> Tensor:
        return self.value(a) + self.value(b)

    def of_subtract(self, a: Tree, b: Tree) -> Tensor:
        return self.value(a) - self.value(b)

    def of_times(self, a: Tree, b: Tree) -> Tensor:
        return self.value(a) * self.value(b)

    def of_dot(self, a: Tree, b: Tree) -> Tensor:
        """A product; of two vectors the inner one."""
        left, right = self.value(a), self.value(b)
        is_inner = self.dims > 1 and left.ndim and right.ndim
        return (left * right).sum(-1) if is_inner else left * right

    def of_divide(self, a: Tree, b: Tree) -> Tensor:
        if is_differential(a) and is_differential(b):
            return self.symbols["difference"](self, a.parts[1], b.parts[1])
        return self.value(a) / self.value(b)

    def of_power(self, a: Tree, b: Tree) -> Tensor:
        return self.value(a) ** self.value(b)

    def of_root(self, a: Tree) -> Tensor:
        return self.value(a).sqrt()

    def of_apply(self, name: str, a: Tree) -> Tensor:
        return FUNCTIONS[name](self.value(a))

    def of_norm(self, a: Tree) -> Tensor:
        value = self.value(a)
        if self.dims > 1:
            return (value**2).sum(-1).sqrt()
        return value.abs() * math.sqrt(self.copies)

    def of_inner(self, a: Tree, b: Tree) -> Tensor:
        return (self.value(a) * self.value(b)).sum(-1)

    def of_minimum(self, *trees: Tree) -> Tensor:
        values = torch.broadcast_tensors(*map(self.value, trees))
        return torch.stack(values).amin(0)

    def of_maximum(self, *trees: Tree) -> Tensor:
        values = torch.broadcast_tensors(*map(self.value, trees))
        return torch.stack(values).amax(0)

    def of_row(self, *trees: Tree) -> Tensor:
        """A row of numbers; dots stand for what lies between their neighbours."""
        values = []
        for k, tree in enumerate(trees):
            if tree == Node("dots", ()):
                values += [self.value(each) for each in self.between(trees, k)]
            else:
                values.append(self.value(tree))
        return torch.stack(values)

    def between(self, trees: tuple[Tree, ...], k: int) -> list[Tree]:
        """What the dots at k stand for: their neighbours differ in one whole number."""
        first, last = trees[k - 1], trees[k + 1]
        places = differences(first, last)
        if len(places) != 1:
            raise Refused("the neighbours of the dots differ in more than one place")
        low, high = (self.integer(part) for part in places[0][1:])
        return [
            replaced(first, places[0][0], Node("number", (float(i),)))
            for i in range(low + 1, high)
        ]

    def of_range(self, *_: Tree) -> Tensor:
        raise Refused("a range stands where a number is needed")

    of_dots = of_range

    # ------------------------------------------------------------------ over an index

    def each(self, index: str, low: Tree | None, high: Tree | None) -> Iterator[Env]:
        """The environments of a sum, one for each value of its index."""
        if low is not None and high is not None:
            run = range(self.integer(low), self.integer(high) + 1)
        elif index in self.ranges:
            run = self.ranges[index]
        else:
            raise Refused(f"a sum over {index} has no bounds")
        for i in run:
            told = {"t": i} if index == "t" else {"index": {**self.index, index: i}}
            yield replace(self, **told)

    def of_sum(self, index: str, low: Any, high: Any, body: Tree) -> Tensor:
        values = [env.value(body) for env in self.each(index, low, high)]
        return sum(values, start=as_tensor(0.0))

    def of_product(self, index: str, low: Any, high: Any, body: Tree) -> Tensor:
        values = [env.value(body) for env in self.each(index, low, high)]
        return math.prod(values, start=as_tensor(1.0))

    def of_every(self, index: str, body: Tree) -> Tensor:
        """One row of all values of a free index."""
        return torch.stack([env.value(body) for env in self.each(index, None, None)])

    # ------------------------------------------------------------------ functions

    def of_call(self, symbol: Symbol, groups: list[list[Tree]]) -> Tensor:
        if self.key(symbol) == (NORMAL, None):
            law, target = self.normal(groups)
            if target is None:
                raise Refused("a law stands where a number is needed")
            return law.log_prob(target).exp()
        function = self.lookup(symbol, is_called=True)
        if isinstance(function, Density):
            law, target = self.law(Node("call", (symbol, groups)))
            return law.log_prob(target).exp()
        if isinstance(function, Unevaluated):
            return function.call(self, groups[0][0])
        if isinstance(function, Named):
            return function.call(self, *map(self.arguments, groups))
        return function(*[self.value(tree) for tree in groups[0]])

    def of_least(self, name: str, body: Tree) -> Tensor:
        """With the function that makes it least, as the symbols have it."""
        best = self.symbols.get(f"best {name}")
        if best is None:
            raise Refused(f"nothing is known of the best {name}")
        return replace(self, symbols={**self.symbols, name: best}).value(body)

    def of_gradient(self, body: Tree) -> Tensor:
        if self.gradient_by is None:
            raise Refused("nobody says by what the gradient is taken")
        base, i = self.gradient_by
        leaf = self.bound.get((base, i))
        if leaf is None:
            leaf = self.without_index(base, False) if i is None else self.entry(base, i)
        if leaf is None:
            raise Refused(f"there is no {base} to take the gradient by")
        leaf = as_tensor(leaf).detach().clone().requires_grad_()
        with torch.enable_grad():
            value = self.bind({(base, i): leaf}).value(body)
            if not value.requires_grad:
                raise Refused("the gradient is of something that does not vary")
            return torch.autograd.grad(value.sum(), leaf)[0].detach()

    # ------------------------------------------------------------------ averages

    def of_mean(self, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        return self.symbols["E"](self, law, body, given)

    def averaged(self, weights: Tensor, bound: Mapping[Key, Any], body: Tree) -> Tensor:
        """The average of `body` over one more axis of bound variables."""
        values = self.bind(bound, axes=1).value(body)
        return (weights * values).sum(0) if values.ndim > self.depth else values

    def of_integral(self, body: Tree, over: list[Tree]) -> Tensor:
        env = self
        for key in dict.fromkeys(self.variables(over)):
            env = env.bind({key: GRID.reshape(-1, *[1] * env.depth)}, axes=1)
        value = env.value(body)
        while value.ndim > self.depth:
            value = torch.trapezoid(value, dx=float(GRID[1] - GRID[0]), dim=0)
        return value

    def variables(self, over: list[Tree]) -> list[Key]:
        """`dz_1 \\cdots dz_T`, written out."""
        found: list[Key] = []
        for k, tree in enumerate(over):
            if isinstance(tree, Symbol):
                found.append(self.key(tree))
            else:
                row = self.left_out(over[k - 1], over[k + 1])
                found += [(base, i) for base, i, _ in row]
        return found

    def of_divergence(self, left: Tree, right: Tree) -> Tensor:
        (p, _), (q, _) = self.law(left), self.law(right)
        if not isinstance(p, Mixture):  # the law of a whole chain
            inner, weights = p.nodes(self)
            logs = [law.at(inner).log_prob(None) for law in (p, q)]
            return self.chain_mean(weights * (logs[0] - logs[1]))
        if len(p.parts) == len(q.parts) == 1:
            each = self.symbols["KL"](p.parts[0][1:], q.parts[0][1:])
            return each.sum(-1) if self.dims > 1 else self.copies * each
        y, weights = p.nodes(self.depth)
        return (weights * (p.log_prob(y) - q.log_prob(y))).sum(0)

    def chain_mean(self, values: Tensor) -> Tensor:
        """The sum over the axes that were put in front of the present ones."""
        while values.ndim > self.depth:
            values = values.sum(0)
        return values


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def is_empty(relation: str, left: Any, right: Any) -> bool:
    """Is a thing said to be itself, or a symbol to be made of itself?"""
    return relation == "=" and (
        left == right or (isinstance(left, Symbol) and holds(right, left))
    )


def holds(tree: Any, symbol: Symbol) -> bool:
    if tree == symbol:
        return True
    return isinstance(tree, tuple | list) and any(holds(p, symbol) for p in tree)


def is_differential(tree: Tree) -> TypeGuard[Node]:
    """Is this dz, or the same with a round d?"""
    signs = Symbol("d"), Symbol("\\partial")
    return isinstance(tree, Node) and tree.kind == "times" and tree.parts[0] in signs


def is_law_alone(tree: Tree) -> bool:
    """Is this N(mean, variance), without a variable?"""
    return (
        isinstance(tree, Node)
        and tree.kind == "call"
        and tree.parts[0].base == NORMAL
        and len(tree.parts[1]) == 1
    )


Path = tuple[int, ...]


def differences(a: Any, b: Any, path: Path = ()) -> list[tuple[Path, Any, Any]]:
    """Where two trees differ: the way there, and the two different parts."""
    if a == b:
        return []
    is_number = isinstance(a, Node) and a.kind == "number"
    if is_number or type(a) is not type(b) or not isinstance(a, tuple | list):
        return [(path, a, b)]
    if (isinstance(a, Node) and a.kind != b.kind) or len(a) != len(b):
        return [(path, a, b)]
    if isinstance(a, Symbol) and a.base == b.base:
        return differences(a.index, b.index, (*path, 1))
    pairs = enumerate(zip(a, b, strict=True))
    return [found for i, (c, d) in pairs for found in differences(c, d, (*path, i))]


def replaced(tree: Any, path: Path, part: Any) -> Any:
    """The tree with another part at the end of the path."""
    if not path:
        return part
    items = list(tree)
    items[path[0]] = replaced(items[path[0]], path[1:], part)
    if isinstance(tree, Symbol):
        return Symbol(tree.base, items[1], "{}")  # its label is written no longer
    return type(tree)(*items) if isinstance(tree, Node) else type(tree)(items)
