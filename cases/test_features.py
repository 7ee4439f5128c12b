# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernel learnt after 5.3: there from the release that introduced it, absent or carried back before.

Every skip of another case rests on one of these probes, so each is held against the version on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.kernel.features import FEATURES, expected, present
from harness.kernel.release import running

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.usefixtures("wire")
def test_feature_is_there_since_its_introduction(name: str, record_property: Callable[[str, object], None]) -> None:
    """A kernel at or above the release that introduced a feature has it; one below may have had it backported."""
    found = present(name)
    if expected(name):
        if not found:
            record_property("missing_feature", name)
        assert found, f"Linux {running()} ought to have {name} since {FEATURES[name].introduced}"
    else:
        record_property("observed", f"{name} {'backported' if found else 'absent'}")
