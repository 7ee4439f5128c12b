# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make directories pass for machines that ssh reaches.

By default `stand_in_ssh.py` is the ssh command. With REUSEPORT_TEST_SSHD, which `tests/vm/test_sshd.py` sets, ssh is
ssh, and a real sshd on the loopback has `log_in.py` for its ForceCommand.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fake_archive import image
from runs import CONFIGURATION, FAKE_VM, ROOT, environment

from vm.boot.acceleration import SUBSTITUTE
from vm.remote.ssh import SSH

if TYPE_CHECKING:
    from collections.abc import Iterator

SSHD = "REUSEPORT_TEST_SSHD"
"""The environment variable with the path of the sshd to use."""

HERE = Path(__file__).parent
PROJECT = "src/project"
"""The project's directory, below the home directory of each machine."""

_LOG_IN = shlex.join([sys.executable, "-S", str(HERE / "log_in.py")])

_SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
AcceptEnv MACHINE
SetEnv MACHINES={machines} VM={vm}
ForceCommand {log_in}
"""

_SSH_CONFIG = """\
Host refusing
  HostName 127.0.0.1
  Port {closed}
Host nowhere
  HostName nowhere.invalid
Host *
  HostName 127.0.0.1
  Port {port}
  IdentityFile {keys}/user
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
"""


def clone(home: Path, source: str, *, set_up: bool = True) -> Path:
    """Put a small project with `source` for its cases below `home`; return its directory."""
    project = home / PROJECT
    for package in ("vm", "harness/interface"):
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "harness/__init__.py", project / "harness")
    (project / "pyproject.toml").write_text(CONFIGURATION)
    (project / "test_topic.py").write_text(source)
    (project / "conftest.py").write_text((HERE / "objects_conftest.py").read_text())
    if set_up:
        python = project / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
    return project


def add_kernels(project: Path, *names: str) -> None:
    """Put kernels into a project; the names say what goes wrong (see fake_vm.py)."""
    for name in names:
        (project / name).write_bytes(image("6.1.0"))


@contextlib.contextmanager
def reachable(machines: Path) -> Iterator[dict[str, str]]:
    """Yield the variables of an environment in which ssh reaches every directory in `machines` by its name."""
    common = {"PYTHONPATH": str(machines / "here" / PROJECT), "HOME": str(machines / "here"), SUBSTITUTE: FAKE_VM}
    common = {**environment(machines / "here"), **common}
    if not (sshd := os.environ.get(SSHD)):
        stand_in = shlex.join([sys.executable, "-S", str(HERE / "stand_in_ssh.py")])
        yield {**common, SSH: stand_in, "MACHINES": str(machines), "VM": FAKE_VM}
        return
    with _sshd(sshd, machines) as config:
        yield {**common, SSH: f"ssh -F {config}"}


@contextlib.contextmanager
def _sshd(sshd: str, machines: Path) -> Iterator[Path]:
    keys = machines / "keys"
    keys.mkdir()
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(command, check=True)
    port, closed = _free_ports()
    config = keys / "sshd_config"
    config.write_text(_SSHD_CONFIG.format(port=port, keys=keys, machines=machines, vm=f'"{FAKE_VM}"', log_in=_LOG_IN))
    of_each = "".join(f"Host {machine.name}\n  SetEnv MACHINE={machine.name}\n" for machine in machines.iterdir())
    (keys / "ssh_config").write_text(of_each + _SSH_CONFIG.format(port=port, closed=closed, keys=keys))
    own_directory = Path("/run/sshd")  # that root's sshd wants; an installed service has made it
    made = os.geteuid() == 0 and not own_directory.exists()
    if made:
        own_directory.mkdir()
    with subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True) as server:
        try:
            _wait_for(server, port)
            yield keys / "ssh_config"
        finally:
            server.kill()
            if made:
                own_directory.rmdir()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _wait_for(server: subprocess.Popen[str], port: int) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    assert server.stderr is not None
    raise AssertionError(f"sshd ended: {server.stderr.read()}")
