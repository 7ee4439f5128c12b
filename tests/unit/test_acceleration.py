# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""KVM that works, fails or is not there: what a boot comes to, what is remembered, and what the user is told.

The VM is a process of the host (fake_vm.py), and so is the QEMU whose KVM fails (stand_in_kvm.py).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_archive import image
from runs import FAKE_VM, Run, run_pytest

from vm.__main__ import main
from vm.boot import booting, learnt
from vm.boot.acceleration import KVM, SUBSTITUTE, choose
from vm.boot.console_end import complaint
from vm.boot.learnt import Boot, FileIdentity, KernelIdentity, Known, MachineIdentity
from vm.boot.qmp import Monitor
from vm.commands.accel import lines

if TYPE_CHECKING:
    from collections.abc import Callable

STAND_IN = Path(__file__).with_name("stand_in_kvm.py")
FELL_BACK = "KVM failed, and the run goes on emulated: "
PAUSED = "QEMU paused the VM: internal-error: KVM internal error. Suberror: 1; emulation failure"
WHY = {
    "internal-error": PAUSED,
    "abort": "QEMU was ended by SIGABRT: qemu-system-x86_64: error: failed to set MSR 0x10a to 0x4000000",
    "hang": "nothing on its console for 0 s",
    "crawl": "still booting after 1 s, at 'crawling'",
    "reset": "the guest reset itself, as a triple fault makes it do",
    "panic": "Kernel panic - only under KVM",
}


def substitute(fate: str) -> str:
    return f"{sys.executable} -S {STAND_IN} {fate} {FAKE_VM}"


# One command on a kernel.


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return the function that runs a command in a VM whose KVM has this fate: its status, and what was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(KVM, os.devnull)

    def run(fate: str, *options: str, then: str = "", command: tuple[str, ...] = ("true",)) -> tuple[int, str]:
        (tmp_path / "k61").write_bytes(image("6.1.0"))
        monkeypatch.setenv(SUBSTITUTE, substitute(fate))
        monkeypatch.setenv("REUSEPORT_KERNEL", then)
        status = main(["run", *options, "./k61", "--", *command])
        said = capfd.readouterr()
        return status, said.out + said.err

    return run


@pytest.mark.parametrize("fate", WHY)
def test_kvm_that_fails_costs_one_line_once(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    # A judgement in time: this KVM does nothing however long one waits.
    if fate == "hang":
        monkeypatch.setattr(booting, "SILENCE", 0.3)
    if fate == "crawl":
        monkeypatch.setattr(booting, "CRAWL", 1.0)
    status, said = run(fate)
    assert status == 0, said
    assert [line for line in said.splitlines() if FELL_BACK in line] == [FELL_BACK + WHY[fate]]
    status, said = run(fate)
    assert status == 0
    assert FELL_BACK not in said
    (known,) = learnt.recall()
    assert (known.works, known.why, known.boot.kernel.release) == (False, WHY[fate], "6.1.0")


def test_kvm_that_works_is_remembered(run: Callable[..., tuple[int, str]]) -> None:
    assert run("works")[0] == 0
    (known,) = learnt.recall()
    assert known.works
    assert known.boot.machine == learnt.this_machine()


@pytest.mark.parametrize("fate", ["internal-error", "abort", "reset"])
def test_insisting_on_kvm_fails_with_the_reason(run: Callable[..., tuple[int, str]], fate: str) -> None:
    status, said = run(fate, "--accel", "kvm")
    assert status == 13
    assert f"error: k61 does not boot under KVM: {WHY[fate]}" in said
    assert "--accel tcg emulates it" in said
    assert learnt.recall() == (), "whether the kernel would have booted emulated was not seen"


def test_insisting_waits_for_a_slow_kernel(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booting, "CRAWL", 0.0)
    assert run("works", "--accel", "kvm")[0] == 0


def test_kernel_that_fails_both_ways_says_nothing_of_kvm(run: Callable[..., tuple[int, str]]) -> None:
    status, said = run("internal-error", then="dies")
    assert status == 13
    assert "Unable to mount root fs" in said, "the console of the last VM"
    assert "crng init done" not in said.rpartition("booting")[2], "not that of the VM before"
    assert f"error: k61 ended before its worker was up; nor did it come up under KVM: {PAUSED}" in said
    assert learnt.recall() == ()


def test_another_kernel_is_emulated_where_kvm_worked_with_none(run: Callable[..., tuple[int, str]]) -> None:
    run("internal-error")
    status, said = run("internal-error", "--append", "debug")  # as good as another kernel
    assert (status, FELL_BACK in said) == (0, False)
    assert run("works", "--accel", "kvm")[0] == 0
    assert FELL_BACK in run("abort", "--append", "other")[1], "once it has worked, a kernel is given its chance"


def test_pause_after_hello_is_a_lost_vm_that_is_explained(run: Callable[..., tuple[int, str]]) -> None:
    status, said = run("later", command=("sh", "-c", "touch pause; sleep 600"))
    assert status == 12
    assert f"the VM was lost: {PAUSED}. The end of its console:" in said
    (known,) = learnt.recall()
    assert (known.works, known.why) == (False, PAUSED)


def test_cache_that_cannot_be_written_costs_another_try(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learnt, "cache_root", lambda: tmp_path / "k61" / "below-a-file")
    for _ in range(2):
        status, said = run("abort")
        assert (status, said.count(FELL_BACK)) == (0, 1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--append", "quiet console=tty0"], "console is taken: the kernel's messages have to arrive on ttyS0"),
        (["--append", "init=/bin/sh"], "init is taken: the first process is the harness's own"),
        (["--append", "rdinit=/bin/sh"], "rdinit is taken"),
        (["--append", "root=/dev/sda1"], "root is taken: the guest's root directory is the host's"),
        (["--append", "quiet -- sh"], "-- is taken"),
        (["--append", "printk.devkmsg=off"], "printk.devkmsg is taken"),
        (["--append", '"console=tty0"'], "console is taken"),
        (["--append", 'dyndbg="file a.c +p'], "a double quote is not closed"),
        (["--append", "a\nb"], "printable ASCII on one line"),
        (["--append", "x" * 2000], "and a kernel takes 2047"),
        (["--append", "x" * 1000, "--append", "y" * 1000], "and a kernel takes 2047"),
        (["--memory", "10"], "--memory 10: cases need 192 MiB at least"),
        (["--cpus", "0"], "--cpus 0: a VM has at least one CPU"),
    ],
)
def test_impossible_vm_is_a_usage_error(run: Callable[..., tuple[int, str]], options: list[str], why: str) -> None:
    status, said = run("works", *options)
    assert status == 4
    assert why in said
    assert "booting" not in said


@pytest.mark.parametrize(
    ("device", "why"), [("missing", "there is no "), ("directory", "cannot be opened: Is a directory")]
)
def test_insisting_on_a_kvm_that_does_not_open_is_a_usage_error(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, why: str
) -> None:
    (tmp_path / "directory").mkdir()
    monkeypatch.setenv(KVM, str(tmp_path / device))
    status, said = run("works", "--accel", "kvm")
    assert status == 4
    assert "error: --accel kvm: " in said
    assert why in said
    assert run("hang")[0] == 0, "without insisting it is emulated"


# The cases, in VMs.

CASES = """
import os, signal, time
from pathlib import Path

def test_first(): pass

def test_pauses():
    if not Path("paused").exists():
        Path("paused").touch()
        Path("pause").touch()
        time.sleep(600)

def test_dies():
    if not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)

def test_last(): pass
"""


def run_cases(directory: Path, fate: str, *arguments: str, cases: str, kernels: tuple[str, ...] = ("k61",)) -> Run:
    for name in kernels:
        (directory / name).write_bytes(image("6.1.0"))
    chosen = [word for name in kernels for word in ("--kernel", f"./{name}")]
    return run_pytest(
        directory,
        [*chosen, *arguments, "-k", cases],
        source=CASES,
        variables={SUBSTITUTE: substitute(fate), KVM: os.devnull},
    )


def test_cases_run_emulated_where_kvm_fails(tmp_path: Path) -> None:
    """The line once, though a second VM of the kernel is needed; its slot kept; the second run emulated at once."""
    run = run_cases(tmp_path, "internal-error", "--vms", "1", cases="first or dies or last", kernels=("k61", "other"))
    assert run.output.count(FELL_BACK) == 1, "the second kernel has the same content, and waited for its slot"
    # Either kernel may be the first to ask for the slot.
    (name,) = [name for name in ("k61", "other") if run.cases(name)["test_dies"] == "lost"]
    assert run.cases(name) == {"test_first": "passed", "test_dies": "lost", "test_last": "passed"}
    first = run.kernel(name)
    assert first["accel"] == "tcg"
    assert first["notes"][0] == f"emulated: KVM failed: {PAUSED}"
    assert first["vms"] == 2
    console = (run.directory / name / "console.log").read_text()
    assert console.index("crng init done") < console.index("another VM: KVM failed: QEMU paused")
    again = run_cases(tmp_path, "internal-error", cases="first", kernels=(name,))
    assert again.status == 0
    assert FELL_BACK not in again.output
    assert again.kernel(name)["notes"][0].startswith(f"emulated: KVM failed with it before: {PAUSED}")


def test_vm_that_kvm_stops_during_a_case_is_replaced_by_an_emulated_one(tmp_path: Path) -> None:
    run = run_cases(tmp_path, "later", cases="first or pauses or last")
    assert run.status == 12
    assert run.cases() == {"test_first": "passed", "test_pauses": "lost", "test_last": "passed"}
    assert run.case("test_pauses")["reason"] == f"{PAUSED} (the VM ended while the case ran)"
    (accel,) = json.loads((tmp_path / "cache/reuseport-harness/acceleration.json").read_text())["known"]
    assert not accel["works"]


def test_kernel_that_boots_neither_way_is_reported_with_its_console(tmp_path: Path) -> None:
    run = run_cases(tmp_path, "abort", cases="first", kernels=("dies",))
    assert run.status == 13
    assert "nor did it come up under KVM: QEMU was ended by SIGABRT" in run.kernel()["reason"]
    assert "Unable to mount root fs" in run.output
    assert not (tmp_path / "cache/reuseport-harness/acceleration.json").exists()


def test_what_the_kernel_is_told_is_in_every_report(tmp_path: Path) -> None:
    options = ("--append", "debug", "--append", "panic_on_warn=1", "--memory", "300", "--cpus", "3")
    run = run_cases(tmp_path, "works", *options, cases="first")
    assert run.status == 0, run.output
    kernel = run.kernel()
    assert (kernel["append"], kernel["memory"], kernel["cpus"]) == (["debug", "panic_on_warn=1"], 300, 3)
    assert "kernel parameters added: debug panic_on_warn=1" in run.output
    assert "# --append panic_on_warn=1" in (run.directory / "results.ktap").read_text()
    assert 'name="append" value="panic_on_warn=1"' in (run.directory / "junit.xml").read_text()
    assert "300 MiB, 3 CPUs" in (run.directory / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--vm", "--append", "init=/bin/sh"], "init is taken"),
        (["--vm", "--memory", "10"], "cases need 192 MiB at least"),
        (["--vm", "--cpus", "0"], "a VM has at least one CPU"),
        (["--vm", "--accel", "kvm"], "there is no /dev/no-kvm"),
        (["--append", "quiet"], "--append is for kernels in VMs, and this run has none"),
        (["--vms", "2"], "--vms is for kernels in VMs, and this run has none"),
    ],
)
def test_options_of_an_impossible_vm_are_usage_errors(tmp_path: Path, arguments: list[str], why: str) -> None:
    run = run_pytest(tmp_path, arguments, source=CASES, variables={SUBSTITUTE: substitute("works")})
    assert run.status == 4
    assert why in run.output


# What is remembered.

BOOT = Boot(
    machine=MachineIdentity(processor="a processor", features="f", board="a board", kernel="6.18", settings="s"),
    qemu=FileIdentity(path="/usr/bin/qemu-system-x86_64", size=1, modified=2),
    kernel=KernelIdentity(name="6.1", release="6.1.0", digest="d"),
    append=(),
)
OTHER_KERNEL = replace(BOOT, kernel=replace(BOOT.kernel, digest="another"))
CHANGED = {
    "hardware": replace(BOOT, machine=replace(BOOT.machine, features="others")),
    "host kernel": replace(BOOT, machine=replace(BOOT.machine, kernel="6.19")),
    "QEMU": replace(BOOT, qemu=replace(BOOT.qemu, modified=3)),
}


def known(boot: Boot, *, works: bool) -> Known:
    return Known(boot=boot, works=works, why="" if works else "it paused", when="2026-01-01T00:00:00+00:00")


@pytest.fixture
def kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KVM, os.devnull)


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize(
    ("before", "acceleration"),
    [
        ([], "kvm"),
        ([known(BOOT, works=False)], "tcg"),
        ([known(BOOT, works=True)], "kvm"),
        ([known(OTHER_KERNEL, works=False)], "tcg"),
        ([known(OTHER_KERNEL, works=True)], "kvm"),
        ([known(OTHER_KERNEL, works=True), known(BOOT, works=False)], "tcg"),
        ([known(replace(OTHER_KERNEL, append=("x",)), works=False), known(OTHER_KERNEL, works=True)], "kvm"),
        *([([known(boot, works=False)], "kvm") for boot in CHANGED.values()]),
    ],
)
def test_choice_follows_from_what_is_known(before: list[Known], acceleration: str) -> None:
    assert choose(BOOT, before).acceleration == acceleration


def test_without_kvm_there_is_no_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KVM, str(tmp_path / "missing"))
    assert (choose(None, []).acceleration, choose(None, []).why) == ("tcg", "")
    monkeypatch.setenv(KVM, str(tmp_path))  # it is there and does not open
    assert "Is a directory" in choose(None, []).why


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "reuseport-harness/acceleration.json"


@pytest.mark.usefixtures("cache")
def test_memory_keeps_the_last_of_each_and_drops_another_qemu_at_the_same_path() -> None:
    learnt.learn(BOOT, works=True)
    learnt.learn(OTHER_KERNEL, works=True)
    learnt.learn(BOOT, works=False, why="it paused")
    assert [(one.boot, one.works) for one in learnt.recall()] == [(OTHER_KERNEL, True), (BOOT, False)]
    learnt.learn(CHANGED["QEMU"], works=True)
    assert [one.boot for one in learnt.recall()] == [CHANGED["QEMU"]]
    assert (learnt.forget(), learnt.forget(), learnt.recall()) == (1, 0, ())


@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe", b"{", b"[]", b"7", b"null", b'{"schema": 2, "known": 7}',
     b'{"schema": 2, "known": [{"boot": 1}]}',
     b'{"machine": {}, "kvm": false}', b"[" * 100_000],
)  # fmt: skip
def test_damaged_memory_is_none_and_is_replaced(cache: Path, damage: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(damage)
    assert learnt.recall() == ()
    learnt.learn(BOOT, works=True)
    assert [one.boot for one in learnt.recall()] == [BOOT]


def test_memory_cut_off_anywhere_is_none(cache: Path) -> None:
    learnt.learn(BOOT, works=True)
    whole = cache.read_bytes()
    for length in range(len(whole) - 1):
        cache.write_bytes(whole[:length])
        assert learnt.recall() == ()


def test_rebuilt_kernel_is_another_at_the_same_path(tmp_path: Path) -> None:
    from vm.kernels.kernel import Kernel

    file = tmp_path / "vmlinuz"
    kernel = Kernel(name="mine", image=file, release="6.1.0", modules=None, config=None, headers=None, version="")
    file.write_bytes(b"one")
    first = learnt.identify(kernel, qemu=sys.executable, append=())
    assert learnt.identify(kernel, qemu=sys.executable, append=()) == first
    file.write_bytes(b"two")
    assert learnt.identify(kernel, qemu=sys.executable, append=()) != first


@pytest.mark.parametrize(
    ("before", "why_not", "conclusion"),
    [
        ((), "", "nothing is known about any kernel: the next one is booted under KVM first"),
        ((known(BOOT, works=True),), "", "so kernels with which KVM failed are emulated, and all others"),
        ((known(BOOT, works=False),), "", "so every kernel is emulated: --accel kvm tries one again"),
        ((known(BOOT, works=True),), "there is no /dev/kvm", "so every kernel is emulated"),
        ((known(CHANGED["QEMU"], works=False),), "", "nothing is known about any kernel"),
    ],
)
def test_what_is_known_is_told_with_what_follows(before: tuple[Known, ...], why_not: str, conclusion: str) -> None:
    said = list(lines(before, machine=BOOT.machine, qemu=BOOT.qemu, why_not=why_not))
    assert said[-1].startswith(conclusion)
    assert why_not in said[2]
    for one in before:
        told = "6.1 (Linux 6.1.0): " + ("works" if one.works else "failed: it paused")
        assert any(line.startswith(told) for line in said) is (one.boot == BOOT)


@pytest.mark.usefixtures("cache")
def test_memory_is_shown_and_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    boot = replace(
        BOOT, machine=learnt.this_machine(), qemu=learnt.identify_file(str(shutil.which("qemu-system-x86_64")))
    )
    learnt.learn(boot, works=False, why="it paused")
    assert main(["accel"]) == 0
    assert "6.1 (Linux 6.1.0): failed: it paused; since 20" in capsys.readouterr().out
    assert main(["accel", "--forget"]) == 0
    assert learnt.recall() == ()


# What QEMU says: the real one, which here emulates a sector or nothing at all.

# lidt [0x7c10], where there are zeros; int3: without an interrupt table that is a triple fault.
TRIPLE_FAULT = bytes([0x0F, 0x01, 0x1E, 0x10, 0x7C, 0xCC]).ljust(510, b"\0") + b"\x55\xaa"


def qemu(*arguments: str) -> tuple[subprocess.Popen[bytes], Monitor]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", *arguments),
                *("-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"),
            ],
            pass_fds=[theirs.fileno()],
        )
    return process, Monitor(ours, end=process.kill)


def test_triple_fault_is_told(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(TRIPLE_FAULT)
    process, monitor = qemu("-drive", f"file={disk},format=raw,if=floppy")
    with process:
        process.wait(60)
    monitor.finish(seconds=10)
    assert (monitor.trouble, monitor.paused) == ("the guest reset itself, as a triple fault makes it do", False)


def test_signal_to_qemu_is_told() -> None:
    process, monitor = qemu("-machine", "none")
    with process:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    monitor.finish(seconds=10)
    assert monitor.trouble in ("QEMU ended because of a signal", ""), "none if it came before QEMU could hear it"


def test_complaint_leaves_registers_and_warnings_out() -> None:
    warning = b"qemu: warning: host doesn't support requested feature\n"
    registers = b"extra data[0]: 0x1\nRAX=0 RBX=0\nES =0000 \nCode=1\x1b[2J\n"
    assert complaint(warning + b"\nKVM internal error. Suberror: 1\n" + registers) == "KVM internal error. Suberror: 1"
    assert complaint(warning) == warning.decode().strip()
