# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a soak tells from its samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runs import CONFIGURATION, environment

sys.path.insert(0, str(Path(__file__).parents[1]))

from soak.inside import command
from soak.judge import LEAST_ROUNDS, courses
from soak.plot import draw
from soak.sample import Sample

ROUNDS = 8
NOISE = (0, 300, -200, 100, -300, 200, -100, 0)


def samples(*, a_round: int = 0, field: str = "used", rounds: int = ROUNDS) -> list[Sample]:
    held = {
        "used": 100_000, "unreclaimable": 9_000, "percpu": 800, "files": 640, "sockets": 30, "programs": 2, "maps": 3,
        "links": 0, "host": 500_000,
    }  # fmt: skip
    made = []
    for number in range(rounds):
        values = {**held, "used": held["used"] + NOISE[number % len(NOISE)]}
        values[field] += number * a_round
        made.append(Sample(seconds=number * 60.0, **values))
    return made


def grew(of: list[Sample]) -> list[str]:
    return [course.name for course in courses(of) if not course.is_flat]


def test_what_only_goes_up_and_down_is_flat() -> None:
    assert grew(samples()) == []


@pytest.mark.parametrize(
    ("field", "a_round"),
    [("used", 2000), ("unreclaimable", 500), ("percpu", 100), ("host", 4000), ("maps", 1), ("files", 2), ("links", 1)],
)
def test_what_every_round_adds_to_grew(field: str, a_round: int) -> None:
    assert grew(samples(field=field, a_round=a_round)) == [field]


def test_one_round_that_holds_more_is_no_growth() -> None:
    held = samples()
    held[4] = Sample.from_json({**held[4].to_json(), "maps": 9})
    assert grew(held) == []


def test_the_first_round_is_left_out() -> None:
    held = samples()
    held[0] = Sample.from_json({**held[0].to_json(), "used": 10_000})
    assert grew(held) == []


def test_too_few_rounds_tell_nothing() -> None:
    with pytest.raises(ValueError, match="more --minutes"):
        courses(samples(rounds=LEAST_ROUNDS - 1))


def test_the_plots_name_what_is_held(tmp_path: Path) -> None:
    memory, counts = draw(samples(), tmp_path)
    assert "unreclaimable" in memory.read_text()
    assert "programs" in counts.read_text()
    assert "links" not in counts.read_text()  # none at any time


def test_round_leaves_no_files(tmp_path: Path) -> None:
    """They would be in the memory of the VM, which would grow."""
    (tmp_path / "pyproject.toml").write_text(CONFIGURATION)
    (tmp_path / "test_topic.py").write_text("def test_good(): pass")
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        command([]), cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert "1 passed" in done.stdout
    assert sorted(tmp_path.iterdir()) == before
