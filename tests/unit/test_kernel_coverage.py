# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""--kernel-coverage: what a kernel counted is reported by function, and one that counts nothing is refused at once.

The kernel is a program of the host, which gcc compiled with counters as it does a kernel's files; so is the VM
(fake_vm.py).
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fake_archive import image
from runs import FAKE_VM, ROOT, Run, run_pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kernel_coverage import __main__ as coverage_command
from kernel_coverage import reached
from kernel_coverage.heads import heads, without_comments
from kernel_coverage.reached import Reason, Reasons

from vm.__main__ import main
from vm.base.errors import MissingToolError, OptionError
from vm.boot.acceleration import SUBSTITUTE
from vm.commands.counting import Separator
from vm.controller.coverage import KernelCoverage
from vm.guest import counters
from vm.kernels import requirements
from vm.kernels.catalogue import Selection, load_catalogue
from vm.kernels.counted import compiler_of, counted_kernel, counted_kernels
from vm.kernels.flavours import COUNTED
from vm.kernels.flavours import variables as variables_of
from vm.report import gcovr
from vm.report.gcovr import Counted, CoverageError
from vm.report.kernel_lines import Function, Share, by_file, by_function, ranges, report, spans, summary, total

if TYPE_CHECKING:
    from collections.abc import Callable

needs_gcc = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("gcov")), reason="compiles with counters: run ./bootstrap"
)

FILE = "net/core/sock_reuseport.c"

SOURCE = """\
// SPDX-License-Identifier: GPL-2.0

struct outer {
	int (*call)(int value);
};

static int keep(int value)
{
	if (value > 3)
		return value + 1;
	return 0;
}

static const struct outer table = {
	.call	= keep,
};

int __never_called(int value,
	int other);
int
__never_called(int value, int other)
{
	return value ? other : 2;
}

#define DOUBLED(value) \\
	((value) * 2)

int main(int argc, char **argv)
{
	int at, sum = 0;

	for (at = 0; at < argc; at++)
		sum += table.call(at);
	return sum;
}
"""
LINES_OF_MAIN = range(30, 37)
LINE_OF_THE_SUM = 10


@dataclass(frozen=True)
class Kernel:
    """A directory that looks as if a kernel was built in it, and the program that has its counters."""

    objects: Path
    source: Path
    program: Path

    def run(self, *arguments: str) -> dict[str, bytes]:
        """Run the program; return the counts as the guest hands them over, by the places of the objects."""
        data = (self.objects / FILE).with_suffix(".gcda")
        data.unlink(missing_ok=True)
        subprocess.run([self.program, *arguments], check=False)
        return {str(data).lstrip("/"): data.read_bytes()}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    built = Kernel(objects=tmp_path / "out", source=tmp_path / "linux", program=tmp_path / "out/program")
    for directory in (built.source / "net/core", built.objects / "net/core", built.objects / "arch/x86/boot"):
        directory.mkdir(parents=True)
    (built.source / FILE).write_text(SOURCE)
    (built.objects / "source").symlink_to(built.source)
    needed = "".join(f"{option.name}=y\n" for option in requirements.wanted_options())
    (built.objects / ".config").write_text(f"{needed}CONFIG_GCOV_KERNEL=y\n")
    (built.objects / "arch/x86/boot/bzImage").write_bytes(image("6.1.0-gcov"))
    flags = ["-O1", "-fprofile-arcs", "-ftest-coverage"]
    target = (built.objects / FILE).with_suffix(".o")
    subprocess.run(["gcc", *flags, "-c", built.source / FILE, "-o", target], cwd=built.objects, check=True)
    subprocess.run(["gcc", "--coverage", target, "-o", built.program], cwd=built.objects, check=True)
    return built


def reported(kernel: Kernel) -> Counted:
    found = counted_kernel(kernel.objects)
    return Counted(objects=found.objects, source=found.source, gcov=found.gcov, functions=COUNTED)


def test_functions_of_the_kernels_style_are_found_in_a_file() -> None:
    assert [(span.name, span.first, span.last) for span in spans(SOURCE)] == [
        ("keep", 7, 12),
        ("__never_called", 21, 24),
        ("main", 29, 36),
    ]
    helper = "BPF_CALL_4(sk_select_reuseport, struct sk_reuseport_kern *, kern,\n\t   u32, flags)\n{\n\treturn 0;\n}\n"
    assert [(span.name, span.first, span.last) for span in spans(helper)] == [("sk_select_reuseport", 1, 5)]


def test_lines_and_branches_are_counted_by_function() -> None:
    def line(number: int, count: int, *branches: int, function: str = "f") -> dict[str, Any]:
        found = [{"branchno": at, "count": ran} for at, ran in enumerate(branches)]
        return {"line_number": number, "function_name": function, "count": count, "branches": found}

    coverage = {
        "files": [
            {
                "file": "a.c",
                # Line 3 stands in two callers, and ran in the second.
                "lines": [line(2, 0), line(3, 0, 0, 0, function="f"), line(3, 4, 4, 0, function="g"), line(7, 1)],
            }
        ]
    }
    texts = {"a.c": "int f(void)\n{\n\tx;\n}\nint g(void)\n{\n\ty;\n}\n", "b.c": "int h(void)\n{\n}\n"}
    f, g = by_function(coverage, texts, {"a.c": "", "b.c": ""})
    assert (f.name, f.lines, f.branches) == ("f", Share(hit=1, of=2), Share(hit=1, of=4))
    assert (f.missed, f.half) == ((2,), (3,))
    assert (g.name, g.lines, g.branches) == ("g", Share(hit=1, of=1), Share(hit=0, of=0))
    assert by_file([f, g]) == {"a.c": (Share(hit=2, of=3), Share(hit=1, of=4))}
    assert total([f, g]) == (Share(hit=2, of=3), Share(hit=1, of=4))
    assert [one.name for one in by_function(coverage, texts, {"a.c": "^g", "b.c": ""})] == ["g"]
    assert "not reached: 2  in part: 3" in report([f, g])
    assert re.search(r"^together +lines +66\.7% of 3 +branches +25\.0% of 4$", summary([f, g])[-1])


def test_numbers_of_lines_are_said_in_short() -> None:
    assert ranges((3, 7, 8, 9, 12)) == "3, 7-9, 12"


def test_the_compiler_is_read_from_the_notes() -> None:
    assert compiler_of(b"oncg*22B") == 12
    assert compiler_of(b"oncg*39A") == 9
    assert compiler_of(b"oncg*41B") == 11
    assert compiler_of(b"gcno*22B") is None
    assert compiler_of(b"oncg") is None


def test_every_counted_file_is_built_with_counters() -> None:
    made = set(variables_of(["gcov"]))
    assert {f"GCOV_PROFILE_{Path(file).stem}.o=y" for file in COUNTED} == made
    assert variables_of(["kasan"]) == []


def test_a_kernel_of_the_archive_counts_nothing() -> None:
    selection = Selection(name="6.1", source=load_catalogue().series["6.1"])
    with pytest.raises(OptionError, match=r"^--kernel-coverage: 6\.1 does not count .*--flavour gcov"):
        counted_kernels([selection])


@needs_gcc
def test_a_kernel_that_counts_is_found_with_all_that_reads_its_counts(kernel: Kernel) -> None:
    found = counted_kernels([Selection(name="out", source=kernel.objects)])["out"]
    assert (found.objects, found.source) == (kernel.objects, kernel.source)
    assert found.gcov.name.startswith("gcov")
    with pytest.raises(OptionError, match="debugfs=off"):
        counted_kernels([Selection(name="out", source=kernel.objects)], parameters="quiet debugfs=off")


def spoil_the_configuration(kernel: Kernel) -> None:
    (kernel.objects / ".config").write_text("CONFIG_64BIT=y\n# CONFIG_GCOV_KERNEL is not set\n")


def remove_the_sources(kernel: Kernel) -> None:
    shutil.rmtree(kernel.source)


def remove_the_notes(kernel: Kernel) -> None:
    (kernel.objects / FILE).with_suffix(".gcno").unlink()


def have_another_compiler(kernel: Kernel) -> None:
    notes = (kernel.objects / FILE).with_suffix(".gcno")
    content = notes.read_bytes()
    notes.write_bytes(content[:4] + b"*29F" + content[8:])


def have_clang(kernel: Kernel) -> None:
    with (kernel.objects / ".config").open("a") as config:
        config.write("CONFIG_CC_IS_CLANG=y\n")


def leave_the_image(kernel: Kernel) -> None:
    (kernel.objects / ".config").unlink()


@needs_gcc
@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (spoil_the_configuration, OptionError, r"does not count its lines: build one with .*--flavour gcov"),
        (remove_the_sources, OptionError, r"the sources .* are gone: there is no .*linux/net/core/sock_reuseport\.c"),
        (remove_the_notes, OptionError, r"is gone: there is no .*out/net/core/sock_reuseport\.gcno"),
        (
            have_another_compiler,
            MissingToolError,
            r"was built by GCC 59, whose gcov is not installed \(.*gcov is \d+\)",
        ),
        (have_clang, OptionError, r"was built by clang"),
        (leave_the_image, OptionError, r"is no directory that a kernel was built in"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else "",
)
def test_what_cannot_be_used_is_named(
    kernel: Kernel, spoil: Callable[[Kernel], None], error: type[Exception], says: str
) -> None:
    spoil(kernel)
    with pytest.raises(error, match=says):
        counted_kernel(kernel.objects)


@needs_gcc
def test_counts_of_several_vms_are_added(kernel: Kernel, tmp_path: Path) -> None:
    directory = tmp_path / "results/out"
    gcovr.keep(kernel.run(), directory, COUNTED)
    functions = {one.name: one for one in gcovr.make_reports(directory, reported(kernel))}
    assert LINE_OF_THE_SUM in functions["keep"].missed
    assert functions["__never_called"].lines.hit == 0
    assert set(functions["main"].missed).isdisjoint(LINES_OF_MAIN)
    gcovr.keep(kernel.run(*"abcd"), directory, COUNTED)
    functions = {one.name: one for one in gcovr.make_reports(directory, reported(kernel))}
    assert functions["keep"].missed == ()
    assert "__never_called" in (directory / gcovr.TEXT).read_text()
    assert "sock_reuseport.c" in (directory / gcovr.PAGE).read_text()


@needs_gcc
def test_the_page_takes_runs_together_that_have_one_name(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, arguments in (("a", ""), ("b", "abcd")):
        gcovr.keep(kernel.run(*arguments), tmp_path / name, COUNTED)
    for file in COUNTED:  # sources that no counts are of
        if file != FILE:
            (kernel.source / file).parent.mkdir(parents=True, exist_ok=True)
            (kernel.source / file).touch()
            (kernel.objects / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile((kernel.objects / FILE).with_suffix(".gcno"), (kernel.objects / file).with_suffix(".gcno"))
    for name in ("RESULTS", "PAGE"):
        monkeypatch.setattr(coverage_command, name, tmp_path / name)
    runs = [f"cases={tmp_path / 'a'},{tmp_path / 'b'}", f"others={tmp_path / 'a'}"]
    assert coverage_command.main([str(kernel.objects), *runs]) == coverage_command.EXIT_UNEXPLAINED
    found = reached.from_json((tmp_path / "RESULTS").read_text())
    assert {one.function for one in found.missed} == {"__never_called"}
    hit, of, *_ = found.runs["cases"][f"{FILE} keep"]
    assert hit == of > found.runs["others"][f"{FILE} keep"][0]
    assert found.release == "6.1.0-gcov"


@needs_gcc
def test_notes_of_another_build_are_said_to_be_others(kernel: Kernel, tmp_path: Path) -> None:
    gcovr.keep(kernel.run(), tmp_path / "out-results", COUNTED)
    found = reported(kernel)
    moved = Counted(objects=found.objects, source=tmp_path / "moved", gcov=found.gcov, functions={FILE: ""})
    shutil.copytree(kernel.source, moved.source)
    with pytest.raises(CoverageError, match="gcovr found no line"):
        gcovr.make_reports(tmp_path / "out-results", moved)


def test_counts_that_cannot_be_written_end_a_run_with_a_failure(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k/gcov").write_text("a file in the place of the directory")
    state = SimpleNamespace(lost=1)
    run: Any = SimpleNamespace(
        directory=tmp_path, plan=SimpleNamespace(counted={"k": None}), kernels={"k": state}, recorder=None
    )
    plugin = KernelCoverage(run)
    spec = SimpleNamespace(env={"REUSEPORT_KERNEL": "k", "REUSEPORT_VM": "1"})
    node = SimpleNamespace(
        gateway=SimpleNamespace(spec=spec), workeroutput={counters.COUNTS: {f"b/{FILE[:-2]}.gcda": b"x"}}
    )
    plugin.pytest_testnodedown(node)
    session: Any = SimpleNamespace(exitstatus=0)
    plugin.report(session)
    said: list[str] = []
    plugin.sum_up(SimpleNamespace(write_line=said.append))
    assert session.exitstatus == 13
    assert any("results cannot be written" in line for line in said)
    assert any("VMs that were lost" in line for line in said)
    assert any("there are no counts of k" in line for line in said)


CASES = """
from pathlib import Path
from vm.guest import counters
counters.ROOT = Path({root!r})

def test_passes(): pass
"""


def run_in_vm(directory: Path, kernel: Kernel, source: str) -> Run:
    directory.mkdir()
    arguments = [f"--kernel={kernel.objects}", "--kernel-coverage"]
    return run_pytest(directory, arguments, source=source, variables={SUBSTITUTE: FAKE_VM})


@needs_gcc
def test_a_run_reports_what_the_guest_counted(kernel: Kernel, tmp_path: Path) -> None:
    served = tmp_path / "debugfs"
    for name, content in kernel.run(*"abcd").items():
        (served / name).parent.mkdir(parents=True)
        (served / name).write_bytes(content)
    done = run_in_vm(tmp_path / "run", kernel, CASES.format(root=str(served)))
    assert done.status == 0, done.output
    assert "lines of out that ran:" in done.output
    assert re.search(r"net/core/sock_reuseport\.c +lines +\d+\.\d% of \d+", done.output)
    assert "__never_called" in (done.directory / "out" / gcovr.TEXT).read_text()


@needs_gcc
def test_a_guest_without_counts_fails_the_run(kernel: Kernel, tmp_path: Path) -> None:
    done = run_in_vm(tmp_path / "run", kernel, CASES.format(root=str(tmp_path / "nowhere")))
    assert done.status == 13, done.output
    assert "has no counts: is debugfs mounted?" in done.output


@needs_gcc
def test_a_kernel_that_counts_nothing_is_refused_before_any_case(kernel: Kernel, tmp_path: Path) -> None:
    spoil_the_configuration(kernel)
    done = run_in_vm(tmp_path / "run", kernel, "def test_passes(): pass\n")
    assert done.status == pytest.ExitCode.USAGE_ERROR
    assert "does not count its lines" in done.output
    assert "passed" not in done.output


def test_the_counts_behind_a_commands_output_are_kept_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x.gcda").write_bytes(b"\x00counts")
    monkeypatch.setattr(counters, "ROOT", tmp_path)
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from pathlib import Path\nfrom vm.guest import counters\ncounters.ROOT = Path({str(tmp_path)!r})\n"
        "sys.exit(counters.main(['sh', '-c', 'echo one; printf two; exit 3']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 3
    for size in (1, 7, 4096):
        output = io.BytesIO()
        separator = Separator(output)
        for start in range(0, len(done.stdout), size):
            separator.write(done.stdout[start : start + size])
        assert separator.counts() == ({"d/x.gcda": b"\x00counts"}, "")
        assert output.getvalue() == b"one\ntwo"
    separator = Separator(output := io.BytesIO())
    separator.write(b"the end is missing\nreuse")
    assert separator.counts() == ({}, "the command, or the VM, ended before they were read")
    assert output.getvalue() == b"the end is missing\nreuse"


@needs_gcc
def test_a_command_whose_kernel_hands_over_no_counts_fails(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What stands in for the guest is this machine, whose kernel counts nothing."""
    if counters.ROOT.exists():
        pytest.skip(f"this machine's kernel has {counters.ROOT}")
    monkeypatch.setenv(SUBSTITUTE, FAKE_VM)
    where = ["--kernel-coverage", str(tmp_path / "counted"), str(kernel.objects)]
    assert main(["run", *where, "--", "echo", "the command's"]) == 13
    output, complaints = capfdbinary.readouterr()
    assert output.strip() == b"the command's"
    assert b"there are no counts: /sys/kernel/debug/gcov has no counts" in complaints
    assert main(["run", *where, "--", "sh", "-c", "exit 3"]) == 3, "the command's own failure comes first"
    assert main(["run", *where[:2], "6.1", "--", "true"]) == 4
    assert b"6.1 does not count its lines" in capfdbinary.readouterr().err


# ---- docs/kernel-coverage.md ----


BRANCHES = """\
int first(int value,
\t  int other)
{
\tif (value) {
\t\t/* (not a head: */
\t\tif (value > 1 &&
\t\t    other)
\t\t\tgoto out;\t/* early */
\t} else if (other) {
\t\tcall(value,
\t\t     other);
\t}
#ifdef OPTION
\tswitch (other) {
\tcase 1: {
\t\tif (value) {
\t\t\tvalue = 2;
\t\t}
\t}
\t\tfallthrough;
\tcase 2:
\t\tbreak;
\t}
#endif
\treturn value;

out:
\tother = 0;
\treturn other;
}
"""


def test_a_line_is_named_by_the_branches_that_it_is_in() -> None:
    lines = without_comments(BRANCHES)
    found = {" ".join(line.split()): heads(lines, number) for number, line in enumerate(lines, 1)}
    assert len(lines) == len(BRANCHES.splitlines())
    assert found["goto out;"] == ("if (value > 1 && other)", "if (value) {")
    assert found["call(value,"] == ("} else if (other) {",)
    assert found["other);"] == ("call(value, other);", "} else if (other) {")
    assert found["value = 2;"] == ("if (value) {", "case 1: {")
    assert found["fallthrough;"] == ("case 1: {",)
    assert found["break;"] == ("case 2:",)
    assert found["return value;"] == ()
    assert found["return other;"] == ("out:",)
    assert found["out:"] == ()


def test_a_reason_is_one_for_the_lines_of_its_branch() -> None:
    def missed(*below: str) -> reached.Missed:
        return reached.Missed(file=FILE, function="first", line=8, text="goto out;", below=below)

    def reason(**where: str) -> Reason:
        return Reason(**{"file": FILE, "function": "first", "reason": "a race", **where})

    line = missed("if (value > 1 && other)", "if (value) {")
    assert reason(below="if (value > 1 && other)").covers(line)
    assert reason(below="if (value) {").covers(line), "branches in a branch are part of it"
    assert reason(below="if (*) {", text="goto *;").covers(line)
    assert reason(file="net/*.c", function="f*").covers(line)
    assert not reason(below="if (value) {").covers(missed("out:"))
    assert not reason(below="if (value) {", text="return *").covers(line)
    assert not reason(function="second").covers(line)


def counted_function(name: str, lines: Share, *missed: int, half: tuple[int, ...] = ()) -> Function:
    return Function(file=FILE, name=name, lines=lines, branches=Share(hit=1, of=2), missed=missed, half=half)


def test_gaps_of_the_first_run_need_a_reason() -> None:
    runs = {
        "cases": [
            counted_function("keep", Share(hit=3, of=5), 8, 10),
            counted_function("main", Share(hit=2, of=2), half=(33, 34)),
        ],
        "selftests": [
            counted_function("keep", Share(hit=2, of=5), 8, 9, 10),
            counted_function("main", Share(hit=1, of=2), 32),
        ],
        "campaigns": [counted_function("keep", Share(hit=5, of=5)), counted_function("main", Share(hit=0, of=2))],
    }
    found = reached.gather("6.1.0", runs, {FILE: SOURCE})
    assert [(one.function, one.line) for one in found.missed] == [("keep", 8), ("keep", 10)]
    assert [one.text for one in found.missed] == [line.strip() for line in SOURCE.splitlines()[7:10:2]]
    assert found.missed[1].below == ("if (value > 3)",)
    assert [(one.function, one.line) for one in found.half] == [("main", 33), ("main", 34)]
    read = reached.from_json(reached.to_json(found))
    assert (read.missed, read.half) == (found.missed, found.half)
    known = Reasons(
        lines=[Reason(file=FILE, function="keep", below="if (value > 3)", reason="no memory is left")],
        branches=[Reason(file=FILE, function="main", text="sum += *", reason="a macro's")],
    )
    page = reached.page(found, known)
    assert "| `net/core/sock_reuseport.c` | 71.4% of 7 | 50.0% of 4 | 42.9% of 7 | 50.0% of 4 | 71.4% of 7 |" in page
    assert "| `keep` | 60.0% of 5 | 50.0% of 2 | 40.0% of 5 | 50.0% of 2 | 100.0% of 5 | 50.0% of 2 |" in page
    assert "| 10 | no memory is left |" in page
    assert "| 8 | none yet: a case is missing |" in page
    assert "| 34 | a macro's |" in page
    assert "| 33 | none yet: a case is missing |" in page
    assert page.count("2 lines; 1 of them for no reason") == 2
    assert [one.line for one in reached.unexplained(found, known)] == [8, 33]


def test_a_reason_for_nothing_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: tmp_path / name for name in ("RESULTS", "REASONS", "PAGE")}
    for name, path in names.items():
        monkeypatch.setattr(coverage_command, name, path)
    found = reached.gather("6.1.0", {"cases": [counted_function("keep", Share(hit=4, of=5), 10)]}, {FILE: SOURCE})
    names["RESULTS"].write_text(reached.to_json(found))
    entry = f'file = "{FILE}"\nfunction = "keep"\nreason = "no memory"\n'
    needed = f"[[unreached]]\n{entry}below = 'if (value > 3)'\n"
    names["REASONS"].write_text(needed)
    assert coverage_command.main([]) == 0
    assert capsys.readouterr().err == ""
    for stale in (f"[[unreached]]\n{entry}text = 'goto gone;'\n", f"[[branches]]\n{entry}text = 'goto gone;'\n"):
        names["REASONS"].write_text(needed + stale)
        assert coverage_command.main([]) == coverage_command.EXIT_UNEXPLAINED
        assert f"{FILE}, keep: goto gone;: a reason for nothing" in capsys.readouterr().err


def test_the_page_is_what_was_counted() -> None:
    found = reached.from_json(coverage_command.RESULTS.read_text())
    known = reached.reasons(coverage_command.REASONS.read_text())
    assert coverage_command.PAGE.read_text() == reached.page(found, known)
    assert reached.unused(found, known) == []
