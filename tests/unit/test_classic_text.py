# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Classic programs as text: what is read, and what is refused with the place that is wrong.

The expected numbers are those of Documentation/networking/filter.rst, of tcpdump(1), and of Envoy's own table.
"""

from __future__ import annotations

import pytest

from harness.loader.classic_assembler import ClassicTextError
from harness.loader.classic_text import read_classic

ARP = ((40, 0, 0, 12), (21, 0, 1, 2054), (6, 0, 0, 4294967295), (6, 0, 0, 0))


def test_bpf_asm_s_language_and_its_output_are_one_program() -> None:
    source = "ldh [12]\njne #0x806, drop\nret #-1\ndrop: ret #0\n"
    assert read_classic(source) == ARP
    assert read_classic("4,40 0 0 12,21 0 1 2054,6 0 0 4294967295,6 0 0 0,\n") == ARP


def test_tcpdump_s_numbers_are_read() -> None:
    """What tcpdump -ddd prints for the expression arp, with its default of 262144 bytes."""
    assert read_classic("4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n")[2] == (6, 0, 0, 262144)


def test_a_table_of_instructions_in_the_field_is_what_its_comments_say() -> None:
    """Envoy's table of 14 has a mnemonic beside each line."""
    source = """
              ld len
              jlt #0x9, packet_too_short
              ldb [0]
              and #0x80
              jne #0, ietf_long_header
              ld [1]
              ja return
    ietf_long_header: ld len
              jlt #0xe, packet_too_short
              ld [6]
              ja return
    packet_too_short: ld rxhash
    return:   mod #4   /* sockets */
              ret a    ; the place
    """
    assert read_classic(source) == (
        (0x80, 0, 0, 0), (0x35, 0, 9, 9), (0x30, 0, 0, 0), (0x54, 0, 0, 0x80), (0x15, 0, 2, 0), (0x20, 0, 0, 1),
        (0x05, 0, 0, 5), (0x80, 0, 0, 0), (0x35, 0, 2, 14), (0x20, 0, 0, 6), (0x05, 0, 0, 1), (0x20, 0, 0, 0xFFFFF020),
        (0x94, 0, 0, 4), (0x16, 0, 0, 0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("ld [x + 4]", (0x40, 0, 0, 4)), ("ldh [x]", (0x48, 0, 0, 0)), ("ld M[3]", (0x60, 0, 0, 3)),
        ("ldx 4*([14]&0xf)", (0xB1, 0, 0, 14)), ("ldxb 4*([14] & 0xf)", (0xB1, 0, 0, 14)), ("ldx #7", (0x01, 0, 0, 7)),
        ("stx M[15]", (0x03, 0, 0, 15)), ("tax", (0x07, 0, 0, 0)), ("txa", (0x87, 0, 0, 0)), ("neg", (0x84, 0, 0, 0)),
        ("add x", (0x0C, 0, 0, 0)), ("rsh #010", (0x74, 0, 0, 8)), ("xor %x", (0xAC, 0, 0, 0)),
        ("ld #cpu", (0x20, 0, 0, 0xFFFFF024)), ("ret x", (0x0E, 0, 0, 0)),
        ("jgt x, end", (0x2D, 0, 0, 0)), ("jset #1, end, end", (0x45, 0, 0, 1)), ("jle #5, end", (0x25, 0, 0, 5)),
    ],
)  # fmt: skip
def test_every_form_of_operand_is_assembled(line: str, numbers: tuple[int, ...]) -> None:
    """Codes by hand from linux/bpf_common.h."""
    assert read_classic(f"{line}\nend: ret #0\n")[0] == numbers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("; nothing but a comment\n", "there is no instruction in it"),
        ("3\n40 0 0 12\n6 0 0 0\n", "it states 3 instructions and has 2: is it truncated?"),
        ("2,40 0 0 12,", "it states 2 instructions and has 1: is it truncated?"),
        ("1\n6 0 0\n", "instruction 0 is '6 0 0', not four numbers"),
        ("1\n6 0 0 4294967296\n", "a number that its field cannot hold"),
        ("2\n21 0 1 2054\n6 0 0 0\n", "instruction 0 (0x15 0 1 0x806) jumps to 2, and the last one is 1"),
        ("2\n5 0 0 1\n6 0 0 0\n", "instruction 0 (0x05 0 0 0x1) jumps to 2, and the last one is 1"),
        ("1\n40 0 0 12\n", "the last instruction is no ret"),
        ("2\n255 0 0 0\n6 0 0 0\n", "instruction 0 (0xff 0 0 0x0): there is no such code"),
        ("2\n52 0 0 0\n6 0 0 0\n", "divides by zero"),
        ("2\n100 0 0 32\n6 0 0 0\n", "shifts by 32 bits"),
        ("2\n96 0 0 16\n6 0 0 0\n", "uses M[16], and the last one is M[15]"),
        ("ldh [12]\njne #1, nowhere\nret #0\n", "line 2: there is no label 'nowhere'"),
        ("back: ldh [12]\nja back\nret #0\n", "line 2: ja jumps back to back"),
        ("a: ld [0]\na: ret #0\n", "line 2: the label a is there twice"),
        ("load [12]\nret #0\n", "line 1: there is no instruction 'load'"),
        ("ld [12\nret #0\n", "line 1: ld takes no operand '[12'"),
        ("jne #1, a, a\na: ret #0\n", "line 1: jne takes one label"),
        ("jeq #1\nret #0\n", "line 1: jeq takes '#number, label'"),
        ("jeq #1, end\n" + "tax\n" * 256 + "end: ret #0\n", "jumps over 256 instructions, 255 at most"),
        ("tax\n" * 4096 + "ret #0\n", "it has 4097 instructions; the kernel takes 4096"),
    ],
)  # fmt: skip
def test_bad_text_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(ClassicTextError) as refused:
        read_classic(text)
    assert says in str(refused.value)
