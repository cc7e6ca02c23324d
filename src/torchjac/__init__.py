"""torchjac: Jacobians of PyTorch functions with the least work and memory that their structure allows."""

from ._api import hessian_sparsity as hessian_sparsity
from ._api import jacobian as jacobian
from ._api import jacobian_sparsity as jacobian_sparsity
from ._api import load_plan as load_plan
from ._api import plan_jacobian as plan_jacobian
from ._coloring import color as color
from ._colors import Coloring as Coloring
from ._errors import DerivativeMismatchError as DerivativeMismatchError
from ._errors import FileError as FileError
from ._errors import InputError as InputError
from ._errors import OptionError as OptionError
from ._errors import OutputError as OutputError
from ._errors import PatternError as PatternError
from ._errors import SignatureError as SignatureError
from ._errors import StalePatternError as StalePatternError
from ._errors import TorchjacError as TorchjacError
from ._errors import TorchjacWarning as TorchjacWarning
from ._matrix import SparseMatrix as SparseMatrix
from ._operator import JacobianOperator as JacobianOperator
from ._pattern import Note as Note
from ._pattern import SparsityPattern as SparsityPattern
from ._plan import JacobianPlan as JacobianPlan
from ._tangent.registry import register_rule as register_rule
from ._version import __version__ as __version__
from ._versions import show_versions as show_versions
from .stream import write_jacobian as write_jacobian
