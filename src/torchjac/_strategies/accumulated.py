"""The Jacobian by direct accumulation: a program computes each nonzero, without seeds and colors."""

from __future__ import annotations

import math

import torch

from .._accumulation.emission import MissingEntriesError
from .._accumulation.errors import CannotAccumulateError
from .._accumulation.program import Program, build
from .._base.errors import OptionError, StalePatternError
from .._base.random_state import RandomState
from .._base.words import Args, Direction, Mode
from .._function.flat import FlatFunction
from .._function.frozen import Frozen, floats_as_tensors, has_floats
from .._function.gradient import GradientOf
from .._function.leaves import place
from .._matrices.pattern import SparsityPattern
from .._products.cost import seconds_of
from .._products.rounding import near
from .._products.seeded import Side

_FEW, _PER_ENTRY, _PER_PRODUCT = 2**20, 8, 2  # coefficients that a tensor may have: more, and colors are cheaper
_WORTH = 0.8  # the transposed program is taken where it needs less than this share of the forward program's time
_REBUILDS = 8  # programs are made for what f reads beside its tensors; from then on products read it in each call
_WIDER = 2  # a direction is not tried where it has so many times the coefficients at its end


class Accumulated:
    """The values of the entries of ``pattern``, row-major, by a program made from f's tangent program.

    Index tensors and flags among the arguments are constants of the program: for others it is built anew. ``part``: the
    pattern leaves out entries on purpose. ``detected``: the pattern was found for the arguments of the first
    ``prepare``. ``compiled``: the program will be compiled.

    Raises
    ------
    CannotAccumulateError: ``prepare`` met an op without a second reading; it names the op and the user's line.
    """

    mode: Mode = "accumulate"
    num_products = joined = 0

    def __init__(
        self,
        function: FlatFunction,
        pattern: SparsityPattern,
        products: int,
        part: bool,
        detected: bool,
        compiled: bool,
    ) -> None:
        self.sides: list[Side] = []
        self._function, self._pattern = function, pattern
        self._part, self._detected, self._compiled = part, detected, compiled
        self._symmetric = isinstance(function.f, GradientOf) and not part
        numbers = products * (function.m + function.n)
        self._limit = max(_FEW, _PER_ENTRY * pattern.nnz, _PER_PRODUCT * numbers)
        self._program: Program | None = None
        self._built_for: Frozen | None = None
        self._takes_floats = False  # as inputs of the program
        self._rebuilt = 0
        self._seconds: float | None = None  # of one evaluation, where it was measured

    @property
    def known(self) -> Program | None:
        """The program that was built last."""
        return self._program

    def seconds(self, args: Args) -> float:
        """The seconds that one evaluation takes, measured at ``args`` the first time."""
        program = self.program(args)
        if self._seconds is None:
            self._seconds = seconds_of(lambda: program(args))
        return self._seconds

    def kept(self, side: Side) -> int:
        """No bytes: there are no products to keep."""
        return 0

    def prepare(self, args: Args, deadline: float = math.inf) -> None:
        """Build the program of the tangent, or of its transpose where that may be faster.

        Where J and its transpose have the same pattern, both programs are as much work: the tangent's is taken, since
        its values come in row order. Elsewhere both are built where the second may carry fewer coefficients from op to
        op. Building the second ends once it writes more numbers than the first; otherwise the faster is taken. Both are
        given up at the ``deadline``, a time of ``time.perf_counter``.
        """
        built_for = Frozen(self._function, args)
        found: dict[Direction, Program] = {}
        refusals: dict[Direction, CannotAccumulateError] = {}
        order: tuple[Direction, ...] = ("forward", "reverse") if self._square else ("reverse", "forward")
        for direction in order:
            first = next(iter(found.values()), None)
            if first is not None and (self._mirrored or self._is_narrow(first)):
                break
            most = None if first is None else first.numbers
            try:
                found[direction] = self._built(args, direction, most, deadline)
            except CannotAccumulateError as refusal:
                refusals[direction] = refusal
        if not found:
            raise refusals["forward"]
        best, self._seconds = next(iter(found)), None
        if len(found) > 1:
            taken = {way: seconds_of(lambda: program(args)) for way, program in found.items()}  # noqa: B023  # called at once
            best = self._better(found, taken)
            self._seconds = taken[best]
        built_for.forget_changed()
        self._program, self._built_for = found[best], built_for

    def _is_narrow(self, program: Program) -> bool:
        """Whether a program carries clearly fewer coefficients than the other direction has at its end.

        A regular program is never called narrow: the values of the other direction may come in order, so it is tried.
        """
        m, n = self._pattern.shape
        ends = m if program.direction == "reverse" else n
        return program.irregular and _WIDER * program.width * ends < self._pattern.nnz

    def _better(self, found: dict[Direction, Program], taken: dict[Direction, float]) -> Direction:
        """The direction that runs faster; where compiled, one whose values come in order, as they are written once."""
        ordered = {direction: program.regular > 0 for direction, program in found.items()}
        if self._compiled and ordered["forward"] != ordered["reverse"]:
            return "forward" if ordered["forward"] else "reverse"
        return "reverse" if taken["reverse"] < _WORTH * taken["forward"] else "forward"

    @property
    def _square(self) -> bool:
        m, n = self._pattern.shape
        return m == n

    @property
    def _mirrored(self) -> bool:
        """Whether the pattern equals its transpose."""
        return self._square and self._pattern == self._pattern.T

    def _built(self, args: Args, direction: Direction, most: int | None, deadline: float) -> Program:
        try:
            with RandomState(self._function.device).again():
                given = self._function, args, self._pattern, direction, self._limit, self._part, self._symmetric
                return build(*given, most, deadline)
        except MissingEntriesError as error:
            if not self._detected or self._built_for is not None:
                raise self._stale(error) from error
            why = "this direction has entries that the other, which the pattern is from, does not have"
            raise CannotAccumulateError("f", why) from error

    def values(self, args: Args) -> torch.Tensor:
        """The values, (nnz,), differentiable like the result of any other tensor program."""
        return self.program(args)(self.given(args))

    def given(self, args: Args) -> Args:
        """The arguments as the program takes them: with tensors in place of floats, where they are its inputs."""
        return floats_as_tensors(self._function, args) if self._takes_floats else args

    def program(self, args: Args) -> Program:
        """The program for ``args``: built anew where f reads something else than when it was built."""
        given = self.given(args)
        if self._program is None or self._built_for is None:
            self._rebuild(given)
        elif not self._built_for.same(given):
            self._count_changes()
            if not self._takes_floats and has_floats(self._function, args):
                self._try_floats_as_inputs(args)
            else:
                self._rebuild(given)
        assert self._program is not None
        return self._program

    def _rebuild(self, args: Args) -> None:
        try:
            with torch.no_grad():
                self.prepare(args)
        except CannotAccumulateError as error:
            raise OptionError(
                f"mode='accumulate' stops at {error}",
                why=str(error),
                instead="mode='auto', which uses colors where it cannot accumulate",
            ) from error

    def _try_floats_as_inputs(self, args: Args) -> None:
        """A program that holds for other floats too, where it computes what one for these floats alone does."""
        self._rebuild(args)
        program, built_for, lifted = self._program, self._built_for, floats_as_tensors(self._function, args)
        assert program is not None
        try:
            with torch.no_grad():
                expected = program(args)
                self.prepare(lifted)
                assert self._program is not None
                found = self._program(lifted)
                self._takes_floats = bool(near(found, expected, expected.abs()).all())
        except (CannotAccumulateError, StalePatternError, TypeError, ValueError, RuntimeError):  # f wants a number
            self._takes_floats = False
        if not self._takes_floats:
            self._program, self._built_for = program, built_for

    def _count_changes(self) -> None:
        self._rebuilt += 1
        if self._rebuilt > _REBUILDS:
            why = "f reads values beside its tensors that change from call to call, and a program holds them fixed"
            raise OptionError(
                f"mode='accumulate' for a function of which {_REBUILDS} programs were made already",
                expected="an f that reads the same in most calls",
                why=why,
                instead="mode='auto', or tensors in place of numbers that change",
            )

    def __str__(self) -> str:
        program = self._program
        if program is None:
            return "a program, built on the first call"
        slots = " + ".join(str(count) for count in program.slots)
        order = f"{100 * program.regular:.0f}% of the values in order" if program.regular else "values gathered"
        return f"{program.direction}, {slots} slot{'s' * (program.slots != (1,))}, {program.ops} ops, {order}"

    def _stale(self, error: MissingEntriesError) -> StalePatternError:
        output, entry = place(self._function.outputs, error.row), place(self._function.inputs, error.column)
        return StalePatternError(
            f"output {output} depends on input {entry}, which the pattern does not have",
            expected="a pattern with every entry that can be nonzero",
            why="the pattern was given by hand, or holds for other index arguments",
            instead="plan_jacobian(f, *args) again at these inputs, or a larger pattern in sparsity=",
        )
