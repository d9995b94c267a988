"""For all tests."""

from hypothesis import settings

# A busy machine is not a bug: no example is timed.
settings.register_profile("pointsman", deadline=None)
settings.load_profile("pointsman")
