# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The programs that others read our reports with take them: kunit.py of the kernel, KCIDB's own library, tshark."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import kcidb_io
import pytest
from planted import AWKWARD, PLANTED, planted_run

from vm.report import kcidb, pcapng, results
from vm.report.ktap import ktap
from vm.report.outcomes import CaseOutcome, KernelOutcome
from vm.report.results import KernelResult

ROOT = Path(__file__).parents[2]

PARSE = """
import json, sys
import kunit_parser
test = kunit_parser.parse_run_tests(open(sys.argv[1], encoding="utf-8"))
def of(test): return [test.name, test.status.name, [of(each) for each in test.subtests]]
json.dump([vars(test.counts), of(test)], open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="session")
def kunit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of kunit.py, from the newest of the distribution's kernel sources."""
    sources = sorted(Path("/usr/src").glob("linux-source-*.tar.xz"))
    assert sources, "run ./bootstrap tox -e reports, which installs linux-source"
    directory = tmp_path_factory.mktemp("kunit")
    with tarfile.open(sources[-1]) as source:
        for member in source:
            name = member.name.rpartition("/tools/testing/kunit/")[2]
            if name in ("kunit_parser.py", "kunit_printer.py") and (file := source.extractfile(member)) is not None:
                (directory / name).write_bytes(file.read())
            if len(list(directory.iterdir())) == 2:
                break
    return directory


@pytest.mark.parametrize("planted", [PLANTED, AWKWARD], ids=["plain", "awkward"])
def test_kunit_takes_the_ktap(kunit: Path, tmp_path: Path, planted: str) -> None:
    run = planted_run(planted)
    run.kernels.append(KernelResult(name="7.2", outcome=KernelOutcome.INFRASTRUCTURE, reason="no mirror"))
    (tmp_path / "ktap").write_text(ktap(run), encoding="utf-8")
    words = [sys.executable, "-c", PARSE, str(tmp_path / "ktap"), str(tmp_path / "parsed")]
    subprocess.run(words, cwd=kunit, check=True, capture_output=True, env={"PYTHONPATH": str(kunit)})
    counts, (_, _, kernels) = json.loads((tmp_path / "parsed").read_text())
    assert counts == {"passed": 5, "failed": 2, "crashed": 0, "skipped": 3, "errors": 0}
    assert [(name, status) for name, status, _ in kernels] == [
        ("5.10", "SUCCESS"), ("6.1", "SUCCESS"), ("6.12", "FAILURE"), ("7.2", "FAILURE"),
    ]  # fmt: skip
    (connected, new) = kernels[2][2]
    assert connected[:2] == ["connected", "FAILURE"]
    assert [(name, status) for name, status, _ in connected[2]] == [("connected.peer-only", "FAILURE")]
    assert new[:2] == ["new", "SKIPPED"]


def test_kcidb_takes_the_report() -> None:
    run = planted_run(AWKWARD)
    first = run.kernels[0].cases[0]
    run.kernels[0].cases = [replace(first, id=f"{outcome}", outcome=outcome) for outcome in CaseOutcome]
    run.kernels.append(
        KernelResult(name="/a/tree with spaces", outcome=KernelOutcome.INFRASTRUCTURE, reason="no mirror\0")
    )
    kcidb_io.schema.V5_3.validate(kcidb.report(run))


@pytest.mark.parametrize("planted", [PLANTED, AWKWARD], ids=["plain", "awkward"])
def test_results_are_as_their_schema_says(planted: str) -> None:
    schema = json.loads((ROOT / "docs/results.schema.json").read_text())
    run = json.loads(results.to_json(planted_run(planted)))
    jsonschema.validate(run, schema)
    del run["kernels"][0]["cases"][0]["seconds"]
    with pytest.raises(jsonschema.ValidationError, match="'seconds' is a required property"):
        jsonschema.validate(run, schema)


def test_tshark_reads_the_frames(tmp_path: Path) -> None:
    frame = bytes.fromhex(
        "020000000001020000000002"
        + "0800"
        + "45000024000040004011b6a4c0000209c0000201"
        + "4e201b580010dead"
        + "0300000000000000"
    )
    frames = [
        {"at": 1700000000.25, "sent": True, "data": frame.hex(), "note": "", "layers": "", "fields": []},
        {
            "at": 1700000000.5,
            "sent": False,
            "data": frame.hex(),
            "note": "expected member 3",
            "layers": "",
            "fields": [],
        },
    ]
    path = tmp_path / "case.pcapng"
    path.write_bytes(pcapng.pcapng(frames, comment=f"{AWKWARD} on 6.1: assert 3 == 2"))
    fields = ["frame.time_epoch", "udp.srcport", "frame.comment"]
    words = ["tshark", "-r", str(path), "-T", "fields", *(f"-e{field}" for field in fields)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        ["1700000000.250000000", "20000", "1: to the server"],
        ["1700000000.500000000", "20000", "2: from the server: expected member 3"],
    ]  # fmt: skip
    assert not [line for line in done.stderr.splitlines() if "Running as user" not in line]
    info = subprocess.run(["capinfos", "-k", str(path)], capture_output=True, text=True, check=True).stdout
    assert AWKWARD in info
