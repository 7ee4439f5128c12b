# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""README.md, docs/ and the other pages name what the code has, and nothing that it has not."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from documented import PAGES, commands

from vm.report.outcomes import EXIT_STATUS, CaseOutcome
from vm.report.results import CaseResult, KernelResult, RunResult, SplatResult

ROOT = Path(__file__).resolve().parents[2]

OF_THE_READER = ("NAME", "FILE")
"""What stands in paths for a name of the reader's."""

OWN_PROGRAM = "tests/docs/test_commands.py::test_commands_for_a_program_of_ones_own_pass"
IN_THE_FIELD = "tests/docs/test_own_programs.py::test_commands_for_programs_in_the_field_run"
TEN_MINUTES = "tests/docs/test_ten_minutes.py::test_commands_of_the_page_run"
WHEEL = "tests/unit/wheel.py::installed"
RESTART = "tests/docs/test_restarting.py::test_commands_of_the_page_run"
KERNELS = "tests/unit/test_kernel_commands.py::test_kernels_are_listed_fetched_and_pruned"
BUILD = "tests/unit/test_build.py::test_a_tree_is_built_in_the_output_directory_and_left_alone"
COVERAGE = "tests/unit/test_kernel_coverage.py::test"
FLAVOUR = "tests/unit/test_build.py::test_a_flavour_has_the_last_word_in_the_configuration"
APPENDED = "tests/vm/test_kvm.py::test_kernel_is_told_what_the_user_appends"
BISECT = "tests/unit/test_build.py::test_git_bisect_gets_good_bad_skip_or_stop"
RACE = "tests/unit/test_bisect.py::test_a_race_is_bad_if_it_fails_once_in_n_times"
TIMES = "tests/docs/test_commands.py::test_cases_run_as_often_as_they_are_told"
FIX = "tests/unit/test_bisect.py::test_a_fix_is_found_by_swapping_good_and_bad"
KSELFTEST = "tests/docs/test_commands.py::test_an_exported_selftest_passes_on_this_kernel"
UNPACKED = "tests/unit/test_kernels.py::test_an_unpacked_package_gives_its_modules_ready_to_load"
COMPARE = "tests/unit/test_comparison.py::test_kernels_of_one_run_are_told_apart_by_name"
REPORTS = "tests/unit/test_reports.py::test_reports"
REMOTE = "tests/vm/test_sshd.py::test_machines_are_reached_by_ssh"
ACCEL = "tests/unit/test_acceleration.py::test"
SESSION = "tests/unit/test_session.py::test"
INNER_LOOP = "tests/docs/test_commands.py::test_the_inner_loop_is_as_contributors_are_told"
LINT = "tests/lint/test_linters.py::test"
CAMPAIGN = "tests/docs/test_commands.py::test_campaigns_find_a_bug_that_they_are_not_told_of"
FRESH = "tests/unit/test_fresh.py::test_a_root_that_cannot_be_made_is_reported_and_removed"
PIPELINES = "tests/unit/test_ci.py::test_commands_exist"
MUTANTS = "tests/unit/test_mutant_runs.py::test_mutants_are_tried_resumed_and_reported"
KERNEL_FAULTS = "tests/unit/test_kernel_faults.py::test_faults_are_planted_built_tried_and_reported"
REDISCOVERY = "tests/unit/test_rediscovery.py::test_what_a_campaign_finds_is_replayed_without_the_fault_and_with_it"

BENCH = "tests/docs/test_commands.py::test_what_is_fast_is_measured"
SOAK = "tests/vm/test_soak.py::test_sockets_that_each_round_leaves_are_told"

RUN_BY = {
    # .ci/run takes its commands from README.md
    "./bootstrap tox -e vm": ".ci/run",
    "./bootstrap tox": ".ci/run",
    "tox -e vm": ".ci/run",
    "tox -e host": ".ci/run",
    "tox -e lint": ".ci/run",
    "tox -e unit": ".ci/run",
    "tox -e docs": ".ci/run",
    "tox -e mutants": MUTANTS,
    "tox -e mutants -- --resume": MUTANTS,
    "tox -e mutants -- bpf/select.h": MUTANTS,
    "./bootstrap tox -e kernel-faults": KERNEL_FAULTS,
    "tox -e kernel-faults": KERNEL_FAULTS,
    "tox -e kernel-faults -- --resume": KERNEL_FAULTS,
    "tox -e kernel-faults -- members-not-counted": KERNEL_FAULTS,
    "tox -e soak": SOAK,
    "tox -e soak -- --kernel 6.12 --minutes 600": SOAK,
    "./bootstrap tox -e bench": BENCH,
    "tox -e bench": BENCH,
    "tox -e bench -- --kernel 6.1": "tests/unit/test_bench.py::test_a_kernel_is_measured_in_a_vm",
    "tox -e bench -- --only strict --rounds 20": BENCH,
    "tox -e bench -- --page results/bench-TIME/bench.json": (
        "tests/unit/test_bench.py::test_the_page_takes_over_what_was_measured_last"
    ),
    "tox -e host -- -k 'every_member and udp-ipv4'": INNER_LOOP,
    "tox -e vm -- -k 'every_member and udp-ipv4'": INNER_LOOP,
    "tox -e unit -- tests/unit/test_model.py": INNER_LOOP,
    ".tox/lint/bin/pre-commit install": f"{LINT}_hooks_are_installed",
    ".tox/lint/bin/ruff format .": ".ci/run",  # with --check
    ".tox/lint/bin/clang-format -i FILE": ".ci/run",  # with --dry-run
    "towncrier build --version 0.2.0": f"{LINT}_a_release_collects_what_changed",
    "./bootstrap tox -e fresh": FRESH,
    "tox -e host -- --campaign 60 --seed 1": CAMPAIGN,
    "tox -e vm -- --campaign 60 --seed 1 --kernel 6.1 --kernel 7.2": CAMPAIGN,
    "tox -e host -- --campaign 60 --unknown K27": CAMPAIGN,
    "tox -e vm -- --campaign 300 --seed 1 --vms 2 --kernel 5.10 --kernel 6.1 --kernel 6.12 --kernel 7.3": CAMPAIGN,
    "tox -e kernel-faults -- --campaign 300 growth-loses-connections": REDISCOVERY,
    "tox -e host -- --replay results/histories/FILE": CAMPAIGN,
    "tox -e vm -- --replay results/histories/FILE --kernel 7.2": CAMPAIGN,
    "./bootstrap tox -e reports": "tests/reports/test_page.py",  # the environment is for tests, of which this is a part
    "./bootstrap tox -e outcomes": REMOTE,  # the environment is for tests, of which this is one
    "tox -e vm -- --kernel all --on big --on me@small:/srv/reuseport-harness": REMOTE,
    "./bootstrap python -m vm fetch 6.1": PIPELINES,
    "./bootstrap tox -e vm -- --kernel 6.1": PIPELINES,
    "python -m vm list": KERNELS,
    "python -m vm fetch 6.1 '7.*'": KERNELS,
    "python -m vm prune": KERNELS,
    "python -m vm build": BUILD,
    "python -m vm build ~/linux": BUILD,
    "python -m vm build ~/linux --output ~/linux-build": BUILD,
    "python -m vm build ~/linux --output ~/linux-kasan --flavour kasan --flavour lockdep": FLAVOUR,
    "python -m vm build ~/linux --output ~/linux-debug --flavour kasan --flavour lockdep --flavour kmemleak": FLAVOUR,
    "tox -e vm -- --kernel ~/linux-debug --memory 2048 --append 'kasan_multi_shot no5lvl'": APPENDED,
    "tox -e vm -- --kernel ~/linux-debug --memory 2048 --append 'kasan_multi_shot no5lvl maxcpus=2' --race-seconds 30 "
    "cases/test_races.py": APPENDED,
    "tox -e kernel-faults -- --flavour kasan --flavour lockdep --flavour kmemleak": (
        "tests/unit/test_kernel_faults.py::test_a_debug_kernel_is_tried_with_what_it_alone_sees_and_tells_of_it_once"
    ),
    "tox -e kernel-faults -- reverted-k18-found-before-it-is-marked reverted-k18-listener-found-before-it-is-marked": (
        KERNEL_FAULTS
    ),
    "python -m vm build ~/linux --output ~/linux-gcov --flavour gcov": FLAVOUR,
    "tox -e vm -- --kernel ~/linux-gcov --kernel-coverage": f"{COVERAGE}_a_run_reports_what_the_guest_counted",
    "tox -e vm -- --kernel ~/linux-gcov --memory 2048 --kernel-coverage cases tests/kernel_coverage": (
        f"{COVERAGE}_a_run_reports_what_the_guest_counted"
    ),
    "tox -e vm -- --kernel ~/linux-gcov --kernel-coverage --campaign 120 --seed 1": (
        f"{COVERAGE}_a_run_reports_what_the_guest_counted"
    ),
    "python -m vm run --kernel-coverage selftests ~/linux-gcov -- ~/kselftest/run_kselftest.sh -t net:reuseport_bpf": (
        f"{COVERAGE}_a_command_whose_kernel_hands_over_no_counts_fails"
    ),
    "python -m tests.kernel_coverage": f"{COVERAGE}_the_page_is_what_was_counted",
    "tox -e vm -- --kernel ~/linux-build -k 'reference and udp'": (
        "tests/unit/test_kernels.py::test_a_built_tree_is_one_kernel_with_its_own_headers"
    ),
    "git bisect start BAD GOOD": BISECT,
    "git bisect run /path/to/this/vm/bisect -k 'reference and udp'": BISECT,
    "git bisect run /path/to/this/vm/bisect --times 20 -k 'detached and udp-ipv4-any-sockarray'": RACE,
    "tox -e vm -- --times 20 -k 'detached and udp'": TIMES,
    "git bisect start --term-old broken --term-new fixed FIXED BROKEN": FIX,
    "git bisect run /path/to/this/vm/bisect --find-fix -k 'reference and udp'": FIX,
    "/path/to/this/vm/bisect --summary": RACE,
    "python -m vm export-kselftest ~/linux/tools/testing/selftests/reuseport": KSELFTEST,
    "make -C ~/linux/tools/testing/selftests TARGETS=reuseport run_tests": "the kernel's",
    "make -C ~/linux/tools/testing/selftests TARGETS=reuseport KSFT_INSTALL_PATH=~/kselftest install": "the kernel's",
    "~/kselftest/run_kselftest.sh -c reuseport": "the kernel's",
    "vng -r ~/linux/arch/x86/boot/bzImage --user root -- "
    "'XDG_CACHE_HOME=/tmp ~/kselftest/run_kselftest.sh -c reuseport 2>&1 | cat'": "the kernel's",
    "python -m vm run 6.12 -- ~/kselftest/run_kselftest.sh -c reuseport": (
        f"{SESSION}_output_can_be_opened_again_by_its_name"
    ),
    "vng --build --config tools/testing/selftests/reuseport/config": "the kernel's",
    "dpkg-deb -x": UNPACKED,
    "dpkg-deb -x linux-image-6.1.0-1-ours_amd64.deb ours": UNPACKED,
    "./bootstrap tox -e vm -- --kernel ./ours --kernel 6.1": UNPACKED,
    "python -m vm compare latest:ours latest:6.1": COMPARE,
    "python -m vm compare latest:6.1 latest:7.2": COMPARE,
    "python -m vm compare results/20260101T000000Z latest": COMPARE,
    "python -m vm report latest": f"{REPORTS}_again_are_the_same",
    "python -m vm report results/20260101T000000Z results/20260102T000000Z --output merged": (
        f"{REPORTS}_of_single_runs_merged_are_those_of_the_one_run"
    ),
    "python -m vm report results-*/2* --output merged": PIPELINES,
    "tox -e vm -- --ktap - --kernel 6.1": f"{REPORTS}_are_streamed_as_ktap",
    "python -m vm run 6.12 -- uname -r": f"{SESSION}_output_status_and_directory_are_the_command_s",
    "python -m vm shell 6.12": f"{SESSION}_shell_has_a_terminal_of_this_one_s_size",
    "tools/testing/kunit/kunit.py parse results/latest/results.ktap": "the kernel's",
    "python -m vm accel": f"{ACCEL}_memory_is_shown_and_forgotten",
    "python -m vm accel --forget": f"{ACCEL}_memory_is_shown_and_forgotten",
    "tox -e vm -- --append 'slub_debug=FZPU panic_on_warn=1' --memory 2048 --cpus 4": APPENDED,
    "python -m vm run --append debug 6.12 -- dmesg": APPENDED,
    "tox -e vm -- --program my.bpf.c": OWN_PROGRAM,
    "tox -e vm -- tests/examples/quic_cases.py --program tests/examples/quic_server.bpf.c": OWN_PROGRAM,
    "tox -e vm -- --program reference=my_reference.bpf.c": OWN_PROGRAM,
    "tox -e vm -- --kernel-tree ~/linux": OWN_PROGRAM,
    "tox -e vm -- --program tests/examples/extern_map.bpf.c --program-option map=listeners=sockarray,max=8 "
    "--program-option define=SECTION='\"steer\"'": OWN_PROGRAM,
    **dict.fromkeys(commands("docs/in-the-field.md"), IN_THE_FIELD),
    "python3 -m venv ~/steering": WHEEL,
    "python -m pip install reuseport-harness": WHEEL,
    "python -m pytest --pyargs harness.conformance.test_own_program --program server.bpf.c": TEN_MINUTES,
    "python -m pytest --pyargs harness.conformance.test_own_program --program server.bpf.c --vm --kernel 6.1": (
        "tests/vm/test_wheel.py::test_the_general_cases_run_in_a_vm"
    ),
    "python -m pytest tests --program server.bpf.c": TEN_MINUTES,
    "python -m harness restart --program server.bpf.c --known 40SS00000000": TEN_MINUTES,
    "python -m vm run 6.1 -- python -m harness restart --program server.bpf.c --known 40SS00000000": (
        "tests/vm/test_wheel.py::test_a_restart_runs_in_a_vm"
    ),
    "tox -e steering -- --vm --kernel 6.1": "tests/vm/test_wheel.py::test_a_server_s_tests_run_in_a_vm",
    "python -m harness programs": "tests/unit/test_programs.py::test_table_is_printed",
    "python -m harness ledger": "tests/unit/test_ledger_table.py::test_bug_that_a_kernel_has_is_shown",
    "python -m harness rules": "tests/unit/test_promises.py::test_a_run_is_recorded_by_one_command",
    "python -m harness rules results/latest": "tests/unit/test_promises.py::test_a_run_is_recorded_by_one_command",
    "python -m pytest cases -m promise": "tests/docs/test_commands.py::test_cases_that_name_promises_are_found",
    "python -m harness restart": RESTART,
    "python -m harness restart --each --strategy slots --clients 4": RESTART,
    "python -m harness restart --protocol tcp --leaving shutdown --strategy slots": RESTART,
    "python -m harness restart --program my.bpf.c --known 40SS00000000000000": RESTART,
    "python -m harness watch PORT": "tests/docs/test_commands.py::test_watching_shows_the_port_or_says_what_is_missing",
}
"""What runs each command that the pages show: a test, a file of CI, or nothing here because it is not ours."""


def test_exit_statuses_are_those_of_the_code_in_their_order() -> None:
    page = (ROOT / "docs/exit-codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", page, flags=re.MULTILINE)
    assert [(int(status), outcome) for status, outcome in rows] == [
        (status, outcome.value) for outcome, status in EXIT_STATUS.items()
    ]


@pytest.mark.parametrize(
    ("opening", "kind"),
    [("The run:", RunResult), ("Each of `kernels`", KernelResult), ("Each of `splats`", SplatResult),
     ("Each of `cases`", CaseResult)],
)  # fmt: skip
def test_schema_names_every_field(opening: str, kind: type) -> None:
    page = (ROOT / "docs/results.md").read_text()
    (paragraph,) = (text for text in page.split("\n\n") if text.startswith(opening))
    named = set(re.findall(r"`(\w+)`", paragraph.removeprefix(opening)))
    assert {field.name for field in fields(kind)} <= named


def test_schema_names_every_outcome_of_a_case() -> None:
    page = (ROOT / "docs/results.md").read_text()
    assert [outcome.value for outcome in CaseOutcome if outcome.value not in page] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    targets = re.findall(r"\]\(([^):]+)\)", here.read_text())
    assert [target for target in targets if not is_there(here, target)] == []


def is_there(page: Path, target: str) -> bool:
    """Return whether a page's link leads to a file, and to a heading of it if it names one."""
    name, _, heading = target.partition("#")
    file = page.parent / name if name else page
    if not heading:
        return file.exists()
    titles = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
    return heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_the_project_are_there(page: str) -> None:
    named = re.findall(r"`((?:bpf|cases|docs|harness|tests|vm)/[^`\s:]*)[^`\s]*`", (ROOT / page).read_text())
    assert [
        path for path in named if not any(word in path for word in OF_THE_READER) and not (ROOT / path).exists()
    ] == []


def test_packages_are_described_in_the_order_of_their_layers() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for package in ("harness", "vm"):
        (layers,) = (contract["layers"] for contract in contracts if contract["id"] == package)
        (table,) = (text for text in page.split("\n\n") if text.startswith(f"| {package}/ |"))
        rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]]
        assert rows == [re.findall(r"\w+", layer) for layer in layers]


def test_case_that_is_shown_is_one() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block in (ROOT / "cases/test_reference.py").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_run_by_something(page: str) -> None:
    """A command that nothing runs is soon wrong: name what runs it in RUN_BY."""
    assert [command for command in commands(page) if command not in RUN_BY] == []


def test_no_command_is_run_that_no_page_shows() -> None:
    assert set(RUN_BY) == {command for page in PAGES for command in commands(page)}


@pytest.mark.parametrize("place", sorted(set(RUN_BY.values()) - {"the kernel's"}))
def test_test_that_runs_a_command_exists(place: str) -> None:
    file, _, test = place.partition("::")
    assert not test or f"\ndef {test}(" in (ROOT / file).read_text()
    assert (ROOT / file).is_file()
