# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A command or a shell on a kernel behaves as it would here; only the VM is a process of the host (fake_vm.py)."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import pytest
from fake_archive import image
from runs import FAKE_VM, environment, foreground

from vm.__main__ import main
from vm.boot.acceleration import SUBSTITUTE
from vm.guest import run_command
from vm.kernels import requirements

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., "Done"]

SECONDS = 60


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "k61").write_bytes(image("6.1.0"))
    return tmp_path


def variables(directory: Path, **more: str) -> dict[str, str]:
    return environment(directory, **{SUBSTITUTE: FAKE_VM, "SHELL": "/bin/bash", **more})


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    output: bytes
    complaints: bytes


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Return the function that runs a command on a kernel, with this input, in this process."""
    monkeypatch.chdir(here)
    monkeypatch.setenv(SUBSTITUTE, FAKE_VM)

    def run(*command: str, given: bytes = b"", fate: str = "", kernel: str = "./k61") -> Done:
        monkeypatch.setenv("REUSEPORT_KERNEL", fate)
        with TemporaryFile() as file:
            file.write(given)
            file.seek(0)
            before = os.dup(0)
            os.dup2(file.fileno(), 0)
            try:
                status = main(["run", kernel, "--", *command])
            finally:
                os.dup2(before, 0)
                os.close(before)
        return Done(status, *capfdbinary.readouterr())

    return run


def test_output_status_and_directory_are_the_command_s(run: Run, here: Path) -> None:
    done = run("sh", "-c", "pwd; echo complaint >&2; exit 7")
    assert (done.status, done.output) == (7, f"{here}\ncomplaint\n".encode())
    assert done.complaints == b"booting 6.1.0\n"


def test_arguments_arrive_as_they_were_given(run: Run) -> None:
    assert run("printf", "<%s>", "a b", "", "$HOME", "-x").output == b"<a b><><$HOME><-x>"


def test_input_is_the_command_s_to_its_end(run: Run) -> None:
    """Whatever bytes it has, more of them than one portion holds."""
    data = bytes(range(256)) * 1000
    assert run("cat", given=data).output == data
    assert run("cat").output == b""


def test_unread_input_is_no_error(run: Run) -> None:
    done = run("echo", "done", given=bytes(3_000_000))
    assert (done.status, done.output) == (0, b"done\n")


def test_command_that_does_not_exist(run: Run) -> None:
    done = run("no-such-command")
    assert done.status == 127
    assert b"no-such-command: not found" in done.output


def test_command_that_a_signal_ends(run: Run) -> None:
    assert run("sh", "-c", "kill -TERM $$").status == 128 + signal.SIGTERM


def test_pipe_of_the_command_breaks_as_in_any_shell(run: Run) -> None:
    """Python ignores SIGPIPE, and what it starts would inherit that."""
    assert run("bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}").output == b"y\n141\n"


def test_output_can_be_opened_again_by_its_name(run: Run) -> None:
    """As kselftest's runner does, and tee(1) with /dev/stderr: the port behind it opens once, a socket never."""
    assert run("sh", "-c", "echo one; echo two >>/dev/stdout; echo three >/dev/stderr").output == b"one\ntwo\nthree\n"


def test_long_output_is_whole(run: Run) -> None:
    assert run("sh", "-c", "yes | head -c 3000000").output == b"y\n" * 1_500_000


def test_what_the_command_leaves_running_is_not_waited_for() -> None:
    """Of the guest's side alone: beside fake_vm.py what is left would have the port open."""
    started = time.monotonic()
    command = [sys.executable, "-I", "-S", run_command.__file__, "fed", "sh", "-c", "sleep 50 & echo done"]
    done = subprocess.run(command, input=bytes(4), stdout=subprocess.PIPE, timeout=SECONDS, check=True)
    assert done.stdout == b"done\n"
    assert time.monotonic() - started < 40


def test_headers_of_a_build_tree_are_where_bcc_looks(run: Run, here: Path) -> None:
    for file, content in (("arch/x86/boot/bzImage", image("6.1.0")), ("include/generated/autoconf.h", b"")):
        (here / "linux" / file).parent.mkdir(parents=True)
        (here / "linux" / file).write_bytes(content)
    (here / "linux/include/linux").mkdir()
    (here / "linux/include/linux/kconfig.h").write_bytes(b"")
    (here / "linux/.config").write_bytes(b"")
    done = run("sh", "-c", "echo $BCC_KERNEL_SOURCE", kernel="./linux")
    assert done.output.decode() == f"{here}/linux\n"


def test_pattern_that_names_several_kernels(run: Run) -> None:
    done = run("true", kernel="7.*")
    assert done.status == 4
    assert b"'7.*' stands for several kernels, and there is one VM: name one of 7.2, 7.3" in done.complaints


def test_vm_that_is_lost(run: Run) -> None:
    done = run("true", fate="panics")
    assert done.status == 12
    assert b"the VM was lost. The end of its console:\n[    0.000000] Linux version" in done.complaints


def test_kernel_that_does_not_boot(run: Run) -> None:
    done = run("true", fate="dies")
    assert done.status == 13
    assert b"Unable to mount root fs" in done.complaints
    assert b"k61 ended before its worker was up" in done.complaints


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("CONFIG_NET_9P_VIRTIO", "the guest cannot reach the host's files"),
        ("CONFIG_VETH", "crafted frames enter through a veth pair"),
    ],
)
def test_kernel_that_cannot_be_a_guest_says_which_option_is_missing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, why: str
) -> None:
    has = [wanted.name for wanted in requirements.wanted_options() if wanted.name != option]
    (here / "config-6.1.0").write_text("".join(f"{name}=y\n" for name in has))
    monkeypatch.delenv(SUBSTITUTE, raising=False)
    assert main(["run", str(here / "k61"), "--", "true"]) == 13
    assert f"k61 cannot run as a guest. Its configuration lacks {option}: {why}\n" in capsys.readouterr().err


def test_closed_output_ends_the_run(here: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vm", "run", "./k61", "--", "yes"],
        cwd=here,
        env=variables(here),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(SECONDS) == 141
        assert process.stderr.read() == b"booting 6.1.0\n"


def test_interrupt_leaves_no_vm(here: Path) -> None:
    with foreground():
        process = subprocess.Popen(
            [sys.executable, "-m", "vm", "run", "./k61", "--", "sh", "-c", "cut -d ' ' -f 4 /proc/$PPID/stat; cat"],
            cwd=here,
            env=variables(here),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        vm = Path("/proc", process.stdout.readline().strip())
        assert b"fake_vm.py" in (vm / "cmdline").read_bytes()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert not vm.exists()
        assert "interrupted" in process.stderr.read()


def read_until(terminal: int, wanted: bytes) -> bytes:
    said = b""
    while wanted not in said:
        ready, _, _ = select.select([terminal], [], [], SECONDS)
        assert ready, said
        said += os.read(terminal, 65536)
    return said


def test_shell_has_a_terminal_of_this_one_s_size(here: Path) -> None:
    quiet = "bind 'set enable-bracketed-paste off'"
    (here / ".bashrc").write_text(f"PATH=/usr/bin:/bin; mine=kept; {quiet}\n")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard:
        with foreground():  # a shell cannot trap what was ignored when it began
            shell = subprocess.Popen(
                [sys.executable, "-m", "vm", "shell", "./k61"],
                cwd=here,
                env=variables(here, COLUMNS="91", LINES="33", HOME=str(here)),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        os.close(theirs)
        try:
            read_until(ours, b"gone when you leave")
            keyboard.write(b"tty; stty size; echo $((6*7))\n")
            said = read_until(ours, b"42\r\n")
            assert b"/dev/pts/" in said
            assert b"33 91\r\n" in said
            keyboard.write(b"which python3; echo $mine$((1+1))\n")
            said = read_until(ours, b"kept2\r\n")
            assert f"{Path(sys.executable).parent}/python3\r\n".encode() in said
            # Never asleep: a shell that waits, for a line or a child, may see a signal only after it.
            keyboard.write(b"sh -c 'trap \"echo caught; exit\" INT; echo busy$((1+1)); while :; do :; done'\n")
            read_until(ours, b"busy2\r\n")
            keyboard.write(b"\x03")
            read_until(ours, b"caught\r\n")
            keyboard.write(b"exit 5\n")
            assert shell.wait(SECONDS) == 5
        finally:
            shell.kill()
            shell.wait()


def test_shell_takes_a_script(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vm", "shell", "./k61"],
        cwd=here,
        env=variables(here),
        input=b"echo $((6*7))\nexit 3\n",
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 3
    assert b"42" in done.stdout
