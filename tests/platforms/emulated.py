"""A plugin for pytest where every instruction is emulated: hypothesis takes nothing there for too slow."""

from hypothesis import HealthCheck, settings

settings.register_profile("emulated", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("emulated")
