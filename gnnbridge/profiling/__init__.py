"""One call from a model and a text to everything that is known of them."""

from gnnbridge.profiling.result import Profile as Profile
from gnnbridge.profiling.run import profile as profile

__all__ = ['Profile', 'profile']
