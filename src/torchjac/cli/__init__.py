"""The command line: look before you compute."""

from .._base.lazy import contents as _contents

# ``torchjac.cli.demo`` is used without typer and rich: what __init__.pyi names is loaded when it is first used.
__getattr__, __dir__ = _contents(__name__, __file__)
