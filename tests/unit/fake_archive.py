# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make what the tests of kernels need: images, modules, packages, and a small signed archive of them.

Ubuntu's archive is in the form that the templates and rules of Ubuntu's kernel packages (debian.master/control.d and
debian/rules.d, 6.8 and 7.0) give it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import struct
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def image(release: str, *, size: int = 8192) -> bytes:
    """Return a file with an x86 boot header that states `release`; it boots nothing."""
    data = bytearray(size)
    data[0x1F1] = 1  # setup_sects
    struct.pack_into("<L", data, 0x1F4, (size - 1024) // 16)  # syssize
    struct.pack_into("<H", data, 0x1FE, 0xAA55)
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, 0x20F)
    struct.pack_into("<H", data, 0x20E, 0x300 - 0x200)
    text = f"{release} (builder@example) #1 SMP PREEMPT_DYNAMIC\0".encode()
    data[0x300 : 0x300 + len(text)] = text
    return bytes(data)


def module(name: str, *, depends: str = "", softdep: str = "") -> bytes:
    """Return a relocatable ELF file with nothing but a .modinfo section, which is what depmod reads."""
    info = b"license=GPL\0" + f"name={name}\0depends={depends}\0".encode()
    if softdep:
        info += f"softdep={softdep}\0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    body = b"\0" * 0x40 + info + names
    table = len(body)
    header = struct.pack(
        "<16sHHLQQQLHHHHHH",
        b"\x7fELF\x02\x01\x01" + b"\0" * 9,
        *(1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2),
    )
    sections = (
        b"\0" * 64
        + struct.pack("<LLQQQQLLQQ", 1, 1, 2, 0, 0x40, len(info), 0, 0, 1, 0)
        + struct.pack("<LLQQQQLLQQ", 10, 3, 0, 0, 0x40 + len(info), len(names), 0, 0, 1, 0)
    )
    return header + body[len(header) :] + sections


def zstd(data: bytes) -> bytes:
    """Return `data` compressed as Ubuntu compresses modules and packages."""
    return subprocess.run(["zstd", "-q", "-1"], input=data, check=True, capture_output=True).stdout


def packed(control: str, files: Mapping[str, bytes | str], *, compressed: bool = False) -> bytes:
    """Return a package: an ar archive of a version, a tar of the control file and a tar of the files, by deb(5).

    A file that is a str is a link to that path.
    """
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gzip.compress(_tar({"control": control.encode()}), 1),
        "data.tar": _tar(files),
    }
    if compressed:
        members = {
            "debian-binary": b"2.0\n",
            "control.tar.zst": zstd(_tar({"control": control.encode()})),
            "data.tar.zst": zstd(_tar(files)),
        }
    content = b"!<arch>\n"
    for name, data in members.items():
        content += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return content


def _tar(files: Mapping[str, bytes | str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(f"./{path}")
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                tar.addfile(member)
            else:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@dataclass(frozen=True, kw_only=True)
class FakeArchive:
    """A Debian-like archive on disk, and the key that signs it."""

    root: Path
    keyring: Path
    home: Path  # gpg's, with the secret key
    distribution: str = "debian"  # or "ubuntu", whose security suites are in the same place

    @property
    def mirror(self) -> str:
        """Return what --mirror takes."""
        return f"file://{self.root}/{self.distribution}"

    def _base(self, suite: str) -> Path:
        apart = self.distribution == "debian" and suite.endswith("-security")
        return self.root / (f"{self.distribution}-security" if apart else self.distribution)

    def package(
        self,
        name: str,
        version: str,
        files: Mapping[str, bytes | str],
        *,
        suite: str,
        depends: str = "",
        fields: str = "",
        architecture: str = "amd64",
    ) -> Path:
        """Build a package into the pool of `suite` and return its file; `publish` makes it known."""
        base = self._base(suite)
        pool = base / "pool" / suite
        pool.mkdir(parents=True, exist_ok=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: T <t@example.org>\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += fields
        file = pool / f"{name}_{version}_{architecture}.deb"
        compressed = self.distribution == "ubuntu"
        file.write_bytes(packed(f"{control}Description: test\n", files, compressed=compressed))
        file.with_suffix(".control").write_text(f"{control}Description: test\n")
        return file

    def publish(self, suite: str) -> Path:
        """Write the lists of `suite`, signed, and return its InRelease."""
        base = self._base(suite)
        stanzas = []
        for file in sorted((base / "pool" / suite).glob("*.deb")):
            fields = file.with_suffix(".control").read_text()
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            stanzas.append(
                f"{fields}Filename: {file.relative_to(base)}\nSize: {file.stat().st_size}\nSHA256: {digest}\n"
            )
        dist = base / "dists" / suite
        shutil.rmtree(dist, ignore_errors=True)
        binary = dist / "main/binary-amd64"
        binary.mkdir(parents=True)
        packages = gzip.compress("\n".join(stanzas).encode(), mtime=0)
        (binary / "Packages.gz").write_bytes(packages)
        plain = "\n".join(stanzas).encode()
        release = dist / "Release"
        release.write_text(
            f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nDate: Mon, 01 Jan 2024 00:00:00 UTC\n"
            "Architectures: amd64\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(plain).hexdigest()} {len(plain)} main/binary-amd64/Packages\n"
            f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages.gz\n"
        )
        inrelease = dist / "InRelease"
        gpg(self.home, "--clearsign", "--output", str(inrelease), str(release))
        release.unlink()
        return inrelease


def gpg(home: Path, *arguments: str) -> bytes:
    """Run gpg on the throw-away keyring in `home`."""
    command = ["gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", "--passphrase", "", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def make_key(home: Path, keyring: Path) -> None:
    """Make a signing key in `home` and write its public half to `keyring`."""
    home.mkdir(mode=0o700)
    gpg(home, "--quick-generate-key", "test@example.org", "ed25519", "sign", "never")
    keyring.write_bytes(gpg(home, "--export"))


def add_ubuntu_kernel(
    archive: FakeArchive, abi: str, upload: str, *, suite: str, source: str = "linux", extra: bool = True
) -> str:
    """Add a kernel as Ubuntu packages it ("6.8.0-31", "31" or "35~24.04.1"), with headers; return its release.

    `extra`: with the modules that clouds do not need in a package of their own, as until 25.10.
    """
    release, version = f"{abi}-generic", f"{abi}.{upload}"
    modules = f"lib/modules/{release}"
    fields = f"Source: {source}\nSection: kernel\nOrigin: Ubuntu\n"
    common = f"{source}-headers-{abi}"
    files = {f"boot/vmlinuz-{release}": image(release)}
    for kind, peer in (("image-unsigned", "image"), ("image", "image-unsigned")):
        archive.package(
            f"linux-{kind}-{release}",
            version,
            files,
            suite=suite,
            depends=f"kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-{release}",
            fields=f"{fields}Provides: fuse-module, linux-image\nConflicts: linux-{peer}-{release}\n"
            "Recommends: grub-pc | grub-efi-amd64, initramfs-tools | linux-initramfs-tool\n"
            f"Suggests: bpftool, linux-perf, linux-headers-{release}, linux-modules-extra-{release}\n",
        )
    base = {
        f"boot/config-{release}": f"# {version}\nCONFIG_VETH=m\nCONFIG_NET_VRF=m\n".encode(),
        f"boot/System.map-{release}": b"",
        f"{modules}/kernel/drivers/net/veth.ko.zst": zstd(module("veth")),
        f"{modules}/kernel/net/9p/9pnet.ko.zst": zstd(module("9pnet")),
        f"{modules}/kernel/net/9p/9pnet_virtio.ko.zst": zstd(module("9pnet_virtio", depends="9pnet")),
        f"{modules}/kernel/sound/soundcore.ko.zst": zstd(module("soundcore")),
        f"{modules}/modules.builtin": b"kernel/drivers/char/virtio_console.ko\n",
        f"{modules}/modules.order": b"",
    }
    vrf = {f"{modules}/kernel/drivers/net/vrf.ko.zst": zstd(module("vrf"))}
    archive.package(
        f"linux-modules-{release}",
        version,
        base if extra else {**base, **vrf},
        suite=suite,
        depends="" if extra else f"linux-main-modules-zfs-{release}, wireless-regdb",
        fields=fields,
    )
    if extra:
        depends = f"linux-modules-{release}, wireless-regdb"
        archive.package(f"linux-modules-extra-{release}", version, vrf, suite=suite, depends=depends, fields=fields)
    here, there = f"usr/src/linux-headers-{release}", f"usr/src/{common}"
    archive.package(
        f"linux-headers-{release}",
        version,
        {
            f"{here}/include/generated/autoconf.h": b"#define CONFIG_VETH_MODULE 1\n",
            f"{here}/include/config/VETH": b"",
            f"{here}/include/linux": f"../../{common}/include/linux",
            f"{here}/arch/x86/include/generated/asm/x.h": b"",
            f"{here}/arch/x86/include/asm": f"../../../../{common}/arch/x86/include/asm",
            f"{modules}/build": f"/{here}",
        },
        suite=suite,
        depends=f"{common}, libc6 (>= 2.38), libelf1t64 (>= 0.144), libssl3t64 (>= 3.0.0), zlib1g (>= 1:1.2.3.3)",
        fields=fields,
    )
    archive.package(
        common,
        version,
        {f"{there}/include/linux/kconfig.h": b"", f"{there}/arch/x86/include/asm/page.h": b""},
        suite=suite,
        depends="coreutils",
        fields=fields,
        architecture="all",
    )
    return release
