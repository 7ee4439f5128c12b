# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tox -e mutants`: mutate the programs and the model, and demand that a case notices each mutant (needs root)."""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.interface.atomic import write_text
from harness.kernel.preflight import missing_requirement
from harness.loader.compiler import CompileError, compile_variants
from harness.model.variants import VARIANTS
from vm.base.children import end_with_tox
from vm.base.paths import cache_root
from vm.base.progress import progress_on
from vm.kernels.store import translate_oserror

from . import reach, report, scope, state
from .running import Run, RunError, Shared, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vm.base.progress import Progress

    from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.jsonl")
PAGE = ROOT / "docs/mutants.md"

EXIT_SURVIVORS, EXIT_USAGE, EXIT_INTERRUPTED = 1, 4, 130

# pyroute2 is imported before pytest starts, and what is imported after it meets the finder that it leaves behind.
_WARNINGS = ("-W", "ignore:PluginImportFixer:ImportWarning")
_ARGUMENTS = (
    *_WARNINGS,
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "tests.mutants.inside",
    "--witness",
    "none",
    "--tb",
    "short",
)
_FOR_PROGRAMS_OF_USERS = {"cases/test_own_program.py"}
_SECONDS_OF_A_FILE = 900.0

_DESCRIPTION = """\
Mutate the programs of bpf/ and the model, and run for each mutant the cases that come to the mutated line, on the
running kernel, until one fails. Writes docs/mutants.md. Exit status: 0; 1 if a mutant was not noticed, and does not
stand in tests/mutants/scope.toml with the reason why it cannot be; 4 for something that cannot be used; 130 after
Ctrl-C, and --resume then goes on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    args = _parser().parse_args(arguments)
    try:
        with progress_on(sys.stderr) as progress:
            return _run(args, progress)
    except (scope.ScopeError, RunError, CompileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted; --resume goes on with the mutants that are left", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tox -e mutants --", description=_DESCRIPTION)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="the mutants to try: FILE, DIRECTORY, FILE:LINE, or the number that --list prints first (default: all)",
    )
    parser.add_argument("--list", action="store_true", help="print the mutants and end")
    parser.add_argument("--resume", action="store_true", help="leave out what the last run came to know")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="mutants at once (default: %(default)s)")
    return parser


def _run(args: argparse.Namespace, progress: Progress) -> int:
    known = scope.load(ROOT)
    mutants = scope.generate(ROOT, known.files)
    wanted = [mutant for mutant in scope.choose(mutants, args.names) if not known.reason(mutant)]
    if args.list:
        for mutant in wanted:
            print(f"{mutant.digest} {mutant.name:45} {mutant.edit.operator:18} {mutant.change}")
        return 0
    if reason := missing_requirement():
        raise RunError(reason)
    work = cache_root() / "mutants"
    with translate_oserror(work):
        work.mkdir(parents=True, exist_ok=True)
        journal = work / "journal.jsonl"
        there = {mutant.digest for mutant in mutants}
        asked = {mutant.digest for mutant in wanted}
        kept = {name: one for name, one in state.read(journal).items() if name in there}
        if not args.resume:
            kept = {name: one for name, one in kept.items() if name not in asked}
        state.write(journal, kept.values())
        left = [mutant for mutant in wanted if mutant.digest not in kept]
        progress.tell(f"{len(left)} mutants to try of {len(wanted)}")
        try:
            if left:
                _try_all(left, known, work, args.workers, progress)
        finally:
            results = {name: one for name, one in (state.read(RESULTS) | state.read(journal)).items() if name in there}
            state.write(RESULTS, results.values())
            write_text(PAGE, report.page(mutants, results, known.reason))
    return _judge(wanted, results, progress)


def _try_all(left: Sequence[Mutant], known: scope.Scope, work: Path, count: int, progress: Progress) -> None:
    objects = {name: str(path) for name, path in compile_variants().items()}
    cases = (str(path.relative_to(ROOT)) for path in sorted((ROOT / "cases").glob("test_*.py")))
    files = (*(name for name in cases if name not in _FOR_PROGRAMS_OF_USERS), *known.tests)
    shared = Shared(root=ROOT, work=work, arguments=_ARGUMENTS, files=files, objects=objects)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_tox()
    workers = [Worker(shared, str(number)) for number in range(count)]
    try:
        learnt = _learn(workers, shared, progress)
        run = Run(
            shared,
            left,
            learnt,
            before=state.read(RESULTS),
            record=lambda result: state.append(work / "journal.jsonl", result),
            tell=progress.tell,
        )
        threads = [threading.Thread(target=run.work, args=(worker,), daemon=True) for worker in workers]
        _in_threads(threads, shared)
    finally:
        for worker in workers:
            worker.close()


def _in_threads(threads: Sequence[threading.Thread], shared: Shared) -> None:
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as interrupt:
        shared.failure = interrupt
        raise
    if shared.failure is not None:
        raise shared.failure


def _learn(workers: Sequence[Worker], shared: Shared, progress: Progress) -> reach.Reach:
    """Return which cases come to which lines; a file of cases that was run on the same model is not run again."""
    files = shared.files
    below = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "harness/model").rglob("*.py"))))
    kept = {file: shared.work / f"reach-{file.replace('/', '-')}.json" for file in files}
    stamps = {file: _stamp(below.copy(), ROOT / file) for file in files}
    missing = [file for file in files if _read(kept[file]).get("stamp") != stamps[file]]
    if missing:
        progress.tell(f"running {len(missing)} files of cases with no mutant, to see which lines they come to")

    def learn(worker: Worker) -> None:
        while missing and shared.failure is None:
            with shared.lock:
                if not missing:
                    return
                file = missing.pop(0)
            try:
                answer = worker.learn(file, seconds=_SECONDS_OF_A_FILE)
                if not answer["said"]:
                    raise RunError(f"{file} cannot be run:\n{worker.log.read_text(errors='replace')[-2000:]}")
            except BaseException as error:
                shared.failure = shared.failure or error
                return
            said = answer["said"]
            bad = [name for name, case in said["cases"].items() if case["outcome"] == "failed"]
            write_text(kept[file], json.dumps({**said, "stamp": stamps[file]}))
            told = f", of which these fail and are left out: {', '.join(bad)}" if bad else ""
            progress.tell(f"{file}: {len(said['cases'])} cases, {answer['seconds']:.0f} s{told}")

    _in_threads([threading.Thread(target=learn, args=(worker,), daemon=True) for worker in workers], shared)
    variants = {variant.name: variant.file for variant in VARIANTS.values() if variant.file is not None}
    texts = {path.name: path.read_text() for path in (ROOT / "bpf").iterdir()}
    model = {
        str(path.relative_to(ROOT)): path.read_text().splitlines() for path in (ROOT / "harness/model").rglob("*.py")
    }
    return reach.from_answers((_read(kept[file]) for file in files), reach.sources_of(variants, texts), model)


def _stamp(below: Any, file: Path) -> str:
    below.update(file.read_bytes())
    return str(below.hexdigest())


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def _judge(wanted: Sequence[Mutant], results: dict[str, state.Result], progress: Progress) -> int:
    real = [mutant for mutant in wanted if mutant.digest not in results or results[mutant.digest].outcome.is_mutant]
    missed = [one for one in real if one.digest not in results or not results[one.digest].outcome.is_kill]
    progress.tell(f"noticed: {len(real) - len(missed)} of {len(real)}")
    for mutant in missed:
        progress.tell(f"not noticed: {mutant.name}: {mutant.change}")
    return EXIT_SURVIVORS if missed else 0


if __name__ == "__main__":
    sys.exit(main())
