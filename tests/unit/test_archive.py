# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernels come out of a signed archive whole, verified and once; a small archive made here stands in for Debian's."""

from __future__ import annotations

import contextlib
import lzma
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_archive import FakeArchive, image, make_key, module

import vm.kernels.apt
from vm.base.errors import FetchError, MirrorError, MissingToolError, NotOfferedError, SignatureError, StoreError
from vm.commands import list_kernels
from vm.kernels.apt_errors import parse_apt_error
from vm.kernels.catalogue import Catalogue, Origin, Selection, Series, load_catalogue
from vm.kernels.entries import kernel_store
from vm.kernels.kernel import Kernel
from vm.kernels.obtain import obtain, update
from vm.kernels.sources import bases_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ORIGINS = {series.origin.name: series.origin for series in load_catalogue().series.values()}
DEBIAN, UBUNTU = ORIGINS["Debian"], ORIGINS["Ubuntu"]

_TOOLS = ("apt-get", "dpkg-deb", "gpg", "depmod")

needs_apt = pytest.mark.skipif(
    not all(shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin") for tool in _TOOLS),
    reason=f"makes an archive of its own, which takes {', '.join(_TOOLS)}: run ./bootstrap",
)


@pytest.fixture(scope="session")
def signing_key() -> Iterator[Path]:
    # Directly under /tmp: gpg-agent's socket lies in there, and the length of its path is limited.
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    make_key(home / "home", home / "key.gpg")
    yield home
    subprocess.run(["gpgconf", "--homedir", str(home / "home"), "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def archive(tmp_path: Path, signing_key: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A refused connection is refused at once, and a mirror that stalls here stalls for good.
    configuration = vm.kernels.apt._CONFIGURATION.replace('Timeout "20"', 'Timeout "1"')
    monkeypatch.setattr(vm.kernels.apt, "_CONFIGURATION", configuration + 'Acquire::Retries::Delay "false";\n')
    return FakeArchive(root=tmp_path / "archive", keyring=signing_key / "key.gpg", home=signing_key / "home")


def series(archive: FakeArchive, *suites: str, keyring: Path | None = None) -> Selection:
    origin = replace(DEBIAN, keyrings=(keyring or archive.keyring,), suites=frozenset(suites))
    return Selection(
        name="6.1",
        source=Series(
            name="6.1",
            series="6.1",
            flavour="amd64",
            suites=suites or ("stable",),
            distribution=None,
            matrix=True,
            origin=origin,
        ),
    )


def add_kernel(archive: FakeArchive, version: str, *, suite: str = "stable", abi: str = "6.1.0-9") -> str:
    """Add a kernel as it is packaged until 6.18, with headers, and return its release."""
    release = f"{abi}-amd64"
    modules = f"lib/modules/{release}"
    archive.package(
        f"linux-image-{release}",
        version,
        {
            f"boot/vmlinuz-{release}": image(release),
            f"boot/config-{release}": f"# {version}\nCONFIG_VETH=m\n".encode(),
            f"boot/System.map-{release}": b"",
            f"{modules}/kernel/net/9p/9pnet_virtio.ko.xz": lzma.compress(module("9pnet_virtio", depends="9pnet")),
            f"{modules}/kernel/net/9p/9pnet.ko": module("9pnet"),
            f"{modules}/kernel/net/sctp/sctp.ko": module("sctp", softdep="pre: checksum-thing post: other"),
            f"{modules}/kernel/lib/checksum-thing.ko": module("checksum_thing"),
            f"{modules}/kernel/sound/beep.ko": module("beep"),
            f"{modules}/modules.builtin": b"kernel/drivers/virtio/virtio_pci.ko\n",
        },
        suite=suite,
        depends="kmod, linux-base (>= 4.3~)",
    )
    archive.package(
        f"linux-headers-{release}",
        version,
        {
            f"usr/src/linux-headers-{release}/include/generated/autoconf.h": b"#define CONFIG_VETH_MODULE 1\n",
            f"usr/src/linux-headers-{release}/include/config/VETH": b"",
        },
        suite=suite,
        depends=f"linux-headers-{abi}-common (= {version}), gcc-12",
    )
    archive.package(
        f"linux-headers-{abi}-common",
        version,
        {
            f"usr/src/linux-headers-{abi}-common/include/linux/kconfig.h": b"",
            f"usr/src/linux-headers-{abi}-common/include/dt-bindings/board.h": b"",
            f"usr/src/linux-headers-{abi}-common/arch/x86/include/asm/page.h": b"",
            f"usr/src/linux-headers-{abi}-common/arch/arm/include/asm/page.h": b"",
        },
        suite=suite,
    )
    return release


def files_under(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


def stored() -> set[str]:
    """Return what the store holds besides its locks."""
    return {path for path in files_under(kernel_store().root) if not path.endswith(".lock")}


def quiet(_line: str) -> None:
    pass


@needs_apt
def test_a_kernel_is_fetched_once_and_holds_what_a_guest_needs(archive: FakeArchive) -> None:
    release = add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    said: list[str] = []
    kernel = obtain(series(archive), progress=said.append, mirror=archive.mirror)
    home = kernel_store().root / "6.1/6.1.9-1"
    assert kernel == Kernel(
        name="6.1",
        image=home / "vmlinuz",
        release=release,
        modules=home / f"lib/modules/{release}",
        config=home / "config",
        headers=home / "headers",
        version="6.1.9-1",
    )
    assert kernel.modules is not None
    assert {file.name for file in kernel.modules.rglob("*.ko*")} == {
        "9pnet_virtio.ko",
        "9pnet.ko",
        "sctp.ko",
        "checksum-thing.ko",
    }
    unpacked = kernel.modules / "kernel/net/9p/9pnet_virtio.ko"
    assert unpacked.read_bytes() == module("9pnet_virtio", depends="9pnet"), "an initramfs does not decompress"
    assert "kernel/net/9p/9pnet_virtio.ko:" in (kernel.modules / "modules.dep").read_text()
    assert files_under(kernel.modules / "build/") == {
        "include/generated/autoconf.h",
        "include/linux/kconfig.h",
        "arch/x86/include/asm/page.h",
    }
    assert said[0] == "6.1: downloading the package lists of stable"
    assert any("unpacking 6.1.9-1" in line for line in said)
    assert list(home.parent.parent.parent.glob("apt/archives/*")) == [], "downloads are not kept"
    # From here on the archive might as well be gone.
    shutil.rmtree(archive.root)
    assert obtain(series(archive), progress=pytest.fail, mirror=archive.mirror) == kernel


@needs_apt
def test_a_kernel_in_many_packages_is_put_together(archive: FakeArchive) -> None:
    release = "6.1.9+deb99-amd64"
    modules = f"usr/lib/modules/{release}"
    parts: dict[str, Mapping[str, bytes]] = {
        "image": {},
        "binary": {f"{modules}/vmlinuz": image(release)},
        "modules": {f"{modules}/kernel/drivers/net/veth.ko.xz": lzma.compress(module("veth"))},
        "base": {f"{modules}/config": b"CONFIG_VETH=m\n", f"{modules}/modules.builtin": b""},
    }
    version = "6.1.9-1~bpo99+1"
    needs = ", ".join(f"linux-{part}-{release} (= {version})" for part in ("base", "binary", "modules"))
    for part, content in parts.items():
        archive.package(
            f"linux-{part}-{release}",
            version,
            content,
            suite="stable",
            depends=f"dracut | linux-initramfs-tool, {needs}" if part == "image" else "",
        )
    archive.publish("stable")
    said: list[str] = []
    kernel = obtain(series(archive), progress=said.append, mirror=archive.mirror)
    assert (kernel.release, kernel.version, kernel.headers) == (release, version, None)
    assert any("no headers" in line for line in said), "the lack of headers is said"
    assert kernel.config is not None
    assert kernel.modules is not None
    assert [file.name for file in kernel.modules.rglob("*.ko")] == ["veth.ko"]


@needs_apt
def test_the_newest_of_all_suites_is_taken_and_no_other_flavour(archive: FakeArchive) -> None:
    add_kernel(archive, "6.1.9-1", abi="6.1.0-9")
    for name in ("linux-image-6.1.0-11-rt-amd64", "linux-image-6.1.0-11-cloud-amd64", "linux-image-6.1.0-11-amd64-dbg"):
        archive.package(name, "6.1.11-1", {}, suite="stable")
    archive.package("linux-image-6.10.0-1-amd64", "6.10.2-1", {}, suite="stable")
    add_kernel(archive, "6.1.10-1", abi="6.1.0-10", suite="stable-security")
    # A package that only depends on the newest, as the archive has for series that are not a release's own.
    newest = "linux-image-6.1.0-10-amd64 (= 6.1.10-1)"
    archive.package("linux-image-6.1-amd64", "6.1.10-1", {}, suite="stable-security", depends=newest)
    archive.publish("stable")
    archive.publish("stable-security")
    selection = series(archive, "stable", "stable-security")
    kernel = obtain(selection, progress=quiet, mirror=archive.mirror)
    assert (kernel.version, kernel.release) == ("6.1.10-1", "6.1.0-10-amd64")
    assert kernel.headers is not None

    # A newer one appears: `obtain` has one and is content, `update` looks (once the lists are old).
    add_kernel(archive, "6.1.12-1", abi="6.1.0-12")
    archive.publish("stable")
    assert obtain(selection, progress=pytest.fail, mirror=archive.mirror) == kernel
    assert update(selection, progress=quiet, mirror=archive.mirror) == kernel
    for stamp in (kernel_store().root.parent / "apt/stamps").iterdir():
        stamp.unlink()
    assert update(selection, progress=quiet, mirror=archive.mirror).version == "6.1.12-1"
    catalogue = Catalogue(default=(), series={"6.1": selection.source} if isinstance(selection.source, Series) else {})
    rows, _notes = list_kernels.collect(catalogue, mirror=archive.mirror, progress=quiet)
    row = rows[0]
    assert row.cells[:4] == ("6.1", "6.1.12-1", "6.1.12-1", "yes")


@needs_apt
def test_a_kernel_that_has_lost_a_part_is_not_offered(archive: FakeArchive) -> None:
    release = "6.1.9+deb99-amd64"
    archive.package(f"linux-image-{release}", "6.1.9-1", {}, suite="stable", depends=f"linux-modules-{release}")
    archive.publish("stable")
    with pytest.raises(NotOfferedError, match=r"linux-image-.* no longer the linux-modules-6\.1\.9\+deb99-amd64"):
        obtain(series(archive), progress=quiet, mirror=archive.mirror)


@needs_apt
def test_a_suite_that_is_gone_is_passed_over_unless_it_is_the_last(archive: FakeArchive) -> None:
    add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    assert obtain(series(archive, "gone", "stable"), progress=quiet, mirror=archive.mirror).version == "6.1.9-1"
    other = Selection(name="other", source=series(archive, "gone").source)
    with pytest.raises(NotOfferedError, match=r"does not have it.*gone Release"):
        update(other, progress=quiet, mirror=archive.mirror)


@needs_apt
def test_a_series_that_is_gone_says_where_it_was_looked_for(archive: FakeArchive) -> None:
    archive.package("linux-image-6.2.0-1-amd64", "6.2.1-1", {}, suite="stable")
    archive.publish("stable")
    with pytest.raises(NotOfferedError, match=r"no kernel 6\.1 \(looked in stable\)"):
        obtain(series(archive), progress=quiet, mirror=archive.mirror)
    assert stored() == set()


@needs_apt
def test_an_archive_that_is_signed_by_somebody_else_is_refused(archive: FakeArchive, tmp_path: Path) -> None:
    add_kernel(archive, "6.1.9-1")
    release = archive.publish("stable")
    with pytest.raises(MissingToolError, match="debian-archive-keyring"):
        obtain(series(archive, keyring=tmp_path / "absent"), progress=quiet, mirror=archive.mirror)
    release.write_text(release.read_text().replace("Origin: Test", "Origin: Evil"))
    with pytest.raises(SignatureError, match="not signed by the archive's keys"):
        obtain(series(archive), progress=quiet, mirror=archive.mirror)
    assert stored() == set()


@needs_apt
def test_package_with_another_digest_is_refused_and_the_next_run_works(archive: FakeArchive) -> None:
    add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    deb = next(archive.root.rglob("linux-image-*.deb"))
    honest = deb.read_bytes()
    deb.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
    with pytest.raises(SignatureError, match="not what its signed lists promise"):
        obtain(series(archive), progress=quiet, mirror=archive.mirror)
    assert stored() == set()
    deb.write_bytes(honest)
    assert obtain(series(archive), progress=quiet, mirror=archive.mirror).version == "6.1.9-1"


class Mirror(ThreadingHTTPServer):
    """An HTTP server of an archive, which stops in the middle of the first kernel image that is asked for."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), MirrorHandler)
        self.root = root
        self.stalled = threading.Event()
        self.ranges: list[str] = []  # what was asked for after that
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/debian"


class MirrorHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Mirror)
        path = server.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        is_image = path.name.startswith("linux-image-")
        self.send_response(206 if asked else 200)
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("Content-Length", str(len(content) - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if is_image and not server.stalled.is_set():
            server.stalled.set()
            self.wfile.write(content[:5000])
            self.wfile.flush()
            server.closing.wait(10)
            self.close_connection = True
            return
        if is_image:
            server.ranges.append(asked)
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content[first:])

    def log_message(self, *_words: object) -> None:
        pass


@contextlib.contextmanager
def stalling_mirror(root: Path) -> Iterator[Mirror]:
    server = Mirror(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def stalling(archive: FakeArchive) -> Iterator[Mirror]:
    with stalling_mirror(archive.root) as server:
        yield server


@needs_apt
def test_a_stalled_download_is_taken_up_where_it_stopped(archive: FakeArchive, stalling: Mirror) -> None:
    add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    assert obtain(series(archive), progress=quiet, mirror=stalling.address).version == "6.1.9-1"
    assert stalling.stalled.is_set()
    assert stalling.ranges == ["bytes=5000-"]


@needs_apt
def test_interrupted_or_damaged_download_is_completed_by_the_next_run(archive: FakeArchive) -> None:
    release = add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    left = kernel_store().root.parent / f"apt/archives/6.1/linux-image-{release}_6.1.9-1_amd64.deb"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"garbage" * 100)
    (kernel_store().root / "6.1/.staging-killed/whole").mkdir(parents=True)
    assert obtain(series(archive), progress=quiet, mirror=archive.mirror).version == "6.1.9-1"
    assert not list(kernel_store().root.glob("6.1/.staging*"))


@needs_apt
def test_a_mirror_that_moved_on_since_its_lists_were_read_is_asked_again(archive: FakeArchive) -> None:
    add_kernel(archive, "6.1.9-1", abi="6.1.0-9")
    archive.publish("stable")
    selection = series(archive)
    assert isinstance(selection.source, Series)
    list_kernels.collect(Catalogue(default=(), series={"6.1": selection.source}), mirror=archive.mirror, progress=quiet)
    shutil.rmtree(archive.root / "debian/pool")
    add_kernel(archive, "6.1.10-1", abi="6.1.0-10")
    archive.publish("stable")
    assert obtain(selection, progress=quiet, mirror=archive.mirror).version == "6.1.10-1"


@needs_apt
def test_two_runs_at_once_share_one_download(archive: FakeArchive) -> None:
    add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    said: list[str] = []
    kernels: list[Kernel] = []

    def run() -> None:
        kernels.append(obtain(series(archive), progress=said.append, mirror=archive.mirror))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kernels) == 2
    assert kernels[0] == kernels[1]
    assert said.count("6.1: unpacking 6.1.9-1") == 1


@needs_apt
def test_without_network_a_kernel_in_the_store_still_runs_and_another_is_refused(archive: FakeArchive) -> None:
    add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    kernel = obtain(series(archive), progress=quiet, mirror=archive.mirror)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}/debian"
        assert obtain(series(archive), progress=pytest.fail, mirror=nowhere) == kernel
        with pytest.raises(MirrorError, match=r"cannot be reached.*need no network"):
            update(series(archive), progress=quiet, mirror=nowhere)
        selection = series(archive)
        assert isinstance(selection.source, Series)
        catalogue = Catalogue(default=(), series={"6.1": selection.source})
        rows, notes = list_kernels.collect(catalogue, mirror=nowhere, progress=quiet)
    assert rows[0].cached == "6.1.9-1"
    assert notes[0].startswith(f"the list may be old, for {nowhere} cannot be reached")


@needs_apt
def test_mirror_that_has_no_suite_is_named_beside_the_list(archive: FakeArchive) -> None:
    selection = series(archive)
    assert isinstance(selection.source, Series)
    catalogue = Catalogue(default=(), series={"6.1": selection.source})
    _rows, notes = list_kernels.collect(catalogue, mirror="file:///nowhere", progress=quiet)
    assert notes[0].startswith("the list may be old, for file:///nowhere does not have it")


# What apt prints


def test_the_mirror_is_where_the_machine_s_sources_point() -> None:
    listed = (
        "'http://packages.example/apt/dists/tool-bookworm/InRelease' x 0 \n"
        "'cdrom://Debian/dists/bookworm/InRelease' x 0 \n"
        "'http://mirror.example/debian/dists/bookworm/InRelease' x 0 \n"
        "'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n"
        "'http://security.example/debian-security/dists/bookworm-security/InRelease' x 0 \n"
    )
    assert bases_of(listed, DEBIAN) == ("http://mirror.example/debian", "http://security.example/debian-security")
    assert bases_of("'http://m/debian/dists/stable-updates/InRelease' x 0", DEBIAN) == (
        "http://m/debian",
        "http://m/debian-security",
    )
    assert bases_of(
        "'http://m/d/dists/trixie/InRelease' x\n'http://s/ds/dists/trixie/updates/InRelease' x", DEBIAN
    ) == (
        "http://m/d",
        "http://s/ds",
    )


UBUNTU_SOURCES = (
    "'http://docker.example/linux/ubuntu/dists/noble/InRelease' x 0 \n"
    "'http://archive.example/ubuntu/dists/noble/InRelease' x 0 \n"
    "'http://archive.example/ubuntu/dists/noble-updates/InRelease' x 0 \n"
    "'http://security.example/ubuntu/dists/noble-security/InRelease' x 0 \n"
    "'http://ppa.example/somebody/ubuntu/dists/noble/InRelease' x 0 \n"
)


def test_other_archives_with_suites_named_after_releases_are_not_taken() -> None:
    addresses = ("http://archive.example/ubuntu", "http://security.example/ubuntu")
    assert bases_of(UBUNTU_SOURCES, UBUNTU) == addresses
    only_one = "'http://m/ubuntu/dists/resolute/InRelease' x"
    same = "http://m/ubuntu"
    assert bases_of(only_one, UBUNTU) == (same, same), "security updates are in the same place"


@pytest.mark.parametrize(
    ("listed", "origin"),
    [(UBUNTU_SOURCES, DEBIAN), ("'http://m/debian/dists/trixie/InRelease' x", UBUNTU), ("", DEBIAN)],
    ids=["on-ubuntu", "on-debian", "on-neither"],
)
def test_machine_without_the_archive_s_sources_gets_an_error_with_a_remedy(listed: str, origin: Origin) -> None:
    with pytest.raises(MirrorError, match=rf"no {origin.name} archive.*--mirror ADDRESS.*--kernel running.*PATH"):
        bases_of(listed, origin)


@pytest.mark.parametrize(
    ("said", "error", "remedy"),
    [
        (
            "E: Failed to fetch http://m/debian/dists/bookworm/InRelease  Could not resolve 'm'\n"
            "E: Some index files failed to download. They have been ignored, or old ones used instead.\n",
            MirrorError,
            r"http://m/debian cannot be reached.*--mirror.*Could not resolve 'm'",
        ),
        (
            "E: Failed to fetch http://m/p/l_1_amd64.deb  Connection timed out [IP: 127.0.0.1 8731]\n",
            MirrorError,
            "cannot be reached",
        ),
        (
            "E: Failed to fetch http://m/p/l_1_amd64.deb  Error reading from server. Remote end closed connection\n",
            MirrorError,
            "connection to .* broke.*run the same command again",
        ),
        (
            "E: Failed to fetch http://m/p/l_1_amd64.deb  404  Not Found [IP: 127.0.0.1 80]\n",
            NotOfferedError,
            "have it",
        ),
        (
            "W: An error occurred during the signature verification. The repository is not updated and the previous "
            "index files will be used. GPG error: file:/d bookworm InRelease: The following signatures couldn't be "
            "verified because the public key is not available: NO_PUBKEY 5A7CBD5905873009\n",
            SignatureError,
            "debian-archive-keyring",
        ),
        (
            "E: The repository 'file:/d bookworm Release' is not signed.\n",
            SignatureError,
            "not signed by the archive's keys",
        ),
        ("E: Failed to fetch file:/d/l.deb  Hash Sum mismatch\n", SignatureError, "signed lists promise"),
        (
            "E: Release file for http://m/InRelease is expired (invalid since 3d 4h). Updates for this repository "
            "will not be applied.\n",
            MirrorError,
            "out of date, or this machine's clock",
        ),
        ("E: Write error - write (28: No space left on device)\n", StoreError, "no space left under /cache"),
        ("E: Could not open file /cache/x - open (13: Permission denied)\n", StoreError, "cannot be written"),
        ("E: Something that nobody has seen\n", MirrorError, "Something that nobody has seen"),
        ("", MirrorError, "gave no reason"),
    ],
)
def test_apt_s_errors_become_errors_with_a_remedy(said: str, error: type[FetchError], remedy: str) -> None:
    found = parse_apt_error(said, root=Path("/cache"), mirror="http://m/debian", keyring_from="debian-archive-keyring")
    assert type(found) is error
    assert re.search(remedy, str(found)), str(found)
