"""For all tests: hypothesis measures correctness here, not the speed of a machine that others use too."""

from hypothesis import HealthCheck, settings

settings.register_profile("modelloop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("modelloop")
