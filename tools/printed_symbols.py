"""What the printed symbols mean: numbers for every letter, joined by the package.

`World` draws a short schedule, a picture and noises, and answers for the symbols that
the chapters share: `z_t` is what `q_step` makes of `z_{t-1}`, `q(z_t \\mid x)` the law
whose mean and width `q_sample` has. Below it stand the equations whose letters mean
something of their own: one short function each, which returns the symbols that differ.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from printed_tex import Symbol, Tree, bases
from printed_values import (
    F64,
    GRID,
    STANDARD,
    Density,
    Env,
    Key,
    Layer,
    Letter,
    Mixture,
    Named,
    Refused,
    Unevaluated,
    as_tensor,
    distance,
    entry_of,
    seeded,
)
from torch import Tensor

PACKAGE = Path(__file__).resolve().parent.parent / "ddpm_lit"
ZERO, ONE = torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
Arguments = list[tuple[Any, Any, Any]]


@cache
def public_names() -> dict[str, str]:
    """Name -> module, of all that the modules of the package offer."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for statement in ast.parse(path.read_text("utf-8")).body:
            if ast.unparse(statement).startswith("__all__ = "):
                assert isinstance(statement, ast.Assign)
                names = ast.literal_eval(statement.value)
                found |= dict.fromkeys(names, module) if "__" not in module else {}
    return found


class Package:
    """The public names of ddpm_lit. It remembers which were asked for, so that an
    equation cannot be said to run against a function that had no part in it."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name not in public_names():
            raise AttributeError(f"the package offers no {name}")
        self.used.add(name)
        return getattr(import_module(public_names()[name]), name)


def flat(function: Callable[..., Tensor], *values: Any, dims: int = 1) -> Tensor:
    """A function of batches (B, dims), applied to values of any shape."""
    wide = torch.broadcast_tensors(*map(as_tensor, values))
    return function(*[v.reshape(-1, dims) for v in wide]).reshape(wide[0].shape)


# ---------------------------------------------------------------------- how it is run


@dataclass(frozen=True)
class How:
    """How an equation is run. The first five may stand in equations.yml."""

    first: int = 1  # the smallest t: `from` in the file
    T: int = 3
    variance: tuple[str, ...] = ()  # of the decoder; none: arbitrary numbers
    tolerance: float = 1e-10
    is_real: bool = False  # one dimension, so that a variance has no I: `real`
    steps: Sequence[int | None] = ()  # the values of t, where not all of first..T
    dims: int = 0  # 0: as the equation needs it
    copies: int = 0
    is_matrix: bool = False
    gradient_by: tuple[str, str | None] = ("z", "t")
    ranges: dict[str, range] = field(default_factory=dict)
    every: str = ""  # an index that is free on the page
    defined: str = ""  # a function of t that the page itself defines
    seeds: Sequence[int] = (0, 1)


Symbols = dict[str, Any]
OWN: dict[str, tuple[How, Callable[[World], Symbols | list[Symbols]]]] = {}


def symbols(label: str, **how: Any) -> Callable[[Any], Any]:
    """The symbols of one equation that differ from the common ones."""

    def keep(function: Any) -> Any:
        OWN[label] = How(**how), function
        return function

    return keep


# ---------------------------------------------------------------------- the world


class World:
    """Random numbers for every symbol, at one step t."""

    def __init__(self, how: How, seed: int, t: int, variance: str = "") -> None:
        self.package = Package()
        self.source, self.t, self.T = seeded(seed), t, how.T
        self.dims, self.copies = how.dims, how.copies
        self.variance = variance
        self.schedule = self.package.NoiseSchedule(0.1 + 0.4 * self.rand(how.T))
        self.x = self.randn()
        self.xi = [None, *[self.randn() for _ in range(how.T)]]
        arbitrary = torch.cat([ZERO[0], 0.2 + self.rand(how.T)])
        self.v = getattr(self.schedule, variance) if variance else arbitrary

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.source, dtype=F64)

    def width(self) -> Tensor:
        """A positive number that is not small."""
        return 0.5 + self.rand(1).squeeze()

    def randn(self) -> Tensor:
        shape = [self.dims] if self.dims > 1 else []
        return torch.randn(shape, generator=self.source, dtype=F64)

    def run(self, name: str, t: int, *values: Any) -> Tensor:
        """A function of the package with the schedule, on values of any shape."""
        function = getattr(self.package, name)
        at_t = lambda *batch: function(*batch, t, self.schedule)  # noqa: E731
        return flat(at_t, *values, dims=self.dims)

    # ------------------------------------------------------------------ the two chains

    def step(self, t: int, z: Any, noise: Any) -> Tensor:
        """z_t from z_{t-1}."""
        q_step = self.package.q_step
        at_t = lambda a, b: q_step(a, t, b, self.schedule)  # noqa: E731
        return flat(at_t, z, noise, dims=self.dims)

    def jump(self, t: int, x: Any, noise: Any) -> Tensor:
        """z_t from x."""
        q_sample = self.package.q_sample
        at_t = lambda a, b: q_sample(a, t, b, self.schedule)  # noqa: E731
        return flat(at_t, x, noise, dims=self.dims)

    @cached_property
    def z(self) -> list[Tensor]:
        """x, z_1, ..., z_T by single steps."""
        found = [self.x]
        for t in range(1, self.T + 1):
            found.append(self.step(t, found[-1], self.xi[t]))
        return found

    def noise(self, t: int) -> Tensor:
        """The total noise in z_t."""
        return self.run("noise_from_x", t, self.z[t], self.x)

    @cached_property
    def mixture(self) -> Any:
        return self.package.GaussianMixture([0.35, 0.65], [-0.8, 0.7], [0.5, 0.7])

    def guess(self, z: Any, t: Any) -> Tensor:
        """What the network answers. It is linear, so that p_w(x) is exact."""
        return (0.3 + 0.1 * float(t)) * z + 0.05 * float(t)

    def guesses(self, z: Tensor, t: Tensor) -> Tensor:
        """The same for a batch of pictures (B, 1), each at a step of its own."""
        each = [self.guess(a, int(i)) for a, i in zip(z, t, strict=True)]
        return torch.stack(each)

    def mean(self, z: Any, t: Any) -> Tensor:
        """The decoder's mean of z_{t-1}."""
        return self.run("mean_from_noise", int(t), z, self.guess(z, t))

    def posterior_mean(self, t: int, x: Any, z: Any) -> Tensor:
        q_posterior = self.package.q_posterior
        at_t = lambda a, b: q_posterior(a, b, t, self.schedule)[0]  # noqa: E731
        return flat(at_t, x, z, dims=self.dims)

    def score(self, t: int, z: Any) -> Tensor:
        return flat(lambda a: self.mixture.score(a, t, self.schedule), z)

    def best_noise(self, t: int, z: Any) -> Tensor:
        return flat(lambda a: self.mixture.noise(a, t, self.schedule), z)

    # ------------------------------------------------------------------ laws

    def q(self, env: Env, targets: Arguments, given: Arguments) -> Any:
        """The forward process: its laws from q_step, q_sample, q_posterior and the
        mixture. Which one is meant, the printed arguments alone decide."""
        if self.is_chain(targets, given):
            return Chain(self, env, False)
        i, known = self.places(targets, given)
        steps = set(known)
        if not known:
            return self.marginal(i)
        if steps == {0}:
            return self.law(self.jump(i, known[0], 0.0), self.jump_width(i))
        if i - 1 in steps and steps <= {0, i - 1}:
            return self.law(self.step(i, known[i - 1], 0.0), self.step_width(i))
        if steps == {0, i + 1}:
            variance = self.package.q_posterior(ZERO, ZERO, i + 1, self.schedule)[1]
            mean = self.posterior_mean(i + 1, known[0], known[i + 1])
            return Mixture((1.0, mean, variance.squeeze()), dims=self.dims)
        if steps == {i + 1}:
            return self.reverse(i + 1, known[i + 1])
        raise Refused(f"q has no law of step {i} given {sorted(steps)}")

    def p(self, env: Env, targets: Arguments, given: Arguments) -> Any:
        """The decoder: p_w(x, z), and all that follows from it."""
        if self.is_chain(targets, given):
            return Chain(self, env, True, bool(given))
        i, known = self.places(targets, given)
        if not known:
            return self.model_marginal(i)
        if set(known) == {i + 1}:
            mean = self.mean(known[i + 1], i + 1)
            return Mixture((1.0, mean, self.v[i + 1]), dims=self.dims)
        raise Refused(f"p has no law of step {i} given {sorted(known)}")

    def prior(self, env: Env, targets: Arguments, given: Arguments) -> Any:
        """p without weights: the law of z_T, which is not learned."""
        if given or [a[:2] for a in targets] != [("z", self.T)]:
            raise Refused("p without w is the law of z_T only")
        return self.p(env, targets, given)

    def place(self, base: Any, i: Any) -> int:
        """The step of a variable: 0 for x."""
        if (base, i) == ("x", None):
            return 0
        if base == "z" and isinstance(i, int) and 0 <= i <= self.T:
            return i
        shown = base if i is None else f"{base}_{i}"
        raise Refused(f"{shown} has no place in this law")

    def places(
        self, targets: Arguments, given: Arguments
    ) -> tuple[int, dict[int, Any]]:
        """The step of the variable, and the values of those that are given."""
        [(base, i, _)] = targets
        known = {self.place(b, k): value for b, k, value in given}
        if len(known) != len(given) or self.place(base, i) in known:
            raise Refused("the same variable stands in this law twice")
        return self.place(base, i), known

    def is_chain(self, targets: Arguments, given: Arguments) -> bool:
        """Is this the joint law of z_1, ..., z_T, in full or as `z`?"""
        names = [(base, i) for base, i, _ in targets]
        latents = [name for name in names if name[0] == "z"]
        if len(names) == 1 and latents != [("z", None)]:
            return False
        if latents not in ([("z", None)], [("z", i) for i in range(1, self.T + 1)]):
            raise Refused(f"the chain is z_1, ..., z_{self.T}")
        others = [name for name in names if name not in latents]
        if others + [(base, i) for base, i, _ in given] != [("x", None)]:
            raise Refused("the chain has no x, or more than that")
        return True

    def law(self, mean: Any, width: Tensor) -> Mixture:
        return Mixture((1.0, mean, width.squeeze() ** 2), dims=self.dims)

    def step_width(self, t: int) -> Tensor:
        return self.package.q_step(ZERO, t, ONE, self.schedule)

    def jump_width(self, t: int) -> Tensor:
        return self.package.q_sample(ZERO, t, ONE, self.schedule)

    def marginal(self, t: int) -> Mixture:
        """q(z_t), of data that are a mixture of one dimension."""
        if self.dims > 1:
            raise Refused("the law of the data has one dimension")
        m = self.mixture.marginal(t, self.schedule)
        return Mixture(*zip(m.weights, m.means[:, 0], m.stds**2, strict=True))

    def reverse(self, t: int, z: Any) -> Mixture:
        """q(z_{t-1} | z_t), of the same data."""
        if self.dims > 1:
            raise Refused("the law of the data has one dimension")
        z = as_tensor(z)
        found = self.mixture.reverse(z.reshape(-1, 1), t, self.schedule)
        weights, means, variances = found
        return Mixture(
            *[
                (weights[:, k].reshape(z.shape), means[:, k, 0].reshape(z.shape), v)
                for k, v in enumerate(variances)
            ]
        )

    # ------------------------------------------------------------------ whole chains

    def forward_path(self, x: Any, noises: Sequence[Any]) -> list[Tensor]:
        """z_1, ..., z_T from x and the noises of the steps."""
        found = [as_tensor(x)]
        for t, noise in enumerate(noises, 1):
            found.append(self.step(t, found[-1], noise))
        return found[1:]

    def backward_path(self, noises: Sequence[Any]) -> list[Tensor]:
        """z_T, ..., z_1, x from the noises of the decoder."""
        found = [as_tensor(noises[0])]
        for t in range(self.T, 0, -1):
            spread = self.v[t].sqrt() * noises[self.T + 1 - t]
            found.append(self.mean(found[-1], t) + spread)
        return found

    @cached_property
    def forward_spread(self) -> Tensor:
        """How each noise moves each z, found with unit noises."""
        units = torch.eye(self.T, dtype=F64)
        return torch.stack([torch.stack(self.forward_path(0.0, u)) for u in units], 1)

    @cached_property
    def model(self) -> torch.distributions.MultivariateNormal:
        """The joint law of z_T, ..., z_1, x under the decoder."""
        units = torch.eye(self.T + 1, dtype=F64)
        middle = torch.stack(self.backward_path([0.0] * len(units)))
        moved = [torch.stack(self.backward_path([*u])) - middle for u in units]
        return torch.distributions.MultivariateNormal(
            middle, scale_tril=torch.stack(moved, 1)
        )

    def model_marginal(self, t: int) -> Mixture:
        place = self.T - t
        variance = self.model.covariance_matrix[place, place]
        return Mixture((1.0, self.model.mean[place], variance), dims=self.dims)

    # ------------------------------------------------------------------ the bound

    def divergence(self, p: Sequence[Any], q: Sequence[Any]) -> Tensor:
        """The package's, of two normal laws (mean, variance)."""
        (m, v), (n, u) = p, q
        return self.package.gaussian_kl(m, as_tensor(v).log(), n, as_tensor(u).log())

    def bound_by_terms(self, x: Any) -> Tensor:
        """The bound at x: a reconstruction and divergences, one z at a time."""
        x = as_tensor(x)
        env = Env({}, T=self.T, depth=x.ndim)
        kernels = {
            t: self.q(env, [("z", t, None)], [("x", None, x)])
            for t in range(1, self.T + 1)
        }
        total = -self.divergence(kernels[self.T].parts[0][1:], (ZERO[0, 0], ONE[0, 0]))
        for t, kernel in kernels.items():
            z, weights = kernel.nodes(x.ndim)
            back = self.p(env, [self.named(t - 1)], [("z", t, z)])
            if t == 1:
                total = total + (weights * back.log_prob(x)).sum(0)
                continue
            exact = self.q(env, [("z", t - 1, None)], [("x", None, x), ("z", t, z)])
            each = self.divergence(exact.parts[0][1:], back.parts[0][1:])
            total = total - (weights * each).sum(0)
        return total

    def bound_by_definition(self, x: Any) -> Tensor:
        """The same number, as the average of ln p_w(x, z) - ln q(z | x)."""
        start = Env(self.common(), T=self.T, bound={("x", None): as_tensor(x)})
        inner, weights = Chain(self, start, False).nodes(start)
        q, p = Chain(self, inner, False), Chain(self, inner, True)
        return (weights * (p.log_prob(None) - q.log_prob(None))).sum()

    @staticmethod
    def named(t: int) -> tuple[str, int | None, None]:
        return ("z", t, None) if t else ("x", None, None)

    # ------------------------------------------------------------------ averages

    def expect(
        self, env: Env, law: list[Tree], body: Tree, given: list[Tree]
    ) -> Tensor:
        """E: the printed law or condition says which variables are random."""
        if given:
            return self.expect_given(env, body, given)
        if not law:
            return self.expect_all(env, body)
        if len(law) > 1:
            raise Refused("an average is over one law")
        tree = law[0]
        if isinstance(tree, Symbol):
            if env.key(tree) != ("q", None):
                raise Refused(f"{tree.base} is no law to average under")
            return self.expect_chain(env, body)
        found, _ = env.law(tree)
        if isinstance(found, Chain):
            if found.is_model:
                raise Refused("the average is under q, not under p")
            return self.expect_chain(env, body)
        target = tree.parts[1][0][-1]
        if not isinstance(target, Symbol):
            raise Refused("an average is over a variable")
        values, weights = found.nodes(env.depth)
        return env.averaged(weights, {env.key(target): values}, body)

    def expect_chain(self, env: Env, body: Tree) -> Tensor:
        """Under q(z | x): all z, one after the other."""
        inner, weights = Chain(self, env, False).nodes(env)
        return env.chain_mean(weights * inner.value(body))

    def expect_given(self, env: Env, body: Tree, given: list[Tree]) -> Tensor:
        """Given z_t: of z_{t-1} and the noise between by the exact step back, of x and
        the total noise by the law of x."""
        if len(given) != 1 or not isinstance(given[0], Symbol):
            raise Refused("an average is given one z_t")
        t, z = self.place(*env.key(given[0])), env.value(given[0])
        if not bases(body) & {"x", "\\epsilon"}:
            before, weights = self.reverse(t, z).nodes(env.depth)
            keep, add = self.step(t, 1.0, 0.0), self.step(t, 0.0, 1.0)
            noise = (z - keep * before) / add
            bound: dict[Key, Any] = {("z", t - 1): before, ("\\xi", t): noise}
            return env.averaged(weights, bound, body)
        x = GRID.reshape(-1, *[1] * env.depth)
        kernel = self.q(env, [("z", t, None)], [("x", None, x)])
        weights = (self.marginal(0).log_prob(x) + kernel.log_prob(z)).exp()
        noise = self.run("noise_from_x", t, z, x)
        bound = {("x", None): x, ("\\epsilon", None): noise}
        return env.averaged(weights / weights.sum(0), bound, body)

    def expect_all(self, env: Env, body: Tree) -> Tensor:
        """Over the data and the noise, at the present step."""
        if env.t is None:
            raise Refused("an average over z_t needs a t")
        if not bases(body) & {"x", "\\epsilon"}:
            values, weights = self.marginal(env.t).nodes(env.depth)
            return env.averaged(weights, {("z", env.t): values}, body)
        x, share = self.marginal(0).nodes(env.depth)
        noise, part = STANDARD.nodes(env.depth + 1)
        z = self.jump(env.t, x, noise)
        names = {("x", None): x, ("\\epsilon", None): noise, ("z", env.t): z}
        return env.chain_mean(share * part * env.bind(names, axes=2).value(body))

    def law_of_noise(self, env: Env, tree: Tree) -> Callable[[Tensor], Tensor]:
        """What stands left of `\\sim`: the two noises are standard normal."""
        if isinstance(tree, Symbol):
            base, i = env.key(tree)
            if base in {"\\xi", "\\epsilon"} and i in {None, env.t}:
                return Mixture((1.0, 0.0, 1.0), dims=self.dims).log_prob
        raise Refused("nobody says what law this has")

    # ------------------------------------------------------------------ the symbols

    def common(self) -> Symbols:
        """What the letters mean in all chapters."""
        T, s = self.T, self.schedule
        every = range(1, T + 1)
        noise_at = lambda i: self.noise(i) if i in every else None  # noqa: E731
        return {
            "\\beta": [None, *s.beta[1:]],
            "\\bar\\alpha": list(s.alpha_bar),
            "\\tilde\\beta": [None, *s.beta_tilde[1:]],
            "SNR": [None, *s.snr[1:]],
            "\\sigma": [None, *s.sigma[1:]],
            "\\phi": [None, *s.angle[1:]],
            "\\ell": [None, *s.half_log_snr[1:]],
            "v": [None, *self.v[1:]],
            "\\pi": math.pi,
            "x": self.x,
            "z": Letter(
                lambda env: entry_of(self.z, env.t), lambda env, i: entry_of(self.z, i)
            ),
            "\\xi": Letter(lambda env: entry_of(self.xi, env.t), self.xi),
            "\\epsilon": Letter(
                lambda env: noise_at(env.t), lambda env, i: noise_at(i)
            ),
            "q": Density(self.q),
            "p": Density(self.prior),
            "p_w": Density(self.p),
            "s": [None, *[partial(self.score, t) for t in every]],
            "m": [None, *[partial(self.posterior_mean, t) for t in every]],
            "g": self.guess,
            "\\mu_w": self.mean,
            "\\mathcalL_w": self.bound_by_terms,
            "Uniform": Density(lambda env, targets, _: uniform(targets)),
            "E": self.expect,
            "KL": self.divergence,
            "\\sim": self.law_of_noise,
        }


def uniform(targets: Arguments) -> list[int]:
    """`\\{1, \\dots, T\\}`: the steps themselves."""
    return [int(value) for _, _, value in targets]


class Chain:
    """The joint law of z_1, ..., z_T given x under q, of all of them with x under the
    decoder, or of all of them given x under the decoder.

    Both chains are normal. Mean and spread are read off with unit noises, so that the
    density is that of torch.distributions and no product of steps.
    """

    def __init__(
        self, world: World, env: Env, is_model: bool, is_posterior: bool = False
    ) -> None:
        self.world, self.env = world, env
        self.is_model, self.is_posterior = is_model, is_posterior

    def at(self, env: Env) -> Chain:
        """The same law where other variables are bound."""
        return Chain(self.world, env, self.is_model, self.is_posterior)

    @property
    def x(self) -> Tensor:
        return self.env.bound.get(("x", None), self.world.x)

    def log_prob(self, _: Any) -> Tensor:
        """The log density at the values that the variables have where it is asked."""
        bound, world = self.env.bound, self.world
        latents = [bound.get(("z", i), world.z[i]) for i in range(1, world.T + 1)]
        if self.is_model:
            values = torch.broadcast_tensors(*latents[::-1], self.x)
            joint = world.model.log_prob(torch.stack(values, -1))
            return joint - self.marginal() if self.is_posterior else joint
        middle = world.forward_path(self.x, [0.0] * world.T)
        values = torch.broadcast_tensors(*latents, *middle)
        z, mean = torch.stack(values, -1).chunk(2, -1)
        law = torch.distributions.MultivariateNormal(
            torch.zeros(world.T, dtype=F64), scale_tril=world.forward_spread
        )
        return law.log_prob(z - mean)

    def marginal(self) -> Tensor:
        return self.world.model_marginal(0).log_prob(self.x)

    def nodes(self, env: Env) -> tuple[Env, Tensor]:
        """All z of q bound to nodes, each given the one before, and the weights."""
        weight, before, world = as_tensor(1.0), self.x, self.world
        for t in range(1, world.T + 1):
            law = world.q(env, [("z", t, None)], [(*world.named(t - 1)[:2], before)])
            before, share = law.nodes(env.depth)
            env, weight = env.bind({("z", t): before}, axes=1), weight * share
        return env, weight


# ---------------------------------------------------------------------- three facts


@symbols("eq-normal", dims=3)
def normal(w: World) -> Symbols:
    return {"\\mu": w.randn(), "\\sigma": w.width()}


@symbols("eq-reparameterize", dims=3)
def reparameterized(w: World) -> Symbols:
    """The law of x is that of torch's own change of variables."""
    mean, width, noise = w.randn(), w.width(), w.randn()
    change = torch.distributions.AffineTransform(mean, width)
    start = torch.distributions.Normal(0 * mean, 1.0)
    law = torch.distributions.TransformedDistribution(start, [change])

    def law_of(_: Env, tree: Tree) -> Callable[[Tensor], Tensor]:
        if tree != Symbol("x"):
            raise Refused("nobody says what law this has")
        return lambda places: law.log_prob(places).sum(-1)

    named = {"\\mu": mean, "\\sigma": width, "\\epsilon": noise}
    return {**named, "x": change(noise), "\\sim": law_of}


@symbols("eq-sum")
def convolved(w: World) -> Symbols:
    """The density of a u + b v by quadrature; a and b are read off the page."""
    means, widths = [w.randn(), w.randn()], [w.width(), w.width()]
    line = torch.linspace(-14, 14, 3001, dtype=F64)[:, None]

    def law_of(env: Env, tree: Tree) -> Callable[[Tensor], Tensor]:
        weights = []
        for pair in ((1.0, 0.0), (0.0, 1.0), (3.0, 2.0)):
            values = {("u", None): as_tensor(pair[0]), ("v", None): as_tensor(pair[1])}
            weights.append(env.bind(values).value(tree))
        if distance(weights.pop(), 3 * weights[0] + 2 * weights[1]) > 1e-12:
            raise Refused("the law of a sum is known, and of nothing else")
        first, second = (
            Mixture((1.0, a * mean, (a * width) ** 2))
            for a, mean, width in zip(weights, means, widths, strict=True)
        )

        def density(places: Tensor) -> Tensor:
            both = first.log_prob(line) + second.log_prob(places.reshape(1, -1) - line)
            return torch.trapezoid(both.exp(), line[:, 0], dim=0).log()

        return density

    return {"\\mu": [None, *means], "\\sigma": [None, *widths], "\\sim": law_of}


# ---------------------------------------------------------------------- schedules


def table_of(name: str) -> Callable[[World], Symbols]:
    def table(w: World) -> Symbols:
        start, end = 0.05, 0.5
        betas = getattr(w.package, name)(w.T, start=start, end=end)
        named = {"a": start, "b": end, "sigmoid": torch.sigmoid}
        return {"\\beta": [None, *betas], **named}

    return table


for _name in ("linear", "quadratic", "sigmoid"):
    symbols(f"eq-{_name}", T=7)(table_of(f"{_name}_betas"))


@symbols("eq-cosine", T=7, defined="f")
def cosine(w: World) -> Symbols:
    """f is what the page says; with a ceiling of 1 the product of the steps is its
    ratio at every t."""
    free = w.package.cosine_betas(7, s=0.05, max_beta=1.0)
    alpha_bar = torch.cat([ONE[0], torch.cumprod(1 - free, 0)])
    beta = w.package.cosine_betas(7, s=0.05, max_beta=0.7)
    tables = {"\\beta": [None, *beta], "\\bar\\alpha": list(alpha_bar)}
    return {**tables, "\\beta_\\max": 0.7, "s": 0.05}


@symbols("eq-variance-recursion")
@symbols("eq-variance-decay")
def variances(w: World) -> Symbols:
    """Var(z_t) by what the package's step does to unit inputs."""
    found = [as_tensor(0.3)]
    for t in range(1, w.T + 1):
        keep, add = (w.step(t, *pair) ** 2 for pair in ((1.0, 0.0), (0.0, 1.0)))
        found.append(keep * found[-1] + add)

    def variance(_: Env, targets: Arguments) -> Tensor:
        [(base, i, _)] = targets
        return found[w.place(base, i)]

    return {"Var": Named(variance)}


# ---------------------------------------------------------------------- the kernel


@symbols("eq-jump")
def jumped(w: World) -> Symbols:
    """Each z_t by a jump of its own, with a noise of its own."""
    noises = [w.randn() for _ in range(w.T + 1)]
    z = [w.x, *[w.jump(t, w.x, noises[t]) for t in range(1, w.T + 1)]]
    alone = lambda env: noises[env.t or 1]  # noqa: E731
    return {"\\epsilon": Letter(alone), "z": z}


@symbols("eq-xi-eps")
def correlated(w: World) -> Symbols:
    def correlation(_: Env, targets: Arguments) -> Tensor:
        """How far a unit xi_s alone moves epsilon_t; both have variance 1."""
        (first, t, _), (second, s, _) = targets
        if (first, second) != ("\\epsilon", "\\xi"):
            raise Refused("this correlation is of epsilon and xi")
        z = as_tensor(0.0)
        for k in range(1, t + 1):
            z = w.step(k, z, float(k == s))
        return w.run("noise_from_x", t, z, 0.0)

    return {"corr": Named(correlation)}


# ---------------------------------------------------------------------- the posterior


@symbols("eq-product", is_real=True)
def product_of_bells(w: World) -> Symbols:
    """Mean and variance of the product by quadrature."""
    a, b, A, B = w.randn(), w.randn(), w.width(), w.width()
    line = torch.linspace(-14, 14, 8001, dtype=F64)
    both = Mixture((1.0, a, A)).log_prob(line) + Mixture((1.0, b, B)).log_prob(line)
    share = both.exp() / both.exp().sum()
    c = (share * line).sum()
    named = {"a": a, "b": b, "A": A, "B": B, "c": c}
    places = torch.linspace(-2, 2, 7, dtype=F64)
    return {**named, "C": (share * (line - c) ** 2).sum(), "y": places}


# ---------------------------------------------------------------------- the mixture


def parts(w: World) -> Symbols:
    m = w.mixture

    def share(k: int, z: Any) -> Tensor:
        """Of part k at z_t."""
        joint = m.marginal(w.t, w.schedule).log_joint
        return flat(lambda a: joint(a).softmax(1)[:, k : k + 1], z)

    shares = [partial(share, k) for k in range(2)]
    tables = {"\\pi": list(m.weights), "\\mu": list(m.means[:, 0])}
    return {**tables, "v": list(m.stds**2), "r": shares}


BOTH = {"k": range(2)}
symbols("eq-mixture", ranges=BOTH)(parts)
symbols("eq-mixture-marginal", ranges=BOTH)(parts)
symbols("eq-mixture-score", ranges=BOTH)(parts)


@symbols("eq-reverse-mixture", ranges=BOTH, every="k")
def reversed_parts(w: World) -> Symbols:
    rho, c, C = w.mixture.reverse(w.z[w.t].reshape(1, 1), w.t, w.schedule)
    m = w.mixture.marginal(w.t - 1, w.schedule)
    tables = {"\\rho": rho[0], "c": c[0, :, 0], "C": C, "m": m.means[:, 0]}
    tables |= {"u": m.stds**2, "\\pi": m.weights}
    return {name: list(table) for name, table in tables.items()}


@symbols("eq-tweedie-variance", is_matrix=True, tolerance=1e-9)
def covariance(w: World) -> Symbols:
    def spread(env: Env, targets: Arguments, given: Arguments) -> Tensor:
        values, weights = w.q(env, targets, given).nodes(env.depth)
        mean = (weights * values).sum(0)
        return (weights * (values - mean) ** 2).sum(0)

    return {"Cov": Named(spread)}


@symbols("eq-decoder", variance=("beta", "beta_tilde"))
def decoder(w: World) -> Symbols:
    """The law of what the package's sampler draws, read off with unit noises.

    Its last step adds no noise; there the variance is that of elbo_terms.
    """
    v = w.v.clone()
    v[1] = v[2] if w.variance == "beta_tilde" else v[1]
    predict = lambda z, t: w.package.Prediction(  # noqa: E731
        x=w.run("x_from_noise", t, z, w.guess(z, t)), noise=w.guess(z, t)
    )

    def drawn(z: Any, t: int, noise: Tensor) -> Tensor:
        draw = lambda batch: w.package.ddpm(  # noqa: E731
            predict, batch, t, t - 1, w.schedule, lambda: noise, [], variance=w.variance
        )
        return flat(draw, z)

    def p(_: Env, targets: Arguments, given: Arguments) -> Mixture:
        i, known = w.places(targets, given)
        if set(known) != {i + 1}:
            raise Refused(f"the sampler draws step {i} given step {i + 1}")
        mean = drawn(known[i + 1], i + 1, ZERO)
        width = drawn(known[i + 1], i + 1, ONE) - mean
        return Mixture((1.0, mean, width**2 if i else v[1]))

    return {"p_w": Density(p), "v": list(v)}


@symbols("eq-chain-gap", tolerance=1e-5, ranges={"t": range(1, 4)})
def chain_gap(w: World) -> Symbols:
    def moments(
        env: Env, targets: Arguments, given: Arguments
    ) -> tuple[Tensor, Tensor]:
        values, weights = w.q(env, targets, given).nodes(env.depth)
        mean = (weights * values).sum(0)
        return mean, (weights * (values - mean) ** 2).sum(0)

    def entropy(env: Env, targets: Arguments, given: Arguments) -> Tensor:
        [(base, i, _)] = given
        z, share = w.marginal(w.place(base, i)).nodes(env.depth)
        law = w.q(env, targets, [(base, i, z)])
        values, weights = law.nodes(env.depth + 1)
        return -(share * (weights * law.log_prob(values)).sum(0)).sum(0)

    def p(env: Env, targets: Arguments, given: Arguments) -> Mixture:
        """The normal law with the exact mean and the variance v_t."""
        [(base, i, _)] = given
        return Mixture((1.0, moments(env, targets, given)[0], w.v[w.place(base, i)]))

    variance = Named(lambda *printed: moments(*printed)[1])
    return {"Var": variance, "H": Named(entropy), "p": Density(p)}


@symbols("eq-kl")
def two_laws(w: World) -> list[Symbols]:
    """Of two different laws, and of one and the same."""
    first, other = (Mixture((1.0, w.randn(), w.width())) for _ in range(2))

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if law != [Symbol("q")] or given:
            raise Refused("this average is under q")
        values, weights = first.nodes(env.depth)
        return env.averaged(weights, {("y", None): values}, body)

    def named(law: Mixture) -> Letter:
        return Letter(lambda env: law, call=Density(lambda env, *_: law))

    common = {"q": named(first), "E": expect}
    return [
        {**common, "p": named(other), "is tight": False},
        {**common, "p": named(first), "is tight": True},
    ]


# ---------------------------------------------------------------------- the bound


@symbols("eq-jensen")
def jensen(w: World) -> list[Symbols]:
    """A random number with nine values; and with one, where both sides are equal."""

    def over(values: Tensor, weights: Tensor) -> Callable[..., Tensor]:
        def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
            if law or given:
                raise Refused("this average is of r alone")
            return env.averaged(weights, {("r", None): values}, body)

        return expect

    values, weights = 0.2 + w.rand(9), torch.softmax(w.rand(9), 0)
    single = over(values[:1], torch.ones(1, dtype=F64))
    return [
        {"E": over(values, weights), "is tight": False},
        {"E": single, "is tight": True},
    ]


@symbols("eq-three-terms", tolerance=1e-9)
def three_terms(w: World) -> Symbols:
    return {"\\mathcalL_w": w.bound_by_definition}


@symbols("eq-gaussian-kl", dims=3)
def two_normals(w: World) -> Symbols:
    return {"m": [None, w.randn(), w.randn()], "v": list(0.5 + w.rand(3))}


@symbols("eq-kl-means", first=2, dims=3)
def ratios(w: World) -> Symbols:
    return {"r": list(w.schedule.beta_tilde / w.v)}


@symbols("eq-best-variance", first=2, tolerance=1e-6, copies=3)
def best_variance(w: World) -> Symbols:
    """Where the slope of the average divergence by the variance is zero."""
    x, share = w.marginal(0).nodes(0)
    noise, part = STANDARD.nodes(1)
    z = w.jump(w.t, x, noise)
    exact = w.posterior_mean(w.t, x, z), w.schedule.beta_tilde[w.t]
    mean = w.mean(z, w.t)
    low, high = as_tensor(1e-4), as_tensor(50.0)
    for _ in range(80):
        v = ((low + high) / 2).requires_grad_()
        with torch.enable_grad():
            average = (share * part * w.divergence(exact, (mean, v))).sum()
            [slope] = torch.autograd.grad(average, v)
        low, high = (v.detach(), high) if slope < 0 else (low, v.detach())
    return {"v\\star": {w.t: low}}


@symbols("eq-bits")
def bits(w: World) -> Symbols:
    bound = w.randn()
    found = w.package.bits_per_dim(bound, 12, 16)
    return {"\\mathcalL": bound, "b": found, "D": 12.0, "\\Delta": 2 / 15}


# ---------------------------------------------------------------------- the noise


@symbols("eq-x-from-noise")
@symbols("eq-v")
def views(w: World) -> Symbols:
    """Left of each sign stands what one function of the package makes of the rest."""
    z, noise, t = w.z[w.t], w.noise(w.t), w.t
    named = {"\\nu": w.run("v_from_x", t, w.x, noise)}
    named["x"] = w.run("x_from_noise", t, z, noise)
    return {**named, "\\epsilon": w.run("noise_from_x", t, z, w.x)}


@symbols("eq-mean-from-noise")
def means(w: World) -> Symbols:
    rest = [w.posterior_mean(t, w.x, w.z[t]) for t in range(1, w.T + 1)]
    return {"m": [None, *rest]}


@symbols("eq-kl-weight", first=2, dims=3, variance=("beta", "beta_tilde"))
def weighted(w: World) -> Symbols:
    """The constant is what remains where the guess is perfect."""
    s, table = w.schedule, list[Any]([None])
    table += [w.package.kl_weight(t, s, w.variance) for t in range(1, w.T + 1)]
    zero = as_tensor(0.0)
    rest = w.divergence((zero, s.beta_tilde[w.t]), (zero, w.v[w.t]))
    return {"\\lambda": table, "const": 3 * rest}


@symbols("eq-first-step", variance=("beta",))
def first_step(w: World) -> Symbols:
    return {"\\epsilon": w.noise(1)}


@symbols("eq-snr-weight", first=2, dims=3, variance=("beta_tilde",))
def signal_gained(w: World) -> Symbols:
    guess, s = w.randn(), w.schedule
    rest = [w.package.kl_weight(t, s, w.variance) for t in range(2, w.T + 1)]
    found = w.run("x_from_noise", w.t, w.z[w.t], guess)
    return {"g": guess, "\\lambda": [None, None, *rest], "\\hatx": found}


@symbols("eq-simple-loss", dims=1, steps=(1, 2, 3), tolerance=1e-9)
def simple_loss(w: World) -> Symbols:
    """The average runs over one batch: every step with five pictures and noises."""
    x, noise = (torch.randn(5, generator=w.source, dtype=F64) for _ in range(2))
    steps = torch.arange(1, w.T + 1).repeat_interleave(5)
    model = w.package.Denoiser(lambda z, t: w.guesses(z, t), w.schedule)
    batch = (x.repeat(w.T)[:, None], steps, noise.repeat(w.T)[:, None])
    loss = model.loss(*batch).mean()

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if {tree.base for tree in law if isinstance(tree, Symbol)} != {
            "t",
            "x",
            "\\epsilon",
        }:
            raise Refused("this average is over t, x and epsilon")
        bound = {("x", None): x, ("\\epsilon", None): noise}
        inner = env.bind(bound, axes=1)
        values = [replace(inner, t=t).value(body).mean() for t in range(1, w.T + 1)]
        return torch.stack(values).mean()

    def printed(_: Env, targets: Arguments) -> Tensor:
        if [a[:2] for a in targets] != [("w", None)]:
            raise Refused("the loss is a function of w")
        return loss

    return {"L": Named(printed), "w": w.randn(), "E": expect}


@symbols("eq-floor", tolerance=1e-6, copies=3)
def floor(w: World) -> Symbols:
    return {"best g": lambda z, t: w.best_noise(int(t), z)}


@symbols("eq-levels")
def level(w: World) -> Symbols:
    levels, x = 9, as_tensor(0.5)
    mean, v = 0.3 * w.randn(), 0.02 + 0.1 * w.rand(3)
    found = w.package.level_log_prob(x, mean, v[1], levels).exp()

    def probability(_: Env, targets: Arguments, given: Arguments) -> Tensor:
        if [a[:2] for a in targets + given] != [("x", None), ("z", 1)]:
            raise Refused("this probability is of x given z_1")
        return found

    named = {"x": x, "\\mu": mean, "v": list(v), "\\Delta": 2 / (levels - 1)}
    return {**named, "P": Named(probability), "\\Phi": torch.special.ndtr}


# ---------------------------------------------------------------------- the network


@symbols("eq-time-embedding", tolerance=1e-5, ranges={"i": range(6)}, every="i")
def embedded(w: World) -> Symbols:
    """The rates are the angles of the embedding of t = 1."""
    embed = lambda t: w.package.time_embedding(torch.tensor([int(t)]), 12)[0]  # noqa: E731
    sines, cosines = embed(1).double().chunk(2)
    rates = list(torch.atan2(sines, cosines))
    return {"h": 6.0, "\\omega": rates, "e": lambda t: embed(t).double()}


@symbols("eq-time-shift", tolerance=1e-5)
def shifted(w: World) -> Symbols:
    embed = lambda t: w.package.time_embedding(torch.tensor([int(t)]), 12)[0]  # noqa: E731
    rates = list(10000.0 ** (-torch.arange(6, dtype=F64) / 5))
    return {"h": 6.0, "\\omega": rates, "k": 4.0, "e": lambda t: embed(t).double()}


@symbols("eq-residual", tolerance=1e-6)
def residual(w: World) -> Symbols:
    block = w.package.ResidualBlock(4, 6, 8, 2, 0.0).double().eval()
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=w.source)
    h = torch.randn(1, 4, 3, 3, generator=w.source, dtype=F64)
    e = torch.randn(1, 8, generator=w.source, dtype=F64)
    names = ("conv_1", "conv_2", "norm_1", "norm_2")
    layers = {name: getattr(block, name.replace("_", "")) for name in names}
    maps = {
        "S": Layer(block.shortcut),
        "W": Layer(lambda a: block.time(a)[..., None, None]),
        "\\phi": torch.nn.functional.silu,
    }
    return {"h": h, "e": e, "after": ("h", block(h, e)), **maps, **layers}


@symbols("eq-group-norm", tolerance=1e-5)
def group_norm(w: World) -> Symbols:
    layer = w.package.ResidualBlock(4, 4, 8, 1, 0.0).norm1
    gain, shift = torch.randn(2, 4, 1, 1, generator=w.source)
    layer.weight.data[:], layer.bias.data[:] = gain.flatten(), shift.flatten()
    h = 0.01 * torch.randn(1, 4, 2, 2, generator=w.source)
    named = {"h": h.double(), "\\gamma": gain.double(), "b": shift.double()}
    moments = {"mean_g": torch.mean, "var_g": lambda a: a.var(unbiased=False)}
    return {**named, **moments, "norm": lambda a: layer(a.float()).double()}


@symbols("eq-attention", dims=5, ranges={"i": range(4), "j": range(4)}, every="i")
def attention(w: World) -> Symbols:
    q, k, u = torch.randn(3, 4, 5, generator=w.source, dtype=F64)

    def softmax(env: Env, tree: Tree) -> Tensor:
        logits = torch.stack([each.value(tree) for each in env.each("j", None, None)])
        return torch.softmax(logits, 0)[env.index["j"]]

    found = list(w.package.plain_attention(q, k, u))
    rows = {"q": list(q), "k": list(k), "u": list(u), "a": found}
    return {**rows, "d": 5.0, "softmax_j": Unevaluated(softmax)}


def softmax_over_j(count: int) -> Unevaluated:
    """The share of this j among all that i asks."""

    def softmax(env: Env, tree: Tree) -> Tensor:
        logits = torch.stack([each.value(tree) for each in env.each("j", None, None)])
        assert len(logits) == count
        return torch.softmax(logits, 0)[env.index["j"]]

    return Unevaluated(softmax)


@symbols("eq-cross-attention", dims=8, ranges={"i": range(4), "j": range(3)}, every="i")
def attention_to_words(w: World) -> Symbols:
    layer = w.package.CrossAttention(8, 6, 1).double()
    layer.out.weight.data = torch.eye(8, dtype=F64)
    h, y = 2 * w.rand(1, 4, 8) - 1, 2 * w.rand(1, 3, 6) - 1
    q, k, v = (
        list(f(x)[0].detach())
        for f, x in zip((layer.q, layer.k, layer.v), (h, y, y), strict=True)
    )
    rows = {"q": q, "k": k, "v": v, "a": list(layer(h, y)[0].detach())}
    return {**rows, "d": 8.0, "softmax_j": softmax_over_j(3)}


@symbols("eq-snr-shift")
def snr_of_wider_data(w: World) -> Symbols:
    """The variances of signal and noise in z_t, for data of the deviation s."""
    s, a = w.width(), w.schedule.alpha_bar
    return {"s": s, "SNR'": [None, *(s**2 * a[1:] / (1 - a[1:]))]}


@symbols("eq-arrows", dims=3, ranges={"i": range(4), "j": range(4)}, every="i")
def sums_of_arrows(w: World) -> Symbols:
    """By the slope of a potential: of 2 sin r it is a weight of 2 cos r / r."""
    z, none = 2 * w.rand(4, 3) - 1, torch.eye(4, dtype=F64)
    with torch.enable_grad():
        z.requires_grad_()
        apart = (z[:, None] - z + none[..., None]).norm(dim=2)
        (slope,) = torch.autograd.grad(-(apart.sin() * (1 - none)).sum(), z)
    weight = lambda r: 2 * torch.where(r > 0, r.cos() / r.clamp(min=1e-9), 0)  # noqa: E731
    return {"z": list(z.detach()), "w": weight, "a": list(slope)}


@symbols("eq-relative", dims=5, ranges={"i": range(4), "j": range(4)}, every="i")
def attention_by_distance(w: World) -> Symbols:
    layer = w.package.RelativeAttention(w.package.T5Config(9, 5, 5, 8, 1, 1)).double()
    x, b = 2 * w.rand(1, 4, 5) - 1, dict(enumerate(2 * w.rand(7) - 1, -3))
    rows = [[b[j - i] for j in range(4)] for i in range(4)]
    added = torch.stack([torch.stack(row) for row in rows])[None, None]
    layer.out.weight.data = torch.eye(5, dtype=F64)
    q, k, v = (list(part(x)[0].detach()) for part in layer.parts)
    table = {"b": b, "a": list(layer(x, added)[0].detach())}
    return {"q": q, "k": k, "v": v, **table, "softmax_j": softmax_over_j(4)}


@symbols("eq-joint", dims=8, ranges={"i": range(4), "j": range(7)}, every="i")
def attention_to_both(w: World) -> Symbols:
    config = w.package.AdmUNetConfig(base_channels=8, context_channels=6)
    layer = w.package.JointAttention(8, 1, config).double()
    layer.out.weight.data = torch.eye(8, dtype=F64)
    h, words = (2 * w.rand(1, 8, 2, 2) - 1), (2 * w.rand(1, 3, 6) - 1)
    pixels = layer.norm(h).flatten(2).transpose(1, 2)[0]
    q, k, v = layer.qkv(pixels).detach().chunk(3, 1)
    k = torch.cat([k, layer.text_k(words[0])]).detach()
    v = torch.cat([v, layer.text_v(words[0])]).detach()
    found = (layer(h, w.package.Heard(h, words)) - h).flatten(2)[0].T.detach()
    rows = {"q": list(q), "k": list(k), "v": list(v), "a": list(found)}
    return {**rows, "d": 8.0, "softmax_j": softmax_over_j(7)}


@symbols("eq-infonce", dims=4, ranges={"i": range(5), "j": range(5)})
def who_belongs_to_whom(w: World) -> Symbols:
    u, v = torch.nn.functional.normalize((2 * w.rand(2, 5, 4) - 1), dim=2)
    tau = 0.2 + w.rand(1).squeeze()
    found = w.package.info_nce(u, v, tau)
    return {"u": list(u), "v": list(v), "\\tau": tau, "N": 5.0, "L": found}


# ---------------------------------------------------------------------- training


def averager(w: World, start: Tensor, new: Tensor, updates: int) -> Tensor:
    """What one update makes of an average, after so many others."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    model.weight.data.fill_(float(start))
    ema = w.package.EMA(model, 0.35)
    ema.updates = updates
    model.weight.data.fill_(float(new))
    ema.update(model)
    return ema.model.weight.detach().squeeze()


@symbols("eq-scale", tolerance=2e-5)
def scaled(w: World) -> Symbols:
    pixels = torch.randint(0, 256, (5,), generator=w.source, dtype=torch.uint8)
    return {"p": pixels.double(), "x": w.package.to_model_range(pixels).double()}


@symbols("eq-ema")
def averaged_weights(w: World) -> Symbols:
    old, new = w.randn(), w.randn()
    after = averager(w, old, new, 100)
    return {"\\barw": old, "w": new, "d": 0.35, "after": ("\\barw", after)}


@symbols("eq-ema-warmup", steps=(0, 3, 6, 9))
def warmed_up(w: World) -> Symbols:
    found = averager(w, ONE, ZERO, w.t)
    return {"n": float(w.t), "d": Letter(lambda env: 0.35, {w.t: found})}


@symbols("eq-learning-rate", steps=(0, 2, 4, 6, 8, 9))
def rates(w: World) -> Symbols:
    optim = w.package.Optim(
        train_steps=10, warmup_steps=4, flat_fraction=0.5, learning_rate=0.3
    )
    found = {w.t: w.package.learning_rate(w.t, optim)}
    named = {"n": float(w.t), "N": 10.0, "n_warm": 4.0}
    rate = Letter(lambda env: 0.3, found)
    return {**named, "n_flat": 5.0, "\\eta": rate}


@symbols("eq-parts", gradient_by=("w", None))
def in_parts(w: World) -> Symbols:
    """The loss of each example of a batch, as a function of the one weight."""
    x, noise = (torch.randn(6, 1, generator=w.source, dtype=F64) for _ in range(2))
    steps = torch.randint(1, w.T + 1, (6,), generator=w.source)

    def loss(env: Env, i: Any) -> Tensor | None:
        weight = env.bound.get(("w", None), env.symbols["w"])
        model = w.package.Denoiser(lambda z, t: weight * z, w.schedule)
        losses = model.loss(x, steps, noise)
        return losses[i - 1] if isinstance(i, int) and 1 <= i <= 6 else None

    return {"w": w.randn(), "e": Letter(entries=loss), "K": 2.0, "m": 3.0}


@symbols("eq-excess", tolerance=1e-7)
def excess(w: World) -> Symbols:
    """The floor is the variance of the noise less that of the best guess."""
    z, share = w.marginal(w.t).nodes(0)
    least = 1 - (share * w.best_noise(w.t, z) ** 2).sum()
    alone = lambda env: w.guess(env.bound["z", env.t], env.t)  # noqa: E731
    return {"floor": {w.t: w.copies * least}, "g": Letter(alone, call=w.guess)}


# ---------------------------------------------------------------------- sampling


@symbols("eq-respace", T=7)
def respaced(w: World) -> Symbols:
    s = w.t // 2
    beta = w.package.jump(w.t, s, w.schedule)[2]
    return {"\\beta'": beta, "s": float(s)}


@symbols("eq-sampler-variance")
def sampled_variance(w: World) -> Symbols:
    """Of z_{t-1} after a step with the exact noise of standard normal data."""
    unit = w.package.GaussianMixture([1.0], [0.0], [1.0])
    found = {w.T: as_tensor(1.7)}
    for t in range(w.T, 0, -1):
        ends = []
        for z in (ZERO, ONE):
            noise = unit.noise(z, t, w.schedule)
            ends.append(w.package.mean_from_noise(z, noise, t, w.schedule).squeeze())
        found[t - 1] = (ends[1] - ends[0]) ** 2 * found[t] + w.schedule.beta[t]

    def variance(_: Env, targets: Arguments) -> Tensor:
        [(base, i, _)] = targets
        return found[w.place(base, i)]

    return {"Var": Named(variance)}


@symbols("eq-frechet", dims=1, tolerance=1e-8)
def frechet(w: World) -> Symbols:
    """With one feature a matrix is a number, and its trace the number itself."""
    a, b = w.rand(40, 1), 3 * w.rand(40, 1)
    squared = w.package.frechet_distance(a.numpy(), b.numpy())
    spreads = [as_tensor(float(np.cov(each.T.numpy()))) for each in (a, b)]
    tables = {"m": [None, a.mean(), b.mean()], "C": [None, *spreads]}
    return {**tables, "d": math.sqrt(squared), "tr": lambda c: c}


# ---------------------------------------------------------------------- segmentation


@symbols("eq-shape-posterior", dims=4, ranges={"k": range(3), "j": range(3)}, every="k")
def shares_of_shapes(w: World) -> Symbols:
    """The shares by Bayes' rule, with densities of torch."""
    u, sigma, clean = w.randn(), w.width(), [w.randn() for _ in range(3)]
    law = torch.distributions.Normal(torch.stack(clean), sigma)
    joint = law.log_prob(u).sum(1).exp()
    shares = list(joint / joint.sum())
    return {"u": u, "\\sigma": sigma, "c": clean, "\\pi": shares}


def given_z(w: World, value: Tensor) -> Callable[..., Tensor]:
    """The mean of m given z_t is `value`."""

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        known = [env.key(tree) for tree in given if isinstance(tree, Symbol)]
        if law or body != Symbol("m") or known != [("z", w.t)]:
            raise Refused("this average is of m given z_t")
        return value

    return expect


@symbols("eq-mask")
def mean_of_pixel(w: World) -> Symbols:
    p = w.rand(1).squeeze()
    found = flat(lambda z: w.package.mask_mean(z, p, w.t, w.schedule), w.z[w.t])
    return {"p": p, "E": given_z(w, found)}


@symbols("eq-whole-mask", dims=3, ranges={"k": range(4)})
def mean_of_mask(w: World) -> Symbols:
    masks = torch.randint(0, 2, (4, 3), generator=w.source).to(F64) * 2 - 1
    shares = torch.softmax(w.rand(4), 0)
    z = w.z[w.t][None]
    [found] = w.package.whole_mask_mean(z, masks, shares.log(), w.t, w.schedule)
    return {"m": list(masks), "\\pi": list(shares), "E": given_z(w, found)}


@symbols("eq-dice", ranges={"i": range(9)})
@symbols("eq-iou", ranges={"i": range(9)})
def two_masks(w: World) -> Symbols:
    """Shares instead of 0 and 1, which are roots and squares of themselves."""
    a, b = w.rand(2, 1, 3, 3)
    tables = {"a": list(a.flatten()), "b": list(b.flatten())}
    return {**tables, "D": w.package.dice(a, b)[0], "J": w.package.iou(a, b)[0]}


COUNTS = {"k": range(1, 8)}


@symbols("eq-expected-dice", ranges=COUNTS, every="k")
@symbols("eq-threshold", ranges=COUNTS, every="k")
def by_count(w: World) -> Symbols:
    """D_k is what the threshold reaches that lets k of nine pixels through."""
    p = w.rand(9).sort(descending=True).values
    steps = torch.cat([(p[:-1] + p[1:]) / 2, ZERO[0]])
    found = [w.package.expected_dice(p.view(3, 3), step) for step in steps]
    return {"p": [None, *p], "P": p.sum(), "D": [None, *found]}


@symbols("eq-brier-draws", ranges={"i": range(1, 4)})
def mean_of_draws(w: World) -> Symbols:
    """All outcomes of three masks and an annotator, for one pixel."""
    n, p = 3, w.rand(1).squeeze()
    outcomes = torch.cartesian_prod(*[torch.arange(2, dtype=F64)] * (n + 1))
    chance = torch.where(outcomes > 0, p, 1 - p).prod(1)
    mean = w.package.MaskEnsemble(outcomes[:, :n].T.reshape(n, -1, 1, 1, 1)).mean

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if law or given:
            raise Refused("this average is over all masks and the annotator")
        bound: dict[Key, Any] = {("\\barm", None): mean.flatten()}
        bound |= {("y", None): outcomes[:, n]}
        return env.averaged(chance, bound, body)

    m = w.rand(n)  # the mean is that of any numbers
    told = w.package.MaskEnsemble(m.view(n, 1, 1, 1, 1)).mean.squeeze()
    return {"m": [None, *m], "\\barm": told, "p": p, "n": float(n), "E": expect}


@symbols("eq-ged")
def laws_of_masks(w: World) -> Symbols:
    """Two draws of a sample are two different ones; truths are the whole law."""
    sets = {"m": (w.rand(5, 3, 3) < 0.5).to(F64), "y": (w.rand(3, 3, 3) < 0.7).to(F64)}
    found = w.package.generalized_energy_distance(sets["m"], sets["y"])
    every = torch.cat([sets["m"], sets["y"]])
    both = [torch.stack([torch.minimum(a, b) for b in every]) for a in every]
    either = [torch.stack([torch.maximum(a, b) for b in every]) for a in every]
    ratio = torch.stack(both).sum((2, 3)) / torch.stack(either).sum((2, 3))

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        names = sorted(bases(body) - {"d"})
        if law or given or len(names) != 2 or any(n[0] not in sets for n in names):
            raise Refused("this average is over two masks")
        rows = {"m": torch.arange(5), "y": torch.arange(5, 8)}
        pairs = torch.cartesian_prod(rows[names[0][0]], rows[names[1][0]])
        if names[0][0] == names[1][0] == "m":
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        bound: dict[Key, Any] = {
            (name, None): pairs[:, i].to(F64) for i, name in enumerate(names)
        }
        share = torch.full((len(pairs),), 1 / len(pairs), dtype=F64)
        return env.averaged(share, bound, body)

    def distance_of(a: Tensor, b: Tensor) -> Tensor:
        return 1 - ratio[a.long(), b.long()]

    return {"d": distance_of, "G": found, "E": expect}


# ---------------------------------------------------------------------- no number


@symbols("induction-step")
def induction_step(w: World) -> Symbols:
    """The noise with a prime is the total noise in z_{t-1}."""
    return {"\\epsilon'": w.noise(max(w.t - 1, 1))}


def scaled_latent(w: World) -> Symbols:
    """y is sqrt(1 - beta_t) z_{t-1}; the marginal of one is that of the other."""
    keep, t = w.step(w.t, 1.0, 0.0), w.t
    before = w.marginal(t - 1)
    law = Mixture(*[(a, keep * mean, keep**2 * v) for a, mean, v in before.parts])
    y = w.randn()

    def q(env: Env, targets: Arguments, given: Arguments) -> Any:
        is_y = [(base, i) for base, i, _ in targets] == [("y", None)] and not given
        return law if is_y else w.q(env, targets, given)

    def omega(env: Env) -> Tensor:
        z = env.bound.get(("z", t), w.z[t])
        step = Mixture((1.0, y, w.step(t, 0.0, 1.0) ** 2))
        return (step.log_prob(z) + law.log_prob(y) - w.marginal(t).log_prob(z)).exp()

    def expect(env: Env, _: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if [env.key(tree) for tree in given if isinstance(tree, Symbol)] != [("z", t)]:
            raise Refused("this average is given z_t")
        values, weights = w.reverse(t, env.value(given[0])).nodes(env.depth)
        return env.averaged(weights, {("y", None): keep * values}, body)

    return {"y": y, "q": Density(q), "\\omega": Letter(omega), "E": expect}


@symbols("gradient-of-omega")
def weight_of_latent(w: World) -> Symbols:
    """The proof writes s_t for s_t(z_t)."""

    def score(env: Env, i: Any) -> Any:
        z = env.bound.get(("z", w.t), w.z[w.t])
        return w.score(w.t, z) if i == w.t else None

    return {**scaled_latent(w), "s": Letter(entries=score)}


@symbols("noised", gradient_by=("z", None))
def noised(w: World) -> Symbols:
    """z = y + sigma n, where y has the law of the data."""
    clean, sigma, z = w.marginal(0), w.width(), w.randn()
    noisy = Mixture(*[(a, mean, v + sigma**2) for a, mean, v in clean.parts])

    def q(_: Env, targets: Arguments, given: Arguments) -> Mixture:
        [(base, i, _)] = targets
        laws = {("y", None): clean, ("z", None): noisy}
        if given or (base, i) not in laws:
            raise Refused("q is the law of y or of z")
        return laws[base, i]

    def expect(env: Env, _: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if given != [Symbol("z")]:
            raise Refused("this average is given z")
        y, place = GRID.reshape(-1, *[1] * env.depth), env.value(given[0])
        step = Mixture((1.0, y, sigma**2))
        weights = (clean.log_prob(y) + step.log_prob(place)).exp()
        bound = {("y", None): y, ("n", None): (place - y) / sigma}
        return env.averaged(weights / weights.sum(0), bound, body)

    return {"z": z, "\\sigma": sigma, "q": Density(q), "E": expect}


@symbols("divergence-inserted", dims=1, copies=3)
def divergence_inserted(w: World) -> Symbols:
    means, v = [w.randn(), w.randn()], 0.5 + w.rand(3)
    first = Mixture((1.0, means[0], v[1]))

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if given or len(law) != 1 or env.integer(law[0]) != 1:
            raise Refused("this average is under the first law")
        values, weights = first.nodes(env.depth)
        return env.averaged(weights, {("y", None): values}, body)

    return {"m": [None, *means], "v": list(v), "E": expect}


@symbols("all-variables")
def all_variables(w: World) -> Symbols:
    """Here E_q is over x as well."""

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if law != [Symbol("q")]:
            return w.expect(env, law, body, given)
        x, share = w.marginal(0).nodes(env.depth)
        inner = env.bind({("x", None): x}, axes=1)
        inner, weights = Chain(w, inner, False).nodes(inner)
        return env.chain_mean(share * weights * inner.value(body))

    return {"E": expect}


# ---------------------------------------------------------------------- DDIM


def jumped_back(w: World, eta: float = 0.6) -> Symbols:
    """z_s by the package's step from z_t, with picture and noise known."""
    t, s, fresh = w.t, w.t // 2, w.randn()
    known = w.package.Prediction(x=w.x, noise=w.noise(t))
    move = partial(w.package.ddim, lambda z, t: known, w.z[t], t, s, w.schedule)
    z = [*w.z]
    z[s] = move(lambda: fresh, [], eta=eta)
    unit = move(lambda: fresh + 1, [], eta=eta) - z[s]
    named = {"s": float(s), "v": unit**2, "\\eta": eta, "\\xi": fresh, "z": z}
    tables = {
        "\\phi": [*w.schedule.angle],
        "\\nu": w.run("v_from_x", t, w.x, w.noise(t)),
    }
    tables["\\tilde\\beta"] = w.package.jump(t, s, w.schedule)[3]
    return {**named, **tables, "\\epsilon": w.noise(t)}


for _name in ("eq-family", "eq-same-marginal", "eq-eta"):
    symbols(_name, T=7, steps=(5, 7))(jumped_back)
symbols("eq-rotation", T=7)(partial(jumped_back, eta=0.0))


@symbols("eq-encode", T=7)
def encoded(w: World) -> Symbols:
    """Two steps up from a picture, with the noises that a function answers."""
    t, s = w.t, w.t // 2
    noises = {i: w.randn() for i in (t, s)}
    predict = lambda z, i: w.package.Prediction(x=z, noise=noises[i])  # noqa: E731
    move = partial(w.package.encode, predict, w.schedule, w.x)
    z = [*w.z]
    z[t], z[s] = move([t, s] if s else [t]), move([s]) if s else w.x
    return {"s": float(s), "z": z, "\\epsilon": noises[t]}


@symbols("eq-slerp", dims=3)
def on_the_sphere(w: World) -> Symbols:
    a, b = w.randn(), w.randn()
    angle = torch.acos(a @ b / (a.norm() * b.norm()))
    way = lambda share: w.package.slerp(a[None], b[None], share)[0]  # noqa: E731
    return {"a": a, "b": b, "\\theta": angle, "w": 0.3, "z": way}


# ---------------------------------------------------------------------- relatives


@symbols("eq-energy", dims=1, copies=1)
def energy(w: World) -> Symbols:
    """Two sets of points; two draws from one set are two different points of it."""
    sets = {"a": w.rand(9, 1), "b": 2 * w.rand(7, 1)}
    found = w.package.energy_distance(sets["a"], sets["b"])

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        names = sorted(bases(body))
        if law or given or len(names) != 2 or any(n[0] not in sets for n in names):
            raise Refused("this average is over two points")
        first, other = (sets[name[0]][:, 0] for name in names)
        i, j = (k.flatten() for k in torch.where(torch.ones(len(first), len(other))))
        apart = i != j if names[0][0] == names[1][0] else i >= 0
        pairs = first[i[apart]], other[j[apart]]
        bound: dict[Key, Any] = {
            (n, None): p for n, p in zip(names, pairs, strict=True)
        }
        share = torch.full_like(pairs[0], 1 / len(pairs[0]))
        return env.averaged(share, bound, body)

    return {"d": found, "E": expect}


@symbols("eq-one-layer")
def one_layer(w: World) -> list[Symbols]:
    """A linear decoder of unit data: with the true posterior, and with another law."""
    slope, x = 0.8, w.randn()
    rest = 1 - slope**2
    unit = Mixture((1.0, 0.0, 1.0))

    def encoder(law: Mixture) -> Density:
        def q(_: Env, targets: Arguments, given: Arguments) -> Mixture:
            if [a[:2] for a in targets + given] != [("z", None), ("x", None)]:
                raise Refused("the encoder is the law of z given x")
            return law

        return Density(q)

    def decoder(_: Env, targets: Arguments, given: Arguments) -> Mixture:
        names = [a[:2] for a in targets + given]
        if names == [("x", None), ("z", None)]:
            return Mixture((1.0, slope * given[0][2], rest))
        if names == [("x", None)]:
            return unit
        raise Refused("the decoder has a law of x, alone or given z")

    def prior(_: Env, targets: Arguments, given: Arguments) -> Mixture:
        if [a[:2] for a in targets] != [("z", None)] or given:
            raise Refused("p without w is the law of z")
        return unit

    common = {"x": x, "p_w": Density(decoder), "p": Density(prior)}
    best = Mixture((1.0, slope * x, rest))
    other = Mixture((1.0, slope * x + 0.4, 0.7 * rest))
    return [
        {**common, "q": encoder(best), "is tight": True},
        {**common, "q": encoder(other), "is tight": False},
    ]


def coupling(w: World, layers: int) -> Any:
    """The package's flow of two numbers, with layers that are drawn here."""

    def layer(ins: int, outs: int) -> torch.nn.Linear:
        made = torch.nn.Linear(ins, outs, dtype=F64)
        with torch.no_grad():
            made.weight.copy_(w.rand(outs, ins) - 0.5)
            made.bias.copy_(w.rand(outs) - 0.5)
        return made.requires_grad_(False)

    return w.package.CouplingFlow(2, layers, layer)


class Told:
    """A law that is known by its log density alone."""

    def __init__(self, log_prob: Callable[[Tensor], Tensor]) -> None:
        self.log_prob = log_prob


@symbols("eq-change", dims=2)
def changed(w: World) -> Symbols:
    flow = coupling(w, 4)
    unit = Mixture((1.0, 0.0, 1.0), dims=2)

    def law_of(base: str, law: Any) -> Density:
        def found(_: Env, targets: Arguments, given: Arguments) -> Any:
            if [a[:2] for a in targets] != [(base, None)] or given:
                raise Refused(f"this is the law of {base}")
            return law

        return Density(found)

    def derivative(x: Tensor) -> Tensor:
        return torch.autograd.functional.jacobian(lambda y: flow(y)[0], x)

    named = {"p_w": law_of("x", Told(flow.log_prob)), "p": law_of("z", unit)}
    return {**named, "z": flow(w.x)[0], "J": derivative, "det": torch.linalg.det}


@symbols("eq-coupling")
def coupled(w: World) -> Symbols:
    flow, pair = coupling(w, 1), torch.stack([w.randn(), w.randn()])
    after = flow(pair)[0]

    def answer(k: int) -> Callable[[Tensor], Tensor]:
        return lambda a: flow._answer(flow.nets[0], a.reshape(1))[k].squeeze()

    named = {"a": pair[0], "b": flow.inverse(after)[1], "b'": after[1]}
    return {**named, "e": math.e, "h": answer(0), "m": answer(1)}


@symbols("eq-game", tolerance=1e-6)
def game(w: World) -> Symbols:
    """The value by quadrature on a line; the best critic by looking for it."""
    line = torch.linspace(-14, 14, 8001, dtype=F64)
    made = w.model_marginal(0)
    real = lambda x: flat(w.mixture.log_prob, x).exp()  # noqa: E731
    densities = w.mixture.log_prob(line[:, None]).exp(), made.log_prob(line).exp()

    def critic(x: Any) -> Tensor:
        return torch.sigmoid(0.3 * as_tensor(x) + 0.1)

    def value(_: Env, tree: Tree) -> Tensor:
        if tree != Symbol("D"):
            raise Refused("the game is a function of D")
        d = critic(line)
        return torch.trapezoid(
            densities[0] * d.log() + densities[1] * (1 - d).log(), line
        )

    def best(x: Any) -> Tensor:
        q, p = real(as_tensor(x)), made.log_prob(as_tensor(x)).exp()
        low, high = as_tensor(0.0), as_tensor(1.0)
        for _ in range(60):  # where the slope of q ln D + p ln(1 - D) is zero
            d = (low + high) / 2
            low, high = (d, high) if q / d > p / (1 - d) else (low, d)
        return low

    return {"D": critic, "D\\star": best, "V": Unevaluated(value)}


@symbols("eq-fm")
def straight_path(w: World) -> Symbols:
    """What the package's loss shows to its network, and the answer that it wants."""
    x, noise, tau = (w.randn().reshape(1, 1), w.randn().reshape(1, 1), w.rand(1))
    shown: list[Tensor] = []

    def loss(answer: float) -> Tensor:
        def net(y: Tensor, _: Tensor) -> Tensor:
            shown.append(y)
            return torch.full_like(y, answer)

        return w.package.flow_loss(net, x, noise, tau).squeeze()

    u = (loss(0.0) - loss(1.0) + 1) / 2
    named = {"x": x.squeeze(), "\\epsilon": noise.squeeze(), "\\tau": tau.squeeze()}
    return {**named, "y_\\tau": shown[0].squeeze(), "u": u}


def flow_at(w: World) -> tuple[Tensor, Tensor, Any]:
    """tau and y_tau, as the package asks a flow network about z_t, and its reading."""
    asked: list[Tensor] = []
    u = w.noise(w.t) - w.x

    def net(y: Tensor, clock: Tensor) -> Tensor:
        asked.extend([clock.squeeze() / 1000, y.squeeze()])
        return u.reshape(1, 1)

    model = w.package.as_denoiser(net, w.schedule)
    found = model(w.z[w.t].reshape(1, 1), w.t)
    return asked[0], asked[1], found


@symbols("eq-same-path")
def same_path(w: World) -> Symbols:
    tau, y, _ = flow_at(w)
    return {"\\tau": tau, "y_\\tau": y}


@symbols("eq-velocities")
def velocities(w: World) -> Symbols:
    found = flow_at(w)[2]
    v = w.run("v_from_x", w.t, found.x.squeeze(), found.noise.squeeze())
    return {"u": w.noise(w.t) - w.x, "\\nu": v}


@symbols("eq-fm-weight", dims=3)
def two_errors(w: World) -> Symbols:
    """The guess u, read as the package reads it, against the truth."""
    t, guess = w.t, w.randn()
    model = w.package.as_denoiser(lambda *_: guess[None], w.schedule)
    noise = (w.z[t] - w.schedule.signal[t] * w.x) / w.schedule.spread[t]
    found = model(w.z[t][None], t)
    named = {"u": noise - w.x, "\\hatu": guess}
    named["\\nu"] = w.package.v_from_x(w.x[None], noise[None], t, w.schedule)[0]
    guessed = w.package.v_from_x(found.x, found.noise, t, w.schedule)[0]
    return {**named, "\\hat\\nu": guessed}


@symbols("eq-euler", T=7, steps=(5,))
def euler(w: World) -> Symbols:
    """One step of ddim, in the coordinates of flow matching."""
    t, s = w.t, w.t // 2
    table = w.schedule
    scale = table.signal + table.spread
    guess = w.package.Prediction(w.randn(), w.randn())
    z = table.signal[t] * guess.x + table.spread[t] * guess.noise
    moved = w.package.ddim(lambda *_: guess, z, t, s, table, lambda: z, [])
    time = table.sigma / (1 + table.sigma)
    named = {"\\hatx": guess.x, "\\hat\\epsilon": guess.noise}
    named |= {"y_\\tau": z / scale[t], "y_\\rho": moved / scale[s]}
    return {**named, "\\tau": time[t], "\\rho": time[s]}


@symbols("eq-straight", T=5, steps=(5,), dims=1, copies=1)
def strayed(w: World) -> Symbols:
    """A flow whose velocity depends on the time alone, so that no step is in error."""
    s, speed = w.schedule, w.rand(6)

    def predict(z: Tensor, t: int) -> Any:
        """Picture and noise of z_t that differ by the speed."""
        c, d = s.signal[t], s.spread[t]
        x = (z - d * speed[t]) / (c + d)
        return w.package.Prediction(x, x + speed[t])

    z = torch.zeros(3, 1, dtype=F64)
    found = w.package.straightness(predict, s, z, w.T)
    time = s.sigma / (1 + s.sigma)
    share = time.diff() / time[-1]
    way = (share * speed[1:]).sum()

    where = Symbol("y", Symbol("\\tau"), "\\tau")

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if law or (given and (body, given) != (Symbol("u"), [where])):
            raise Refused("u is averaged given y_tau, and the rest over the way")
        if given:
            return env.bound["speed", None]
        return env.averaged(share, {("speed", None): speed[1:]}, body)

    start = w.randn()
    return {"S": found, "E": expect, "y": [start, start + way]}


def half_way(w: World) -> int:
    return w.t // 2


@symbols("eq-progressive", T=7)
def in_one_rotation(w: World) -> Symbols:
    """Where ddim goes from z_t with a guess, and the velocity of that guess."""
    t, s = w.t, half_way(w)
    guess = w.package.Prediction(w.randn(), w.randn())
    z = w.schedule.signal[t] * guess.x + w.schedule.spread[t] * guess.noise
    end = w.package.ddim(lambda *_: guess, z, t, s, w.schedule, lambda: z, [])
    v = w.run("v_from_x", t, guess.x, guess.noise)
    angles = list(w.schedule.angle)
    return {"s": float(s), "z": {t: z, s: end}, "\\phi": angles, "\\nu": v}


@symbols("eq-consistency", T=7, steps=(2, 3, 4, 5, 6, 7))
def consistent(w: World) -> Symbols:
    """The ends of the paths of a bell, and the velocity that reads as them."""
    t, s, width = w.t, half_way(w), 0.5
    deviation = [(a * width**2 + 1 - a).sqrt() for a in w.schedule.alpha_bar]
    path = {k: w.z[t] * deviation[k] / deviation[t] for k in (t, s)}

    def end(z: Any, k: Any) -> Tensor:
        return width * z / deviation[int(k)]

    def velocity(z: Any, k: Any) -> Tensor:
        x = end(z, k)
        noise = w.run("noise_from_x", int(k), z, x)
        return w.run("v_from_x", int(k), x, noise)

    return {"s": float(s), "z": path, "f": end, "F": velocity}


# ---------------------------------------------------------------------- evaluation


@symbols("eq-kernel-distance", dims=3)
def kernel_of_sets(w: World) -> Symbols:
    """Two sets of two pictures each: every average is over all the pairs there are."""
    sets = {"a": w.rand(2, 3), "b": 2 * w.rand(2, 3)}
    squared = w.package.kernel_distance(sets["a"].numpy(), sets["b"].numpy())

    def rows(tree: Tree) -> list[Tensor]:
        name = tree.base if isinstance(tree, Symbol) else ""
        return [*sets[name[0]]] if name[0] in sets else []

    def expect(env: Env, _: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        first, second = sorted(bases(body) & {"a", "a'", "b", "b'"})
        pairs = [
            (p, q)
            for i, p in enumerate(sets[first[0]])
            for j, q in enumerate(sets[second[0]])
            if first[0] != second[0] or i != j
        ]
        names = [(first, None), (second, None)]
        values = [
            env.bind(dict(zip(names, pair, strict=True))).value(body) for pair in pairs
        ]
        return torch.stack(values).mean()

    def alike(p: Tensor, q: Tensor) -> Tensor:
        return ((p * q).sum() / 3 + 1) ** 3

    a, b = sets["a"][0], sets["b"][0]
    named = {"a": a, "b": b, "F": 3.0, "d": as_tensor(squared).sqrt()}
    return {**named, "k": alike, "E": expect}


# ---------------------------------------------------------------------- scores


def asked(w: World) -> Callable[[Tensor, int], Any]:
    """A predictor whose noise is the linear guess."""

    def predict(z: Tensor, t: int) -> Any:
        noise = flat(lambda a: w.guess(a, t), z)
        return w.package.Prediction(w.run("x_from_noise", t, z, noise), noise)

    return predict


def slope_of_guess(w: World) -> Callable[[Any, Any], Tensor]:
    """The package's score of the linear guess."""
    predict = asked(w)
    at = lambda z, t: w.package.score(predict, z, int(t), w.schedule)  # noqa: E731
    return lambda z, t: flat(lambda a: at(a, t), z)


@symbols("eq-score")
def score_of_guess(w: World) -> Symbols:
    return {"s_w": slope_of_guess(w)}


@symbols("eq-tweedie", tolerance=1e-8)
def denoised(w: World) -> Symbols:
    """The score is what the package's formula takes; the mean is by the law of x."""
    z = w.z[w.t]
    found = flat(lambda a: w.package.tweedie(w.score(w.t, a), a, w.t, w.schedule).x, z)

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        by_law = w.expect(env, law, body, given)
        if body == Symbol("x") and distance(by_law, found) > 1e-8:
            raise Refused("the package denoises to another place")
        return by_law

    return {"E": expect}


@symbols("eq-dsm", tolerance=1e-6, copies=3)
def denoising_loss(w: World) -> Symbols:
    return {"s_w": slope_of_guess(w), "D": 3.0}


@symbols("eq-ism", tolerance=1e-6, copies=3)
def implicit_loss(w: World) -> Symbols:
    """Three equal coordinates, each with the same slope; the trace is their sum."""
    return {"s_w": slope_of_guess(w), "tr": lambda slope: w.copies * slope}


@symbols("eq-langevin")
def walked(w: World) -> Symbols:
    z, xi, d = w.randn(), w.randn(), w.width()
    predict = lambda a, t: w.package.Prediction(a, w.best_noise(t, a))  # noqa: E731
    step = lambda a, n: w.package.langevin_step(  # noqa: E731
        predict, a, w.t, w.schedule, float(d), lambda: n
    )
    named = {"z": z, "\\xi": Letter(lambda env: xi), "d": d}
    return {**named, "after": ("z", flat(step, z, xi))}


@symbols("eq-ula")
def settled(w: World) -> Symbols:
    """Variance of a walk in a bell of variance u, step after step."""
    u, d, variance = w.width(), 0.5 * w.width(), ONE.squeeze()
    predict = lambda a, t: w.package.Prediction(  # noqa: E731
        a, w.schedule.spread[t] * a / u
    )
    step = lambda a, n: w.package.langevin_step(  # noqa: E731
        predict, a, w.t, w.schedule, float(d), lambda: n
    )
    slope, added = step(ONE, ZERO).squeeze(), step(ZERO, ONE).squeeze()
    for _ in range(2000):
        variance = slope**2 * variance + added**2

    def of_walk(_: Env, targets: Arguments) -> Tensor:
        if [a[:2] for a in targets] != [("z", None)]:
            raise Refused("the walk has one variable, z")
        return variance

    return {"u": u, "d": d, "z": ONE.squeeze(), "Var": Named(of_walk)}


@symbols("eq-split", T=7)
def split(w: World) -> Symbols:
    return {"s": float(w.t // 2)}


@symbols("eq-eta-climb", T=7, steps=(3, 5, 7))
def climbed(w: World) -> Symbols:
    """How far a step of DDIM moves z / sqrt(alpha_bar), over the score of that."""
    s, eta, z = w.t // 2, 0.6, w.randn().reshape(1, 1)
    predict, silent = asked(w), lambda: torch.zeros_like(z)
    how = {"eta": eta}
    end = w.package.ddim(predict, z, w.t, s, w.schedule, silent, [], **how)
    slope = w.package.score(predict, z, w.t, w.schedule) * w.schedule.signal[w.t]
    moved = end / w.schedule.signal[s] - z / w.schedule.signal[w.t]
    return {"c_\\eta": (moved / slope).squeeze(), "\\eta": eta, "s": float(s)}


# ---------------------------------------------------------------------- the flow


def along(path: Callable[[float], Symbols], h: float = 1e-4) -> Callable[..., Tensor]:
    """What `dz / dy` means: the differences between two near places on a path, divided.
    `path(h)` are the symbols that change, a little further on."""

    def quotient(env: Env, above: Tree, below: Tree) -> Tensor:
        ends = [replace(env, symbols={**env.symbols, **path(k)}) for k in (h, -h)]
        rise, run = ([end.value(tree) for end in ends] for tree in (above, below))
        return (rise[0] - rise[1]) / (run[0] - run[1])

    return quotient


def rate(time: Any) -> Any:
    """A beta(t) of continuous time."""
    return 0.3 + 0.8 * time


def flowing(w: World, is_fixed: bool = False) -> Symbols:
    """The mixture at the angle of step t, and an exact path through z: it keeps the
    share that is below it. `is_fixed`: the place stays, and only the angle moves."""
    here, z = float(w.schedule.angle[w.t]), w.z[w.t]

    def law(phi: float) -> Mixture:
        beta = torch.tensor([math.sin(phi) ** 2], dtype=F64)
        m = w.mixture.marginal(1, w.package.NoiseSchedule(beta))
        return Mixture(*zip(m.weights, m.means[:, 0], m.stds**2, strict=True))

    def below(phi: float, place: Tensor) -> Tensor:
        total = ZERO.squeeze()
        for share, mean, variance in law(phi).parts:
            part = torch.distributions.Normal(mean, variance.sqrt())
            total = total + share * part.cdf(place)
        return total

    def moved(phi: float) -> Tensor:
        """Newton's method for the place below which the same share lies."""
        place = z
        for _ in range(0 if is_fixed else 12):
            error = below(phi, place) - below(here, z)
            place = place - error / law(phi).log_prob(place).exp()
        return place

    def path(h: float) -> Symbols:
        phi = here + h
        place, grown = moved(phi), -2 * math.log(math.cos(phi))
        time = (math.sqrt(0.3**2 + 2 * 0.8 * grown) - 0.3) / 0.8
        named = {"\\phi": phi, "z": place, "q": Density(lambda *_: law(phi))}
        named |= {"y": place / math.cos(phi), "\\sigma": math.tan(phi), "t": time}
        return named

    def expect(env: Env, _: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if given not in ([Symbol("z")], [Symbol("y")]):
            raise Refused("this average is given z, or y")
        scale = 1.0 if given == [Symbol("z")] else math.cos(here)
        place, x = scale * env.value(given[0]), GRID.reshape(-1, *[1] * env.depth)
        noise = (place - math.cos(here) * x) / math.sin(here)
        weights = (w.marginal(0).log_prob(x) + STANDARD.log_prob(noise)).exp()
        v = math.cos(here) * noise - math.sin(here) * x
        bound = {("x", None): x, ("\\epsilon", None): noise, ("\\nu", None): v}
        return env.averaged(weights / weights.sum(0), bound, body)

    named = {"difference": along(path), "E": expect, "\\beta": Letter(call=rate)}
    return {**path(0.0), **named}


@symbols("eq-continuity", gradient_by=("z", None), tolerance=1e-6)
def continuity(w: World) -> Symbols:
    return flowing(w, is_fixed=True)


for each in ("flow", "sigma-flow", "x-flow", "time-flow", "flow-likelihood"):
    symbols(f"eq-{each}", gradient_by=("z", None), tolerance=1e-6)(flowing)


def solved(name: str) -> Callable[[World], Symbols]:
    """Two steps of a sampler, from r to t and from t to s."""

    def steps(w: World) -> Symbols:
        p, t, s, r = w.package, w.t, w.t // 2, w.t + 2
        model = p.Denoiser(partial(w.mixture.noise, schedule=w.schedule), w.schedule)
        past: list[Any] = []
        sampler, found = getattr(p, name), {r: w.z[r]}
        for a, b in ((r, t), (t, s)):
            z = found[a].reshape(1, 1)
            found[b] = sampler(model, z, a, b, w.schedule, None, past).squeeze()

        def v(i: int, z: Any) -> Tensor:
            return flat(lambda a: p.velocity(model, a, i, w.schedule), z)

        def x(i: int, z: Any) -> Tensor:
            return flat(lambda a: model(a, i).x, z)

        clock = w.schedule.half_log_snr if name == "dpm2m" else -w.schedule.angle
        h = clock[s] - clock[t]
        every = range(1, w.T + 1)
        return {
            "z": Letter(entries=found),
            "s": float(s),
            "r": float(r),
            "h": h,
            "h'": clock[t] - clock[r],
            "e": math.e,
            "\\nu": [None, *[partial(v, i) for i in every]],
            "x": [None, *[partial(x, i) for i in every]],
            "\\hatz": found[t] - h * v(t, found[t]),
        }

    return steps


for each in ("heun", "ab2", "dpm2m"):
    symbols(f"eq-{each}", T=7, steps=(2, 3, 5))(solved(each))


@symbols("eq-hutchinson", dims=3)
def hutchinson(w: World) -> Symbols:
    """All vectors of signs, each as likely; the trace by unit vectors."""
    matrix, signs = w.rand(3, 3) - 0.5, torch.tensor([-1.0, 1.0], dtype=F64)
    every = torch.cartesian_prod(signs, signs, signs)

    def expect(env: Env, _: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        shares = torch.full((8,), 1 / 8, dtype=F64)
        return env.averaged(shares, {("r", None): every}, body)

    layer = Layer(lambda r: r @ matrix.T)
    trace = lambda a: sum(a * e @ e for e in torch.eye(3, dtype=F64))  # noqa: E731
    return {"J": layer, "E": expect, "tr": trace}


@symbols("eq-edm")
def edm(w: World) -> Symbols:
    """F is minus the velocity; y is the latent whose picture kept its size."""
    v = lambda x, noise: w.package.v_from_x(x, noise, w.t, w.schedule)  # noqa: E731
    named = {"F": -flat(v, w.x, w.noise(w.t)), "y": w.z[w.t] / w.schedule.signal[w.t]}
    return {**named, "\\sigma": w.schedule.sigma[w.t]}


# ---------------------------------------------------------------------- chapter 11


def flat_pictures(w: World) -> Symbols:
    """Of D equal pixels only the flat direction counts: a number of variance D b^2."""
    count, b = 5.0, 0.3 + w.width()
    flat = w.package.GaussianMixture([1.0], [0.0], [count**0.5 * b])
    end = flat.marginal(w.T, w.schedule)
    made = as_tensor(1.0)
    for t in range(w.T, 0, -1):
        _, mean, fresh = flat.reverse(torch.cat([ZERO, ONE]), t, w.schedule)
        made = (mean[1] - mean[0]).squeeze() ** 2 * made + fresh.squeeze()
    b_made = (made / count).sqrt()
    return {"D": count, "b": b, "b_made": b_made, "S": end.stds.squeeze() ** 2}


OWN["eq-flat"] = How(), flat_pictures
OWN["eq-brightness"] = How(), flat_pictures


@symbols("eq-zero-terminal")
def without_signal(w: World) -> Symbols:
    return {"\\bar\\alpha'": list(w.package.zero_terminal(w.schedule).alpha_bar)}


@symbols("eq-shift")
def more_noise(w: World) -> Symbols:
    k = w.width()
    new = w.package.shifted(w.schedule, float(k))
    names = {"\\beta'": list(new.beta), "\\sigma'": list(new.sigma)}
    return {**names, "k": k}


@symbols("eq-shift-clock")
def shifted_clock(w: World) -> Symbols:
    k = w.width()
    old, new = w.schedule, w.package.shifted(w.schedule, float(k))
    clock, moved = (list(s.sigma / (1 + s.sigma)) for s in (old, new))
    return {"\\rho": clock, "\\rho'": moved, "k": k}


@symbols("eq-price", dims=1)
def wrong_variance(w: World) -> Symbols:
    """The average divergence, for means that miss by a normal number, each its own."""
    tilde, missed, count = w.schedule.beta_tilde, 0.1 + w.rand(w.T + 1), 3.0
    noise, weights = STANDARD.nodes(0)
    best = tilde + missed**2

    def average(t: int, v: Tensor) -> Tensor:
        each = w.divergence((missed[t] * noise, tilde[t]), (0.0, v))
        return count * (weights * each).sum()

    each_step = [None, None, *(partial(average, t) for t in range(2, w.T + 1))]
    named: Symbols = {"v\\star": list(best), "v": w.width(), "D": count}
    return {**named, "K": each_step}


@symbols("eq-unsure", copies=3)
def unsure_picture(w: World) -> Symbols:
    """The guess is that of the decoder; what its mean misses is averaged on its own."""
    x, share = w.marginal(0).nodes(0)
    noise, part = STANDARD.nodes(1)
    z = w.jump(w.t, x, noise)
    guess = lambda z: w.run("x_from_noise", w.t, z, w.guess(z, w.t))  # noqa: E731
    missed = w.posterior_mean(w.t, x, z) - w.mean(z, w.t)
    best = w.schedule.beta_tilde[w.t] + (share * part * missed.square()).sum()
    spread = (share * part * (x - guess(z)).square()).sum()
    u = spread / (1 - w.schedule.alpha_bar[w.t])
    picture = Letter(lambda env: guess(env.bound.get(("z", w.t), w.z[w.t])))
    tables = {"v\\star": {w.t: best}, "u": {w.t: u}}
    return {**tables, "\\hatx": picture}


@symbols("eq-vstar", tolerance=1e-6, copies=3)
def best_of_all(w: World) -> Symbols:
    """The mean of the best guess misses what the exact step back has beyond tilde."""
    z, weights = w.marginal(w.t).nodes(0)
    values, share = w.reverse(w.t, z).nodes(1)
    mean = (share * values).sum(0)
    variance = (weights * (share * (values - mean).square()).sum(0)).sum()
    return {"v\\star": {w.t: variance}}


@symbols("eq-range", first=2)
def interpolated(w: World) -> Symbols:
    f = 1.4 * w.width() - 0.5
    told = w.package.interpolate_variance(f.reshape(1, 1), w.t, w.schedule)
    return {"f": f, "v": {w.t: told.exp().squeeze()}}


@symbols("eq-hybrid", first=2, dims=3)
def hybrid(w: World) -> Symbols:
    """The network tells the variance that the decoder has, for each pixel the same."""
    s, t = w.schedule, w.t
    low, high = s.beta_tilde[t].log(), s.beta[t].log()
    told = 2 * (w.v[t].log() - low) / (high - low) - 1
    net = lambda z, _: torch.cat([w.guess(z, t), told.expand_as(z)], 1)  # noqa: E731
    model = w.package.Denoiser(net, s, "noise+variance")
    noise = w.noise(t)
    loss = model.loss(w.x[None], torch.tensor([t]), noise[None]).squeeze()
    return {"L": {t: loss}, "D": 3.0, "T": float(w.T), "\\omega": 0.001}


@symbols("eq-importance")
def drawn_unevenly(w: World) -> Symbols:
    """Two losses for each step, each as likely as the other."""
    losses = 0.2 + w.rand(2, w.T)
    steps = w.package.StepSampler(w.T, 2)
    for row in losses:
        steps.update(torch.arange(1, w.T + 1), row)
    # A thousandth stays uniform.
    table = [None, *((steps.odds - 0.001 / w.T) / 0.999)]
    return {"p": table, "M": [None, *losses.square().mean(0)]}


@symbols("eq-minsnr")
def capped(w: World) -> Symbols:
    gamma, t = 0.7 * w.width(), torch.arange(1, w.T + 1)
    weights = w.package.min_snr_weight(t, w.schedule, float(gamma))
    return {"\\omega": [None, *weights], "\\gamma": gamma}


@symbols("eq-template", dims=5)
def templates(w: World) -> Symbols:
    """a is what the package explains, with the sign of the product."""
    p, m = w.randn(), w.randn()
    square = w.package.explained(p[None, None], m[None]).squeeze()
    return {"p": p, "m": m, "a": (square / (m @ m)).sqrt() * (p @ m).sign()}


# ---------------------------------------------------------------------- guidance

NOT_TOLD = -1.0  # what stands for the empty set where a class is expected
CLASSES = {"c": range(2)}


def asked_about(t: int) -> list[list[Key]]:
    """The names of what a guess may be asked about."""
    return [[("z", t), ("t", None), (c, None)] for c in ("c", "\\varnothing")]


def classes(w: World) -> Symbols:
    """A guess that is told a part of the mixture or nothing, and the laws with c."""
    m = w.mixture

    def part(c: Any) -> Any:
        k = int(c)
        if k == NOT_TOLD:
            return m
        one = slice(k, k + 1)
        return w.package.GaussianMixture(m.weights[one], m.means[one], m.stds[one])

    def guess(z: Any, t: Any, c: Any) -> Tensor:
        return flat(lambda a: part(c).noise(a, int(t), w.schedule), z)

    def named_guess(_: Env, asked: Arguments) -> Tensor:
        if [a[:2] for a in asked] not in asked_about(w.t):
            raise Refused("the guess is a function of z_t, t and the class")
        return guess(*[value for *_, value in asked])

    def odds(z: Any) -> Tensor:
        joint = m.marginal(w.t, w.schedule).log_joint
        return flat(lambda a: joint(a).softmax(1)[:, 1:], z)

    class Odds:
        """The law of the class given z_t."""

        def __init__(self, z: Any) -> None:
            self.second = odds(z)

        def log_prob(self, c: Tensor) -> Tensor:
            return (self.second if int(c) else 1 - self.second).log()

    def q(env: Env, targets: Arguments, given: Arguments) -> Any:
        [(base, i, _)], known = targets, {k[:2]: k[2] for k in given}
        if (base, i) == ("c", None) and [*known] == [("z", w.t)]:
            return Odds(known["z", w.t])
        if (base, i) not in {("z", w.t), ("x", None)}:
            raise Refused("the laws here are of z_t, of x and of the class")
        if known and [*known] != [("c", None)]:
            raise Refused("a law is given the class, or nothing")
        law = part(known["c", None]) if known else m
        law = law.marginal(w.t, w.schedule) if base == "z" else law
        weights = law.weights / law.weights.sum()
        return Mixture(*zip(weights, law.means[:, 0], law.stds**2, strict=True))

    named = {"g": Named(named_guess), "q": Density(q), "guess": guess}
    return {**named, "c": 1.0, "\\varnothing": NOT_TOLD, "\\gamma": 1.7}


def told_of(w: World) -> Any:
    """A predictor for the package, of the same guesses."""
    guess = classes(w)["guess"]

    def predict(z: Tensor, t: int, label: float = NOT_TOLD) -> Any:
        noise = guess(z, t, label)
        x = w.package.x_from_noise(z, noise, t, w.schedule)
        return w.package.Prediction(x, noise)

    return predict


def guided_guess(w: World, z: Any, scale: float) -> Tensor:
    way = w.package.guided(told_of(w), float(scale), label=1.0)
    return flat(lambda a: way(a, w.t).noise, z)


@symbols("eq-told", tolerance=1e-8)
def told_guess(w: World) -> Symbols:
    named = classes(w)

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        """By the law of x within the class, given z_t."""
        keys = [env.key(tree) for tree in given if isinstance(tree, Symbol)]
        if law or body != Symbol("\\epsilon") or keys != [("z", w.t), ("c", None)]:
            raise Refused("the average is of the noise, given z_t and the class")
        x, z = torch.linspace(-9, 9, 4001, dtype=F64), w.z[w.t]
        within = named["q"].make(env, [("x", None, x)], [("c", None, named["c"])])
        kernel = w.law(w.jump(w.t, x, 0.0), w.jump_width(w.t))
        share = (within.log_prob(x) + kernel.log_prob(z)).softmax(0)
        return (share * w.run("noise_from_x", w.t, z.expand(len(x)), x)).sum()

    return {**named, "E": expect}


symbols("eq-null", ranges=CLASSES)(classes)
symbols("eq-bayes-score", tolerance=1e-8)(classes)


@symbols("eq-classifier-guidance", tolerance=1e-8)
def pushed_guess(w: World) -> Symbols:
    named, label = classes(w), torch.ones(1, dtype=torch.int64)
    knows = lambda z, t: w.mixture.marginal(t, w.schedule).log_joint(z).log_softmax(1)  # noqa: E731

    def pushed(_: Env, asked: Arguments) -> Tensor:
        if [a[:2] for a in asked] != asked_about(w.t)[0]:
            raise Refused("a class is asked for, at t")
        way = w.package.classifier_guided(
            told_of(w), knows, label, w.schedule, named["\\gamma"]
        )
        return flat(lambda a: way(a, w.t).noise, asked[0][2])

    return {**named, "\\tildeg": Named(pushed)}


@symbols("eq-cfg")
def told_more(w: World) -> Symbols:
    named = classes(w)

    def more(_: Env, asked: Arguments) -> Tensor:
        if [a[:2] for a in asked] != asked_about(w.t)[0]:
            raise Refused("a class is asked for, at t")
        return guided_guess(w, asked[0][2], named["\\gamma"])

    return {**named, "\\tildeg": Named(more)}


@symbols("eq-tilted", tolerance=1e-5)
def tilted(w: World) -> Symbols:
    """The density whose slope is the guided score where next to no noise is."""
    named, x = classes(w), torch.linspace(-2, 2, 2001, dtype=F64)
    faint = w.package.NoiseSchedule(torch.full((1,), 1e-10, dtype=F64))

    def predict(z: Tensor, t: int, label: float = NOT_TOLD) -> Any:
        one = slice(None) if label == NOT_TOLD else slice(int(label), int(label) + 1)
        m = w.mixture
        law = w.package.GaussianMixture(m.weights[one], m.means[one], m.stds[one])
        return w.package.Prediction(z, law.noise(z, t, faint))

    way = w.package.guided(predict, named["\\gamma"], label=1.0)
    score = -way(x[:, None], 1).noise[:, 0] / faint.spread[1]
    climb = torch.cumulative_trapezoid(score, x).exp()
    density = torch.cat([torch.ones(1, dtype=F64), climb])

    def at(_: Env, places: Arguments) -> Tensor:
        if [place[:2] for place in places] != [("x", None)]:
            raise Refused("the tilted density is one of x")
        return density

    return {**named, "x": x, "q_\\gamma": Named(at)}


@symbols("eq-guided-split")
def split_guess(w: World) -> Symbols:
    named = classes(w)
    return {**named, "G": lambda scale: guided_guess(w, w.z[w.t], scale)}


@symbols("eq-rescale", dims=3, tolerance=1e-8)
def rescaled_picture(w: World) -> Symbols:
    """Pictures of three numbers, told and not told; the guided one is rescaled."""
    t, z, share = w.t, w.randn(), 0.6
    noises = {True: w.randn(), False: w.randn()}

    def predict(a: Tensor, t: int, **cond: Any) -> Any:
        noise = noises[bool(cond)][None]
        x = w.package.x_from_noise(a, noise, t, w.schedule)
        return w.package.Prediction(x, noise)

    here = z[None]
    way = w.package.rescaled(predict, 2.5, w.schedule, share, label=ONE)
    loud = w.package.guided(predict, 2.5, label=ONE)(here, t).x[0]
    told = predict(here, t, label=ONE).x[0]
    spread = lambda x: ((x - x.mean()).square().sum() / 2).sqrt()  # noqa: E731
    named = {"x'": way(here, t).x[0], "\\tildex": loud, "x_c": told}
    return {**named, "\\rho": share, "std": spread}


# ---------------------------------------------------------------------- inpainting


@symbols("eq-fill", T=7, steps=(5, 7), dims=3)
def put_back(w: World) -> Symbols:
    """A step of a sampler that made something, in which two pixels are known."""
    t, s, y, made, fresh = w.t, w.t // 2, w.randn(), w.randn(), w.randn()
    mask = torch.tensor([1.0, 0.0, 1.0], dtype=F64)
    step = w.package.filled(lambda *_: made[None], y[None], mask[None])
    z = [*w.z]
    z[s] = step(None, w.z[t][None], t, s, w.schedule, lambda: fresh[None], [])[0]
    named = {"s": float(s), "m": mask, "y": y, "\\xi": fresh, "z": z}
    others = [w.randn() for _ in range(8)]
    return {**named, "\\hatz": [made if i == s else others[i] for i in range(8)]}


@dataclass
class TwoPixels:
    """A known pixel and a hole, of correlation rho: the package's step from t to s."""

    w: World

    def __post_init__(self) -> None:
        w = self.w
        self.rho = 0.4 + 0.5 * float(w.rand(1))
        self.t, self.s, self.v = w.t, w.t // 2, float(w.width())
        self.beta, self.tilde = w.package.jump(self.t, self.s, w.schedule)[2:]
        self.axes = [
            w.package.GaussianMixture([1.0], [0.0], [(1 + e * self.rho) ** 0.5])
            for e in (1, -1)
        ]

    def predict(self, z: Tensor, t: int) -> Any:
        turn = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F64) / 2**0.5
        columns = (z @ turn).split(1, dim=1)
        parts = zip(self.axes, columns, strict=True)
        noise = torch.cat([a.noise(c, t, self.w.schedule) for a, c in parts], 1) @ turn
        x = self.w.package.x_from_noise(z, noise, t, self.w.schedule)
        return self.w.package.Prediction(x, noise)

    def step(self, known: Any, hole: Any, noise: float = 0.0) -> Tensor:
        """The hole's latent at s."""
        z = torch.tensor([[float(known), float(hole)]], dtype=F64)
        table = torch.full((self.w.T + 1,), self.v, dtype=F64)
        drawn = partial(torch.full_like, z, float(noise))
        ask = partial(self.w.package.ddpm, self.predict, z, self.t, self.s)
        return ask(self.w.schedule, drawn, [], variance=table)[0, 1]

    def symbols(self) -> Symbols:
        """How far the hole goes is read from its own weight in the step."""
        share = 1 - self.step(0, 1) * (1 - self.beta) ** 0.5
        named = {"s": float(self.s), "\\rho": self.rho, "\\kappa": share}
        return {**named, "\\beta'": self.beta, "v": self.v}


@symbols("eq-pair-step", T=7, steps=(5, 7), dims=1)
def pair_step(w: World) -> Symbols:
    pair, fresh, known, hole = TwoPixels(w), w.randn(), w.randn(), w.randn()
    after = pair.step(known, hole, float(fresh))
    latents = {"k": [w.randn() for _ in range(8)], "h": [w.randn() for _ in range(8)]}
    latents["k"][w.t], latents["h"][w.t], latents["h"][pair.s] = known, hole, after
    return {**pair.symbols(), **latents, "\\xi": fresh}


@symbols("eq-pair-law", T=7, steps=(5, 7), dims=1)
def pair_law(w: World) -> Symbols:
    """Slope and variance follow from the weights of what goes into a step."""
    pair, slope, spread = TwoPixels(w), w.randn(), w.width()
    signal = w.schedule.signal
    mean = pair.step(signal[w.t], signal[w.t] * slope) / signal[pair.s]
    known, own, drawn = pair.step(1, 0), pair.step(0, 1), pair.step(0, 0, 1)
    rest = 1 - w.schedule.alpha_bar[w.t]
    after = own**2 * spread + known**2 * rest + drawn**2
    tables = {name: [w.width() for _ in range(8)] for name in ("\\mu", "w")}
    tables["\\mu"][w.t], tables["\\mu"][pair.s] = slope, mean
    tables["w"][w.t], tables["w"][pair.s] = spread, after
    return {**pair.symbols(), **tables}


@symbols("eq-gibbs", T=7, steps=(5, 7), dims=1)
def after_many_visits(w: World) -> Symbols:
    """The package's step down, and the forward process up, three hundred times."""
    pair, known = TwoPixels(w), w.randn()
    a, b = (float(w.schedule.alpha_bar[i]) for i in (pair.t, pair.s))
    both = torch.tensor([[1.0, pair.rho], [pair.rho, 1.0]], dtype=F64)
    eye = torch.eye(2, dtype=F64)
    at_t, at_s = a * both + (1 - a) * eye, b * both + (1 - b) * eye
    pair.v = float((at_s - a / b * at_s @ at_t.inverse() @ at_s)[1, 1])
    hole, spread = w.randn(), w.width()
    own, drawn = pair.step(0, 1), pair.step(0, 0, 1)
    for _ in range(300):
        mean = pair.step(known, hole)
        variance = own**2 * spread + drawn**2
        hole = (1 - pair.beta) ** 0.5 * mean
        spread = (1 - pair.beta) * variance + pair.beta
    latents = [w.randn() for _ in range(8)]
    latents[w.t] = known
    return {**pair.symbols(), "k": latents, "M": mean, "V": variance}


@symbols("eq-exact-step", T=7, steps=(5, 7), dims=1)
def left_open(w: World) -> Symbols:
    """By the rule for normal vectors: what z_t leaves open of the hole at s."""
    pair = TwoPixels(w)
    a, b = (float(w.schedule.alpha_bar[i]) for i in (pair.t, pair.s))
    both = torch.tensor([[1.0, pair.rho], [pair.rho, 1.0]], dtype=F64)
    eye = torch.eye(2, dtype=F64)
    at_t, at_s = a * both + (1 - a) * eye, b * both + (1 - b) * eye
    open_still = (at_s - a / b * at_s @ at_t.inverse() @ at_s)[1, 1]
    return {**pair.symbols(), "v": open_still, "\\tilde\\beta": pair.tilde}


@symbols("eq-half-known", dims=1)
def half_is_known(w: World) -> Symbols:
    rho, schedule = (
        0.3 + 0.6 * float(w.rand(1)),
        w.package.make_schedule("cosine", 2000),
    )
    return {"\\rho": rho, "\\mu": [w.package.replacement_law(schedule, rho)[0]]}


@symbols("eq-climb", T=7, steps=(5, 7), dims=3)
def up_again(w: World) -> Symbols:
    """What a step that is made twice gives to the sampler the second time."""
    t, s, fresh, seen = w.t, w.t // 2, w.randn(), list[Tensor]()
    spy = lambda predict, z, *_: seen.append(z) or w.z[s]  # noqa: E731
    w.package.resampled(spy, 2)(None, w.z[t], t, s, w.schedule, lambda: fresh, [])
    z = [*w.z]
    z[t] = seen[1]
    return {"s": float(s), "z": z, "\\xi": fresh}


@symbols("eq-given-pixels", ranges={"k": range(1, 3)}, every="k", dims=1)
def given_pixels(w: World) -> Symbols:
    """A mixture of pairs of pixels, of which the first is known."""
    mixture = w.package.GaussianMixture([0.3, 0.7], w.rand(2, 2), [0.6, 0.9])
    y = w.randn()
    known = torch.stack([y, y])
    hole = w.package.condition(mixture, known, torch.tensor([1, 0]))
    named = {"\\pi": mixture.weights, "\\tilde\\pi": hole.weights}
    named |= {"u": mixture.means[:, 0], "\\sigma": mixture.stds}
    tables = {name: [None, *table] for name, table in named.items()}
    return {**tables, "y": y, "K": 2.0}


@symbols("eq-energy-score", dims=1, copies=1)
def score_of_fillings(w: World) -> Symbols:
    """Seven fillings; two of them are two different ones."""
    fillings, truth = 2 * w.rand(7), w.randn()
    found = w.package.energy_score(fillings[:, None, None], truth.reshape(1, 1))

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        names = sorted(bases(body) & {"X", "X'"})
        if law or given or not names:
            raise Refused("this average is over fillings")
        i, j = (k.flatten() for k in torch.where(torch.ones(7, 7)))
        apart = i != j if len(names) == 2 else i == j
        places = i[apart], j[apart]
        bound: dict[Key, Any] = {
            (n, None): fillings[p] for n, p in zip(names, places, strict=False)
        }
        share = torch.full((int(apart.sum()),), 1 / int(apart.sum()), dtype=F64)
        return env.averaged(share, bound, body)

    return {"S": found[0], "x": truth, "E": expect}


# ---------------------------------------------------------------------- chapter 18


@symbols("eq-strength")
def share_of_steps(w: World) -> Symbols:
    """The strength of which the package says that it begins at t."""
    every = torch.linspace(0, 1, 601, dtype=F64)[1:]
    near = [float(r) for r in every if w.package.start_of(float(r), w.schedule) == w.t]
    middle = min(near, key=lambda r: abs(r - w.t / w.T))
    return {"r": middle, "T": float(w.T)}


def edits(w: World, mixture: Any) -> Symbols:
    """The laws of a picture x, its noised form and the edit x': one jump leads there
    and, by the exact step back of a schedule with no other, back."""
    only = w.package.NoiseSchedule(1 - w.schedule.alpha_bar[w.t : w.t + 1])
    parts = zip(mixture.weights, mixture.means[:, 0], mixture.stds**2, strict=True)
    pictures = Mixture(*parts)

    def back(z: Any) -> Mixture:
        z = as_tensor(z)
        weights, means, variances = mixture.reverse(z.reshape(-1, 1), 1, only)
        return Mixture(
            *[
                (weights[:, i].reshape(z.shape), means[:, i, 0].reshape(z.shape), v)
                for i, v in enumerate(variances)
            ]
        )

    def q(env: Env, targets: Arguments, given: Arguments) -> Mixture:
        [target], known = [a[:2] for a in targets], {a[:2]: a[2] for a in given}
        one, other = ("x", None), ("x'", None)
        if target in {one, other} and not known:
            return pictures
        if target in {one, other} and set(known) == {("z", w.t)}:
            return back(known["z", w.t])
        if target == ("z", w.t) and len(known) == 1 and set(known) <= {one, other}:
            [x] = known.values()
            return w.law(w.jump(w.t, x, 0.0), w.jump_width(w.t))
        raise Refused(f"there is no law of {target} given {sorted(known)}")

    def expect(env: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        """Of both pictures: two draws given one z."""
        if given:
            return w.expect_given(env, body, given)
        if law:
            raise Refused("this average is over all there is")
        z, seen = w.marginal(w.t).nodes(0)
        one, first = back(z).nodes(1)
        other, second = back(z).nodes(1)
        bound = {("x", None): one[:, None], ("x'", None): other, ("z", w.t): z}
        found = env.bind(bound, axes=3).value(body)
        return (seen * first[:, None] * second * found).sum()

    return {"q": Density(q), "E": expect, "x'": w.randn()}


@symbols("eq-edit-law")
def edit_law(w: World) -> Symbols:
    """Of normal data: both pictures have the law of the data, and one correlation."""
    mean, width = w.randn(), w.width()
    normal = w.package.GaussianMixture([1.0], [float(mean)], [float(width)])
    share = slope_of_edit(w, width**2)

    def kernel(env: Env, targets: Arguments, given: Arguments) -> Mixture:
        names = [a[:2] for a in targets + given]
        if names != [("x'", None), ("x", None)]:
            raise Refused("K is the law of x' given x")
        middle = mean + share * (given[0][2] - mean)
        return Mixture((1.0, middle, width**2 * (1 - share**2)))

    return {**edits(w, normal), "K": Density(kernel)}


def slope_of_edit(w: World, variance: Tensor) -> Tensor:
    """How the edit's mean moves with a picture of normal data, after t steps back."""
    unit = w.package.GaussianMixture([1.0], [0.0], [float(variance.sqrt())])
    slope = w.jump(w.t, 1.0, 0.0)
    for t in range(w.t, 0, -1):
        _, mean, _ = unit.reverse(torch.cat([ZERO, ONE]), t, w.schedule)
        slope = slope * (mean[1] - mean[0]).squeeze()
    return slope


@symbols("eq-kept", ranges={"i": range(2), "l": range(2)}, every="i", tolerance=1e-8)
def staying(w: World) -> Symbols:
    m = w.mixture.marginal(w.t, w.schedule)
    laws = [
        Mixture((1.0, mean[0], s**2)) for mean, s in zip(m.means, m.stds, strict=True)
    ]
    table = []
    for i, law in enumerate(laws):
        share = m.log_joint(GRID[:, None]).softmax(1)[:, i]
        inside = law.log_prob(GRID).exp()
        table.append((inside * share).sum() / inside.sum())
    densities = [lambda z, law=law: law.log_prob(z).exp() for law in laws]
    return {"P": table, "q": densities, "\\pi": list(m.weights)}


@symbols("eq-balance", tolerance=1e-8)
def to_and_fro(w: World) -> Symbols:
    found = edits(w, w.mixture)
    back = found["q"].make

    def kernel(env: Env, targets: Arguments, given: Arguments) -> Any:
        [new], [old] = targets, given
        names = {new[:2], old[:2]}
        if names != {("x", None), ("x'", None)}:
            raise Refused("K is the law of one picture given the other")
        noise, weights = STANDARD.nodes(0)
        z = w.jump(w.t, old[2], noise)
        law = back(env, [new], [("z", w.t, z)])
        return Averaged(law, weights)

    return {**found, "K": Density(kernel)}


@dataclass(frozen=True)
class Averaged:
    """A law that is an average of laws."""

    law: Mixture
    weights: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        return (self.weights * self.law.log_prob(y).exp()).sum(0).log()


@symbols("eq-two-draws", dims=1, copies=1, tolerance=1e-6)
def two_draws(w: World) -> Symbols:
    return edits(w, w.mixture)


@symbols("eq-keeps")
def kept_share(w: World) -> Symbols:
    variance = w.width()
    return {"\\rho": {w.t: slope_of_edit(w, variance)}, "\\lambda": variance}


@symbols("eq-control", dims=1, tolerance=1e-6)
def joined(w: World) -> Symbols:
    """One channel of one pixel behind the first join of a branch."""
    config = w.package.UNetConfig(base_channels=4, groups=1)
    branch = w.package.Control(w.package.UNet(config))
    join = branch.joins[0].double()
    torch.nn.init.normal_(join.weight, generator=w.source)
    c, a, h = w.rand(4), w.width(), w.randn()
    with torch.no_grad():
        push = join(c.reshape(1, 4, 1, 1))[0, 2, 0, 0]
    row = join.weight.detach()[2, :, 0, 0]
    named = {"w": [None, *row], "c": [None, *c], "a": a, "h": h, "C": 4}
    return {**named, "\\tildeh": h + a * push}


@symbols("eq-zero-gradient", ranges={"i": range(3)}, every="i")
def gains(w: World) -> Symbols:
    """What autograd finds, of a loss that is a cosine."""
    pairs = w.rand(2, 3).requires_grad_()
    a, h = w.width(), w.randn().requires_grad_()
    with torch.enable_grad():
        (h + a * (pairs[0] * pairs[1]).sum()).cos().backward()
    both, gain = list(pairs.detach()), list(pairs.grad)
    named = {"w": list(both[0]), "c": list(both[1]), "a": a, "\\delta": h.grad}
    return {**named, "\\barw": list(gain[0]), "\\barc": list(gain[1])}


# ---------------------------------------------------------------------- chapter 17


class Matrix(Tensor):
    """A matrix: its products are those of matrices, and with a vector. A number is no
    matrix, so that none can be added to it."""

    def __mul__(self, other: Any) -> Tensor:
        return self @ other if as_tensor(other).ndim else torch.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return torch.mul(self, other)

    def __add__(self, other: Any) -> Tensor:
        if as_tensor(other).ndim != self.ndim:
            raise Refused("a matrix, or a column, is added to something else")
        return torch.add(self, other)

    __radd__ = __add__

    def __pow__(self, power: Any) -> Tensor:
        if self.ndim < 2:  # what a matrix makes of a vector
            return torch.pow(self, power)
        if float(power) != -1:
            raise Refused("a matrix has no power but its inverse")
        return torch.linalg.inv(self)

    def sqrt(self) -> Tensor:
        if self.ndim > 1:
            raise Refused("the root of a matrix means several things")
        return torch.sqrt(self)


def matrix(rows: Tensor) -> Matrix:
    return rows.as_subclass(Matrix)


def known_by(w: World) -> tuple[Any, Symbols]:
    """Three numbers, of which two mixtures are measured: the package's posterior."""
    root, A, m = torch.eye(3, dtype=F64) + w.rand(3, 3), w.rand(2, 3) - 0.3, w.randn()
    S, sigma, y = root @ root.T, w.width(), w.rand(2)
    posterior = w.package.LinearPosterior(m, S, A, float(sigma))
    named: Symbols = {"m": m, "\\Sigma": matrix(S), "A": matrix(A), "y": y}
    named |= {"A\\top": matrix(A.T), "I": matrix(torch.eye(2, dtype=F64))}
    named["\\sigma"] = sigma
    return posterior, {**named, "K": matrix(posterior.gain)}


def seen_through(w: World, named: Symbols) -> tuple[Any, Symbols]:
    """What a perfect network says of the same three numbers, and how it varies."""
    a, one = float(w.schedule.alpha_bar[w.t]), torch.eye(3, dtype=F64)
    S = named["\\Sigma"].as_subclass(Tensor)
    law = w.package.LinearPosterior(named["m"], S, a**0.5 * one, (1 - a) ** 0.5)
    guess, V = law.mean(w.z[w.t][None])[0], matrix(law.covariance)
    jacobian = {"J": matrix(law.gain), "J\\top": matrix(law.gain.T)}
    return law, {"\\hatx": guess, "V": {w.t: V}, **jacobian}


@dataclass(frozen=True)
class LawOfVector:
    """The normal law of a vector, by torch.distributions."""

    mean: Tensor
    covariance: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        normal = torch.distributions.MultivariateNormal
        return normal(self.mean, self.covariance).log_prob(y)


def law_of_y(w: World, named: Symbols) -> Density:
    """q(y | z_t), which varies with z_t through its mean alone."""
    law, _ = seen_through(w, named)
    A = named["A"].as_subclass(Tensor)
    covariance = float(named["\\sigma"]) ** 2 * torch.eye(2, dtype=F64)
    covariance = covariance + A @ law.covariance @ A.T

    def make(_: Env, targets: Arguments, given: Arguments) -> LawOfVector:
        if [each[:2] for each in (*targets, *given)] != [("y", None), ("z", w.t)]:
            raise Refused("this law is that of y given z_t")
        return LawOfVector(A @ law.mean(given[0][2][None])[0], covariance)

    return Density(make)


def bent_by(w: World, named: Symbols, bend: str, *how: Any) -> Tensor:
    """The picture that the package's bent prediction has in place of the model's."""
    A, S = (named[name].as_subclass(Tensor) for name in ("A", "\\Sigma"))
    prior = w.package.gaussian_predict(named["m"], S, w.schedule)
    measure = lambda x: x @ A.T  # noqa: E731
    change = getattr(w.package, bend)
    told = change(prior, named["y"][None], measure, w.schedule, *how)
    return told(w.z[w.t][None], w.t).x[0]


@symbols("eq-measurement")
def pooled(w: World) -> Symbols:
    """Four pixels and their mean."""
    x, n, sigma = w.rand(4), w.rand(1), w.width()
    y = w.package.pool(x.reshape(1, 1, 2, 2), 2).flatten() + sigma * n
    A = matrix(torch.full((1, 4), 1 / 4, dtype=F64))
    return {"x": x, "n": n, "\\sigma": sigma, "A": A, "y": y}


@symbols("eq-partner")
def repeated_pixels(w: World) -> Symbols:
    """A picture of 2 x 1 pixels, and one with 3 x 3 for each of them."""
    f, y = 3, w.rand(2)
    large = torch.eye(18, dtype=F64).reshape(18, 1, 6, 3)
    small = torch.eye(2, dtype=F64).reshape(2, 1, 2, 1)
    A = w.package.pool(large, f).flatten(1).T
    U = w.package.enlarge(small, f).flatten(1).T
    named: Symbols = {"A": matrix(A), "A\\top": matrix(A.T), "U": matrix(U)}
    return {**named, "y": y, "f": float(f)}


@symbols("eq-gain", dims=3)
def gain(w: World) -> Symbols:
    return known_by(w)[1]


@symbols("eq-linear-posterior", dims=3)
def given_the_measurement(w: World) -> Symbols:
    posterior, named = known_by(w)

    def expect(_: Env, law: list[Tree], body: Tree, given: list[Tree]) -> Tensor:
        if law or [body, *given] != [Symbol("x"), Symbol("y")]:
            raise Refused("the mean is that of x given y")
        return posterior.mean(named["y"][None])[0]

    def spread(_: Env, targets: Arguments, given: Arguments) -> Tensor:
        if [each[0] for each in (*targets, *given)] != ["x", "y"]:
            raise Refused("the covariance is that of x given y")
        return matrix(posterior.covariance)

    return {**named, "E": expect, "Cov": Named(spread)}


@symbols("eq-root-two")
def pair_of_draws(w: World) -> Symbols:
    """Two independent draws from one law, and its mean."""
    mean, sd = w.randn(), w.width()
    node, share = STANDARD.nodes(0)
    first, second = (a.flatten() for a in torch.meshgrid(node, node, indexing="ij"))
    weights = (share[:, None] * share).flatten()
    bound = {("x", None): mean + sd * first, ("x'", None): mean + sd * second}
    expect = lambda env, _, body, given: env.averaged(weights, bound, body)  # noqa: E731
    return {"E": expect, "\\hatx": mean}


@symbols("eq-likelihood-score", dims=3)
def slope_of_likelihood(w: World) -> Symbols:
    named = known_by(w)[1]
    return {**named, **seen_through(w, named)[1], "q": law_of_y(w, named)}


@symbols("eq-covariance-jacobian", dims=3)
def spread_of_guess(w: World) -> Symbols:
    return seen_through(w, known_by(w)[1])[1]


@symbols("eq-restored", dims=3)
def restored_guess(w: World) -> Symbols:
    named = known_by(w)[1]
    how = w.package.own_spread, float(named["\\sigma"]), 20
    after = bent_by(w, named, "restored", *how)
    own: Symbols = {"q": law_of_y(w, named), "\\hatx_y": after}
    return {**named, **seen_through(w, named)[1], **own}


@symbols("eq-projection", dims=3)
def nearest_that_fits(w: World) -> Symbols:
    named = known_by(w)[1]
    after = bent_by(w, named, "projected", 20)
    return {**named, **seen_through(w, named)[1], "\\hatx_y": after}


@symbols("eq-nudge", dims=3, gradient_by=("z", None))
def nudged_step(w: World) -> Symbols:
    """A sampler that stays where it is, nudged."""
    named = known_by(w)[1]
    law, _ = seen_through(w, named)
    A, S = (named[name].as_subclass(Tensor) for name in ("A", "\\Sigma"))
    prior = w.package.gaussian_predict(named["m"], S, w.schedule)
    free, zeta, measure = w.randn(), w.width(), lambda x: x @ A.T
    stay = lambda *_: free[None]  # noqa: E731
    step = w.package.nudged(stay, named["y"][None], measure, float(zeta))
    after = step(prior, w.z[w.t][None], w.t, w.t - 1, w.schedule, None, [])[0]
    at = lambda env: env.bound.get(("z", None), w.z[w.t])  # noqa: E731
    guess = Letter(lambda env: law.mean(at(env)[None])[0])
    own: Symbols = {
        "z": w.z[w.t],
        "z_s": free,
        "after": ("z_s", after),
        "\\hatx": guess,
    }
    return {**named, **own, "\\zeta": zeta}


@symbols("eq-augment")
def noised_copy(w: World) -> Symbols:
    y, n = w.rand(2, 1, 2, 2), w.rand(2, 1, 2, 2)
    made = w.package.augment(y, w.t, n, w.schedule)
    return {"y": y, "n": n, "s": float(w.t), "\\tildey": made}


@symbols("eq-com", ranges={"j": range(1, 6), "i": range(1, 6)}, every="i")
def pushed_back(w: World) -> Symbols:
    """Five points, and what is left of their noise."""
    eta = w.rand(5, 3)
    left = w.package.centred(eta)
    return {"n": 5.0, "\\eta": [None, *eta], "\\epsilon": [None, *left]}


def laid_over(w: World) -> tuple[Tensor, Tensor, Symbols]:
    """Two clouds, one of them mirrored, and the singular values of their products."""
    x, y = w.package.centred(w.rand(2, 6, 3))
    left, size, right = torch.linalg.svd(y.T @ x)
    d = torch.det(left @ right)
    named: Symbols = {"U": matrix(left), "V\\top": matrix(right), "d": d}
    named["D"] = matrix(torch.diag(torch.stack([ONE[0, 0], ONE[0, 0], d])))
    return x, y, {**named, "s": [None, *size], "n": 6.0}


@symbols("eq-kabsch", dims=3)
def best_turn(w: World) -> Symbols:
    x, y, named = laid_over(w)
    return {**named, "R": matrix(w.package.kabsch(x, y))}


@symbols("eq-rmsd", dims=3, ranges={"i": range(1, 7)})
def left_over(w: World) -> Symbols:
    x, y, named = laid_over(w)
    rho = w.package.rmsd(x, y)
    return {**named, "x": [None, *x], "y": [None, *y], "\\rho": rho}


@symbols("eq-angle-density")
def of_an_angle(w: World) -> Symbols:
    """f is the package's; the measure is that of half the angle's sine."""
    density = lambda a: w.package.igso3_log_density(as_tensor(a), 0.8).exp()  # noqa: E731
    measured = lambda a: density(a) * (as_tensor(a) / 2).sin() ** 2 * 2 / math.pi  # noqa: E731
    omega = 0.3 + 2 * w.rand(1).squeeze()
    return {"\\omega": omega, "\\pi": math.pi, "f": density, "p": measured}
