"""What is wrong with a model, in sentences with numbers and places."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gnnbridge.report.reading import TITLES, as_dict, part
from gnnbridge.report.rules.collapse import collapse
from gnnbridge.report.rules.finding import SEVERITIES, Finding, Rule
from gnnbridge.report.rules.retrieval import retrieval
from gnnbridge.report.rules.runway import runway
from gnnbridge.report.rules.sinks import sinks
from gnnbridge.report.rules.smoothing import smoothing
from gnnbridge.report.rules.squashing import squashing

RULES: dict[str, Rule] = {
    'sinks': sinks,
    'smoothing': smoothing,
    'squashing': squashing,
    'collapse': collapse,
    'runway': runway,
    'retrieval': retrieval,
}


def findings(profile: Any) -> list[dict[str, Any]]:
    """Reads the diagnostics of a profile as a doctor would.

    Every rule compares with the null and with the re-initialised weights. What
    these show as well is at most worth knowing (``'info'``), whatever its
    size, but for states that half precision cannot tell apart, pairs beyond
    the depth, and tasks that are not done at all. What is in order is said
    too.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself; its
            own ``findings`` are not looked at.

    Returns:
        For each finding its ``severity`` (``'high'``, ``'medium'`` or
        ``'info'``), ``diagnostic``, ``title``, ``text`` and ``where``, the
        worst first, within a severity in the order of the diagnostics.
    """
    found: list[Finding] = []
    plain = as_dict(profile)
    for name in TITLES:
        section = part(plain, name)
        if section is not None and section.model:
            found += RULES[name](section)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return [asdict(finding) for finding in found]
