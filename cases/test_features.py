# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Features that came after Linux 5.3: there from the release that introduced them, absent or backported before.

Every skip of another case rests on one of these probes, so each is compared with the version on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cases import promise
from harness.interface.keys import MISSING_FEATURE, OBSERVED
from harness.kernel.features import FEATURES, expected, present
from harness.kernel.release import running

if TYPE_CHECKING:
    from harness.cases import RecordProperty


@promise("feature.since")
@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.usefixtures("wire")
def test_feature_is_there_since_its_introduction(name: str, record_property: RecordProperty) -> None:
    """A kernel has each feature from the release on that introduced it; an older one may have it backported.

    Where kernels are often built without the feature's option, it may be missing in any release.
    """
    found = present(name)
    if FEATURES[name].option:
        record_property(OBSERVED, f"{name} {'built' if found else 'not built'}")
    elif expected(name):
        if not found:
            record_property(MISSING_FEATURE, name)
        assert found, f"Linux {running()} ought to have {name} since {FEATURES[name].introduced}"
    else:
        record_property(OBSERVED, f"{name} {'backported' if found else 'absent'}")
