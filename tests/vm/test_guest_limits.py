# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What SECURITY.md says of guests: they change no file of the host and reach no network, though root in there tries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from started import HERE, KERNEL, ROOT

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "what the host wrote\n"
VIRTIO_CONSOLE, VIRTIO_9P = 3, 9  # linux/virtio_ids.h


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of the host with one file, which a guest tries to change."""
    made = tmp_path_factory.mktemp("host")
    (made / "file").write_text(WORDS)
    return made


@pytest.fixture(scope="module")
def said(directory: Path) -> Any:
    """Return what `reaching_out.py` said in a guest."""
    done = subprocess.run(
        [sys.executable, "-m", "vm", "run", KERNEL, "--", sys.executable, HERE / "reaching_out.py", directory / "file"],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_a_guest_writes_stays_in_its_memory(said: Any) -> None:
    assert said["through the overlay"] == "done"
    assert said["seen through the overlay"] == "X" + WORDS[1:]
    assert said["seen below"] == WORDS


def test_qemu_refuses_to_write_for_a_guest(said: Any) -> None:
    """Below the overlay, on the share mounted writable, where only QEMU's own readonly=on is in the way."""
    kind, mount, file_system = said["mount"]
    assert (kind, mount.split(",")[0], file_system.split(",")[0]) == ("9p", "rw", "rw")
    assert {name: error for name, error in said["below"].items() if error not in {"EROFS", "EOPNOTSUPP"}} == {}


def test_the_host_s_files_are_as_they_were(said: Any, directory: Path) -> None:
    assert said["below"]
    assert {file.name: file.read_text() for file in directory.iterdir()} == {"file": WORDS}
    assert (directory / "file").stat().st_mode & 0o777 == 0o644 & ~_umask()


def test_a_guest_has_no_way_out_but_its_files_and_its_port(said: Any) -> None:
    assert said["interfaces"] == ["lo"]
    assert said["network cards"] == []
    assert said["disks"] == []
    assert set(said["virtio"]) == {VIRTIO_CONSOLE, VIRTIO_9P}
    assert said["vsock"] in {"ENODEV", "EAFNOSUPPORT", "EADDRNOTAVAIL"}


def _umask() -> int:
    """Return this process's umask, which can only be asked by setting it."""
    before = os.umask(0)
    os.umask(before)
    return before
