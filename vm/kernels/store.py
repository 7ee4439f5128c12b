# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The store of kernels that are ready to boot: a directory for each version, which appears whole or not at all.

kernels/<name>/<version>/
    vmlinuz  config
    contents.json                        the digests of these and of the modules (`vm.kernels.contents`)
    kernel.json                          what it is and how it was made; written last
    lib/modules/<release>/               the modules that a guest needs; `build` points at headers/
    headers/                             include/ and arch/x86/include/, for bcc
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from vm.base.errors import KernelError, StoreError
from vm.base.storage import Refusal, refusal_of
from vm.kernels import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAYOUT = 1
"""Raised when what an entry holds changes: entries of another layout are fetched again."""

_MANIFEST = "kernel.json"
_STAGING = ".staging-"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of an entry's kernel.json."""

    release: str
    version: str
    headers: bool
    modules: str  # requirements.modules_digest() when it was made
    layout: int = LAYOUT


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One version of a kernel in the store."""

    path: Path
    name: str
    manifest: Manifest

    @property
    def size(self) -> int:
        """Return the bytes on disk."""
        return sum(
            file.lstat().st_blocks * 512 for file in self.path.rglob("*") if not file.is_dir() or file.is_symlink()
        )


@dataclass(frozen=True, kw_only=True)
class Store:
    """The entries under one directory, which several runs share."""

    root: Path

    def entries(self, name: str) -> list[Entry]:
        """Return the complete entries of `name`, newest version first, also those that are out of date.

        Raises StoreError.
        """
        found = []
        with translate_oserror(self.root):
            manifests = [entry / _MANIFEST for entry in _visible(self.root / name)]
        for manifest in manifests:
            # An entry that cannot be read is from another version of this project, or damaged: it does not count.
            with contextlib.suppress(OSError, ValueError, TypeError):
                fields = json.loads(manifest.read_text())
                found.append(Entry(path=manifest.parent, name=name, manifest=Manifest(**fields)))
        order = cmp_to_key(compare_versions)
        return sorted(found, key=lambda entry: order(entry.path.name), reverse=True)

    def newest(self, name: str, *, modules: str) -> Entry | None:
        """Return the newest entry of `name` that holds what `modules` (requirements.modules_digest()) asks for."""
        current = (entry for entry in self.entries(name) if _is_current(entry.manifest, modules))
        return next(current, None)

    def discard_damaged(self, name: str, *, say: Callable[[str], None]) -> str:
        """Remove the damaged entries of `name`; return how the last of them was damaged, "" if there were none.

        The caller has locked `name`. `say` is called with a line for each. Raises StoreError.
        """
        wrong = ""
        for entry in self.entries(name):
            if what := contents.damage(entry.path):
                wrong = f"{entry.path.name} in the store is damaged ({what})"
                say(f"{wrong}, and is fetched or copied again")
                self._remove(entry)
        return wrong

    def names(self) -> list[str]:
        """Return the names of all kernels in the store. Raises StoreError."""
        with translate_oserror(self.root):
            return sorted(path.name for path in _visible(self.root) if path.is_dir())

    @contextlib.contextmanager
    def locked(self, name: str, *, progress: Callable[[str], None]) -> Iterator[None]:
        """Keep other runs from writing entries of `name` meanwhile. Raises StoreError."""
        with translate_oserror(self.root):
            directory = self.root / name
            directory.mkdir(parents=True, exist_ok=True)
            # The lock's file is never removed: two runs could then hold locks on two files of the same name.
            lock = filelock.FileLock(directory / ".lock")
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                progress(f"{name}: waiting for another run that is fetching it")
                lock.acquire()
        try:
            # A run that was killed leaves its staging directory behind; with the lock held, no run uses it.
            for left in directory.glob(f"{_STAGING}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def staging(self, name: str, version: str) -> Iterator[Path]:
        """Yield an empty directory that becomes the entry `version` of `name` when the block succeeds.

        The block calls `seal` last. If it raises, the directory is removed.
        """
        with translate_oserror(self.root):
            directory = self.root / name
            directory.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(prefix=_STAGING, dir=directory))
            try:
                yield stage
                stage.chmod(0o755)
                final = directory / version
                if final.exists():
                    final.rename(stage.with_name(f"{stage.name}-old"))
                stage.rename(final)
            finally:
                for left in directory.glob(f"{stage.name}*"):
                    shutil.rmtree(left, ignore_errors=True)

    def prune(self, *, keep: Callable[[Entry], bool]) -> list[Entry]:
        """Remove the entries for which `keep` returns False, and what killed runs left; return the removed entries.

        Raises StoreError.
        """
        removed = []
        for name in self.names():
            with self.locked(name, progress=lambda _line: None):
                for entry in self.entries(name):
                    if not keep(entry):
                        self._remove(entry)
                        removed.append(entry)
        return removed

    def _remove(self, entry: Entry) -> None:
        # Renamed first, so that a killed process leaves no half entry.
        away = entry.path.with_name(f"{_STAGING}{entry.path.name}")
        with translate_oserror(self.root):
            entry.path.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def seal(stage: Path, manifest: Manifest) -> None:
    """Write the digests and the manifest, which make an entry complete."""
    contents.record(stage)
    (stage / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")


def compare_versions(one: str, other: str) -> int:
    """Order two package versions as dpkg does: negative, 0 or positive."""
    if one == other:
        return 0
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        return -1 if one < other else 1
    return -1 if subprocess.run([dpkg, "--compare-versions", one, "lt", other], check=False).returncode == 0 else 1


@contextlib.contextmanager
def translate_oserror(root: Path, *, elsewhere: str = "point XDG_CACHE_HOME at another directory") -> Iterator[None]:
    """Raise StoreError, with a remedy, for an OSError of the file system under `root`.

    `elsewhere` tells the user how to have something else than `root` used.
    """
    try:
        yield
    except KernelError:
        raise
    except OSError as error:
        raise _storage_error(root, error, elsewhere) from error


def _visible(directory: Path) -> list[Path]:
    """Return what is in a directory but for hidden files; nothing if there is no such directory. Raises OSError."""
    try:
        # Not by glob(), which since Python 3.13 takes a directory that cannot be read for an empty one.
        return [path for path in directory.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return []


def _storage_error(root: Path, error: OSError, elsewhere: str) -> StoreError:
    match refusal_of(error):
        case Refusal.FULL:
            return StoreError(
                f"no space left under {root}: free some ('python -m vm prune' removes old kernels), or {elsewhere}"
            )
        case Refusal.FORBIDDEN:
            return StoreError(
                f"{error.filename or root} cannot be used ({error.strerror or error}): give this user the directory "
                f'{root} (sudo chown -R "$USER" …), or {elsewhere}'
            )
        case Refusal.OTHER:
            where = f" ({error.filename})" if error.filename and Path(error.filename) != root else ""
            return StoreError(f"{root} cannot be used: {error.strerror or error}{where}. Mend that, or {elsewhere}")


def _is_current(manifest: Manifest, modules: str) -> bool:
    return manifest.layout == LAYOUT and manifest.modules == modules
