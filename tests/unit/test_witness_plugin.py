# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""When a case is traced, what of it reaches the report, and what is said where there is no witness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

_ONE_FAILS = """
def test_good(wire): pass
def test_bad(wire): assert 1 == 2, "one is not two"
"""

_FLAKY = """
from pathlib import Path
def test_flaky(wire, record_property):
    record_property("observed", "seen")
    mark = Path(__file__).with_suffix(".ran")
    first = not mark.exists()
    mark.write_text("")
    assert not first, "only once"
def test_next(wire): pass
"""

# Replaces the tracer in the kernel, so that a story's way into the report is tested where nothing can be traced.
_WIRE = """
from types import SimpleNamespace
import pytest

@pytest.fixture
def wire(): return SimpleNamespace(names={})
"""

_STAND_IN = (
    _WIRE
    + """
from harness.trace import witness
from harness.trace.evidence import Evidence
from harness.trace.events import Reading

class StandIn:
    def listen(self, netns): pass
    def read(self): return Reading()
    def evidence(self, readings, sockets):
        missing = ("the weather",)
        return Evidence.gather(readings, sockets=sockets, drop_reasons={}, function_at=hex, missing=missing)

class Loader:
    def wait(self): return StandIn()

witness.Loader = Loader
"""
)

_NONE = (
    _WIRE
    + """
from harness.trace import tracer
tracer.why_unavailable = lambda: "bcc is not installed: run ./bootstrap"
"""
)


@pytest.fixture
def project(pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    pytester.makeini("[pytest]\naddopts = -p harness.plugins.witness -p no:cacheprovider\nfilterwarnings = error")
    return pytester


def test_failed_case_runs_once_more_and_its_first_outcome_stays(project: pytest.Pytester) -> None:
    project.makeconftest(_STAND_IN)
    project.makepyfile(_FLAKY)
    result = project.runpytest_subprocess("--junitxml=junit.xml", "-ojunit_family=xunit1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- witness -*",
            "run again under trace, the case passed: the failure is intermittent",
            "nothing arrived for UDP or TCP",
            "note: this kernel does not let the witness see the weather",
        ]
    )
    junit = (project.path / "junit.xml").read_text()
    assert junit.count('name="story"') == junit.count('name="observed"') == 1


def test_failure_that_repeats_is_reported_as_such(project: pytest.Pytester) -> None:
    project.makeconftest(_STAND_IN)
    project.makepyfile(_ONE_FAILS)
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["run again under trace, the case failed again: *one is not two*"])
    result.stdout.no_fnmatch_line("no witness:*")


def test_all_cases_are_traced_as_they_run(project: pytest.Pytester) -> None:
    project.makeconftest(_STAND_IN)
    project.makepyfile(_ONE_FAILS)
    result = project.runpytest_subprocess("--witness=all", "-rP")
    result.assert_outcomes(passed=1, failed=1)
    assert result.stdout.str().count("note: this kernel does not let the witness see the weather") == 2
    result.stdout.no_fnmatch_line("run again*")


def test_stories_of_workers_are_made_by_the_controller(project: pytest.Pytester) -> None:
    project.makeconftest(_STAND_IN)
    project.makepyfile(_ONE_FAILS)
    result = project.runpytest_subprocess("-n1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["run again under trace, the case failed again: *", "nothing arrived for UDP or TCP"])


def test_file_that_cannot_be_imported_ends_the_run_with_its_error(project: pytest.Pytester) -> None:
    project.makepyfile("import nothing_of_that_name")
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "AttributeError" not in result.stdout.str() + result.stderr.str()


def test_pytest_that_cannot_run_a_case_twice_runs_it_once(project: pytest.Pytester) -> None:
    project.makeconftest(f"{_STAND_IN}\nfrom harness.plugins import second_run\nsecond_run.runtestprotocol = None\n")
    project.makepyfile("def test_good(wire): pass\ndef test_bad(wire): assert 0\ndef test_worse(wire): assert 0")
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=2)
    assert [line for line in result.outlines if line.startswith("no witness")] == [
        "no witness: this version of pytest cannot run a case twice: --witness all traces every case in its only run"
    ]
    project.runpytest_subprocess("--witness=all").stdout.fnmatch_lines(["nothing arrived for UDP or TCP"])


@pytest.mark.parametrize("mode", ["failed", "all"])
def test_without_a_witness_cases_run_and_one_line_says_how_to_get_one(project: pytest.Pytester, mode: str) -> None:
    project.makeconftest(_NONE)
    project.makepyfile(_ONE_FAILS)
    result = project.runpytest_subprocess(f"--witness={mode}")
    result.assert_outcomes(passed=1, failed=1)
    lines = [line for line in result.outlines if line.startswith("no witness")]
    assert lines == ["no witness: bcc is not installed: run ./bootstrap"]


def test_failed_case_without_a_witness_says_so_where_its_story_would_be(project: pytest.Pytester) -> None:
    project.makeconftest(_NONE)
    project.makepyfile(_ONE_FAILS)
    result = project.runpytest_subprocess("--junitxml=junit.xml", "-ojunit_family=xunit1")
    told = "there is no witness: bcc is not installed: run ./bootstrap"
    result.stdout.fnmatch_lines(["*- witness -*", told])
    assert f'<property name="story" value="{told}"' in (project.path / "junit.xml").read_text()


def test_no_line_about_a_witness_that_was_not_wanted(project: pytest.Pytester) -> None:
    project.makeconftest(_NONE)
    project.makepyfile("def test_good(wire): pass")
    project.runpytest_subprocess().stdout.no_fnmatch_line("no witness*")
    project.makepyfile("def test_bad(): assert False")  # sends nothing: there is nothing to see
    project.runpytest_subprocess("--witness=all").stdout.no_fnmatch_line("no witness*")
    project.makepyfile(_ONE_FAILS)
    project.runpytest_subprocess("--witness=none").stdout.no_fnmatch_line("*no witness*")


def test_headers_are_found_where_bcc_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.trace import headers

    (tmp_path / "include/net").mkdir(parents=True)
    (tmp_path / "include/trace/events").mkdir(parents=True)
    (tmp_path / "include/net/sock_reuseport.h").write_text("u16 num_closed_socks;\n")
    (tmp_path / "include/trace/events/skb.h").write_text("void *location\n")
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))
    assert headers.find("5.14.0") == headers.Headers(source=tmp_path, defines=("HAS_CLOSED",))
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path / "elsewhere"))
    assert headers.find("no-such-release") is None


@pytest.mark.parametrize(
    ("release", "defines"),
    [("5.10.223", ()), ("5.14-rc2", ("HAS_CLOSED",)), ("7.3-amd64", ("HAS_CLOSED", "HAS_REASON"))],
)
def test_headers_in_the_kernel_are_those_of_its_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, defines: tuple[str, ...]
) -> None:
    from harness.trace import headers

    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    monkeypatch.setattr(headers, "_own_headers", lambda: tmp_path)
    assert headers.find(release) == headers.Headers(source=None, defines=defines)
