# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The gate as a user meets it, with probes that answer what they are told; and the features against the matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_archive import image
from runs import FAKE_VM, run_pytest

from harness.kernel.features import FEATURES
from harness.kernel.release import Release
from vm.boot.acceleration import SUBSTITUTE
from vm.kernels.catalogue import load_catalogue
from vm.report.outcomes import EXIT_STATUS, CaseOutcome, KernelOutcome

if TYPE_CHECKING:
    from pathlib import Path

CASES = """
import pytest
from harness.kernel.features import FEATURES, Feature
from harness.kernel.release import Release

LONG_AGO, SOME_DAY = Release(1, 0), Release(99, 0)

for name, introduced, there, option in (
    ("broken", LONG_AGO, False, ""), ("usual", LONG_AGO, True, ""), ("backported", SOME_DAY, True, ""),
    ("future", SOME_DAY, False, ""), ("left-out", LONG_AGO, False, "CONFIG_RARE"),
):
    FEATURES[name] = Feature(
        name=name,
        introduced=introduced,
        probe=lambda there=there: there,
        option=option,
        summary=f"a planted one (000{introduced.major})",
    )

@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.requires(name)) for name in (
    "broken", "usual", "backported", "future", "left-out"
)])
def test_needs(name): assert name in ("usual", "backported"), "the gate lets no other through"

@pytest.mark.requires("usual", "broken")
def test_needs_two(): assert False, "the gate lets it through"
"""

PLUGINS = ("-p", "harness.plugin", "-p", "harness.plugins.gate", "-p", "harness.plugins.own_program")


@pytest.mark.parametrize("where", ["in a VM", "on the running kernel"])
def test_probe_that_fails_from_the_release_on_fails_the_case(tmp_path: Path, where: str) -> None:
    """At or above the release its outcome is "feature missing", the run's exit status 10; below, it is a skip.

    One that goes with an option of the kernel's configuration is a skip in every release.
    """
    (tmp_path / "k61").write_bytes(image("6.1.0"))
    there = ("--kernel", "./k61") if where == "in a VM" else ("--where-possible",)
    variables = {SUBSTITUTE: FAKE_VM}
    done = run_pytest(tmp_path, [*PLUGINS, *there], source=CASES, variables=variables)
    assert done.cases() == {
        "test_needs[broken]": "feature missing",
        "test_needs[usual]": "passed",
        "test_needs[backported]": "passed",
        "test_needs[future]": "skipped",
        "test_needs[left-out]": "skipped",
        "test_needs_two": "feature missing",
    }
    assert done.status == EXIT_STATUS[KernelOutcome.FEATURE_MISSING] == 10, done.output
    assert done.kernel()["outcome"] == done.results["outcome"] == KernelOutcome.FEATURE_MISSING
    case = done.case("test_needs[broken]")
    assert case["missing_feature"] == "broken"
    assert "ought to have it since 1.0 (a planted one (0001)), but its probe fails" in case["reason"]
    assert "introduced in 99.0" in done.case("test_needs[future]")["reason"]
    assert "was built without CONFIG_RARE: a planted one" in done.case("test_needs[left-out]")["reason"]
    assert f"{CaseOutcome.FEATURE_MISSING}" in (done.directory / "junit.xml").read_text()
    assert "2 feature missing" in done.output


def test_unknown_feature_is_a_mistake_in_the_case(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.requires('magic')\ndef test_needs(): pass\n"
    done = run_pytest(tmp_path, PLUGINS, source=source, variables={})
    assert done.status == pytest.ExitCode.USAGE_ERROR, done.output
    assert "requires magic; harness/kernel/features.py has sock_destroy, " in done.output


@pytest.mark.parametrize("name", FEATURES)
def test_every_gate_is_passed_by_a_kernel_of_the_matrix(name: str) -> None:
    """A gate in front of all kernels would be a skip that nobody ever sees lifted."""
    newest = max(Release.parse(series.series) for series in load_catalogue().series.values() if series.matrix)
    assert FEATURES[name].introduced <= newest
