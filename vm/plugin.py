# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn each --kernel into a pytest-xdist worker inside a VM."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vm.boot import options
from vm.guest import report_codec

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from vm.controller.plan import Plan
    from vm.kernels.catalogue import Selection
    from vm.kernels.counted import CountedKernel
    from vm.remote.hosts import Host

_PLAN: pytest.StashKey[Plan] = pytest.StashKey()

DEFAULT_TIMEOUT = 120.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say where the cases run."""
    group = parser.getgroup("vm", "kernels and their VMs")
    group.addoption("--vm", action="store_true", help="run the cases in VMs, on the kernels named by --kernel")
    group.addoption(
        "--kernel",
        action="append",
        default=[],
        metavar="NAME|PATH",
        help="a kernel to run the cases on, in a VM; may be given more than once. A name or pattern of "
        "`python -m vm list` (6.12, '6.*', all, running), or a path: vmlinuz, bzImage, an unpacked package, a kernel "
        "tree. Without it, the distribution's own kernel from its archive, or else the installed one (running).",
    )
    group.addoption(
        "--vm-timeout",
        type=float,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="end a VM, as hung, after this time without news from its worker (default: %(default)g)",
    )
    options.add_options(group.addoption)
    group.addoption(
        "--vms",
        type=int,
        metavar="N",
        help="VMs at once on a machine, of all kernels together (default: as many as cores and memory allow)",
    )
    group.addoption(
        "--on",
        action="append",
        default=[],
        metavar="[USER@]HOST[:DIRECTORY]",
        help="a machine to boot VMs on instead of this one, by ssh; may be given more than once: kernels are dealt out "
        "in turn. The project has to be there, set up by ./bootstrap: in DIRECTORY (default: where it is here, below "
        "the home directory). ':' is this machine.",
    )
    group.addoption(
        "--ktap",
        metavar="FILE",
        help="write KTAP to FILE while the run goes on; - is the standard output, and everything else then goes to the "
        "standard error",
    )
    group.addoption(
        "--history",
        metavar="FILE",
        help="the file that says since when a case behaves as it does (default: results/history.json)",
    )
    group.addoption(
        "--kernel-coverage",
        action="store_true",
        help="report which lines and branches of the kernels' reuseport code ran; they have to be built with "
        "`python -m vm build --flavour gcov`",
    )
    group.addoption("--mirror", metavar="ADDRESS", help="the mirror to fetch kernels from (default: apt's own)")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Make a worker of each kernel, before xdist reads its options."""
    option = config.option
    if hasattr(config, "workerinput") or option.collectonly:
        return
    if option.ktap:
        _open_ktap(config, option.ktap)
    if not (option.vm or option.kernel or option.on):
        coverage = option.kernel_coverage or None
        for_vms = {
            "--accel": option.accel,
            "--vms": option.vms,
            "--mirror": option.mirror,
            "--kernel-coverage": coverage,
        }
        if idle := [*options.given(option), *(name for name, value in for_vms.items() if value is not None)]:
            raise pytest.UsageError(f"{idle[0]} is for kernels in VMs, and this run has none: add --vm or --kernel")
        return
    # Imported here: a worker in a guest, where imports are slow, has no use for these.
    from vm.base.errors import KernelError  # noqa: PLC0415
    from vm.controller.plan import LOST_VMS, Plan, Vm, local_worker  # noqa: PLC0415
    from vm.kernels.catalogue import Series, load_catalogue  # noqa: PLC0415
    from vm.kernels.obtain import select  # noqa: PLC0415

    demand_consistent(option)
    if not option.pyargs:  # names of modules, which pytest looks up
        demand_there(config.args)
    words = option.kernel or ["default"]
    demand_utf8([*words, *config.args, str(config.rootpath), str(Path.cwd())])
    try:
        selections = select(words, catalogue=load_catalogue(), mirror=option.mirror)
    except KernelError as error:
        raise pytest.UsageError(str(error)) from error
    kernels = [selection.name for selection in selections]
    hosts, machines, parts = _where(config, kernels)
    try:
        counted = _counted(option, selections)
        guest_options = options.read_options(append=option.append, memory=option.memory, cpus=option.cpus)
        if None in hosts.values():
            options.demand_kvm(option.accel)
    except KernelError as error:
        raise pytest.UsageError(str(error)) from error
    restarts = option.maxworkerrestart
    lost_vms = LOST_VMS if restarts is None else int(restarts) + 1
    config.stash[_PLAN] = Plan(
        kernels={selection.name: selection.word for selection in selections},
        timeout=option.vm_timeout + _silent_seconds(config),
        acceleration=option.accel,
        options=guest_options,
        mirror=option.mirror,
        vms=option.vms,
        lost_vms=lost_vms,
        hosts=hosts,
        other_hosts={
            selection.name: tuple(machines if isinstance(selection.source, Series) else ()) for selection in selections
        },
        parts=parts,
        counted=counted,
    )
    # xdist's own limit is on all workers together: no kernel may use up what another needs. One more for each is a
    # relay without cases, which ends a kernel that was given up; if that dies as well, there has to be an end.
    option.maxworkerrestart = str(len(kernels) * (lost_vms + 1))
    option.dist = "each"
    option.tx = [local_worker(Vm(name)) for name in kernels]


def _counted(option: argparse.Namespace, selections: list[Selection]) -> dict[str, CountedKernel]:
    """Return the kernels whose lines are counted, if that is wanted. Raises KernelError for one that counts none."""
    if not option.kernel_coverage:
        return {}
    from vm.base.errors import OptionError  # noqa: PLC0415
    from vm.kernels.counted import counted_kernels  # noqa: PLC0415
    from vm.report import gcovr  # noqa: PLC0415

    if option.on:
        raise OptionError("--kernel-coverage: the notes of the build are on this machine: leave out --on")
    gcovr.demand()
    return counted_kernels(selections, parameters=" ".join(option.append))


def _silent_seconds(config: pytest.Config) -> int:
    """Return how long a case may be without news, in whole seconds: the harness's --campaign or --race-seconds.

    The default of a race, 0.3 s, adds nothing.
    """
    return int(max(config.getoption(name, default=None) or 0 for name in ("--campaign", "--race-seconds")))


def _open_ktap(config: pytest.Config, name: str) -> None:
    """Open the file that KTAP goes to. Raises UsageError."""
    from vm.report.publishing import KTAP_FILE  # noqa: PLC0415

    try:
        if name == "-":
            # Everyone else who asks for sys.stdout from here on, pytest's terminal reporter first, gets the other.
            file = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
            sys.stdout = sys.stderr
        else:
            file = Path(name).open("w", encoding="utf-8")  # noqa: SIM115  # as long as the run
    except OSError as error:
        raise pytest.UsageError(f"--ktap {name}: {error.strerror}") from error
    config.stash[KTAP_FILE] = file
    config.add_cleanup(file.close)


def _where(config: pytest.Config, kernels: list[str]) -> tuple[dict[str, Host | None], list[Host | None], list[str]]:
    """Return the machine of each kernel, all machines, and the parts of the project that have to be the same there."""
    from vm.base.paths import PROJECT  # noqa: PLC0415
    from vm.remote.checkout import PARTS  # noqa: PLC0415
    from vm.remote.hosts import assign, case_paths, read_host  # noqa: PLC0415

    option = config.option
    if not option.on:
        return assign(kernels, []), [], []
    if config.invocation_params.dir.resolve() != PROJECT:
        raise pytest.UsageError(f"--on: run this in {PROJECT}, so that paths mean the same on every machine")
    try:
        hosts = [read_host(word, root=PROJECT, home=Path.home()) for word in option.on]
        parts = [*PARTS, *case_paths(option.file_or_dir, root=PROJECT)]
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    return assign(kernels, hosts), hosts, parts


def demand_consistent(option: argparse.Namespace) -> None:
    """Raise UsageError for options that cannot be used with kernels in VMs."""
    if option.tx or option.numprocesses or option.dist != "no" or option.distload:
        raise pytest.UsageError("--kernel makes a worker of each kernel: leave out -n, --dist and --tx")
    if option.vms is not None and option.vms < 1:
        raise pytest.UsageError(f"--vms {option.vms}: must be at least 1")
    if not option.vm_timeout > 0:  # nor "nan", which is not less than anything either
        raise pytest.UsageError(f"--vm-timeout {option.vm_timeout:g}: must be positive")
    if option.maxworkerrestart is not None and not option.maxworkerrestart.isdecimal():
        raise pytest.UsageError(f"--max-worker-restart {option.maxworkerrestart}: must be a whole number, 0 or more")


def demand_utf8(words: Iterable[str]) -> None:
    """Raise UsageError for text that execnet cannot send to workers: it is not UTF-8, or not in this locale."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise pytest.UsageError(
                f"{os.fsencode(word)!r} is not UTF-8, or this locale has no such characters: "
                "set LC_ALL=C.UTF-8, or give it another name"
            ) from error


def demand_there(arguments: Iterable[str]) -> None:
    """Raise UsageError, in pytest's words, for a missing file of cases: a guest would report it much later."""
    for argument in arguments:
        path = argument.partition("::")[0]
        if not os.path.exists(path):  # noqa: PTH110  # pathlib's raises for a name that is too long
            raise pytest.UsageError(f"file or directory not found: {path}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugins of the controller, of a guest's worker, or of a run without VMs."""
    if hasattr(config, "workerinput"):
        from vm.guest.kmsg_marks import marks_here  # noqa: PLC0415

        if marks := marks_here():
            from vm.guest.exit_reason import ExitReason  # noqa: PLC0415
            from vm.guest.fastpath import FastPath  # noqa: PLC0415

            config.pluginmanager.register(marks, "vm-kmsg-marks")
            config.pluginmanager.register(FastPath(), "vm-fastpath")
            config.pluginmanager.register(ExitReason(config), "vm-exit-reason")
            config.pluginmanager.register(report_codec, "vm-report-codec")
            if config.getoption("kernel_coverage"):
                from vm.guest.counters import Counters  # noqa: PLC0415

                config.pluginmanager.register(Counters(), "vm-counters")
        return
    if config.option.collectonly:
        return
    started = datetime.now(UTC)
    if _PLAN not in config.stash:
        # `tox -e host`: the option is the harness's.
        if config.getoption("--where-possible", default=False):
            from vm.base.children import end_with_tox  # noqa: PLC0415
            from vm.controller.host import HostRun  # noqa: PLC0415

            end_with_tox()
            config.pluginmanager.register(HostRun(config, started=started), "vm-host")
        return
    from vm.base.children import end_with_tox  # noqa: PLC0415
    from vm.controller.controller import Controller  # noqa: PLC0415
    from vm.report import publishing  # noqa: PLC0415

    end_with_tox()
    try:
        directory = publishing.make_directory(config, started=started)
    except publishing.ResultsError as error:
        pytest.exit(str(error), returncode=publishing.UNPUBLISHED)
    controller = Controller(config, config.stash[_PLAN], directory=directory, started=started, file=sys.stdout)
    config.pluginmanager.register(controller, "vm-controller")
    config.pluginmanager.register(report_codec, "vm-report-codec")
