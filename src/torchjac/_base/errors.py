"""The exceptions and warnings of torchjac; each message says what came, what was expected, why, and what to write."""

from __future__ import annotations


class TorchjacError(Exception):
    """Base of every error that torchjac raises on purpose.

    ``got``, ``expected``, ``why`` and ``instead`` are kept as attributes, so that a program can read them too.
    """

    def __init__(self, got: str, *, expected: str = "", why: str = "", instead: str = "") -> None:
        self.got, self.expected, self.why, self.instead = got, expected, why, instead
        rows = (("expected", expected), ("why", why), ("write instead", instead))
        super().__init__("\n".join([got, *(f"  {label}: {text}" for label, text in rows if text)]))


class InputError(TorchjacError, ValueError):
    """The arguments of the function cannot be differentiated as asked."""


class OutputError(TorchjacError, TypeError):
    """The function returned something that has no Jacobian."""


class SignatureError(TorchjacError, ValueError):
    """A plan was called with inputs of another tree, shape, dtype or device than it was made for."""


class PatternError(TorchjacError, ValueError):
    """A sparsity pattern (or a coloring) does not fit what it is used for."""


class OptionError(TorchjacError, ValueError):
    """An option does not exist, or its value is not one of those it can take."""


class FileError(TorchjacError, ValueError):
    """Something cannot be kept in a file, or a file is damaged, of another version, or belongs to something else."""


class StalePatternError(TorchjacError, RuntimeError):
    """The function depends on inputs that the plan's pattern says it does not depend on."""

    entry: tuple[int, int] = (-1, -1)  # the row and column of a missing entry


class MemoryLimitError(TorchjacError, MemoryError):
    """Something would take more memory than is allowed, or than half of what is free; it was not tried."""

    def at(self, op: str, line: str) -> MemoryLimitError:
        """Return this error with the op that asked for memory and the user's line."""
        where = f"{op}, at {line}" if line else op
        return MemoryLimitError(f"{where}: {self.got}", expected=self.expected, why=self.why, instead=self.instead)


class InteractionError(TorchjacError, ValueError):
    """The samples of a batch, which were to be independent of each other, are not."""


class DerivativeMismatchError(TorchjacError, RuntimeError):
    """Two ways of computing the same derivative disagree, so at least one formula is wrong."""


class RankError(TorchjacError, RuntimeError):
    """Another process of a torch.distributed group raised, ended, or computes something else."""


REFUSALS = (RuntimeError, IndexError, ValueError, TypeError)
"""What PyTorch raises where it cannot differentiate an op: a RuntimeError; of an empty tensor, say, an IndexError."""


def not_differentiable(error: RuntimeError) -> InputError:
    """The InputError for a function that runs, and raised ``error`` when PyTorch was to differentiate it backward."""
    return InputError(
        "PyTorch runs f, but cannot differentiate it",
        expected="a function of ops with derivatives",
        why=first_line(error),
        instead="checkpoint(..., use_reentrant=False), if f uses checkpoints"
        if "use_reentrant" in str(error)
        else "the same by other ops, or a torch.autograd.Function with a backward",
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class TorchjacWarning(UserWarning):
    """Something works, but otherwise than asked; announced once per plan."""
