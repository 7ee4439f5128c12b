# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run apt with lists, state and caches of its own, in this project's cache directory.

So any user can run it, and it does not look at what is installed. The archive's address is the user's --mirror, or the
one in the machine's own apt sources, which apt itself reads.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import filelock

from harness.interface.atomic import write_text
from vm.base.errors import MissingToolError
from vm.base.lifeline import lifeline
from vm.base.tools import find_tool
from vm.kernels.apt_errors import parse_apt_error
from vm.kernels.sources import addresses, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vm.kernels.catalogue import Origin

_LEAST_ROOM = 1 << 20
"""Bytes. With less free space apt reports other failures than a full disk."""

_APT_HELPER = "/usr/lib/apt/apt-helper"

# The machine's apt.conf is read first. Its hooks after an update are for the machine's own lists, so they are cleared;
# signatures are checked whatever it says. A connection that stalls for Timeout seconds is opened again, and its
# download continues where it stopped.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir "/";
Dir::State "{root}/state";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{root}/etc/{key}.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Log "{root}/log";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
"""

_SOURCES = """\
Types: deb
URIs: {uri}
Suites: {suite}
Components: main
Architectures: amd64
Signed-By: {keyring}
"""


@dataclass(frozen=True, kw_only=True)
class Apt:
    """apt with its files in `root`, for the archive at `mirror` or where the machine's own sources point."""

    root: Path
    origin: Origin
    mirror: str | None = None

    def demand_usable(self) -> None:
        """Check, without network, that kernels can be fetched and unpacked. Raises MissingToolError, MirrorError."""
        find_tool("dpkg-deb", package="dpkg")
        assert self._bases
        assert self._keyring

    @functools.cached_property
    def _bases(self) -> tuple[str, str]:
        """Return the addresses of the archive and of its security archive."""
        return addresses(self.origin, mirror=self.mirror)

    @functools.cached_property
    def _keyring(self) -> Path:
        for keyring in self.origin.keyrings:
            if keyring.is_file():
                return keyring
        raise MissingToolError(
            f"the keys of {self.origin.name}'s archive are not installed ({self.origin.keyrings[0]}), and nothing is "
            f"taken unchecked: install the package {self.origin.keyring_from}, or put the file there"
        )

    def source_key(self, suite: str) -> str:
        """Return a short text that differs between the addresses that a suite may be fetched from."""
        return _short_digest(self._uri(suite))

    def _uri(self, suite: str) -> str:
        main, security = self._bases
        return security if suite.endswith("-security") else main

    @contextlib.contextmanager
    def locked(self, progress: Callable[[str], None]) -> Iterator[None]:
        """Keep other runs from changing the package lists meanwhile."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.root / ".lock")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            progress("waiting for another run that is downloading package lists")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _configuration(self, suites: Sequence[str]) -> Path:
        """Write apt's configuration and its sources for `suites`; return the configuration's path."""
        sources = "\n".join(
            _SOURCES.format(uri=self._uri(suite), suite=suite, keyring=self._keyring) for suite in suites
        )
        key = _short_digest(sources)
        for directory in ("etc", "lists/partial", "cache/archives/partial", "state", "log"):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        write_text(self.root / "etc" / f"{key}.sources", sources)
        configuration = self.root / "etc" / f"{key}.conf"
        write_text(configuration, _CONFIGURATION.format(root=self.root, key=key))
        return configuration

    def run(
        self,
        program: Literal["apt-get", "apt-cache", "apt-helper"],
        *arguments: str,
        suites: Sequence[str],
        cwd: Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> str:
        """Run one of apt's programs on `suites` and return its output; `progress` is called with the percentage.

        Raises FetchError's subclasses, and OSError for a full disk.
        """
        tool = _APT_HELPER if program == "apt-helper" else find_tool(program, package="apt")
        if not Path(tool).is_file():
            raise MissingToolError(f"{tool} is not installed: install the package apt")
        configuration = self._configuration(suites)
        # In memory: a full disk has no room for the message that it is full.
        with _memory_file("output") as output, _memory_file("complaints") as complaints:
            reader, writer = os.pipe()
            try:
                process = subprocess.Popen(
                    [*lifeline("TERM"), tool, "-c", str(configuration), "-o", f"APT::Status-Fd={writer}", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=complaints,
                    pass_fds=(writer,),
                    cwd=cwd,
                    env=environment(),
                )
            finally:
                os.close(writer)
            try:
                with os.fdopen(reader, errors="replace") as status:
                    for line in status:
                        percent = re.match(r"dlstatus:\d+:(\d+)", line)
                        if percent and progress is not None:
                            progress(int(percent[1]))
                process.wait()
            except BaseException:
                # Ctrl-C reaches apt as well; it keeps what it has downloaded and ends.
                process.terminate()
                process.wait()
                raise
            output.seek(0)
            complaints.seek(0)
            said = complaints.read().decode(errors="replace")
            if process.returncode:
                if shutil.disk_usage(self.root).free < _LEAST_ROOM:
                    # On a full disk apt reports some files as missing on the mirror.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                mirror = self._uri(suites[0])
                raise parse_apt_error(said, root=self.root, mirror=mirror, keyring_from=self.origin.keyring_from)
            return output.read().decode(errors="replace")


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _memory_file(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")
