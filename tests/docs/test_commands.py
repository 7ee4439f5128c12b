# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Do what CONTRIBUTING.md, docs/own-program.md and docs/rules.md say, on the running kernel; tests/vm does it in a VM.

Root is needed; where it is missing, pytest ends with the line that says so.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernel.preflight import missing_requirement

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

from documented import as_on_this_kernel, commands, setting  # noqa: E402
from runs import inherited_environment  # noqa: E402

OWN = commands("docs/own-program.md")
TREE_PROGRAM = "tools/testing/selftests/bpf/progs/test_select_reuseport_kern.c"

# A program of nobody's in particular: it keeps no maps of the harness's and leaves all to the hash.
PASSES = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
SEC("sk_reuseport")
int passes(struct sk_reuseport_md *ctx) { return SK_PASS; }
"""

WRONG = (
    "error = bpf_sk_select_reuseport(ctx, inner_map, key, 0);",
    "__u32 next = *(__u32 *)key + 1; error = bpf_sk_select_reuseport(ctx, inner_map, &next, 0);",
)


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    if reason := missing_requirement():
        pytest.exit(reason, returncode=0)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a directory with the files that the documented commands name."""
    (tmp_path / "my.bpf.c").write_text(PASSES)
    reference = f'#include "{ROOT}/bpf/reference.bpf.c"\n'
    (tmp_path / "my_reference.bpf.c").write_text(reference)
    program = tmp_path / "linux" / TREE_PROGRAM
    program.parent.mkdir(parents=True)
    program.write_text(reference)
    return tmp_path


def run(desk: Path, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a documented command on the running kernel with its files on the desk, and what they lead to narrowed."""
    words = [_placed(word, desk) for word in as_on_this_kernel(command)]
    return subprocess.run(
        [*words, *more], cwd=ROOT, env=inherited_environment(), capture_output=True, text=True, check=False
    )


def _placed(word: str, desk: Path) -> str:
    for name in ("my.bpf.c", "my_reference.bpf.c"):
        word = word.replace(name, str(desk / name))
    return word.replace("~", str(desk))


@pytest.mark.parametrize("command", [one for one in OWN if one.startswith("tox -e vm -- ")])
def test_commands_for_a_program_of_ones_own_pass(desk: Path, command: str) -> None:
    done = run(desk, command, *_narrowed(command))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "failed" not in done.stdout


def _narrowed(command: str) -> Sequence[str]:
    """Return what leaves a variant's cases at those for one shape of group."""
    return ("-k", "udp-ipv4-any-sockarray") if "reference" in command or "tree" in command else ()


def test_cases_may_lie_outside_the_project(desk: Path) -> None:
    for name in ("quic_cases.py", "quic_server.bpf.c"):
        shutil.copy(ROOT / "tests/examples" / name, desk)
    (command,) = (one for one in OWN if "quic" in one)
    done = run(desk, command.replace("tests/examples", str(desk)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"quic_cases.py::test_new_clients_are_shared[ipv4]"' in (ROOT / "results/latest/results.json").read_text()


@pytest.mark.parametrize("option", ["--program reference=", "--kernel-tree"])
def test_a_wrong_program_fails_with_the_difference(desk: Path, option: str) -> None:
    (command,) = (one for one in OWN if one.startswith(f"tox -e vm -- {option}"))
    shutil.copytree(ROOT / "bpf", desk / "bpf")
    header = desk / "bpf/select.h"
    line, instead = WRONG
    assert header.read_text().count(line) == 1
    header.write_text(header.read_text().replace(line, instead))
    for program in (desk / "my_reference.bpf.c", desk / "linux" / TREE_PROGRAM):
        program.write_text(f'#include "{desk}/bpf/reference.bpf.c"\n')
    done = run(desk, command, "-k", "every_member and udp-ipv4-any-sockarray")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the packet reached member 1 instead of member 0" in done.stdout


def test_a_program_that_does_not_compile_shows_the_compiler_s_error(desk: Path) -> None:
    (desk / "my.bpf.c").write_text("int broken(")
    done = run(desk, next(one for one in OWN if "my.bpf.c" in one))
    assert done.returncode == 4
    assert "my.bpf.c:1:12: error: expected parameter declarator" in done.stderr


@pytest.mark.parametrize(
    "command", [one for one in commands("CONTRIBUTING.md") if one.startswith("tox") and " -- " in one]
)
def test_the_inner_loop_is_as_contributors_are_told(command: str) -> None:
    given = shlex.split(command)[4:]
    words = [sys.executable, "-m", "pytest", *given] if "-e unit" in command else as_on_this_kernel(command)
    done = subprocess.run(words, cwd=ROOT, env=inherited_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_campaigns_find_a_bug_that_they_are_not_told_of(tmp_path: Path) -> None:
    """K24, which every kernel has: found, shrunk, kept, and found again by a replay; once the model knows it, not."""
    here = [line for line in commands("docs/campaigns.md") if line.startswith("tox -e host")]
    campaign, replay, _ = here
    mine = inherited_environment()
    mine["XDG_CACHE_HOME"] = str(tmp_path)

    def run_here(command: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = [*as_on_this_kernel(command), *more]
        return subprocess.run(words, cwd=ROOT, env=mine, capture_output=True, text=True, check=False)

    found = run_here(campaign, "--unknown", "K24", "-k", "lives_as")
    assert found.returncode == 1, found.stdout + found.stderr
    kept, other = re.findall(r"kept in (results/histories/\S+\.json)", found.stdout)  # of UDP and of TCP
    assert all(len(json.loads((ROOT / name).read_text())["steps"]) <= 6 for name in (kept, other))
    again = run_here(replay.replace("results/histories/FILE", kept))
    assert again.returncode == 1, again.stdout + again.stderr
    (tmp_path / "told.json").write_text((ROOT / kept).read_text().replace('"K24"', ""))
    told = run_here(replay.replace("results/histories/FILE", str(tmp_path / "told.json")))
    assert told.returncode == 0, told.stdout + told.stderr


def test_what_is_fast_is_measured() -> None:
    command = setting("testenv:bench", "commands").replace("{posargs}", "--only batched --only keeping --rounds 1")
    done = subprocess.run([sys.executable, *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (directory,) = re.findall(r"^results: (.+)$", done.stdout, re.MULTILINE)
    (run,) = json.loads((Path(directory) / "bench.json").read_text())["runs"]
    assert {name: len(rounds) for name, rounds in run["rounds"].items()} == {"batched": 1, "keeping": 1}
    assert (Path(directory) / "ratios.svg").exists()


def test_cases_that_name_promises_are_found() -> None:
    (command,) = (one for one in commands("docs/rules.md") if one.startswith("python -m pytest"))
    done = subprocess.run(
        [sys.executable, *command.split()[1:], "--collect-only", "-q"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_watching_shows_the_port_or_says_what_is_missing() -> None:
    """In a VM, which has all that it takes: tests/vm/test_watching.py."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "watch", "7000", "--count", "1", "--interval", "0.1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        assert "port 7000: 0 sockets; idle" in done.stdout
    else:
        assert done.returncode == 69
        assert done.stderr.startswith("cannot watch: ")


def test_an_exported_selftest_passes_on_this_kernel(tmp_path: Path) -> None:
    """The tree's own runner, which is not here, calls the script as this Makefile does."""
    selftests = tmp_path / "linux/tools/testing/selftests"
    (selftests / "kselftest").mkdir(parents=True)
    (selftests / "kselftest/runner.sh").write_text("")
    (selftests / "lib.mk").write_text("run_tests:\n\t./$(TEST_PROGS) cases/test_attach.py -k every_member\n")
    (command,) = (one for one in commands("docs/kselftest.md") if one.startswith("python -m vm export-kselftest"))
    words = [word.replace("~", str(tmp_path)) for word in command.split()[1:]]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    done = subprocess.run(
        ["make", "--silent", "-C", selftests / "reuseport", "run_tests"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("TAP version 13\n1..1\n")
    assert "\nok 1 attach # time=" in done.stdout
    assert "# Totals: pass:4 fail:0 " in done.stdout


def test_cases_run_as_often_as_they_are_told(tmp_path: Path) -> None:
    (tmp_path / "test_race.py").write_text(
        "turns = iter(range(9))\ndef test_race():\n    assert next(turns) % 5 != 2, 'a race'\n"
    )
    done = run(tmp_path, "tox -e host -- --times 4", str(tmp_path / "test_race.py"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_race[3of4]" in done.stdout
    assert "1 failed, 3 passed" in done.stdout
    assert run(tmp_path, "tox -e host -- --times 0").returncode == 4


WITHOUT_BCC = """
mount -t tmpfs none "$(dirname "$(dirname "$1")")"
shift
exec "$@"
"""


def test_without_bcc_cases_run_and_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    """What docs/witness.md promises: an empty file system over bcc hides it as if it had never been installed."""
    bcc = importlib.util.find_spec("bcc")
    assert bcc is not None, "nothing can be hidden where bcc is not installed: run ./bootstrap"
    assert bcc.origin is not None
    (tmp_path / "test_bad.py").write_text("def test_bad(wire):\n    assert 1 == 2\n")
    command = as_on_this_kernel("tox -e vm -- cases/test_reference.py")
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", WITHOUT_BCC, "sh", bcc.origin),
            *(*command, str(tmp_path / "test_bad.py"), "-k", "test_bad or every_member and udp-ipv4-any-sockarray"),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("no witness: "))
    assert "bcc is not installed: run ./bootstrap" in line or "the kernels of `python -m vm list` have them" in line
    assert f"there is {line}" in done.stdout, "the failed case says so too"
