# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Build a kernel tree with the options that a guest and the cases need, and few others."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import BuildError, HostError, NotAKernelError
from vm.base.paths import cache_root
from vm.base.tools import find_tool
from vm.kernels import flavours as kernel_flavours
from vm.kernels import requirements
from vm.kernels.image import read_release
from vm.kernels.local import TREE_IMAGE
from vm.kernels.store import translate_oserror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TextIO

FRAGMENT = Path(__file__).with_name("kernel.config")
MINIMAL = Path(__file__).with_name("minimal.config")
"""What is taken out again for a build that is to be as quick as can be."""

_TOOLS = {"make": "make", "gcc": "gcc", "flex": "flex", "bison": "bison", "bc": "bc"}
_SAY_EVERY = 5.0  # seconds

_OF_THE_HOST = re.compile(r"No space left on device|Disk quota exceeded|Killed signal terminated program")
"""Make's output for failures of the host, not the tree. The last is gcc's when memory ran out."""


_SAME_EACH_TIME = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "user",
    "KBUILD_BUILD_HOST": "host",
    "KBUILD_BUILD_VERSION": "1",
}
"""So that one source makes one image, byte for byte: Documentation/kbuild/reproducible-builds.rst."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """The result of a build."""

    directory: Path  # what --kernel takes
    image: Path
    release: str
    seconds: float
    log: Path


def build(
    tree: Path,
    *,
    output: Path | None,
    progress: Callable[[str], None],
    flavours: Sequence[str] = (),
    minimise: bool = False,
) -> Built:
    """Build the bzImage of `tree`, in `output` or else in the tree itself, with what the `flavours` add.

    In `output` the configuration is made anew each time, which rebuilds only what it changes, and the same source
    makes the same image. In the tree a .config that is there is the developer's own: it is used as it is, also with
    `minimise`, which leaves out of one that is made what MINIMAL lists.

    Raises NotAKernelError when `tree` is no kernel tree or cannot be left alone, MissingToolError, HostError,
    StoreError, BuildError.
    """
    _demand_tree(tree)
    if output is not None:
        _demand_clean(tree)
    for tool, package in _TOOLS.items():
        find_tool(tool, package=package)
    directory = (output or tree).absolute()
    log = cache_root() / "builds" / f"{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}.log"
    with translate_oserror(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
    with translate_oserror(directory, elsewhere="name another directory with --output"):
        directory.mkdir(parents=True, exist_ok=True)
        make = _Make(tree=tree.absolute(), output=directory if output else None, log=log, progress=progress)
        log.write_text("")
        started = time.monotonic()
        config = directory / ".config"
        if output is not None or not config.exists():
            progress(f"configuring {tree}")
            _configure(make, config, fragments=(FRAGMENT, MINIMAL) if minimise else (FRAGMENT,), flavours=flavours)
        elif flavours:
            raise NotAKernelError(
                f"{tree} has a .config of its own, which is used as it is: give --output DIR for a kernel with "
                f"--flavour {' --flavour '.join(flavours)}"
            )
        make("olddefconfig")
        _demand_options(config, flavours)
        progress(f"building {tree}")
        # The fragment has no modules; a configuration of the developer's own may well have.
        modules = ["modules"] if re.search(r"=m$", config.read_text(), re.MULTILINE) else []
        # Without LOCALVERSION a tree under git that is ahead of its tag would call itself "...+".
        make(
            "LOCALVERSION=",
            f"-j{len(os.sched_getaffinity(0))}",
            "bzImage",
            *modules,
            *kernel_flavours.variables(flavours),
        )
    image = directory / TREE_IMAGE
    return Built(
        directory=directory,
        image=image,
        release=read_release(image),
        seconds=round(time.monotonic() - started, 1),
        log=log,
    )


@dataclass(frozen=True, kw_only=True)
class _Make:
    """A kernel tree and how to run make on it; the output goes to the log."""

    tree: Path
    output: Path | None
    log: Path
    progress: Callable[[str], None]

    def __call__(self, *arguments: str) -> None:
        """Run `make *arguments`; BuildError with the end of its output when it fails."""
        where = [f"O={self.output}"] if self.output else []
        self.run(["make", "-C", str(self.tree), *where, "ARCH=x86", *arguments])

    def run(self, command: list[str]) -> None:
        """Run `command` in the tree; BuildError with the end of its output when it fails."""
        environment = {name: value for name, value in os.environ.items() if name != "KBUILD_OUTPUT"}
        if self.output:
            environment |= {**_SAME_EACH_TIME, "KBUILD_OUTPUT": str(self.output)}
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                command,
                cwd=self.tree,
                env={**environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            assert process.stdout is not None
            log.write(f"$ {shlex.join(command)}\n")
            try:
                self._follow(process.stdout, log)
            except BaseException:
                # Ctrl-C reaches make as well, which then removes unfinished files.
                with contextlib.suppress(KeyboardInterrupt):
                    process.wait()
                raise
        if process.returncode:
            kind = HostError if _OF_THE_HOST.search(self.log.read_text(errors="replace")) else BuildError
            raise kind(_failure(self.log, command))

    def _follow(self, lines: Iterable[str], log: TextIO) -> None:
        built, said = 0, time.monotonic()
        for line in lines:
            log.write(line)
            compiled = re.match(r"  (?:CC|AS|AR|LD)\s+(\S+)", line)
            built += compiled is not None
            if compiled and time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                self.progress(f"building {self.tree}, {built} objects, {compiled[1]}")


def _configure(make: _Make, config: Path, *, fragments: Iterable[Path], flavours: Sequence[str]) -> None:
    """Write `config`: allnoconfig, then what virtme-ng needs of every guest, then this project's fragments."""
    make("allnoconfig")
    # virtme-ng's own step, without its defconfig: that is a kernel for PCs, and takes four times as long to build.
    output = [f"O={make.output}"] if make.output else []
    make.run([sys.executable, "-m", "virtme.commands.configkernel", "--arch", "x86_64", "--update", *output])
    with config.open("a") as file:
        # The last value of an option counts, and virtme-ng would write its own behind a file that is given by --custom.
        file.writelines("\n" + fragment.read_text() for fragment in fragments)
        file.write(kernel_flavours.fragment(flavours))


def _demand_tree(tree: Path) -> None:
    try:
        next(tree.iterdir(), None)
    except OSError as error:
        raise NotAKernelError(f"{tree} cannot be read as a directory: {error.strerror}") from error
    for name in ("Makefile", "Kconfig", "arch/x86"):
        if not (tree / name).exists():
            raise NotAKernelError(f"{tree} is no kernel source tree: it has no {name}")


def _demand_clean(tree: Path) -> None:
    """Raise NotAKernelError for a tree that was built in place: kbuild refuses O= (Makefile, `outputmakefile`)."""
    for name in (".config", "include/config", "arch/x86/include/generated"):
        if (tree / name).exists():
            raise NotAKernelError(
                f"{tree} was configured or built in place (it has {name}), and cannot be built elsewhere as well: run "
                f"'make -C {tree} mrproper', which removes the .config with it, or leave out --output"
            )


def _demand_options(config: Path, flavours: Sequence[str]) -> None:
    """Raise BuildError, before an hour of compiling, if a kernel with `config` lacks what cases or flavours need."""
    if refused := kernel_flavours.missing(flavours, config.read_text()):
        raise BuildError(f"{config}: this tree, or this compiler, does not take {', '.join(refused)}")
    missing = [one for one in requirements.missing_from(config.read_text(), loadable=True) if one.fatal]
    if missing:
        raise BuildError(
            f"a kernel with {config} could not run the cases. It lacks {'; '.join(map(str, missing))}. "
            "Set these (vm/kernels/kernel.config has them), or build with --output DIR, which makes its own"
        )


def _failure(log: Path, command: list[str]) -> str:
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if re.search(r"(?i)\berror\b|\*\*\*|undefined reference", line)]
    shown = (errors or lines)[-8:]
    return f"{shlex.join(command)} failed; the whole output is in {log}\n" + "\n".join(f"  {line}" for line in shown)
