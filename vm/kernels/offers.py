# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find a whole kernel among the packages that an archive lists. Pure."""

from __future__ import annotations

import contextlib
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vm.base.errors import NotOfferedError
from vm.kernels.store import compare_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vm.kernels.catalogue import Origin


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of a package in the archive."""

    name: str
    version: str
    depends: str  # the control field, whole
    size: int  # bytes to download


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A kernel in the archive: all packages that it is made of."""

    version: str
    image: tuple[Package, ...]
    headers: tuple[Package, ...]  # () when the archive does not have them

    @property
    def size(self) -> int:
        """Return the bytes to download."""
        return sum(package.size for package in (*self.image, *self.headers))


def newest_offer(packages: Mapping[str, Package], origin: Origin, *, series: str, flavour: str) -> Offer | None:
    """Return the newest kernel of `series` and `flavour` among `packages`, by name; None if there is none.

    Raises NotOfferedError if there are only kernels that lack a package.
    """
    prefix = f"linux-{origin.kinds[0]}-{series}"
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
            return _offer(image, packages, origin)
        except NotOfferedError as error:
            incomplete = incomplete or error
    if incomplete is not None:
        raise incomplete
    return None


def _offer(image: Package, packages: Mapping[str, Package], origin: Origin) -> Offer:
    """Return the kernel of the package `image`. Raises NotOfferedError if a package that it needs is missing."""
    parts = _with_dependencies(image, origin.kinds, packages)
    # The package that was found may only depend on the one with the image, whose name is longer.
    prefix = f"linux-{origin.kinds[0]}-"
    release = max((part.name.removeprefix(prefix) for part in parts if part.name.startswith(prefix)), key=len)
    extra = [packages.get(f"linux-{kind}-{release}") for kind in origin.extra]
    parts += [package for package in extra if package is not None and package.version == image.version]
    headers = packages.get(f"linux-headers-{release}")
    found: list[Package] = []
    if headers is not None and headers.version == image.version:
        # A kernel boots without headers; only bcc needs them.
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
            elif not name.startswith("linux-base-"):  # which holds no more than the configuration
                raise NotOfferedError(
                    f"the mirror has {package.name} {package.version} but no longer the {name} that belongs to "
                    "it: take another kernel, 'python -m vm list' shows which are complete"
                )
    return list(found.values())


def read_packages(text: str) -> dict[str, Package]:
    """Return the packages in the stanzas that apt-cache prints, by name."""
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
