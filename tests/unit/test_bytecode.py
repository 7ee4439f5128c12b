# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What one process has imported another imports from the one file that `vm.guest.bytecode` made of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vm.guest import bytecode

HOME = Path(__file__).parents[2]
USE = """
import sys
sys.path[:0] = {path!r}
from vm.guest.bytecode import install
install({file!r})
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the directory of a package with a module that fails where it is told to."""
    directory = tmp_path / "here" / "belongings"
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("from belongings.part import number\n")
    (directory / "part.py").write_text("number = 1\ndef fail():\n    raise ValueError('as told')\n")
    (directory / "note.txt").write_text("beside the modules")
    return directory


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python that sees nothing but the standard library."""
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def use(package: Path, tmp_path: Path) -> str:
    """Return the code with which a Python has the package come from the file that another wrote."""
    file, path = str(tmp_path / "bytecode"), [str(package.parent), str(HOME)]
    code = f"import sys; sys.path[:0] = {path!r}; import belongings, _bz2; from vm.guest import bytecode; "
    written = run(f"{code}bytecode.pytest_sessionfinish()", **{bytecode.FILE: file})
    assert written.returncode == 0, written.stderr
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("bytecode")] == ["bytecode"]
    return USE.format(file=file, path=path)


def test_modules_come_from_the_file(use: str, package: Path) -> None:
    (package / "part.py").write_text("number = 2\n")
    done = run(f"{use}import belongings; print(belongings.number, belongings.__path__, belongings.part.__file__)")
    assert done.stdout == f"1 {[str(package)]} {package / 'part.py'}\n", done.stderr


@pytest.mark.parametrize("left", [0, 1000, None], ids=["empty", "cut short", "gone"])
def test_incomplete_file_is_ignored(use: str, package: Path, tmp_path: Path, left: int | None) -> None:
    file = tmp_path / "bytecode"
    content = file.read_bytes()
    file.unlink()
    if left is not None:
        file.write_bytes(content[:left])
    (package / "part.py").write_text("number = 2\n")
    done = run(f"{use}import belongings; print(belongings.number)")
    assert done.stdout == "2\n", done.stderr


def test_module_that_is_not_in_the_file_is_imported_from_its_own(use: str, package: Path) -> None:
    (package / "late.py").write_text("number = 3\n")
    done = run(f"{use}import belongings.late; print(belongings.late.number)")
    assert done.stdout == "3\n", done.stderr


def test_traceback_shows_the_source(use: str) -> None:
    done = run(f"{use}import belongings.part; belongings.part.fail()")
    assert "raise ValueError('as told')" in done.stderr


def test_files_beside_a_module_are_found(use: str) -> None:
    code = "import importlib.resources as r, belongings; print((r.files(belongings) / 'note.txt').read_text())"
    done = run(use + code)
    assert done.stdout == "beside the modules\n", done.stderr


def test_extension_modules_load(use: str) -> None:
    done = run(f"{use}import _bz2; print(_bz2.BZ2Compressor.__name__)")
    assert done.stdout == "BZ2Compressor\n", done.stderr


def test_file_that_cannot_be_written_is_an_error(package: Path) -> None:
    path = [str(package.parent), str(HOME)]
    code = f"import sys; sys.path[:0] = {path!r}; import belongings; from vm.guest import bytecode; "
    done = run(f"{code}bytecode.pytest_sessionfinish()", **{bytecode.FILE: str(package / "nowhere" / "bytecode")})
    assert "No such file or directory" in done.stderr
