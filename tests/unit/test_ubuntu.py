# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Ubuntu's kernels come out of its archive; a small one made here, in the same form, stands in for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_archive import add_ubuntu_kernel, module
from test_archive import archive, files_under, needs_apt, quiet, signing_key, stored

from vm.base.errors import FetchError, MissingToolError
from vm.kernels.catalogue import Selection, Series, load_catalogue
from vm.kernels.obtain import archive_of, obtain

if TYPE_CHECKING:
    from fake_archive import FakeArchive

__all__ = ["archive", "signing_key"]  # fixtures

NOBLE = ("noble", "noble-updates", "noble-security")
RESOLUTE = ("resolute", "resolute-updates", "resolute-security")


@pytest.fixture
def ubuntu(archive: FakeArchive) -> FakeArchive:
    """Return an archive with what two releases have: their own kernels, and later ones in the older release."""
    archive = replace(archive, distribution="ubuntu")
    add_ubuntu_kernel(archive, "6.8.0-31", "31", suite="noble")
    add_ubuntu_kernel(archive, "6.8.0-124", "124", suite="noble-updates")
    add_ubuntu_kernel(archive, "6.8.0-146", "146", suite="noble-security")
    add_ubuntu_kernel(archive, "6.17.0-35", "35~24.04.1", suite="noble-updates", source="linux-hwe-6.17")
    for name in ("linux-image-unsigned-6.8.0-150-lowlatency", "linux-image-unsigned-6.8.0-1058-oem"):
        archive.package(name, "6.8.0-1058.59", {}, suite="noble-updates")
    add_ubuntu_kernel(archive, "7.0.0-14", "14", suite="resolute", extra=False)
    add_ubuntu_kernel(archive, "7.0.0-38", "38", suite="resolute-updates", extra=False)
    archive.package("linux-generic", "7.0.0-38.38", {}, suite="resolute-updates", depends="linux-image-generic")
    for suite in (*NOBLE, *RESOLUTE[:2]):  # a mirror need not have all
        archive.publish(suite)
    return archive


def selection(name: str, archive: FakeArchive) -> Selection:
    """Return the catalogue's series, vouched for by the key of the test's archive."""
    series = load_catalogue().series[name]
    return Selection(name=name, source=replace(series, origin=replace(series.origin, keyrings=(archive.keyring,))))


@needs_apt
def test_an_lts_release_s_own_kernel_is_the_newest_of_its_series_in_all_suites(ubuntu: FakeArchive) -> None:
    kernel = obtain(selection("noble", ubuntu), progress=quiet, mirror=ubuntu.mirror)
    assert (kernel.name, kernel.release, kernel.version) == ("noble", "6.8.0-146-generic", "6.8.0-146.146")
    assert kernel.config is not None
    assert "CONFIG_NET_VRF=m" in kernel.config.read_text()
    assert kernel.modules is not None
    taken = {file.name: file for file in kernel.modules.rglob("*.ko*")}
    assert set(taken) == {"9pnet.ko", "9pnet_virtio.ko", "veth.ko", "vrf.ko"}, "vrf is in modules-extra"
    assert taken["9pnet_virtio.ko"].read_bytes() == module("9pnet_virtio", depends="9pnet")
    assert kernel.headers is not None
    assert files_under(kernel.headers) == {
        "include/generated/autoconf.h",
        "include/linux/kconfig.h",
        "arch/x86/include/generated/asm/x.h",
        "arch/x86/include/asm/page.h",
    }
    assert not [path for path in kernel.headers.rglob("*") if path.is_symlink()]


@needs_apt
def test_kernel_with_its_modules_in_one_package_is_complete(ubuntu: FakeArchive) -> None:
    kernel = obtain(selection("resolute", ubuntu), progress=quiet, mirror=ubuntu.mirror)
    assert (kernel.release, kernel.version) == ("7.0.0-38-generic", "7.0.0-38.38")
    assert kernel.modules is not None
    assert "vrf.ko" in {file.name for file in kernel.modules.rglob("*.ko")}
    assert kernel.headers is not None


@needs_apt
def test_an_offer_names_the_packages_that_the_kernel_s_own_source_builds(ubuntu: FakeArchive) -> None:
    series = selection("noble", ubuntu).source
    assert isinstance(series, Series)
    source = archive_of(series.origin, mirror=ubuntu.mirror)
    source.refresh(NOBLE, progress=quiet)
    offer = source.newest(series="6.8", flavour="generic", suites=NOBLE)
    assert offer is not None
    release = "6.8.0-146-generic"
    assert [package.name for package in offer.image] == [
        f"linux-image-unsigned-{release}",
        f"linux-modules-{release}",
        f"linux-modules-extra-{release}",
    ]
    assert [package.name for package in offer.headers] == [f"linux-headers-{release}", "linux-headers-6.8.0-146"]


@needs_apt
def test_a_machine_without_ubuntu_s_keys_refuses_its_kernels_whatever_the_mirror(ubuntu: FakeArchive) -> None:
    series = load_catalogue().series["noble"]
    assert series.origin.keyrings == (Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),)
    absent = replace(series, origin=replace(series.origin, keyrings=(ubuntu.root / "absent.gpg",)))
    with pytest.raises(MissingToolError, match=r"keys of Ubuntu's archive.*absent\.gpg.*ubuntu-keyring") as raised:
        obtain(Selection(name="noble", source=absent), progress=quiet, mirror=ubuntu.mirror)
    assert isinstance(raised.value, FetchError)
    assert stored() == set()
