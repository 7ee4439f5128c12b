# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Ask a distribution's signed archive for kernels, through apt in a root of its own.

apt does what it is good at (mirrors, proxies, signatures, resuming, hashes) with lists, state and caches under this
project's cache directory, as any user, without a look at what is installed. The addresses are those of the machine's
own apt sources, as apt itself reads them, or the user's --mirror.
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
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import filelock

from vm.base.atomic import write_text
from vm.base.errors import (
    DamagedListsError,
    FetchError,
    MirrorError,
    MissingToolError,
    NotOfferedError,
    SignatureError,
    StoreError,
)
from vm.base.lifeline import lifeline
from vm.base.tools import find_tool
from vm.kernels.sources import addresses, environment
from vm.kernels.store import compare_versions, translate_oserror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vm.kernels.catalogue import Origin

LISTS_GOOD_FOR = 6 * 3600
"""Seconds for which downloaded package lists are taken as they are."""

_LEAST_ROOM = 1 << 20
"""Bytes: with less free there is no telling what apt failed for."""

_CLOCKS_DIFFER_BY = 60
"""Seconds: a cache on another machine may be a little in the future."""

# What makes apt's root private. Whatever hooks the machine's apt.conf runs after an update are for the machine's
# lists; nor may it switch off the signature checks here. A stalled connection is given up after Timeout seconds
# and taken up again where it stopped.
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
class Package:
    """Hold one version of one package that the archive offers."""

    name: str
    version: str
    depends: str  # the control field, whole
    size: int  # bytes to download


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Hold the newest kernel that the archive offers for a series, with all the packages it is made of."""

    version: str
    image: tuple[Package, ...]
    headers: tuple[Package, ...]  # () when the archive does not have them

    @property
    def size(self) -> int:
        """Return the bytes to download."""
        return sum(package.size for package in (*self.image, *self.headers))


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Ask and fetch through apt under `root`, from `mirror` or where the machine's own apt sources point."""

    root: Path
    origin: Origin
    mirror: str | None = None

    def demand_source(self) -> None:
        """Raise what stands in the way of fetching from here, without network: MissingToolError, MirrorError."""
        find_tool("dpkg-deb", package="dpkg")
        assert self._bases
        assert self._keyring

    def refresh(
        self, suites: Sequence[str], *, progress: Callable[[str], None], max_age: float = LISTS_GOOD_FOR
    ) -> bool:
        """Download the package lists of `suites` that are older than `max_age` seconds; tell whether there were any.

        A suite that the mirror does not have is passed over if there is another. Raises FetchError's subclasses.
        """
        downloaded = False
        with translate_oserror(self.root), self._locked(progress):
            missing = []
            for suite in suites:
                stamp = self._stamp(suite)
                if _age(stamp) <= max_age:
                    continue
                progress(f"downloading the package lists of {suite}")
                downloaded = True
                try:
                    self._apt("apt-get", "update", "-q", suites=[suite])
                except NotOfferedError as error:
                    missing.append(error)
                    self._forget(suite)
                    continue
                stamp.parent.mkdir(parents=True, exist_ok=True)
                stamp.touch()
                Archive._kernel_packages.cache_clear()
            if len(missing) == len(suites):
                raise missing[0]
        return downloaded

    def forget(self, suites: Sequence[str], *, progress: Callable[[str], None]) -> None:
        """Remove the package lists of `suites`: apt takes those that it has unread while the mirror's are no newer.

        Raises StoreError.
        """
        with translate_oserror(self.root), self._locked(progress):
            for suite in suites:
                self._forget(suite)
            Archive._kernel_packages.cache_clear()

    def newest(self, *, series: str, flavour: str, suites: Sequence[str]) -> Offer | None:
        """Return the newest kernel of `series` in the lists at hand, None when they have none. Needs no network.

        Raises NotOfferedError when the lists have parts of kernels only.
        """
        packages = self._kernel_packages(tuple(suites))
        prefix = f"linux-{self.origin.kinds[0]}-{series}"
        # "6.12.117+deb13-amd64" and "7.3-amd64", not "...-rt-amd64", "...-amd64-dbg", "...-amd64-unsigned";
        # "6.8.0-31-generic", not "...-lowlatency", "...-generic-64k".
        name = re.compile(rf"{re.escape(prefix)}(?:[.+~][^-]*(?:-[\d.]+[^-]*)?)?-{re.escape(flavour)}")
        of_series = re.compile(rf"{re.escape(series)}(?:[.~+-].*)?")
        images = [
            package
            for package in packages.values()
            if name.fullmatch(package.name) and of_series.fullmatch(package.version)
        ]
        order = functools.cmp_to_key(compare_versions)
        incomplete: NotOfferedError | None = None
        for image in sorted(images, key=lambda package: order(package.version), reverse=True):
            try:
                return _offer(image, packages, self.origin)
            except NotOfferedError as error:
                incomplete = incomplete or error
        if incomplete is not None:
            raise incomplete
        return None

    def download(
        self, offer: Offer, into: Path, *, suites: Sequence[str], progress: Callable[[int], None]
    ) -> tuple[list[Path], list[Path]]:
        """Download the packages of `offer` to `into` and return their files: the image's and the headers'.

        What an earlier, interrupted download left in `into` is taken up. `progress` is told the percentage. Raises
        FetchError's subclasses.
        """
        with translate_oserror(self.root):
            into.mkdir(parents=True, exist_ok=True)
            files = self._locate((*offer.image, *offer.headers), suites)
            begun = any(into.iterdir())
            try:
                self._fetch(files, into, suites=suites, progress=progress)
            except SignatureError:
                # Only what was taken up may have been damaged here, by a full disk say; once more from the start.
                if not begun:
                    raise
                for left in into.iterdir():
                    left.unlink()
                self._fetch(files, into, suites=suites, progress=progress)
            paths = [into / file.name for file in files]
            return paths[: len(offer.image)], paths[len(offer.image) :]

    def _locate(self, packages: Sequence[Package], suites: Sequence[str]) -> list[_Remote]:
        """Return where the files of `packages` are, in the same order."""
        # In an empty directory: apt says nothing of a file that is there.
        with tempfile.TemporaryDirectory(dir=self.root) as empty:
            listed = self._apt(
                "apt-get",
                "download",
                "--print-uris",
                *(f"{package.name}={package.version}" for package in packages),
                suites=suites,
                cwd=Path(empty),
            )
        # 'URI' filename size hash
        found = re.findall(r"^'([^']+)' (\S+) \d+ (\S+)$", listed, re.MULTILINE)
        files = {name.split("_")[0]: _Remote(uri=uri, name=name, digest=digest) for uri, name, digest in found}
        return [files[package.name] for package in packages]

    def _fetch(
        self, files: Sequence[_Remote], into: Path, *, suites: Sequence[str], progress: Callable[[int], None]
    ) -> None:
        # `apt-get download` begins at the first byte whenever it is started; apt-helper takes up what is there.
        arguments = [word for file in files for word in (file.uri, str(into / file.name), file.digest)]
        self._apt("apt-helper", "download-file", *arguments, suites=suites, progress=progress)

    @functools.cache  # noqa: B019  # one or two of them in a process, and `refresh` empties it
    def _kernel_packages(self, suites: tuple[str, ...]) -> dict[str, Package]:
        """Return the newest version of every package that a kernel is made of, by name."""
        if not any((self.root / "lists").glob("*_Packages*")):
            return {}
        with translate_oserror(self.root):
            kinds = "|".join((*self.origin.kinds, *self.origin.extra, "headers"))
            pattern = rf"^linux-({kinds})-[0-9]"
            return _parse(self._apt("apt-cache", "search", "--full", "--names-only", pattern, suites=suites))

    # What apt is told, and how it is run.

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

    def _uri(self, suite: str) -> str:
        main, security = self._bases
        return security if suite.endswith("-security") else main

    def _stamp(self, suite: str) -> Path:
        return self.root / "stamps" / f"{suite}-{_short_digest(self._uri(suite))}"

    def _forget(self, suite: str) -> None:
        """Remove the lists of a suite that the mirror no longer has, say, lest apt offer what cannot be fetched."""
        self._stamp(suite).unlink(missing_ok=True)
        for listing in (self.root / "lists").glob(f"*_dists_{suite}_*"):
            listing.unlink()

    @contextlib.contextmanager
    def _locked(self, progress: Callable[[str], None]) -> Iterator[None]:
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
        """Write apt's configuration and sources for `suites`, and return the file to name to apt."""
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

    def _apt(
        self,
        program: Literal["apt-get", "apt-cache", "apt-helper"],
        *arguments: str,
        suites: Sequence[str],
        cwd: Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> str:
        """Run one of apt's programs on `suites` and return its output.

        Raises FetchError's subclasses when it fails, OSError when there is no room.
        """
        tool = _APT_HELPER if program == "apt-helper" else find_tool(program, package="apt")
        if not Path(tool).is_file():
            raise MissingToolError(f"{tool} is not installed: install the package apt")
        configuration = self._configuration(suites)
        # In memory: a full disk could not hold what apt says of it.
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
                # Ctrl-C reaches apt as well; it writes what it has and ends by itself.
                process.terminate()
                process.wait()
                raise
            output.seek(0)
            complaints.seek(0)
            said = complaints.read().decode(errors="replace")
            if process.returncode:
                if shutil.disk_usage(self.root).free < _LEAST_ROOM:
                    # apt says of some files then that the mirror does not have them.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                mirror = self._uri(suites[0])
                raise parse_apt_error(said, root=self.root, mirror=mirror, keyring_from=self.origin.keyring_from)
            return output.read().decode(errors="replace")


def parse_apt_error(said: str, *, root: Path, mirror: str, keyring_from: str) -> FetchError:
    """Return the error that apt's words `said` (stderr, in English) mean."""
    lines = [re.sub(r"^[EW]: ", "", line) for line in said.splitlines() if re.match("[EW]: ", line)]
    of_use = [line for line in lines if not re.match("Some index files|Download Failed", line)]
    detail = of_use[0] if of_use else said.strip() or "apt gave no reason"
    for pattern, error, remedy in _MEANINGS:
        if re.search(pattern, said):
            reason = next((line for line in of_use if re.search(pattern, line)), detail)
            return error(f"{remedy.format(root=root, mirror=mirror, keyring_from=keyring_from)} (apt: {reason})")
    return MirrorError(f"apt could not get what it was asked for from {mirror}: {detail}")


_APT_HELPER = "/usr/lib/apt/apt-helper"

_MEANINGS: tuple[tuple[str, type[FetchError], str], ...] = (
    # In the order of looking: what is wrong here comes before what it makes go wrong over there.
    (
        r"No space left on device|Disk quota exceeded",
        StoreError,
        "no space left under {root}: free some ('python -m vm prune' removes old versions), "
        "or point XDG_CACHE_HOME at a larger disk",
    ),
    (
        r"Permission denied|Read-only file system",
        StoreError,
        "{root} cannot be written: give this user the directory, or point XDG_CACHE_HOME elsewhere",
    ),
    (
        r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|signatures? (?:was|were|couldn't|could not|verification)"
        r"|not signed|Clearsigned file isn't valid|Splitting up .* into data and signature failed",
        SignatureError,
        "the package lists of {mirror} are not signed by the archive's keys: nothing of them is used. "
        "Bring the package {keyring_from} up to date, or name another --mirror",
    ),
    (
        r"Hash Sum mismatch|File has unexpected size|Writing more data than expected",
        SignatureError,
        "what {mirror} sent is not what its signed lists promise: nothing of it is used. "
        "Try again, or name another --mirror",
    ),
    (
        r"LZ4F|Unexpected end of file|Splitting of clearsigned file|Unable to parse package file",
        DamagedListsError,
        "the package lists under {root}/lists are damaged: remove them, and they are downloaded again",
    ),
    (
        r"is (?:expired|not valid yet)|Release file .* (?:expired|not valid)",
        MirrorError,
        "{mirror} is out of date or this machine's clock is wrong",
    ),
    (
        r"does not have a Release file|no longer has a Release file|404 +Not Found|File not found"
        r"|Unable to locate package|No packages found|Version '.*' for '.*' was not found",
        NotOfferedError,
        "{mirror} does not have it",
    ),
    (
        r"Could not resolve|Temporary failure resolving|Could not connect|Unable to connect|[Cc]onnection (?:timed out"
        r"|failed|refused)|Cannot initiate the connection|Network is unreachable|No route to host|Could not wait for",
        MirrorError,
        "{mirror} cannot be reached. Kernels in the store need no network ('python -m vm list'), nor do those that are "
        "installed (--kernel running); another mirror is named with --mirror",
    ),
    (
        r"Error reading from server|Connection reset|Undetermined Error|Bad header|503|502|500",
        MirrorError,
        "{mirror} broke off. What has come is kept: run the same command again",
    ),
)


@dataclass(frozen=True, kw_only=True)
class _Remote:
    """Hold a file to download: where it is, what it is called here, and what it must hash to."""

    uri: str
    name: str
    digest: str


def _offer(image: Package, packages: Mapping[str, Package], origin: Origin) -> Offer:
    """Return `image` with all that it is made of; NotOfferedError when a part that matters is gone."""
    parts = _with_dependencies(image, origin.kinds, packages)
    # What was found by its name may only depend on the image proper, whose name is longer.
    prefix = f"linux-{origin.kinds[0]}-"
    release = max((part.name.removeprefix(prefix) for part in parts if part.name.startswith(prefix)), key=len)
    extra = [packages.get(f"linux-{kind}-{release}") for kind in origin.extra]
    parts += [package for package in extra if package is not None and package.version == image.version]
    headers = packages.get(f"linux-headers-{release}")
    found: list[Package] = []
    if headers is not None and headers.version == image.version:
        # A kernel without headers is still a kernel: only bcc misses them.
        with contextlib.suppress(NotOfferedError):
            found = _with_dependencies(headers, ["headers"], packages)
    return Offer(version=image.version, image=tuple(parts), headers=tuple(found))


def _with_dependencies(package: Package, kinds: Sequence[str], packages: Mapping[str, Package]) -> list[Package]:
    """Return `package` and the linux-<kind>-<release> packages among what it depends on, in the same version."""
    found = {package.name: package}
    waiting = [package]
    wanted = re.compile(rf"(?<![\w.+-])linux-(?:{'|'.join(kinds)})-\d[a-z0-9.+~-]*")
    while waiting:
        for name in wanted.findall(waiting.pop().depends):
            if name in found:
                continue
            part = packages.get(name)
            if part is not None and part.version == package.version:
                found[name] = part
                waiting.append(part)
            elif not name.startswith("linux-base-"):  # the configuration, at most
                raise NotOfferedError(
                    f"the mirror has {package.name} {package.version} but no longer the {name} that belongs to "
                    "it: 'python -m vm list' shows which kernels are whole"
                )
    return list(found.values())


def _parse(text: str) -> dict[str, Package]:
    """Return the packages in stanzas as apt-cache shows them, by name."""
    packages = {}
    for stanza in re.split(r"\n\n+", text.strip()):
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", stanza, re.MULTILINE))
        if "Package" in fields and "Version" in fields:
            packages[fields["Package"]] = Package(
                name=fields["Package"],
                version=fields["Version"],
                depends=fields.get("Depends", ""),
                size=int(fields.get("Size", "0")),
            )
    return packages


def _age(stamp: Path) -> float:
    """Return the seconds since a file was made, infinity if there is none or the clock was set back since."""
    try:
        age = time.time() - stamp.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    return age if age > -_CLOCKS_DIFFER_BY else float("inf")


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _memory_file(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")
