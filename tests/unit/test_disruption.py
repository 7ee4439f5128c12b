# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What cases measure of consistent hashing is printed, kept and drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runs import ROOT

from harness.__main__ import main

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]
CASE = """
def test_measured(record_property):
    record_property("disruption", {
        "kernel": "6.1", "program": "maglev", "clients": 100, "members": 4,
        "own": 1.0, "others": 0.0123, "busiest": 1.5,
    })
"""


def test_numbers_are_printed_and_drawn(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(CASE)
    result = pytester.runpytest_subprocess("-p", "harness.plugins.disruption")
    result.stdout.fnmatch_lines(
        ["6.1: maglev: one of 4 members leaves: of 100 clients 100.00% of its own and 1.23% of the others' move*"]
    )
    drawn = pytester.path / "results" / "disruption.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    drawn.unlink()
    assert main(["plot"]) == 0
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert "results/disruption.png" in capsys.readouterr().out


def test_no_measurement_is_reported(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot"]) == 1
    assert "run the cases" in capsys.readouterr().err


def test_damaged_measurement_is_reported(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    (pytester.path / "results").mkdir()
    for content in ("", "{}", "[1]", '[{"kernel": "6.1"}]'):
        (pytester.path / "results" / "disruption.json").write_text(content)
        assert main(["plot"]) == 1
        assert "cannot draw results/disruption.json" in capsys.readouterr().err


def test_numbers_that_cannot_be_kept_are_printed_all_the_same(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(CASE)
    (pytester.path / "results").write_text("a file, where a directory should be")
    result = pytester.runpytest_subprocess("-p", "harness.plugins.disruption")
    result.stdout.fnmatch_lines(
        ["6.1: maglev: one of 4 members leaves: *", "not kept in results/disruption.json, and not drawn: *"]
    )
