# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model's side of the maps is that of the programs: the numbers of bpf/, and its structures byte by byte."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.model import abi
from harness.model.abi import Migration, Result

BPF = Path(__file__).parents[2] / "bpf"


@pytest.mark.parametrize(
    ("file", "defined", "named"),
    [
        ("table.h", "TABLE_SIZE", "TABLE_SIZE"),
        ("table.h", "NOBODY", "NOBODY"),
        ("rendezvous.h", "MOST_NODES", "MOST_NODES"),
        ("quic.h", "QUIC_CID_LENGTH", "CID_LENGTH"),
        ("migrate.bpf.c", "BY_HASH", "BY_HASH"),
        ("migrate.bpf.c", "REFUSE", "REFUSE"),
        ("load_bytes.bpf.c", "ABSOLUTE", "ABSOLUTE"),
    ],
)
def test_number_is_that_of_the_program(file: str, defined: str, named: str) -> None:
    # By name: mutants are made after the tests were collected, and their parameters with them.
    (number,) = re.findall(rf"^#define {defined} (\w+)", (BPF / file).read_text(), re.MULTILINE)
    assert int(number, 0) == getattr(abi, named)


def test_results_are_numbered_as_the_programs_number_them() -> None:
    (body,) = re.findall(r"enum result \{(.*?)\}", (BPF / "result.h").read_text(), re.DOTALL)
    *names, last = re.findall(r"\w+", body)
    assert last == "NR_RESULTS"
    assert [(result.name, result.value) for result in Result] == list(zip(names, range(len(names)), strict=True))


def words(*numbers: int) -> bytes:
    """Return 32-bit numbers as a program of this machine stores them."""
    return b"".join((number & 0xFFFFFFFF).to_bytes(4, sys.byteorder) for number in numbers)


def test_commands_are_two_words() -> None:
    assert abi.pack_command(1, pass_on_failure=True) == words(1, 1)
    assert abi.pack_indices(2, 3) == words(2, 3)
    assert abi.unpack_command(words(7, 1)) == (7, True)
    assert abi.unpack_indices(words(2, 3)) == (2, 3)


def test_record_of_a_migration_is_taken_apart() -> None:
    """`struct migration` of bpf/migrate.bpf.c: a cookie of 64 bits, words, the error with its sign, and padding."""
    record = (5).to_bytes(8, sys.byteorder) + words(12, 1, 40, 0x86DD, 20, -2, 99) + bytes(4)
    found = abi.unpack_migration(record)
    expected = {"listener": 5, "state": 12, "count": 1, "length": 40, "eth_protocol": 0x86DD, "linear": 20}
    assert found == Migration(**expected, error=-2)
    assert found.hash == 99, "which the kernel draws, and is not compared"
    assert Migration(**expected, error=-2).hash == 0


def test_question_and_answer_are_words_and_a_buffer() -> None:
    assert abi.pack_question(4, 8) == words(4, 8, 0xFFFFFFFF)
    assert abi.pack_question(4, 8, 1) == words(4, 8, 1)
    assert abi.pack_answer(-14, b"\1\2") == words(-14) + b"\1\2" + bytes(62)
    assert abi.unpack_answer(words(-14) + bytes(range(64))) == (-14, bytes(range(64)))
