"""One call from a model and a text to everything that is known of them.

:func:`profile` measures a model; :func:`compare_rewiring` measures it before
and after its attention was rewired.
"""

from gnnbridge.profiling.result import Profile as Profile
from gnnbridge.profiling.rewiring import compare_rewiring as compare_rewiring
from gnnbridge.profiling.rewiring_report import (
    RewiringReport as RewiringReport,
)
from gnnbridge.profiling.rewiring_settings import (
    RewiringSettings as RewiringSettings,
)
from gnnbridge.profiling.run import profile as profile

__all__ = [
    'Profile',
    'RewiringReport',
    'RewiringSettings',
    'compare_rewiring',
    'profile',
]
