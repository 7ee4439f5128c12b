# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a bench makes of its rounds, and what it keeps of them; no time is judged."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import operator
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import building, kept, page, plot, spending
from bench.__main__ import main
from bench.measured import reference
from bench.measurement import Bound, Desk, Measurement, MeasuringError, Place, Spread, parts, ratios, shortly
from bench.running import FILE, Running
from bench.table import MEASUREMENTS
from fake_archive import image
from runs import FAKE_VM

from harness.kernel.preflight import missing_requirement
from vm.base.progress import Progress
from vm.boot.acceleration import SUBSTITUTE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measurement import Round, Take

MACHINE = kept.Machine(kernel="6.1.192", processor="some", cpus=2, memory=4096, emulated=False)
STRICT = MEASUREMENTS["strict"]
SELECTION = {"1": 2.0, "32": 2.0, "128": 2.1, "1,024": 2.2, "10,000": 3.0}


def rounds(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    """Return rounds of a measurement with the parts of `strict`."""
    return [dict(zip(STRICT.ratio, pair, strict=True)) for pair in pairs]


def bench(machine: kept.Machine = MACHINE, **measured: list[dict[str, float]]) -> kept.Bench:
    named = {name.replace("_", "-"): one for name, one in measured.items()}
    return kept.Bench(machine=machine, day="2026-11-01", rounds=named)


def running(directory: Path, kernel: str | None) -> Running:
    return Running(directory, directory, kernel, 0, Progress(io.StringIO(), None))


def outside(*taken: Round | BaseException) -> Measurement:
    """Return a measurement of so many rounds, some of which end otherwise."""

    @contextlib.contextmanager
    def prepare(desk: Desk) -> Iterator[Take]:
        left = list(taken)

        def take() -> Round:
            one = left.pop(0)
            if isinstance(one, BaseException):
                raise one
            return one

        yield take

    return replace(STRICT, place=Place.OUTSIDE, prepare=prepare, rounds=len(taken))


def test_a_ratio_is_that_of_a_round_and_its_median_counts() -> None:
    taken = rounds((10, 100), (30, 100), (80, 200))
    assert ratios(STRICT, taken) == [0.1, 0.3, 0.4]
    assert Spread.of(ratios(STRICT, taken)) == Spread(median=0.3, least=0.1, most=0.4)
    assert dict(parts(taken))["bare loop"] == Spread(median=100, least=100, most=200)


def test_a_bound_is_the_least_or_the_most() -> None:
    assert Bound(at_least=2).holds(2)
    assert not Bound(at_least=2).holds(1.9)
    assert Bound(at_most=2).holds(2)
    assert not Bound(at_most=2).holds(2.1)
    assert STRICT.bound(emulated=False) == Bound(at_least=0.25)
    assert STRICT.bound(emulated=True) == Bound(at_least=0.1)


def test_numbers_have_three_digits_that_count() -> None:
    assert [shortly(value) for value in (0.06294, 1.0, 99.94, 1234.5)] == ["0.0629", "1", "99.9", "1,234"]


def test_what_was_measured_is_kept_though_the_next_round_is_interrupted(tmp_path: Path) -> None:
    first = rounds((10, 100))
    with pytest.raises(KeyboardInterrupt):
        running(tmp_path, "6.1").measure([outside(*first, KeyboardInterrupt())])
    (run,) = kept.read(tmp_path / FILE)
    assert run.rounds == {"strict": first}


def test_what_cannot_be_measured_does_not_keep_from_the_rest(tmp_path: Path) -> None:
    first = rounds((10, 100))
    broken = replace(outside(MeasuringError("no such kernel")), name="matrix")
    assert running(tmp_path, "6.1").measure([broken, outside(*first)]) == 0
    (run,) = kept.read(tmp_path / FILE)
    assert (run.rounds, run.failures) == ({"strict": first}, {"matrix": "no such kernel"})


def test_what_boots_vms_needs_their_kernel(tmp_path: Path) -> None:
    running(tmp_path, None).measure([MEASUREMENTS["matrix"]])
    (run,) = kept.read(tmp_path / FILE)
    assert "--kernel" in run.failures["matrix"]


@pytest.mark.skipif(missing_requirement() is not None, reason="the part inside needs root")
def test_a_kernel_is_measured_in_a_vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The VM is a process of the host (fake_vm.py)."""
    kernel = tmp_path / "k61"
    kernel.write_bytes(image("6.1.0"))
    monkeypatch.setenv(SUBSTITUTE, FAKE_VM)
    monkeypatch.setenv("REUSEPORT_KERNEL", "")
    assert running(tmp_path, str(kernel)).measure([MEASUREMENTS["crafting"]]) == 0
    (run,) = kept.read(tmp_path / FILE)
    assert len(run.rounds["crafting"]) == MEASUREMENTS["crafting"].rounds


@pytest.mark.skipif(shutil.which("cc") is None, reason="the bare loop is compiled by cc, which tox -e bench needs")
def test_a_peer_that_cannot_be_built_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "SOURCE", tmp_path / "linux-source.tar.xz")
    building.build(tmp_path, tell=lambda _: None)
    assert (tmp_path / building.BARE_LOOP).exists()
    with (
        pytest.raises(MeasuringError, match="install the package"),
        reference.against_the_kernels_own(Desk(built=tmp_path, kernel="")),
    ):
        pass


def test_a_name_that_is_none_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "quick"]) == 4
    assert "there is reference, spending," in capsys.readouterr().err


def test_the_page_takes_over_what_was_measured_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "DATA", tmp_path / "performance.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "performance.md")
    emulated = replace(MACHINE, emulated=True)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    kept.write(first, [bench(strict=rounds((10, 100)), batched=rounds((70, 100)))])
    kept.write(second, [bench(strict=rounds((30, 100))), bench(emulated, packets_hash=[SELECTION])])
    assert page.main([first]) == page.main([second]) == 0
    here, there = kept.read(tmp_path / "performance.json")
    assert here.rounds == {"strict": rounds((30, 100)), "batched": rounds((70, 100))}
    assert there.rounds == {"packets-hash": [SELECTION]}
    text = (tmp_path / "performance.md").read_text()
    assert "## Linux 6.1.192, natively" in text
    assert "(`strict`) | 0.3 (0.3 to 0.3) | ≥ 0.25 |" in text
    assert "(`packets-hash`) | 1.5 (1.5 to 1.5) | ≤ 1.2 (missed) |" in text
    assert "| 2 | 2 | 2.1 | 2.2 | 3 |" in text


def test_each_moment_counts_once_for_the_innermost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands at 1, 2, 3 and so on each time that it is read."""
    clock = itertools.count(1)
    monkeypatch.setattr("time.thread_time", lambda: float(next(clock)))
    account = spending.Account()
    with account.counted_as("outer"), account.counted_as("inner"):
        pass
    account.becomes("end")
    assert account.close() == {spending.STARTING: 1 + 1, "outer": 1 + 1, "inner": 1, "end": 1}


def test_what_is_counted_is_there() -> None:
    for module, name, _ in spending.WRAPPED:
        assert callable(operator.attrgetter(name)(importlib.import_module(module)))


def test_the_page_says_where_the_time_goes() -> None:
    taken = {"everything": 2.0, "deliveries": 0.5, "reports of cases": 0.2, "leak checks": 0.3}
    text = page.page([bench(spending=[taken])])
    assert "(`spending`) | 4 (4 to 4) |  | everything: 2 (2 to 2); deliveries: 0.5 (0.5 to 0.5), s |" in text
    assert "| leak checks | 0.3 (0.3 to 0.3) | 15% |\n| reports of cases |" in text


def test_a_file_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "results.json"
    other.write_text(json.dumps({"kernels": []}))
    assert page.main([other]) == 4
    assert "is not what tox -e bench writes" in capsys.readouterr().err


def test_the_page_is_what_was_measured() -> None:
    runs = kept.read(page.DATA)
    assert page.page(runs) == page.PAGE.read_text()
    assert {name for run in runs for name in run.rounds} <= set(MEASUREMENTS)


def test_pictures_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    assert plot.draw(bench(), tmp_path) == []
    drawn = plot.draw(bench(strict=rounds((30, 100)), packets_hash=[SELECTION]), tmp_path)
    assert [path.name for path in drawn] == ["ratios.svg", "selection.svg"]
    assert "strict" in drawn[0].read_text()
    assert "10000" in drawn[1].read_text()
