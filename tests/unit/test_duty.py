# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A guest that waits for its next case is not held to be silent; one that runs a case is watched."""

from __future__ import annotations

import pytest

from vm.boot.patience import Patience
from vm.controller.duty import Duty
from vm.controller.xdist_protocol import Name

NO_TIME = -1.0  # seconds: whoever is watched at all has been silent for too long


@pytest.fixture
def patience() -> Patience:
    """Return one that is over at once, unless nothing is waited for."""
    return Patience(NO_TIME)


@pytest.fixture
def duty(patience: Patience) -> Duty:
    """Return that of a guest which is up and has collected."""
    made = Duty(patience)
    made.hear(Name.READY)
    assert patience.is_over, "it is watched while it collects"
    made.hear(Name.COLLECTED)
    return made


def test_guest_that_has_collected_waits_for_cases(patience: Patience, duty: Duty) -> None:
    assert not patience.is_over
    duty.take((Name.RUN, {"indices": [3, 4]}))
    assert patience.is_over


def test_guest_waits_for_the_next_case_before_it_runs_the_last_that_it_has(patience: Patience, duty: Duty) -> None:
    duty.take((Name.RUN, {"indices": [3, 4]}))
    duty.hear("testreport")
    assert patience.is_over
    duty.hear(Name.ENDED)
    assert not patience.is_over
    duty.take((Name.RUN, {"indices": [5]}))
    assert patience.is_over


def test_guest_that_knows_its_last_case_runs_it(patience: Patience, duty: Duty) -> None:
    duty.take((Name.RUN, {"indices": [3]}))
    assert not patience.is_over
    duty.take((Name.SHUTDOWN, {}))
    assert patience.is_over
    duty.hear(Name.ENDED)
    assert patience.is_over, "it has to end, too"
