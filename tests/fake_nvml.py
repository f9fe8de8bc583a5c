"""The fake ``libnvidia-ml.so.1``, which is part of `hwnuma.testing`, under the name that the tests call it by."""

from hwnuma.testing.nvml import *  # noqa: F403
