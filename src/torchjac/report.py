"""One page about a plan that needs nothing else: the pattern to zoom into, colors, strategies, source lines."""

from ._plan.report.page import costs_of as costs_of
from ._plan.report.page import html as html
from ._plan.report.page import write_report as write_report
