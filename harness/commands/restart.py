# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness restart`: carry a rolling restart out on this kernel, and say what became of every client."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.restart_tables import clients_table, remarks, renumberings, summary_table
from harness.group.restart import known_payload, template
from harness.group.steering import MOST_MEMBERS, steering
from harness.kernel.preflight import missing_requirement
from harness.loader.bindings import BpfError
from harness.loader.compiler import CompileError, compile_program
from harness.loader.object_file import ObjectFileError
from harness.loader.own_object import demand_source, read_own
from harness.loader.program_options import OptionError, read_options
from harness.loader.verifier_log import cut_log
from harness.model.layout import Family, Protocol
from harness.model.restart import Leaving, Plan, Reattach, Strategy, tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.group.steering import Steering
    from harness.loader.program_options import ProgramOptions
    from harness.model.restart import Record

NAME = "restart"
HELP = "carry out a rolling restart, and say which client's packets reached which generation"
DESCRIPTION = """\
Carry out a rolling restart on this kernel, in network namespaces of its own (needs root): generation A of a server
runs, generation B joins its reuseport group, A's members leave one by one, and all clients send at each step. Four
strategies are compared: the kernel's hash; a filter that returns a place in the group; a sockarray with a slot for
each member; the hash with A's sockets handed over to B. With --program the fifth is yours: member N is put into slot N
of its maps, and a known client's packets carry N where --known says. A packet is 'kept' where the member has it that
had the client's first, 'astray' where another has it though that one is there, 'orphaned' where that one has left, and
'nobody' where it reached no socket. Exit status: 0; 1 when packets went astray or reached nobody under --program, or
the kernel refuses it; 2 for a mistake in the command line or in the program's file; 69 where this machine cannot run
it, with the reason."""

_USAGE, _UNAVAILABLE = 2, 69  # EX_UNAVAILABLE (sysexits.h)
_MOST_CLIENTS = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the plan, and the program."""
    built_in = [strategy.value for strategy in Strategy if strategy is not Strategy.PROGRAM]
    parser.add_argument("--strategy", action="append", choices=built_in, help="one of the four alone; may be repeated")
    parser.add_argument("--old", type=_members, default=4, metavar="N", help="members of A (default: %(default)s)")
    parser.add_argument("--new", type=_members, default=4, metavar="N", help="members of B (default: %(default)s)")
    parser.add_argument(
        "--clients",
        type=_clients,
        default=16,
        metavar="N",
        help="clients that begin before B joins; as many begin after it (default: %(default)s)",
    )
    parser.add_argument("--protocol", type=Protocol, choices=Protocol, default=Protocol.UDP)
    parser.add_argument("--family", type=Family, choices=Family, default=Family.IPV4)
    parser.add_argument(
        "--reattach",
        type=Reattach,
        choices=Reattach,
        default=Reattach.BEFORE,
        help="when B attaches the program again: before B's members join, between them, after, or never",
    )
    parser.add_argument(
        "--leaving",
        type=Leaving,
        choices=Leaving,
        default=Leaving.CLOSE,
        help="how A's members leave; shutdown is for TCP",
    )
    parser.add_argument("--migrate", action="store_true", help="TCP: net.ipv4.tcp_migrate_req is on")
    parser.add_argument("--program", type=Path, metavar="FILE", help="your program, as pytest's --program takes it")
    parser.add_argument(
        "--program-option", action="append", default=[], metavar="KEY=VALUE", help="what it needs besides"
    )
    parser.add_argument(
        "--known",
        metavar="HEX",
        help="the payload of a client that a member knows, with a row of S where the member's number stands, highest "
        "digit first (default: 40SS and 14 bytes); a new client's begins with c0",
    )
    parser.add_argument("--each", action="store_true", help="print a line for each client, too")


def run(arguments: argparse.Namespace) -> int:
    """Carry the restarts out and print what became of them."""
    plan = Plan(
        strategy=Strategy.HASH,
        old=arguments.old,
        new=arguments.new,
        clients=arguments.clients,
        protocol=arguments.protocol,
        family=arguments.family,
        reattach=arguments.reattach,
        leaving=arguments.leaving,
        migrate=arguments.migrate,
    )
    try:
        _demand_consistent(arguments)
        options = read_options(arguments.program_option)
        known = template(arguments.known) if arguments.known else known_payload
        file = _compiled(arguments.program, options) if arguments.program else None
    except (ValueError, OptionError, ObjectFileError, CompileError) as error:
        print(f"restart: {error}", file=sys.stderr)
        return _USAGE
    if reason := missing_requirement():
        print(f"cannot restart anything: {reason}", file=sys.stderr)
        return _UNAVAILABLE
    strategies = [Strategy(name) for name in arguments.strategy or ()] or [
        strategy for strategy in Strategy if strategy is not Strategy.PROGRAM
    ]
    plans = [replace(plan, strategy=each) for each in strategies]
    if file is not None:
        plans.append(replace(plan, strategy=Strategy.PROGRAM))
    try:
        records = _carry_out(plans, file, options, known)
    except BpfError as error:
        print(cut_log(f"this kernel refuses the program: {error.strerror}"), file=sys.stderr)
        return 1
    except FileNotFoundError as error:  # a sysctl
        print(
            f"cannot restart anything so: {error.filename} is missing, this kernel is too old for it", file=sys.stderr
        )
        return _UNAVAILABLE
    _show(records, each=arguments.each)
    bad = [record for record in records if record.plan.strategy is Strategy.PROGRAM and _went_wrong(record)]
    return 1 if bad else 0


def _demand_consistent(arguments: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    if arguments.protocol is not Protocol.TCP and (arguments.migrate or arguments.leaving is Leaving.SHUTDOWN):
        raise ValueError("--migrate and --leaving shutdown are for --protocol tcp: UDP sockets leave by close alone")
    if arguments.program is None and (arguments.program_option or arguments.known):
        raise ValueError("--program-option and --known are for a program of your own: add --program FILE")
    digits, members = (arguments.known or "SS").count("S"), arguments.old + arguments.new
    if digits == 1 and members > 16:
        raise ValueError(f"--known {arguments.known}: one digit is too few for {members} members")


def _compiled(path: Path, options: ProgramOptions) -> Path:
    """Return the program's file, compiled if it is C. Raises ObjectFileError and CompileError."""
    if not os.path.isfile(path):  # noqa: PTH113  # pathlib's raises for a name that is too long
        raise ObjectFileError(f"there is no file {str(path)!r}")
    demand_source(path, options)
    if path.suffix == ".c":
        path = compile_program(path.resolve(), defines=options.defines, includes=(path.parent.resolve(),))
    read_own(path, options)
    return path


def _carry_out(
    plans: list[Plan], file: Path | None, options: ProgramOptions, known: Callable[[int], bytes]
) -> list[Record]:
    # Here: pyroute2 and scapy take a second to import, and --help has no use for them.
    from harness.group.bench import Bench  # noqa: PLC0415
    from harness.group.own_program import OwnProgram  # noqa: PLC0415
    from harness.group.restart import Restart  # noqa: PLC0415
    from harness.loader.maps import lift_memory_limit  # noqa: PLC0415
    from harness.wire.veth import Wire  # noqa: PLC0415

    lift_memory_limit()
    records = []
    with closing(Wire()) as wire, Console(stderr=True).status("") as status:
        for plan in plans:
            own = plan.strategy is Strategy.PROGRAM
            assert file is not None or not own
            steered: Steering = OwnProgram(file, options) if own and file else steering(plan)
            with closing(steered), closing(Bench(wire)) as bench:

                def tell(step: str, plan: Plan = plan) -> None:
                    status.update(f"{plan.strategy}: {step}")

                records.append(Restart(bench, plan, steered, known=known if own else known_payload, told=tell).run())
    return records


def _show(records: list[Record], *, each: bool) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(summary_table(records))
    leaving = [record.plan for record in records if record.plan.strategy is not Strategy.HANDOVER]
    for line in renumberings(leaving[0]) if leaving else ():
        console.print(line, highlight=False)
    for record in records:
        for line in remarks(record):
            console.print(line, highlight=False)
        if each:
            console.print(clients_table(record))


def _went_wrong(record: Record) -> bool:
    counts = [tally(record, new=new) for new in (False, True)]
    return any(each.astray or each.nobody for each in counts) or any(
        sent.first and sent.receiver is None for sent in record.sent
    )


def _members(text: str) -> int:
    return _whole(text, MOST_MEMBERS)


def _clients(text: str) -> int:
    return _whole(text, _MOST_CLIENTS)


def _whole(text: str, most: int) -> int:
    if not text.isdecimal() or not 0 < int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 to {most}")
    return int(text)
