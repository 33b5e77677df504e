"""Makes pytest explain the suite's assertions, which live outside the test folders."""

import pytest

pytest.register_assert_rewrite("corridor.providers.conformance", "corridor.providers.conformance_harness")
