"""The words that rules of custom ops are written in; see ``torchjac.register_rule``."""

from ._tangent.call import Call as Call
from ._tangent.relations import Everything as Everything
from ._tangent.relations import Mix as Mix
from ._tangent.relations import Move as Move
from ._tangent.relations import Pointwise as Pointwise
from ._tangent.relations import Scatter as Scatter
from ._tangent.relations import Window as Window
