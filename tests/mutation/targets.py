"""Which modules get faults, and which tests have to find them: the quickest that look at the module."""

from __future__ import annotations

_POLICY = (
    "tests/test_policy.py",
    "tests/test_golden.py",
    "tests/test_locality.py",
    "tests/test_placement.py",
    "tests/test_prefer.py",
    "tests/test_consistency.py",
)
_RAILS = ("tests/test_rails.py", "tests/test_rails_properties.py", "tests/test_nearness.py")

TARGETS: dict[str, tuple[str, ...]] = {
    "hwnuma/processes/binding.py": (
        "tests/test_binding_to_the_letter.py",
        "tests/test_binding.py",
        "tests/test_blocks.py",
        "tests/test_bound.py",
        "tests/test_self_binding.py",
        "tests/test_refusals.py",
        "tests/test_interrupts.py",
    ),
    "hwnuma/model/bitmap.py": ("tests/test_bitmap.py", "tests/test_numbers.py"),
    "hwnuma/devices/visible.py": ("tests/test_visible.py",),
    "hwnuma/policy/claims.py": _POLICY,
    "hwnuma/policy/draft.py": _POLICY,
    "hwnuma/policy/locality.py": (*_POLICY, "tests/test_device_nodes.py"),
    "hwnuma/policy/matching.py": _RAILS,
    "hwnuma/policy/modes.py": _POLICY,
    "hwnuma/policy/nearness.py": _RAILS,
    "hwnuma/policy/planning.py": _POLICY,
    "hwnuma/policy/rails.py": _RAILS,
    "hwnuma/policy/rank_order.py": ("tests/test_rank_order.py",),
    "hwnuma/policy/ranks.py": _POLICY,
}
