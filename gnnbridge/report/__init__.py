"""The HTML report: one self-contained page drawn from plain data.

Nothing here knows a model: everything is a function of the dictionary that
``Profile.to_dict()`` returns, so a page can be drawn again from the JSON.
"""

from gnnbridge.report.html import render as render
from gnnbridge.report.html import write as write
from gnnbridge.report.section import Panel as Panel
from gnnbridge.report.section import Section as Section
from gnnbridge.report.section import Table as Table

__all__ = ['Panel', 'Section', 'Table', 'render', 'write']
