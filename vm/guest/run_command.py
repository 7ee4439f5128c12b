# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run a command in the guest for `vm.boot.session`: python -I -S run_command.py fed|terminal COMMAND [ARGUMENT…].

Standard input and output are the port to the host, which cannot signal the end of the input and is no terminal.

    fed        the command's input comes in portions: a length (4 bytes, big-endian), then the bytes; 0 is the end.
               Its output is a pipe, not the port, which opens once: to a command /dev/stdout would be EBUSY
    terminal   the command has a terminal, which is what the port carries

It imports few modules: each is read through 9p.
"""

import _thread
import os
import select
import signal
import sys

# Python ignores these signals, and the command would inherit that.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def _restore_signals() -> None:
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)


def _read(count: int) -> bytes:
    """Return `count` bytes from the port; EOFError when the host is gone."""
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _feed(writer: int) -> None:
    """Write the portions to the command until the last one, or until it no longer reads."""
    try:
        while size := int.from_bytes(_read(4), "big"):
            data = _read(size)
            while data:
                data = data[os.write(writer, data) :]
    except (OSError, EOFError):
        pass
    os.close(writer)


def _pass_on(output: int, ended: int) -> None:
    """Copy what the command prints to the port, until nobody can print or `ended` can be read and all is copied."""
    while output in select.select([output, ended], [], [])[0]:
        data = os.read(output, 65536)
        if not data:
            return
        while data:
            data = data[os.write(1, data) :]


def _run_fed(command: list[str]) -> int:
    input_reader, input_writer = os.pipe()
    output_reader, output_writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(input_reader, 0)
        os.dup2(output_writer, 1)
        os.dup2(output_writer, 2)
        _restore_signals()
        # Through a shell, which prints the usual error for a command that cannot be run.
        os.execv("/bin/sh", ["sh", "-c", 'exec "$@"', "sh", *command])
    os.close(input_reader)
    os.close(output_writer)
    _thread.start_new_thread(_feed, (input_writer,))
    # What the command leaves running may hold the pipe for ever.
    ended = os.pidfd_open(child)
    _pass_on(output_reader, ended)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run_in_terminal(command: list[str]) -> int:
    import pty  # noqa: PLC0415  # not for a command without one

    _restore_signals()
    return os.waitstatus_to_exitcode(pty.spawn(command))


if __name__ == "__main__":
    run = _run_fed if sys.argv[1] == "fed" else _run_in_terminal
    ended = run(sys.argv[2:])
    # At once: the thread may be waiting for input that never comes. 128 and the signal, as a shell has it.
    os._exit(ended if ended >= 0 else 128 - ended)
