# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tox -e kernel-faults`: plant the faults into a kernel, and run the suite under each."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.base.errors import KernelError
from vm.base.paths import cache_root
from vm.base.progress import progress_on
from vm.controller.admission import capacity
from vm.kernels.flavours import FLAVOURS
from vm.kernels.image import read_release
from vm.kernels.store import translate_oserror

from . import campaign, guests, reach, report, state, table, trees
from .guests import LostError, Manner
from .running import NO_FAULT, Run
from .state import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vm.base.progress import Progress

    from .planting import Planted
    from .state import Result
    from .table import Fault

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.jsonl")
PAGE = ROOT / "docs/kernel-faults.md"
SOURCE = Path("/usr/src/linux-source-6.1.tar.xz")

_MEMORY_OF_A_VM = 1024  # MiB: with room for what faults do not give back
_MEMORY_OF_A_DEBUG_VM = 2048  # MiB: shadows, and books of objects and locks
_VMS_A_CORE = 2
"""Under a fault a VM mostly waits, for packets or for what a leak holds: two VMs took 20 % of a core each."""

_RACING = ("--append", "kasan_multi_shot no5lvl maxcpus=2")
"""KASAN goes on after its first report, and makes none during the boot (docs/debug-kernels.md); an emulated guest has
two CPUs online, as a race needs them."""
_SECONDS_OF_A_RACE = 10

EXIT_SURVIVORS, EXIT_USAGE, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED = 1, 4, 13, 130

_DESCRIPTION = """\
Plant the faults of tests/kernel_faults/faults/ into a kernel, build it, and run the suite under each until a case
notices. The cases that noticed a fault last time run first, then those of the promise that it breaks. Writes
docs/kernel-faults.md. Exit status: 0; 1 if a fault that is not equivalent was not noticed, noticed only by a race, or
not planted; 4 for something that cannot be used; 13 if no VM comes up; 130 after Ctrl-C, and --resume then goes on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    args = _parser().parse_args(arguments)
    try:
        with progress_on(sys.stderr) as progress:
            return _run(args, progress)
    except (KernelError, table.TableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except LostError as error:
        print(f"error: no VM comes up: {error}. 'python -m vm run' with the kernel tells more", file=sys.stderr)
        return EXIT_INFRASTRUCTURE
    except KeyboardInterrupt:
        print("interrupted; --resume goes on with the faults that are left", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tox -e kernel-faults --", description=_DESCRIPTION)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="the faults to try (default: all); the suite then runs with no fault on only if it did not on this kernel",
    )
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--resume", action="store_true", help="leave out what the last run came to know")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run the cases of the promises that a fault breaks and no others; a fault that they do not notice is left "
        "open, for a run without this",
    )
    parser.add_argument(
        "--flavour",
        action="append",
        default=[],
        choices=FLAVOURS,
        dest="flavours",
        help="build a kernel that reports more, with each flavour that is given, and try the faults that only such a "
        "kernel sees, as with --quick, each to the first complaint",
    )
    parser.add_argument(
        "--campaign",
        type=float,
        metavar="SECONDS",
        help="have campaigns of so many seconds alone find the faults that are named, and replay what they find with "
        f"the fault, and on {campaign.WITHOUT_FAULT}; the page is left as it is",
    )
    parser.add_argument(
        "--source",
        type=Path,
        default=SOURCE,
        metavar="TREE",
        help="a kernel source tree that was not built, or a distribution's archive of one (default: %(default)s, of "
        "the package linux-source-6.1)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to plant and build (default: in the cache)")
    parser.add_argument("--vms", type=int, metavar="N", help="VMs at once (default: two a core, as memory allows)")
    return parser


def _run(args: argparse.Namespace, progress: Progress) -> int:
    faults = table.load()
    if unknown := sorted(set(args.names) - {fault.name for fault in faults}):
        raise table.TableError(f"no fault is called {', '.join(unknown)}; --list prints those that there are")
    if args.list:
        for fault in faults:
            print(f"{fault.name:45} {fault.function:35} {fault.operator}")
        return 0
    if args.campaign is not None and not (args.names and args.campaign > 0):
        raise table.TableError("--campaign takes more than 0 seconds, and the names of the faults to find")
    work = args.output or cache_root() / "kernel-faults" / args.source.name.partition(".tar")[0]
    with translate_oserror(work):
        built = _build(args, work, faults, progress)
        if args.campaign is not None:
            return _find_by_campaign(built.directory, built.planted, args, progress)
        wanted = [fault for fault in built.planted.faults if fault.is_for(built.flavours)]
        if args.names:
            wanted = [fault for fault in built.planted.faults if fault.name in args.names]
        none = _forget(args, built)
        try:
            _try_all(args, built, wanted, none, progress)
        finally:
            there = {fault.name for fault in faults}
            known = state.read(RESULTS) | state.read(built.journal)
            results = {name: one for name, one in known.items() if name in there}
            state.write(RESULTS, results.values())
            PAGE.write_text(report.page(faults, results))
    refused = {name: why for name, why in built.planted.refused.items() if not args.names or name in args.names}
    return _judge(wanted, results, refused, progress)


@dataclass(frozen=True, kw_only=True)
class _Built:
    """The kernel with the faults, and the files that keep what is known of it."""

    planted: Planted
    flavours: tuple[str, ...]
    directory: Path
    release: str
    image: str  # a digest
    journal: Path  # what the last run of these flavours came to know
    reach: Path  # which cases come to which faults


def _build(args: argparse.Namespace, work: Path, faults: Sequence[Fault], progress: Progress) -> _Built:
    """Plant the faults and build the kernel, as far as that was not done before."""
    planted = _plant(args.source, work, faults, progress)
    flavours = sorted(set(args.flavours))
    directory = work / "-".join([trees.BUILD, *flavours])
    image = trees.build_once(work / trees.PLANTED, directory, planted, flavours=flavours, progress=progress)
    return _Built(
        planted=planted,
        flavours=tuple(flavours),
        directory=directory,
        release=read_release(image),
        image=hashlib.sha256(image.read_bytes()).hexdigest()[:12],
        journal=work / f"{'-'.join(['journal', *flavours])}.jsonl",
        reach=work / "reach.json",
    )


def _forget(args: argparse.Namespace, built: _Built) -> Result | None:
    """Take out of the journal what this run is to find anew; return what it has of this kernel with no fault on."""
    kept = {name: one for name, one in state.read(built.journal).items() if args.resume or args.names}
    if not args.resume:
        kept = {name: one for name, one in kept.items() if name not in args.names}
    none = kept.pop(NO_FAULT, None)
    if none is not None and none.digest != built.image:
        none = None
    state.write(built.journal, [*kept.values(), *([none] if none else [])])
    return none


def _try_all(
    args: argparse.Namespace, built: _Built, wanted: Sequence[Fault], none: Result | None, progress: Progress
) -> None:
    """Try the faults that the journal does not have; `none` is what came of the suite with no fault on, if it ran."""
    known = state.read(built.journal)
    quick = args.quick or bool(built.flavours)
    if not quick:
        known = {name: one for name, one in known.items() if one.outcome is not Outcome.OPEN}
    left = [fault for fault in wanted if not _is_known(fault, known)]
    progress.tell(f"Linux {built.release}: {len(left)} faults to try of {len(wanted)}")
    if left:
        guests.prepare(built.directory / guests.BYTECODE)
    memory = _MEMORY_OF_A_DEBUG_VM if built.flavours else _MEMORY_OF_A_VM

    def learn(said: tuple[dict[str, Any], ...], cases: dict[int, str]) -> reach.Reach:
        learnt = reach.from_guest(said, cases=cases, faults=built.planted.faults)
        reach.write(built.reach, learnt)
        return learnt

    run = Run(
        built.directory,
        left,
        image=built.image,
        before=state.read(RESULTS) | known,
        quick=quick,
        debugging=bool(built.flavours),
        manner=_manner(wanted, memory=memory),
        excluded=frozenset(none.case.splitlines()) if none else None,
        reach=reach.read(built.reach),
        learn=learn,
        record=lambda result: state.append(built.journal, result),
        tell=progress.tell,
    )
    cores = _VMS_A_CORE * len(os.sched_getaffinity(0))
    _in_threads(run, min(args.vms or capacity(memory=memory, cores=cores), len(left)))


def _manner(faults: Sequence[Fault], *, memory: int) -> Manner:
    """Return how cases are run that are to see `faults`."""
    if not any(fault.seen_by for fault in faults):
        return Manner()
    return Manner(vm=("--memory", str(memory), *_RACING), pytest=("--race-seconds", str(_SECONDS_OF_A_RACE)))


def _find_by_campaign(kernel: Path, planted: Planted, args: argparse.Namespace, progress: Progress) -> int:
    wanted = [fault for fault in planted.faults if fault.name in args.names]
    found = [campaign.rediscover(kernel, fault, seconds=args.campaign) for fault in wanted]
    progress.tell("\n".join(map(str, found)))
    as_it_should_be = len(found) == len(args.names) and not any(one.complaint for one in found)
    return 0 if as_it_should_be else EXIT_SURVIVORS


def _plant(source: Path, work: Path, faults: Sequence[Fault], progress: Progress) -> Planted:
    if not source.exists():
        raise KernelError(
            f"{source} is missing: run './bootstrap tox -e kernel-faults', which installs linux-source-6.1, "
            "or name a tree by --source"
        )
    work.mkdir(parents=True, exist_ok=True)
    tree = source if source.is_dir() else trees.unpack(source, work, progress=progress)
    planted = trees.plant_tree(tree, work / trees.PLANTED, faults)
    for name, why in planted.refused.items():
        progress.tell(f"not planted: {name}: {why}")
    return planted


def _in_threads(run: Run, count: int) -> None:
    """Have `count` VMs work until all is done; end them after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threads = [threading.Thread(target=run.work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as interrupt:
        run.stop(interrupt)
        for thread in threads:
            thread.join()
    if run.failure is not None:
        raise run.failure


def _is_known(fault: Fault, results: dict[str, Result]) -> bool:
    return fault.name in results and results[fault.name].digest == fault.digest


def _judge(wanted: Sequence[Fault], results: dict[str, Result], refused: dict[str, str], progress: Progress) -> int:
    plain = [fault for fault in wanted if not fault.equivalent]
    missed = [fault.name for fault in plain if fault.name not in results or not results[fault.name].outcome.is_kill]
    progress.tell(f"noticed: {len(plain) - len(missed)} of {len(plain)}")
    if missed:
        progress.tell(f"not noticed, or only by a race: {', '.join(missed)}")
    if refused:
        progress.tell(f"not planted: {', '.join(refused)}")
    return EXIT_SURVIVORS if missed or refused else 0


if __name__ == "__main__":
    sys.exit(main())
