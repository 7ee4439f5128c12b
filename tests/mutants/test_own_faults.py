# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the harness has to notice by itself, and a program that it must not take for a broken kernel (root needed)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.kernel.preflight import missing_requirement

ROOT = Path(__file__).resolve().parents[2]

EMPTIED = """
import pytest
from harness.cases import in_sockarray, ipv4, on_wildcard, udp

pytestmark = [in_sockarray, ipv4, on_wildcard, udp]

def test_slot_empties_by_itself(group, deliver, command):
    group.inner.delete((5).to_bytes(4, "little"))  # behind the back of the group, as a kernel with a bug would
    deliver(command(4))

def test_nothing_that_looks_at_the_slot(deliver, command):
    deliver(command(4))
"""

LOSES_A_SOCKET = """
import array
import socket

def test_loses_a_socket(wire):
    lost = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    globals()["queue"] = here, there = socket.socketpair(socket.AF_UNIX)
    here.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [lost.fileno()]))])
    lost.close()  # what is in flight has no descriptor
"""

LEAKS = f"""
from harness.model.layout import Family

def test_loses_nothing(bench):
    bench.open()
{LOSES_A_SOCKET}
def test_loses_nothing_more(bench):
    bench.open(family=Family.IPV6)
"""

LOST_NAMESPACES = """
import array
import os
import socket

import pytest

from harness.kernel.holdings.namespaces import Namespaces
from harness.plugins.leaks import Leaks
from harness.wire.namespace import Namespace

# In a user namespace, which counts its network namespaces apart from the machine's.
@pytest.fixture(scope="session", autouse=True)
def wire(request):
    pass

def pytest_configure(config):
    config.pluginmanager.register(Leaks([Namespaces()]))
"""

LOSING = """
import array
import os
import socket

from harness.wire.namespace import Namespace

def test_frees_its_namespace(wire):
    Namespace.create().close()

def test_keeps_its_namespace(wire):
    globals()["kept"] = Namespace.create()

def test_makes_none(wire):
    pass
"""

LOSING_NEXT = (
    LOSING
    + """
def test_loses_a_namespace(wire):
    lost = Namespace.create()
    globals()["queue"] = here, there = socket.socketpair(socket.AF_UNIX)
    here.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [lost.fd]))])
    lost.close()  # what is in flight has no descriptor
"""
)

GOES_OFF = """
from pathlib import Path

import pytest

from harness.kernel.holdings.kmemleak import Kmemleak
from harness.kernel.holdings.memory import Memory
from harness.plugins.leaks import Leaks

FILE = Path(__file__).with_name("kmemleak")

@pytest.fixture(scope="session")
def wire():
    pass

@pytest.fixture
def switch_off():
    FILE.unlink()
    FILE.symlink_to("/sys/kernel/uevent_seqnum")  # any file that root, too, may not write

def pytest_configure(config):
    config.pluginmanager.register(Leaks([Memory(Kmemleak(FILE, sleep=lambda seconds: None))]))
"""

ALTERNATES = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

SEC("sk_reuseport")
int alternates(struct sk_reuseport_md *ctx)
{
	__u32 only = 0;
	__u64 *count = bpf_map_lookup_elem(&packets, &only);

	return count && __sync_fetch_and_add(count, 1) & 1 ? SK_PASS : SK_DROP;
}
"""


@pytest.fixture(autouse=True)
def _able() -> None:
    if reason := missing_requirement():
        pytest.skip(reason)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    project = ("-c", "pyproject.toml", "--rootdir", str(ROOT), "-p", "harness.plugin", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-q", *project, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_slot_that_emptied_by_itself_is_found_when_the_group_ends(tmp_path: Path) -> None:
    cases = tmp_path / "test_emptied.py"
    cases.write_text(EMPTIED)
    done = run(str(cases))
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "2 passed, 1 error" in done.stdout
    assert "the inner map holds cookies" in done.stdout


def test_what_cases_leave_behind_is_named_with_the_case(tmp_path: Path) -> None:
    cases = tmp_path / "test_leaks.py"
    cases.write_text(LEAKS)
    done = run(str(cases))
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "3 passed, 1 error" in done.stdout
    said = (
        r"^the cases of this file left behind (\d+) sockets that no descriptor leads to, seen since (.*), and 2 more$"
    )
    ((number, since),) = re.findall(said, done.stdout, re.MULTILINE)
    assert number == "1"
    assert since.endswith("test_leaks.py::test_loses_a_socket")
    opened = re.findall(r"descriptor \d+, socket:\S+, seen since (.*)", done.stdout)
    assert [case.rpartition("::")[2] for case in opened] == ["test_loses_nothing_more"] * 2, "the queue's two ends"


def test_skipped_case_makes_nobody_count_the_sockets_of_this_machine(tmp_path: Path) -> None:
    """It asks for the wire and never gets it; the kernel has sockets of its own in the machine's namespace."""
    cases = tmp_path / "test_skipped.py"
    cases.write_text("import pytest\n\n@pytest.mark.skip\ndef test_skipped(wire): pass\n")
    done = run(str(cases))
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "1 skipped" in done.stdout


def run_alone(directory: Path, *unshare: str) -> str:
    """Return what pytest prints, without this project's plugins, of the cases in a directory; in own namespaces."""
    own = ["unshare", *unshare, "--net"]
    if subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    command = [*own, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_namespace_that_nobody_leads_to_is_named_with_the_case(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LOST_NAMESPACES)
    (tmp_path / "test_a.py").write_text(LOSING)
    (tmp_path / "test_b.py").write_text(LOSING_NEXT)
    (tmp_path / "test_c.py").write_text(LOSING)
    said = run_alone(tmp_path, "--user", "--map-root-user")
    assert "10 passed, 2 errors" in said, said
    (makers,) = re.findall(r"left behind 1 network namespaces, of those made by (.*)$", said, re.MULTILINE)
    assert re.findall(r"test_b.py::(\w+)", makers) == [
        "test_frees_its_namespace",
        "test_keeps_its_namespace",
        "test_loses_a_namespace",
    ]
    opened = re.findall(r"descriptor \d+, net:\S+, seen since .*?(test_\w+.py)", said)
    assert sorted(opened) == ["test_a.py", "test_b.py", "test_c.py"]


def test_detector_that_goes_off_is_told_once_and_hides_no_leak(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(GOES_OFF)
    (tmp_path / "kmemleak").touch()
    (tmp_path / "test_a.py").write_text(LOSES_A_SOCKET + "\ndef test_exhausts_memory(wire, switch_off): pass\n")
    (tmp_path / "test_b.py").write_text(LOSES_A_SOCKET)
    said = run_alone(tmp_path)
    assert "3 passed, 2 errors" in said, said
    lost = r"^the cases of this file left behind 1 sockets that no descriptor leads to, seen since (test_\w.py)"
    assert re.findall(lost, said, re.MULTILINE) == ["test_a.py", "test_b.py"]
    assert len(re.findall(r"^ *kmemleak has switched itself off", said, re.MULTILINE)) == 1


def test_program_that_decides_otherwise_each_time_is_no_fault(tmp_path: Path) -> None:
    program = tmp_path / "alternates.bpf.c"
    program.write_text(ALTERNATES)
    done = run("cases/test_own_program.py", "--program", str(program))
    assert done.returncode == 0, done.stdout + done.stderr
