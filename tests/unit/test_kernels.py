# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A user's word becomes the kernel that is meant, or an error that says what to do."""

from __future__ import annotations

import gzip
import lzma
import os
import platform
import re
import struct
from typing import TYPE_CHECKING

import pytest
from fake_archive import image, module

import vm.kernels.catalogue
from vm.base.errors import NotAKernelError, OptionError, TooOldError, UnknownKernelError
from vm.kernels import requirements
from vm.kernels.catalogue import Catalogue, Series, load_catalogue
from vm.kernels.image import read_release
from vm.kernels.kernel import Kernel, missing_options
from vm.kernels.obtain import obtain, select

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def names(words: list[str], catalogue: Catalogue) -> list[str]:
    return [selection.name for selection in select(words, catalogue=catalogue)]


def bookworm() -> dict[str, str]:
    return {"PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)", "VERSION_CODENAME": "bookworm"}


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Names


def test_the_catalogue_is_in_order_of_release_and_says_where_each_series_is(catalogue: Catalogue) -> None:
    matrix = [series for series in catalogue.series.values() if series.name == series.series]
    assert [series.name for series in matrix] == sorted(
        (series.name for series in matrix), key=lambda name: tuple(map(int, name.split(".")))
    )
    assert all(series.suites for series in catalogue.series.values())
    releases = [series.distribution for series in catalogue.series.values() if series.distribution]
    assert len(releases) == len(set(releases)), "a release has one kernel of its own"


def test_a_name_is_its_series(catalogue: Catalogue) -> None:
    (selection,) = select(["6.12"], catalogue=catalogue)
    assert isinstance(selection.source, Series)
    assert (selection.name, selection.source.series) == ("6.12", "6.12")


def test_a_pattern_takes_what_it_matches_in_the_catalogue_s_order(catalogue: Catalogue) -> None:
    assert names(["6.1?"], catalogue) == ["6.12", "6.16", "6.17", "6.18"]
    assert "6.1-cloud" not in names(["6.*"], catalogue)


def test_all_leaves_out_kernels_that_are_meant_to_fail(catalogue: Catalogue) -> None:
    chosen = names(["all"], catalogue)
    assert chosen[:3] == ["5.10", "6.1", "6.12"]
    assert not {"6.1-cloud", "7.0"} & set(chosen)
    assert names(["6.1-cloud"], catalogue) == ["6.1-cloud"]


def test_ubuntu_s_kernels_are_taken_by_their_releases_names_alone(catalogue: Catalogue) -> None:
    ubuntu = [name for name, series in catalogue.series.items() if series.origin.name == "Ubuntu"]
    assert "noble" in ubuntu
    assert not set(ubuntu) & {*names(["all"], catalogue), *names(["*"], catalogue)}
    assert names(ubuntu, catalogue) == ubuntu
    assert all(catalogue.series[name].distribution == name for name in ubuntu)


def test_no_suite_is_in_two_archives(catalogue: Catalogue) -> None:
    debian, ubuntu = {series.origin for series in catalogue.series.values()}
    assert not (debian.suites | debian.aliases) & (ubuntu.suites | ubuntu.aliases), "sources are told apart by them"


def test_duplicates_collapse_and_the_order_is_the_user_s(catalogue: Catalogue) -> None:
    assert names(["7.2", "6.1", "7.*", "6.1"], catalogue) == ["7.2", "6.1", "7.3"]


def test_no_word_means_the_distribution_s_own(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", bookworm)
    for words in ([], ["default"], ["distribution"]):
        assert [one.name for one in vm.kernels.catalogue.select(words, catalogue=catalogue)] == ["6.1"]


def test_distribution_without_a_kernel_gets_an_error_with_a_remedy(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"PRETTY_NAME": "Other 1", "VERSION_CODENAME": "x"})
    with pytest.raises(UnknownKernelError, match=r"none for Other 1.*--kernel"):
        select(["distribution"], catalogue=catalogue)


def test_an_unknown_name_lists_those_there_are(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownKernelError) as raised:
        select(["6.2"], catalogue=catalogue)
    message = str(raised.value)
    assert "'6.2'" in message
    assert all(word in message for word in catalogue.words)


@pytest.mark.parametrize("word", ["", "x" * 300], ids=["empty", "long"])
def test_word_that_cannot_be_a_name_is_unknown(catalogue: Catalogue, word: str) -> None:
    with pytest.raises(UnknownKernelError, match=f"no kernel is called '{word}'"):
        select([word], catalogue=catalogue)


@pytest.mark.parametrize("mirror", ["", "nonsense", "http://host/de bian", "HTTP//host"])
def test_mirror_that_is_no_address_is_refused_at_once(catalogue: Catalogue, mirror: str) -> None:
    with pytest.raises(OptionError, match=re.escape(f"--mirror '{mirror}' is no address")):
        select(["6.1"], catalogue=catalogue, mirror=mirror)


# Paths


def test_an_image_states_its_release(tmp_path: Path, catalogue: Catalogue) -> None:
    (selection,) = select([str(written(tmp_path / "bzImage", image("6.9.0-rc3+")))], catalogue=catalogue)
    kernel = obtain(selection, progress=print)
    assert (kernel.name, kernel.release, kernel.version) == ("bzImage", "6.9.0-rc3+", "")
    assert kernel.modules is None


def test_kernels_with_the_same_file_name_get_different_names(tmp_path: Path, catalogue: Catalogue) -> None:
    one = written(tmp_path / "one/vmlinuz", image("6.1.0"))
    two = written(tmp_path / "two/vmlinuz", image("6.2.0"))
    assert names([str(one), str(two)], catalogue) == ["vmlinuz", "two-vmlinuz"]
    named = written(tmp_path / "6.1", image("6.1.0"))
    assert names(["6.1", str(named)], catalogue)[1] != "6.1"


def test_a_file_in_this_directory_needs_no_slash(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "vmlinuz", image("6.1.0"))
    monkeypatch.chdir(tmp_path)
    (selection,) = select(["vmlinuz"], catalogue=catalogue)
    assert selection.source == tmp_path / "vmlinuz"


def vmlinux() -> bytes:
    header = struct.pack("<16sHHLQQQLHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<LLQQQQQQ", 1, 5, 0, 0xFFFFFFFF81000000, 0x1000000, 0, 0, 0) + b"\0" * 1024


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no x86 kernel image: it is empty"),
        (b"\x7fELF\x02" + b"\0" * 2000, "is no x86 kernel image but an ordinary ELF file"),
        (vmlinux(), "is an ELF vmlinux.*arch/x86/boot/bzImage"),
        (b"\0" * 0x38 + b"ARM\x64" + b"\0" * 2000, "arm64"),
        (b"plain text\n" * 200, r'is no x86 kernel image: there is no boot header \("HdrS"\)'),
        (image("6.1.0")[:4096], "is cut short: 4096 of at least 8192 bytes"),
        (image("6.1.0")[:0x208], "is cut short within its boot header"),
        (image(""), "states no kernel release"),
    ],
    ids=["empty", "elf", "vmlinux", "arm64", "text", "truncated", "header", "unnamed"],
)
def test_error_for_a_file_that_is_no_kernel_says_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(NotAKernelError, match=said) as raised:
        read_release(written(tmp_path / "file", content))
    assert str(tmp_path / "file") in str(raised.value)


def test_bin_true_is_no_kernel(catalogue: Catalogue) -> None:
    with pytest.raises(NotAKernelError, match="/bin/true is no x86 kernel image"):
        select(["/bin/true"], catalogue=catalogue)


def test_path_that_does_not_exist_is_named(tmp_path: Path, catalogue: Catalogue) -> None:
    for path in (str(tmp_path / "absent"), "~nobody-of-this-name/bzImage"):
        with pytest.raises(NotAKernelError, match="no such file"):
            select([path], catalogue=catalogue)


def test_path_that_cannot_be_read_is_named(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(NotAKernelError, match=r"x cannot be read: File name too long"):
        select([str(tmp_path / ("x" * 300))], catalogue=catalogue)


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path, catalogue: Catalogue) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAKernelError, match="pipe is neither a file nor a directory"):
        select([str(tmp_path / "pipe")], catalogue=catalogue)


@pytest.mark.parametrize(
    ("release", "said"),
    [("5.2.21", r"lacks SO_DETACH_REUSEPORT_BPF"), ("4.14.0-3-amd64", r"BPF_PROG_TYPE_SK_REUSEPORT \(4.19\)")],
)
def test_error_for_a_kernel_that_is_too_old_names_what_it_lacks(
    tmp_path: Path, catalogue: Catalogue, release: str, said: str
) -> None:
    path = written(tmp_path / "bzImage", image(release))
    with pytest.raises(TooOldError, match=f"Linux {release}.*{said}"):
        select([str(path)], catalogue=catalogue)


def test_the_oldest_kernel_is_taken(tmp_path: Path, catalogue: Catalogue) -> None:
    assert select([str(written(tmp_path / "bzImage", image("5.3.0")))], catalogue=catalogue)


def test_error_for_a_directory_without_an_image_lists_the_names_of_images(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(NotAKernelError, match=r"no kernel image; looked for arch/x86/boot/bzImage, .*vmlinuz"):
        select([str(tmp_path)], catalogue=catalogue)


def test_error_for_a_tree_that_is_not_built_says_how_to_build_it(tmp_path: Path, catalogue: Catalogue) -> None:
    written(tmp_path / "Kconfig", b"")
    with pytest.raises(NotAKernelError, match=re.escape(f"python -m vm build {tmp_path}")):
        select([str(tmp_path)], catalogue=catalogue)


def test_a_directory_with_two_kernels_asks_which(tmp_path: Path, catalogue: Catalogue) -> None:
    written(tmp_path / "boot/vmlinuz-6.1.0-1", image("6.1.0-1"))
    written(tmp_path / "boot/vmlinuz-6.1.0-2", image("6.1.0-2"))
    with pytest.raises(NotAKernelError, match=r"several kernels: name one of boot/vmlinuz-6.1.0-1, "):
        select([str(tmp_path)], catalogue=catalogue)


def test_a_built_tree_is_one_kernel_with_its_own_headers(tmp_path: Path, catalogue: Catalogue) -> None:
    tree = tmp_path / "linux"
    bzimage = written(tree / "arch/x86/boot/bzImage", image("6.14.0"))
    written(tree / "vmlinuz", image("6.14.0"))  # a copy that lies about does not make two
    config = written(tree / ".config", b"CONFIG_64BIT=y\n")
    for header in ("generated/autoconf.h", "linux/kconfig.h"):
        written(tree / "include" / header, b"")
    (selection,) = select([str(tree)], catalogue=catalogue)
    assert obtain(selection, progress=print) == Kernel(
        name="linux", image=bzimage, release="6.14.0", modules=None, config=config, headers=tree, version=""
    )


def test_an_output_directory_s_headers_are_joined_with_the_source_s(tmp_path: Path, catalogue: Catalogue) -> None:
    source, output = tmp_path / "linux", tmp_path / "out"
    written(source / "include/linux/kconfig.h", b"source")
    written(source / "arch/x86/include/asm/page.h", b"")
    written(output / "arch/x86/boot/bzImage", image("6.14.0"))
    written(output / ".config", b"")
    written(output / "include/generated/autoconf.h", b"output")
    written(output / "arch/x86/include/generated/asm/x.h", b"")
    (output / "source").symlink_to(source)
    (selection,) = select([str(output)], catalogue=catalogue)
    for _ in range(2):
        headers = obtain(selection, progress=print).headers
        assert headers is not None
        assert (headers / "include/linux/kconfig.h").read_bytes() == b"source"
        assert (headers / "include/generated/autoconf.h").read_bytes() == b"output"
        assert sorted(path.name for path in (headers / "arch/x86/include").iterdir()) == ["asm", "generated"]


@pytest.mark.parametrize("usr", ["", "usr/"], ids=["boot", "usr-merged"])
def test_an_unpacked_package_gives_its_modules_ready_to_load(tmp_path: Path, catalogue: Catalogue, usr: str) -> None:
    release = "6.8.1-test"
    package = tmp_path / "package"
    tree = package / usr / "lib/modules" / release
    place = tree / "vmlinuz" if usr else package / f"boot/vmlinuz-{release}"
    written(place, image(release))
    written(tree / "config" if usr else package / f"boot/config-{release}", b"CONFIG_VETH=m\n")
    written(tree / "kernel/drivers/net/veth.ko", module("veth", depends="ptr_ring_thing"))
    written(tree / "kernel/lib/ptr-ring-thing.ko", module("ptr_ring_thing"))
    written(tree / "kernel/sound/beep.ko", module("beep"))
    (selection,) = select([str(package)], catalogue=catalogue)
    kernel = obtain(selection, progress=print)
    assert kernel.modules is not None
    loaded = {file.name for file in kernel.modules.rglob("*.ko")}
    assert loaded == {"veth.ko", "ptr-ring-thing.ko"}, "what a guest needs and what that needs"
    assert "ptr-ring-thing.ko" in (kernel.modules / "modules.dep").read_text()
    assert kernel.image.parent / "lib/modules" / release == kernel.modules, "where virtme-ng looks for them"
    assert not (tree / "modules.dep").exists(), "the package is left as it was"
    assert kernel.config is not None
    # Taken once, until its headers are there, too, or it is another kernel.
    assert obtain(selection, progress=pytest.fail) == kernel
    assert kernel.headers is None
    (tree / "build").mkdir()
    assert obtain(selection, progress=print).headers == tree / "build"
    written(place, image("6.8.1-test", size=8192 + 16))
    assert obtain(selection, progress=print).image != kernel.image


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_damaged_module_is_named(tmp_path: Path, catalogue: Catalogue, suffix: str) -> None:
    modules = tmp_path / "lib/modules/6.1.0"
    written(tmp_path / "boot/vmlinuz-6.1.0", image("6.1.0"))
    good = {"gz": gzip.compress(module("veth")), "xz": lzma.compress(module("veth"))}[suffix]
    written(modules / f"kernel/veth.ko.{suffix}", good[:20] + b"\xff" * 20 + good[40:])
    (selection,) = select([str(tmp_path)], catalogue=catalogue)
    with pytest.raises(NotAKernelError, match=rf"veth\.ko\.{suffix} cannot be decompressed"):
        obtain(selection, progress=print)


# Options


def config_of(values: dict[str, str]) -> str:
    return "# CONFIG_FOO is not set\n" + "".join(f"{name}={value}\n" for name, value in values.items())


def complete(value: str = "y") -> dict[str, str]:
    return {wanted.name: "y" if wanted.builtin else value for wanted in requirements.wanted_options()}


def test_a_complete_configuration_misses_nothing() -> None:
    assert requirements.missing_from(config_of(complete()), loadable=False) == []
    assert requirements.missing_from(config_of(complete("m")), loadable=True) == []


@pytest.mark.parametrize("wanted", requirements.wanted_options(), ids=lambda wanted: wanted.name)
def test_each_missing_option_is_named(wanted: requirements.WantedOption) -> None:
    values = complete()
    del values[wanted.name]
    missing = requirements.missing_from(config_of(values), loadable=True)
    assert (wanted.name, wanted.needed != "some") in [(one.option, one.fatal) for one in missing]


def test_option_as_a_module_counts_only_with_the_modules_and_where_it_may_be_one() -> None:
    (missing,) = requirements.missing_from(config_of({**complete(), "CONFIG_VETH": "m"}), loadable=False)
    assert missing.fatal
    assert "modules are not at hand" in str(missing)
    (missing,) = requirements.missing_from(config_of({**complete(), "CONFIG_DEVTMPFS": "m"}), loadable=True)
    assert "must be built in" in str(missing)


def test_module_that_is_not_installed_is_named(tmp_path: Path) -> None:
    config = written(tmp_path / "config", config_of(complete("m")).encode())
    tree = tmp_path / "lib/modules/6.1"
    for wanted in requirements.wanted_options():
        if wanted.module not in (None, "9p"):
            written(tree / f"kernel/{wanted.module}.ko", b"")
    kernel = Kernel(name="k", image=tmp_path, release="6.1", modules=tree, config=config, headers=None, version="")
    (missing,) = missing_options(kernel)
    assert (missing.option, missing.fatal) == ("CONFIG_9P_FS", True)
    assert "9p is not among the kernel's: install" in str(missing)
    written(tree / "kernel/9p.ko", b"")
    assert missing_options(kernel) == []


def test_missing_btf_is_a_note_after_fatal_options(tmp_path: Path) -> None:
    values = complete()
    del values["CONFIG_DEBUG_INFO_BTF"], values["CONFIG_VETH"]
    config = written(tmp_path / "config", config_of(values).encode())
    kernel = Kernel(name="k", image=tmp_path, release="6.1", modules=None, config=config, headers=None, version="")
    assert [(one.option, one.fatal) for one in missing_options(kernel)] == [
        ("CONFIG_VETH", True),
        ("CONFIG_DEBUG_INFO_BTF", False),
    ]
    assert missing_options(Kernel(**{**vars(kernel), "config": None})) == []


def test_every_module_and_option_says_why() -> None:
    assert all(module.why for module in requirements.wanted_modules())
    wanted = [module.name for module in requirements.wanted_modules()]
    assert len(wanted) == len(set(wanted))
