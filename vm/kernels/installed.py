# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find the running kernel as its distribution installed it, or else another installed one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vm.base.errors import NotAKernelError
from vm.kernels.image import demand_supported, read_release

# Debian and Ubuntu; Fedora, Arch and openSUSE, the latter with a link from boot/.
_IMAGES = ("boot/vmlinuz-{}", "usr/lib/modules/{}/vmlinuz", "lib/modules/{}/vmlinuz")


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An installed kernel, its modules beside it in lib/modules."""

    image: Path
    release: str  # `uname -r`, as the image states it
    instead_of: str  # the release that runs and has no image; "" if this is the one
    config: Path | None  # the running kernel's own copy, where no file has it

    @property
    def note(self) -> str:
        """Return a sentence for the user if it is not the running kernel, otherwise ""."""
        if not self.instead_of:
            return ""
        return f"no image of the running kernel, {self.instead_of}, is installed: taking {self.release}, which is"


def find_installed(running: str, *, root: Path = Path("/")) -> Installed:
    """Return the kernel of release `running` below `root`, or the newest of the others that are installed there.

    A container runs its host's kernel, has no image of it, and may have a kernel package of its own. Raises
    NotAKernelError, also for an image that cannot be read, and TooOldError.
    """
    images = _readable_first(_images(root, running))
    others = [] if images else _newest_first(root)
    if not images and not others:
        raise NotAKernelError(
            f"the running kernel, {running}, has no image here (neither {root / _IMAGES[0].format(running)} nor "
            f"{root / _IMAGES[1].format(running)}), and no other kernel is installed, as in most containers: install "
            "a kernel package, choose by name (python -m vm list), or give a path (--kernel PATH)"
        )
    image = (images or others)[0]
    release = read_release(image)
    demand_supported(release, what=f"the installed kernel {image}")
    own = root / "proc/config.gz"
    return Installed(
        image=image,
        release=release,
        instead_of="" if images else running,
        config=own if images and own.is_file() else None,
    )


def _images(root: Path, release: str) -> list[Path]:
    paths = (root / image.format(release) for image in _IMAGES)
    return [path for path in paths if os.path.isfile(path)]  # noqa: PTH113  # pathlib's raises where boot/ is closed


def _readable_first(images: list[Path]) -> list[Path]:
    """Return `images`, those last that this user cannot read: one of two copies may be for root alone."""
    return sorted(images, key=lambda image: not _is_readable(image))


def _is_readable(image: Path) -> bool:
    try:
        with image.open("rb"):
            return True
    except OSError:
        return False


def _newest_first(root: Path) -> list[Path]:
    releases = {
        path.name.removeprefix("vmlinuz-") if path.parent.name == "boot" else path.parent.name
        for image in _IMAGES
        for path in root.glob(image.format("*"))
    }
    # Fedora has a copy of one image under the machine's identifier, for rescue.
    ordered = sorted((one for one in releases if re.match(r"\d+\.\d", one)), key=_order, reverse=True)
    return [image for release in ordered for image in _readable_first(_images(root, release))]


def _order(release: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts releases by their numbers: 6.9 before 6.10."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.findall(r"\d+|\D+", release)]
