# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A kernel tree is built with what the cases need, or it is said why not; `git bisect run` is told which."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_archive import image

from vm.__main__ import main
from vm.base.errors import BuildError, HostError, MissingToolError, NotAKernelError
from vm.kernels import build as build_module
from vm.kernels import flavours, requirements
from vm.kernels.build import FRAGMENT, MINIMAL, build
from vm.kernels.flavours import FLAVOURS
from vm.kernels.local import locate

BISECT = Path(__file__).parents[2] / "vm" / "bisect"

# Has the targets of a kernel's Makefile, and no compiler: bzImage is a copy of a file that the test wrote.
MAKEFILE = r"""
out := $(if $(O),$(O),$(CURDIR))
allnoconfig:
	@echo '# CONFIG_NOTHING is not set' > $(out)/.config
olddefconfig:
	@test -f $(out)/.config
bzImage: olddefconfig
	@echo '  CC      net/core/sock_reuseport.o'
	@test -f image || { echo 'net/core/sock_reuseport.c:1:1: error: expected expression'; exit 1; }
	@mkdir -p $(out)/arch/x86/boot && cp image $(out)/arch/x86/boot/bzImage
modules:
	@touch $(out)/modules.order
"""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="runs make on a tree of its own: run ./bootstrap")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build_module, "_TOOLS", {"make": "make"})
    tree = tmp_path / "linux"
    (tree / "arch/x86").mkdir(parents=True)
    (tree / "Kconfig").write_text("")
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / "image").write_bytes(image("6.15.0-test"))
    return tree


def options(config: str) -> dict[str, str]:
    return dict(re.findall(r"^(CONFIG_\w+)=(\S+)$", config, re.MULTILINE))


def test_the_fragment_has_all_that_a_guest_and_the_cases_need() -> None:
    virtme = subprocess.run(
        [sys.executable, "-m", "virtme.commands.configkernel", "--arch", "x86_64", "--update", "--dry-run"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    config = f"{virtme}\n{FRAGMENT.read_text()}"
    missing = {one.option for one in requirements.missing_from(config, loadable=False)}
    assert missing <= {"CONFIG_DEBUG_INFO_BTF"}


def test_every_block_of_the_fragment_says_what_it_is_for() -> None:
    blocks = FRAGMENT.read_text().split("\n\n")
    assert all(block.startswith("# ") for block in blocks)
    assert not [name for name, value in options(FRAGMENT.read_text()).items() if value == "m"]


@needs_make
def test_a_tree_is_built_in_the_output_directory_and_left_alone(tree: Path, tmp_path: Path) -> None:
    before = sorted(tree.rglob("*"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.config").write_text("CONFIG_OF_ANOTHER_COMMIT=y\n")
    built = build(tree, output=tmp_path / "out", progress=print)
    assert built.release == "6.15.0-test"
    assert sorted(tree.rglob("*")) == before
    config = (tmp_path / "out/.config").read_text()
    assert "CONFIG_OF_ANOTHER_COMMIT" not in config, "made anew for each commit"
    assert options(FRAGMENT.read_text()).items() <= options(config).items()
    assert config.index("CONFIG_NOTHING") < config.index("CONFIG_NET_9P_VIRTIO") < config.index("CONFIG_VETH")
    located = locate(built.directory)
    assert (located.tree, located.release) == (tmp_path / "out", "6.15.0-test")


@needs_make
def test_a_minimised_build_goes_without_what_only_some_cases_need(tree: Path, tmp_path: Path) -> None:
    build(tree, output=tmp_path / "out", progress=print, minimise=True)
    config = (tmp_path / "out/.config").read_text()
    assert config.index("CONFIG_IP_SCTP=y") < config.index("# CONFIG_IP_SCTP is not set"), "the last word counts"
    left_out = set(re.findall(r"^# (CONFIG_\w+) is not set$", MINIMAL.read_text(), re.MULTILINE))
    kept = "".join(f"{name}={value}\n" for name, value in options(config).items() if name not in left_out)
    missing = {one.option for one in requirements.missing_from(kept, loadable=False)}
    assert missing <= {"CONFIG_DEBUG_INFO_BTF"}, "the guest, every case and the witness lose nothing"


@needs_make
def test_an_image_says_nothing_of_when_and_where_it_was_built(tree: Path, tmp_path: Path) -> None:
    makefile = tree / "Makefile"
    recipe = "cp image $(out)/arch/x86/boot/bzImage"
    names = "$$KBUILD_BUILD_TIMESTAMP $$KBUILD_BUILD_USER $$KBUILD_BUILD_HOST $$KBUILD_BUILD_VERSION"
    makefile.write_text(makefile.read_text().replace(recipe, f"{recipe} && echo {names} > $(out)/told"))
    build(tree, output=tmp_path / "out", progress=print)
    assert (tmp_path / "out/told").read_text() == "Thu Jan 1 00:00:00 UTC 1970 user host 1\n"


@needs_make
def test_a_developer_s_own_configuration_is_used_as_it_is(tree: Path) -> None:
    theirs = FRAGMENT.read_text() + "".join(f"{one.name}=y\n" for one in requirements.wanted_options()) + "CONFIG_X=m\n"
    (tree / ".config").write_text(theirs)
    assert build(tree, output=None, progress=print).directory == tree
    assert (tree / ".config").read_text() == theirs
    assert (tree / "modules.order").exists(), "it has modules"
    (tree / ".config").write_text("CONFIG_64BIT=y\n")
    with pytest.raises(BuildError, match=r"lacks CONFIG_PCI: .*CONFIG_VETH: .*vm/kernels/kernel.config.*--output DIR"):
        build(tree, output=None, progress=print)


@needs_make
def test_a_tree_that_does_not_compile_shows_the_compiler_s_error(tree: Path, tmp_path: Path) -> None:
    (tree / "image").unlink()
    with pytest.raises(BuildError, match=r"sock_reuseport.c:1:1: error: expected expression") as raised:
        build(tree, output=tmp_path / "out", progress=print)
    log = re.search(r"whole output is in (\S+)", str(raised.value))
    assert log is not None
    assert "  CC      net/core/sock_reuseport.o" in Path(log[1]).read_text()
    assert main(["build", str(tree), "--output", str(tmp_path / "out")]) == 13


def test_directory_that_is_no_tree_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NotAKernelError, match="no kernel source tree: it has no Makefile"):
        build(tmp_path, output=tmp_path / "out", progress=print)
    assert not (tmp_path / "out").exists()
    assert main(["build", str(tmp_path / "absent")]) == 4


@needs_make
@pytest.mark.parametrize(
    "said",
    [
        "fatal error: error writing to /tmp/cc1.s: No space left on device",
        "gcc: fatal error: Killed signal terminated program cc1",
    ],
)
def test_a_machine_with_too_little_is_not_taken_for_a_bad_commit(tree: Path, tmp_path: Path, said: str) -> None:
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("@test -f image ||", f"@echo '{said}'; false ||"))
    with pytest.raises(HostError, match=said):
        build(tree, output=tmp_path / "out", progress=print)
    assert main(["build", str(tree), "--output", str(tmp_path / "out")]) == 4


def test_an_output_directory_that_cannot_be_made_is_not_taken_for_a_bad_commit(tree: Path) -> None:
    assert main(["build", str(tree), "--output", "/proc/out"]) == 4


@pytest.mark.parametrize("name", [".config", "include/config/auto.conf", "arch/x86/include/generated/asm/x.h"])
def test_a_tree_that_was_built_in_place_is_not_taken_for_a_bad_commit(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("")
    assert main(["build", str(tree), "--output", str(tmp_path / "out")]) == 4
    assert f"make -C {tree} mrproper" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_machine_without_a_compiler_is_not_taken_for_a_bad_commit(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_module, "_TOOLS", {"gcc-of-another-world": "gcc"})
    with pytest.raises(MissingToolError, match="install the package gcc"):
        build(tree, output=None, progress=print)
    assert main(["build", str(tree)]) == 4
    assert "install the package gcc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("built", "tested", "status"),
    [
        (0, 0, 0),
        (0, 1, 1),
        (0, 10, 1),
        (0, 11, 1),
        (0, 12, 1),
        (0, 13, 125),
        (13, 99, 125),
        (4, 99, 128),
        (130, 99, 128),
        (0, 2, 128),
        (0, 4, 128),
        (0, 5, 128),
    ],
)
def test_git_bisect_gets_good_bad_skip_or_stop(tmp_path: Path, built: int, tested: int, status: int) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$2" != vm.bisection ] || exec {sys.executable} "$@"\n'
        f'echo "$PWD: $*" >> {tmp_path}/calls\ncase $2 in vm) exit {built};; pytest) exit {tested};; esac\n'
    )
    python.chmod(0o755)
    (tmp_path / "tree").mkdir()
    environment = {**os.environ, "PYTHON": str(python), "BISECT_OUTPUT": str(tmp_path / "out")}
    ran = subprocess.run([BISECT, "-k", "udp and drop"], cwd=tmp_path / "tree", env=environment, check=False)
    assert ran.returncode == status
    calls = (tmp_path / "calls").read_text().splitlines()
    project = BISECT.parents[1]
    assert calls[0] == f"{project}: -m vm build {tmp_path}/tree --output {tmp_path}/out"
    tests = f"{project}: -m pytest --vm --kernel={tmp_path}/out --tb=line --witness=none -k udp and drop"
    assert calls[1:] == ([] if built else [tests])


def test_python_that_cannot_begin_stops_the_bisection_and_names_the_remedy(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": "false"}
    ran = subprocess.run([BISECT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 128
    assert f"To set this project up: {BISECT.parents[1]}/bootstrap" in ran.stderr


@needs_make
def test_a_flavour_has_the_last_word_in_the_configuration(tree: Path, tmp_path: Path) -> None:
    build(tree, output=tmp_path / "out", progress=print, flavours=["lockdep", "gcov"])
    config = (tmp_path / "out/.config").read_text()
    assert config.index("CONFIG_VETH") < config.index("CONFIG_PROVE_LOCKING=y") < config.index("CONFIG_GCOV_KERNEL=y")
    build(tree, output=tmp_path / "out", progress=print)
    assert "CONFIG_PROVE_LOCKING" not in (tmp_path / "out/.config").read_text()


@needs_make
def test_a_flavour_that_a_tree_does_not_take_is_said_before_it_is_built(tree: Path, tmp_path: Path) -> None:
    without = "sed -i /CONFIG_KASAN=y/d $(out)/.config"
    (tree / "Makefile").write_text(MAKEFILE.replace("@test -f $(out)/.config", f"@{without}"))
    with pytest.raises(BuildError, match=r"does not take CONFIG_KASAN=y$"):
        build(tree, output=tmp_path / "out", progress=print, flavours=["kasan"])
    assert not (tmp_path / "out/arch").exists()


@needs_make
def test_a_flavour_does_not_change_a_developer_s_own_configuration(tree: Path) -> None:
    (tree / ".config").write_text("CONFIG_64BIT=y\n")
    with pytest.raises(NotAKernelError, match=r"used as it is: give --output DIR .* --flavour kasan"):
        build(tree, output=None, progress=print, flavours=["kasan"])
    assert (tree / ".config").read_text() == "CONFIG_64BIT=y\n"


def test_an_unknown_flavour_is_refused_with_those_that_there_are(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["build", str(tree), "--flavour", "strawberry"])
    assert "kasan" in capsys.readouterr().err


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_flavour_is_known_by_its_options(flavour: str) -> None:
    text = flavours.fragment([flavour])
    assert options(text)
    assert flavours.missing([flavour], text) == []
    assert flavours.missing([flavour], "")
