# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stand in for a QEMU whose KVM does not work; where it is to emulate, be the program behind it.

    stand_in_kvm.py FATE PROGRAM [ARGUMENT ...]

The arguments are QEMU's, or end with the descriptors that fake_vm.py gets: two where it is KVM, the monitor's first.
FATE is what becomes of a VM under KVM:

    internal-error  the kernel says a few lines, then QEMU prints registers, pauses and stays
    later           the same, once the guest is up and the file "pause" is there
    abort           QEMU aborts at once
    hang            not a byte, and not a word on the monitor
    crawl           a line now and then, for ever
    reset           the guest resets itself
    panic           the kernel panics
    works           it works
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTERS = """\
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000001
emulation failure
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
Code=24 5b 80 41 81 <ff> ff
"""
LINES = "[    0.000000] Linux version 6.1.0 (builder@example)\n[   15.100000] random: crng init done\n"

fate, *program = sys.argv[1:]


def emulate() -> NoReturn:
    os.execvp(program[0], program)


if any("accel=kvm" in word for word in program):
    (chardev,) = (word for word in program if word.startswith("socket,id=monitor,fd="))
    monitor, guest = int(chardev.rpartition("=")[2]), program
elif program[-1].isdigit() and program[-2].isdigit():
    monitor, guest = int(program[-2]), [*program[:-2], program[-1]]
else:
    emulate()


def tell(event: str, **data: object) -> None:
    """Say an event on the monitor, after as much of the protocol as there is without a reason to say one."""
    qmp = socket.socket(fileno=monitor)

    def say(message: object) -> None:
        qmp.sendall(json.dumps(message).encode() + b"\n")

    def ask() -> Iterator[Any]:
        # One after the other, with nothing in between.
        heard = ""
        while part := qmp.recv(4096):
            heard += part.decode()
            while heard:
                try:
                    message, end = json.JSONDecoder().raw_decode(heard)
                except ValueError:
                    break
                heard = heard[end:].lstrip()
                yield message

    say({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}})
    told = False
    for asked in ask():
        state = {"status": "internal-error" if told else "running", "running": not told, "singlestep": False}
        say({"return": state if asked["execute"] == "query-status" else {}, "id": asked.get("id")})
        if asked["execute"] == "query-status" and not told:
            told = True
            say({"event": event, "data": data, "timestamp": {"seconds": 1, "microseconds": 0}})
            if event == "SHUTDOWN":
                return


def children_of(parent: int) -> Iterator[int]:
    for child in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        yield from children_of(child)
        yield child


match fate:
    case "internal-error":
        print(LINES, end="", flush=True)
        print(REGISTERS, end="", file=sys.stderr, flush=True)
        tell("STOP")
    case "later":
        up = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *guest], pass_fds=[int(guest[-1])], stdin=subprocess.DEVNULL
        )
        os.close(int(guest[-1]))
        while not Path("pause").exists():
            time.sleep(0.05)
        up.send_signal(signal.SIGSTOP)
        for child in children_of(up.pid):  # which have the port too, and would outlive it
            with contextlib.suppress(ProcessLookupError):  # it may end as its own child does
                os.kill(child, signal.SIGKILL)
        print(REGISTERS, end="", file=sys.stderr, flush=True)
        tell("STOP")
    case "abort":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        print("qemu-system-x86_64: error: failed to set MSR 0x10a to 0x4000000", file=sys.stderr, flush=True)
        os.abort()
    case "hang":
        time.sleep(600)
    case "crawl":
        for number in range(6000):
            print(f"[{number:12.6f}] crawling", flush=True)
            time.sleep(0.1)
    case "reset":
        print(LINES, end="", flush=True)
        tell("SHUTDOWN", guest=True, reason="guest-reset")
    case "panic":
        print(f"{LINES}[   15.200000] Kernel panic - not syncing: only under KVM", flush=True)
        tell("SHUTDOWN", guest=True, reason="guest-reset")
    case "works":
        os.execvp(guest[0], guest)
