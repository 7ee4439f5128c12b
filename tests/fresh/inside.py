# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Be the first process of a root's own namespaces: mount what a system has, run a command, tell what it left running.

python -m tests.fresh.inside ROOT USER DIRECTORY REPORT COMMAND... is started by `unshare` (see `tests.fresh.command`),
with this machine's Python. Its end is the end of every process here, and of all mounts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kvm", "net/tun")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_FILE_SYSTEMS = (
    ("pts", "devpts", "newinstance,ptmxmode=666,mode=620,gid=5"),
    ("shm", "tmpfs", "mode=1777"),
)
# Not by chroot(2) alone: the kernel lets no program in a chroot make a user namespace (user_namespaces(7), EPERM).
# chroot(1) then only changes the user. In a namespace once more: this process keeps this machine's files.
_ENTER = """
cd "$1" && pivot_root . . && umount --lazy . || exit
user=$2 directory=$3
shift 3
exec chroot --userspec="$user" / env --chdir="$directory" "$@"
"""
_GRACE = 10
"""Seconds that processes have to end by themselves once the command has ended."""


def main(words: list[str]) -> int:
    """Run the command and return its exit status, 128 plus the signal's number where a signal ended it."""
    root, user, directory, report, *command = words
    # Ctrl-C reaches the command as well; what it does then is to be seen. A handler, unlike SIG_IGN, is not inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    _mount_all(Path(root))
    enter = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", root, user, directory]
    child = subprocess.Popen([*enter, *command])
    status = _wait_for(child.pid)
    left = _left()
    Path(report).write_text(json.dumps(left))
    return status


def _mount_all(root: Path) -> None:
    _mount("--bind", root, root)
    _mount("-t", "proc", "proc", root / "proc")
    _mount("--rbind", "/sys", root / "sys")
    dev = root / "dev"
    _mount("-t", "tmpfs", "-o", "mode=755", "dev", dev)
    for name in _DEVICES:
        if Path("/dev", name).exists():
            (dev / name).parent.mkdir(exist_ok=True)
            (dev / name).touch()
            _mount("--bind", f"/dev/{name}", dev / name)
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
    for name, kind, options in _FILE_SYSTEMS:
        (dev / name).mkdir()
        _mount("-t", kind, "-o", options, kind, dev / name)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def _wait_for(pid: int) -> int:
    """Reap whatever ends until `pid` has ended; return its exit status."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _left() -> list[str]:
    """Return the command lines of the processes that do not end."""
    deadline = time.monotonic() + _GRACE
    while running := _running():
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return running


def _running() -> list[str]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name != "1":
            with contextlib.suppress(OSError):  # it has ended meanwhile
                found.append((entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip())
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
