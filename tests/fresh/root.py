# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A minimal installation of a distribution in a directory: make it, look into it, remove it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .network import CERTIFICATES

if TYPE_CHECKING:
    from .network import Network

ON_TOP = ("git", "python3")
"""What a root has besides the packages of the distribution's smallest installation."""

NEWCOMER = "newcomer"
"""The ordinary user of every root."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A release whose installation is tried."""

    name: str
    release: str  # the name of its suite


DISTRIBUTIONS = (
    Distribution(name="debian-12", release="bookworm"),
    Distribution(name="debian-13", release="trixie"),
)


def debootstrap_command(distribution: Distribution, root: Path, network: Network) -> list[str]:
    """Return the command that installs `distribution` into `root`."""
    release = distribution.release
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(ON_TOP)}",
        *(f"--aptopt={line}" for line in network.apt),
        release,
        str(root),
        f"deb {network.mirror} {release} main",
        f"deb {network.mirror} {release}-updates main",
        f"deb {network.security} {release}-security main",
    ]


def settle(root: Path, network: Network, *, project: Path) -> None:
    """Give a new root what an installer asks for (name resolution, network settings), and `project`, a git bundle."""
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    (root / "etc/apt/apt.conf.d/99network").write_text(network.apt_in_root)
    for name in ("hosts", "resolv.conf"):
        # A link there may lead out of the root.
        (root / "etc" / name).unlink(missing_ok=True)
        shutil.copyfile(Path("/etc", name), root / "etc" / name)
    if network.certificates is not None:
        shutil.copyfile(network.certificates, root / CERTIFICATES.lstrip("/"))
    shutil.copyfile(project, root / "srv/project.bundle")


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package."""

    name: str
    version: str
    kilobytes: int  # installed, as the package itself says


def installed(root: Path) -> frozenset[Package]:
    """Return the packages that are installed in `root`, read by this machine's dpkg."""
    columns = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Installed-Size}\n"
    command = ["dpkg-query", "--root", str(root), "--show", "--showformat", columns]
    return parse_packages(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse_packages(listed: str) -> frozenset[Package]:
    """Return the installed packages of lines of status, name, version and KiB, separated by tabs."""
    rows = (line.split("\t") for line in listed.splitlines())
    return frozenset(
        Package(name=name, version=version, kilobytes=int(size or 0))
        for status, name, version, size in rows
        if status.startswith("ii")
    )


def disk_use(directory: Path) -> int:
    """Return the bytes of disk that a directory takes."""
    # Files of a running apt or QEMU may vanish meanwhile: du then complains, and still prints a sum.
    command = ["du", "-sx", "--block-size=1", str(directory)]
    return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()[0])


def remove(directory: Path) -> None:
    """Remove a root. Its mounts were those of the commands' own namespaces and went with them.

    Raises OSError where something is mounted beneath it here.
    """
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if beneath := [place for place in mounted if Path(place).is_relative_to(directory)]:
        raise OSError(f"{directory} is not removed: there are mounts beneath it: {', '.join(beneath)}")
    shutil.rmtree(directory)
