"""Memory in bytes: the amount a user allows, the amount free on a device, and the peak of a computation."""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import PyTree, tree_leaves

from .errors import OptionError
from .words import Args, UserFunction

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{unit}b": base ** (power + 1)
    for unit, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmgt")
}
_FALLBACK = 2 * 2**30  # where the system does not say what is free


def parse_bytes(memory: object) -> int:
    """The number of bytes that ``memory`` means: a number, or a text with a unit.

    >>> parse_bytes("1.5KiB"), parse_bytes("2 GB"), parse_bytes(100)
    (1536, 2000000000, 100)
    """
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", memory.lower())
        if found and found[2] in _UNITS and (size := int(float(found[1]) * _UNITS[found[2]])) > 0:
            return size
    elif isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    raise OptionError(
        f"memory={memory!r}",
        expected="a positive number of bytes, a text such as '500MiB' (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), or None",
        instead="memory='500MiB'",
    )


def text_bytes(size: float) -> str:
    """The text of a size with a unit, rounded up to three digits, which ``parse_bytes`` reads.

    >>> text_bytes(1536), text_bytes(3 * 2**20 + 1)
    ('1.5KiB', '3.01MiB')
    """
    power = min(max(0, math.floor(math.log2(max(size, 1)) / 10)), 4)
    number = size / 1024**power
    digits = max(0, 2 - math.floor(math.log10(max(number, 1))))
    return f"{math.ceil(number * 10**digits) / 10**digits:g}{('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def available(device: torch.device) -> int:
    """The number of bytes that can still be allocated on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    proc = Path("/proc")
    free = _free_in_system(proc / "meminfo"), _free_in_group(Path("/sys/fs/cgroup")), _free_in_process(proc)
    return int(min(free))


def _free_in_system(meminfo: Path) -> int:
    found = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return int(found[1]) * 1024 if found else _FALLBACK


def _free_in_group(folder: Path) -> float:
    """The number of bytes that a container still allows (cgroup v2); infinite where it has no limit."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not (limit.exists() and used.exists()) or (text := limit.read_text().strip()) == "max":
        return math.inf
    return max(0, int(text) - int(used.read_text()))


def _free_in_process(proc: Path) -> float:
    """The bytes that ``ulimit -v`` leaves; no limit where none is set, or where there is no such thing."""
    used = proc / "self" / "statm"
    if not used.exists():
        return math.inf
    import resource  # not on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    return max(0, limit - int(used.read_text().split()[0]) * resource.getpagesize())


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of tensors made inside the block; ``peak`` is the most that were alive at once.

    Buffers that a kernel allocates while it runs are not counted, nor are tensors from before the block.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no annotation
        self.live, self.peak = 0, 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, func: UserFunction, types: object, args: Args = (), kwargs: dict[str, object] | None = None
    ) -> object:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            self._known.setdefault(storage, 0)  # from before
        out = func(*args, **kwargs)
        for storage in _storages(out):
            if storage not in self._known:
                self._born(storage)
        self.peak = max(self.peak, self.live)
        return out

    def _born(self, storage: torch.UntypedStorage) -> None:
        size = self._known[storage] = storage.nbytes()
        self.live += size
        weakref.finalize(storage, self._died, size).atexit = False

    def _died(self, size: int) -> None:
        self.live -= size


def _storages(tree: PyTree) -> list[torch.UntypedStorage]:
    tensors = [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor) and t.layout is torch.strided]
    return [t.untyped_storage() for t in tensors]


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes that ``run`` holds at once, in tensors of its own, its result among them."""
    count = PeakBytes()
    with count:
        run()
    return count.peak
