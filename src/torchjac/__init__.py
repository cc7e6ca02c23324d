"""torchjac: Jacobians of PyTorch functions with the least work and memory that their structure allows."""

from ._base.lazy import contents as _contents

# The contents page is __init__.pyi, which type checkers read too: what it names is loaded when it is first used.
__getattr__, __dir__ = _contents(__name__, __file__)
