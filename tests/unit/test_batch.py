# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Batches reach a real socket whole, and nothing is written beyond the buffers."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from harness.wire.batch import HELD, NUMBER, MessageBuffers, portions


def test_numbers_come_back_in_order() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(near), closing(far):
        buffers = MessageBuffers(NUMBER.size)
        buffers.send(near, [NUMBER.pack(number) for number in (7, 0xFFFFFFFF, 9)])
        assert buffers.receive_numbers(far) == (7, 0xFFFFFFFF, 9)
        assert buffers.receive_numbers(far) == ()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"123", b"12345"], "4 bytes each"),
        ([b"12345"] * 2, "4 bytes each"),
        ([b"1234"] * (HELD + 1), f"at most {HELD}"),
    ],
    ids=["unequal", "longer", "too-many"],
)
def test_frames_that_the_buffers_do_not_fit_are_refused(frames: list[bytes], words: str) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(near), closing(far), pytest.raises(ValueError, match=words):
        MessageBuffers(4).send(near, frames)


def test_numbers_are_read_from_buffers_of_their_size_only() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(near), closing(far), pytest.raises(ValueError, match="8 bytes"):
        MessageBuffers(8).receive_numbers(far)


def test_refusal_of_the_kernel_is_an_error() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(near):
        far.close()
        with pytest.raises(OSError, match="cannot send a batch"):
            MessageBuffers(4).send(near, [b"1234"])


def test_portions_are_of_one_size_but_for_the_last() -> None:
    assert [len(portion) for portion in portions([b""] * 5, 2)] == [2, 2, 1]
    assert list(portions([])) == []
