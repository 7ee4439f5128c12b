# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets that hypothesis draws and bends, sent in a campaign or from a file. The cases have the mark `history`."""

from __future__ import annotations

import os
import typing
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import HISTORY, REACHED
from harness.kernel.features import present
from harness.kernel.release import running
from harness.model.layout import Bind, Family, InnerMap, Protocol, Shape
from harness.plugins.campaigns import behaviour_here, log, read_replay, search_as_told, story_of
from harness.plugins.kept_histories import keep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.campaign.difference import Difference
    from harness.campaign.packets import PacketRun
    from harness.campaign.saved_packets import SavedPackets
    from harness.campaign.search import Search
    from harness.group.protocols import LoadProgram, RecordProperty
    from harness.group.reuseport_group import ReuseportGroup
    from harness.model.bent import Bent
    from harness.wire.veth import Wire

SHORT_EXAMPLES = 40
"""Examples of the default run, of 20 to 40 packets each."""

_FIRST_PORT = 9300
"""Away from the ports of groups, bench and histories."""

_FOR_ASSIGNING = ("select_from_sockmap", "udp_in_sockmap", "sk_lookup")


class PacketCampaign:
    """What sends bent packets on this kernel."""

    def __init__(self, wire: Wire, load: LoadProgram, record: RecordProperty, config: pytest.Config) -> None:
        self._wire, self._load, self._record, self._option = wire, load, record, config.option
        self._undo = ExitStack()
        self._assigning = all(map(present, _FOR_ASSIGNING))
        try:
            self._groups = self._make_groups()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the groups."""
        self._undo.close()

    def campaign(self) -> None:
        """Search for a difference as the options say; fail with the straightest packet that shows it."""
        if self._option.replay:
            self._replay_file()
            return
        from harness.campaign.bends import packets, reader  # noqa: PLC0415  # hypothesis: a second under emulation
        from harness.campaign.saved_packets import log_lines  # noqa: PLC0415
        from harness.campaign.search import Search  # noqa: PLC0415

        run = self._run(self._option.unknown)
        read = reader(assigning=self._assigning)

        def lines(drawn: bytes) -> Iterator[str]:  # made only where there is a log to write to
            yield from log_lines(read(drawn))

        search: Search[Bent] = Search(packets(), run.run, read=read, before=lambda drawn: log(lines(drawn)))
        try:
            searched = search_as_told(search, self._option, SHORT_EXAMPLES)
        except KeyboardInterrupt:
            pytest.exit(self._interrupted(run, search), returncode=pytest.ExitCode.INTERRUPTED)
        if search.found is None:
            self._record(REACHED, self._reached(run) | searched)
            return
        self._fail(run, *search.found, unknown=tuple(self._option.unknown), searched=search.searched)

    def replay(self, *packets: Bent, unknown: tuple[str, ...] = ()) -> None:
        """Send packets; fail where kernel and model differ. The model is not told of the bugs in `unknown`."""
        from harness.campaign.difference import difference_of  # noqa: PLC0415

        if any(bent.assigned for bent in packets) and not self._assigning:
            pytest.skip(f"a packet is assigned, and this kernel lacks one of {', '.join(_FOR_ASSIGNING)}")
        unknown = (*unknown, *self._option.unknown)
        run = self._run(unknown)
        if (difference := difference_of(run.run, packets)) is not None:
            self._fail(run, packets[: difference.place], difference, unknown=unknown)

    def _replay_file(self) -> None:
        from harness.campaign.saved_packets import SavedPackets  # noqa: PLC0415

        saved = read_replay(self._option.replay)
        if not isinstance(saved, SavedPackets):
            pytest.skip(f"{self._option.replay} is no file of packets")
        self.replay(*saved.packets, unknown=saved.unknown)

    def _run(self, unknown: Sequence[str]) -> PacketRun:
        from harness.campaign.packets import PacketRun  # noqa: PLC0415

        return PacketRun(self._wire, self._groups, behaviour_here(unknown))

    def _make_groups(self) -> dict[tuple[Protocol, Family], ReuseportGroup]:
        from harness.campaign.packets import MEMBERS  # noqa: PLC0415
        from harness.group.reuseport_group import ReuseportGroup  # noqa: PLC0415

        made = {}
        for number, (protocol, family) in enumerate((protocol, family) for protocol in Protocol for family in Family):
            shape = Shape(protocol=protocol, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
            program = self._load("reference", inner_map=shape.inner_map, size=MEMBERS + 1)
            group = ReuseportGroup(
                shape, program, size=MEMBERS + 1, settings=self._wire.settings, port=_FIRST_PORT + number
            )
            self._undo.callback(group.close)
            # The member that traffic control assigns: a sockmap takes no socket that a sockarray has.
            group.clear_slot(MEMBERS)
            made[protocol, family] = group
        if self._assigning:
            self._assign(made)
        return made

    def _assign(self, groups: dict[tuple[Protocol, Family], ReuseportGroup]) -> None:
        """Let traffic control assign a member of each group to what is sent to the group's other port."""
        from harness.campaign.packets import MEMBERS, fields_of_assigned  # noqa: PLC0415
        from harness.loader.instructions import assign_at_ingress  # noqa: PLC0415
        from harness.loader.load import load_instructions  # noqa: PLC0415
        from harness.loader.maps import create_map  # noqa: PLC0415
        from harness.model.abi import native_bytes  # noqa: PLC0415

        choices = []
        for group in groups.values():
            sockmap = create_map("sockmap", max_entries=1)
            self._undo.callback(sockmap.close)
            sockmap.update(native_bytes(0, 4), native_bytes(group.socket_of(MEMBERS).fileno(), 8))
            choices.append((sockmap.fd, fields_of_assigned(group)))
        program = load_instructions("sched_cls", assign_at_ingress(*choices))
        self._undo.callback(os.close, program)
        self._undo.enter_context(self._wire.at_ingress(program))

    def _fail(
        self,
        run: PacketRun,
        packets: tuple[Bent, ...],
        difference: Difference,
        *,
        unknown: tuple[str, ...],
        searched: str = "",
    ) -> None:
        from harness.campaign.search import without_idle  # noqa: PLC0415
        from harness.campaign.straighten import straighten  # noqa: PLC0415

        if (again := without_idle(run.run, packets)) is not None:
            packets, difference = straighten(run.run, *again)
        saved = self._saved(packets, difference, unknown, searched)
        self._record(HISTORY, saved.to_json())
        pytest.fail(story_of(saved), pytrace=False)

    def _saved(
        self, packets: tuple[Bent, ...], difference: Difference, unknown: tuple[str, ...], searched: str
    ) -> SavedPackets:
        from harness.campaign.packets import PacketDifferenceError  # noqa: PLC0415
        from harness.campaign.saved_packets import SavedPackets  # noqa: PLC0415

        assert isinstance(difference, PacketDifferenceError)
        return SavedPackets(
            packets=packets,
            difference=str(difference),
            sentence=difference.sentence,
            kernel=str(running()),
            unknown=unknown,
            seed=self._option.seed or 0,
            searched=searched,
            frames=tuple(frame.hex() for frame in difference.frames),
        )

    def _interrupted(self, run: PacketRun, search: Search[Bent]) -> str:
        if search.found is None:
            return f"interrupted: no difference in {run.packets} packets"
        saved = self._saved(*search.found, tuple(self._option.unknown), search.searched)
        with suppress(OSError):
            keep(saved.to_json(), Path.cwd())
        return f"interrupted while it was made straighter:\n{story_of(saved)}"

    def _reached(self, run: PacketRun) -> dict[str, Any]:
        left_out = [] if self._assigning else [f"assigned, for want of {', '.join(_FOR_ASSIGNING)}"]
        return {
            "kernel": str(running()),
            "of_what": "examples of bent packets",
            "steps": 0,
            "packets": run.packets,
            "seconds": run.seconds,
            "taken": dict(run.taken),
            "refused": {},
            "results": dict(run.results),
            "replies": dict(run.replies),
            "left_out": left_out,
        }


@pytest.fixture
def packet_campaign(
    wire: Wire, load_for_test: LoadProgram, record_property: RecordProperty, pytestconfig: pytest.Config
) -> Iterator[PacketCampaign]:
    """Return what sends bent packets on this kernel."""
    made = PacketCampaign(wire, load_for_test, record_property, pytestconfig)
    yield made
    made.close()
    wire.send(())


class Packets(typing.Protocol):
    """A function that sends packets."""

    def __call__(self, *packets: Bent, unknown: tuple[str, ...] = ()) -> None:
        """Fail where kernel and model differ; the model is not told of the bugs in `unknown`."""


@pytest.fixture
def packets(packet_campaign: PacketCampaign) -> Packets:
    """Return the function that sends packets, as campaigns print it."""
    return packet_campaign.replay
