# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs of the user's: judge a file before any kernel boots, and load it on the kernel under test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.loader.classic_assembler import ClassicTextError, Instruction
from harness.loader.classic_text import read_classic
from harness.loader.object import Object
from harness.loader.object_file import ObjectFileError, ProgramInFile, read_object
from harness.loader.program_options import ATTACH, KINDS, ProgramOptions
from harness.loader.raw_object import RawObject, from_legacy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.loader.maps import Map
    from harness.loader.object_file import ObjectFile
    from harness.loader.program_options import MapSpec

CLASSIC = "classic"

MOST_BYTES_OF_TEXT = 1 << 20
"""4096 instructions, the most that the kernel takes, in the language of bpf_asm and with comments."""

_OTHER_KINDS = {
    "xdp", "tc", "tcx", "classifier", "action", "kprobe", "kretprobe", "uprobe", "uretprobe", "usdt", "tracepoint",
    "tp", "raw_tp", "raw_tracepoint", "tp_btf", "fentry", "fexit", "fmod_ret", "lsm", "iter", "sk_lookup", "sk_skb",
    "sk_msg", "sockops", "cgroup", "cgroup_skb", "flow_dissector", "lwt_in", "lwt_out", "lwt_xmit", "perf_event",
    "struct_ops",
    "syscall", "freplace", "netfilter", "netkit",
}  # fmt: skip
"""First words of the sections in which libbpf expects programs that no reuseport group takes."""


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A file that may be loaded: what it holds, and what it is attached as."""

    kind: str
    """One of `program_options.KINDS`, or "classic"."""
    classic: tuple[Instruction, ...] = ()
    object: ObjectFile | None = None
    program: ProgramInFile | None = None
    maps: Mapping[str, MapSpec] | None = None
    """The maps that the loader has to make; None where libbpf makes them."""


class LoadedOwn(Protocol):
    """A program on the running kernel."""

    name: str
    fd: int  # -1: classic, which has none
    maps: dict[str, Map]
    kinds: dict[str, str]  # of the maps: keys of `uapi.MAP_TYPE`, or a type's number as text

    def inner_spec(self, name: str) -> MapSpec | None:
        """Return what the maps inside a map of maps are like, None if nothing says it."""

    def close(self) -> None:
        """Let go of the program and its maps."""


def read_own(path: Path, options: ProgramOptions) -> OwnFile:
    """Return what a compiled object or a text holds. Raises ObjectFileError, with the remedy, for any other file."""
    if path.suffix == ".o":
        return _read_object(path, options)
    for name, given in (("entry", options.entry), ("type", options.kind), ("map", options.maps),
                        ("inner", options.inner), ("constant", options.constants), ("attach", options.attach_type),
                        ("define", options.defines)):  # fmt: skip
        if given:
            raise ObjectFileError(f"{path.name} is a classic program: {name}= is for compiled ones")
    try:
        if path.stat().st_size > MOST_BYTES_OF_TEXT:
            raise ObjectFileError(
                f"{path.name} has {path.stat().st_size:,} bytes; no text of a classic program is that long, and a "
                "compiled object is called .o"
            )
        return OwnFile(kind=CLASSIC, classic=read_classic(path.read_text(encoding="ascii")))
    except OSError as error:
        raise ObjectFileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ObjectFileError(
            f"{path.name} is neither C (.c), nor a compiled object (.o), nor the text of a classic program"
        ) from None
    except ClassicTextError as error:
        raise ObjectFileError(f"{path.name} is no classic program: {error}") from error


def demand_source(path: Path, options: ProgramOptions) -> None:
    """Raise ObjectFileError for a word of the preprocessor's and an object that is compiled already."""
    if options.defines and path.suffix == ".o":
        word = options.defines[0]
        raise ObjectFileError(f"define={word}: {path.name} is compiled already: give its C, or compile with -D{word}")


def load_own(path: Path, options: ProgramOptions) -> LoadedOwn:
    """Load a program on the running kernel. Raises ObjectFileError as `read_own`, BpfError with libbpf's messages."""
    found = read_own(path, options)
    if found.kind == CLASSIC:
        return _Classic(path.name)
    assert found.object is not None
    assert found.program is not None
    if found.maps is None:
        return _ByLibbpf(path, found, options)
    attach_type = options.attach_type or (ATTACH["select_or_migrate"] if "migrate" in found.program.section else 0)
    return RawObject(found.program, found.maps, kind=found.kind, license_=found.object.license, attach_type=attach_type)


class _Classic:
    """A classic program: the kernel gets it when it is attached, and it has neither maps nor a descriptor."""

    fd = -1

    def __init__(self, name: str) -> None:
        self.name = name
        self.maps: dict[str, Map] = {}
        self.kinds: dict[str, str] = {}

    def inner_spec(self, name: str) -> MapSpec | None:
        """Return None: there are no maps."""

    def close(self) -> None:
        """Do nothing."""


class _ByLibbpf:
    """A program that libbpf loads, with the maps that its object defines."""

    def __init__(self, path: Path, found: OwnFile, options: ProgramOptions) -> None:
        assert found.program is not None
        assert found.object is not None
        self.name = found.program.function
        self._object = Object(path)
        try:
            self._object.choose(self.name, kind=found.kind)
            if options.attach_type is not None:
                self._object.set_expected_attach_type(options.attach_type)
            for name, value in options.constants.items():
                place = found.object.constants[name]
                self._object.set_constant(place.offset, value, size=place.size)
            for name, spec in options.inner.items():
                self._object.shape_inner_map(name, spec)
            # Before it is loaded: libbpf forgets then what an inner map is like.
            self._inner = {
                name: self._object.inner_spec(name)
                for name, kind in self._object.map_kinds().items()
                if kind in {"array_of_maps", "hash_of_maps"}
            }
            self._object.load()
            self.fd = self._object.program_fds()[self.name]
            self.maps = self._object.maps()
            self.kinds = self._object.map_kinds()
        except BaseException:
            self._object.close()
            raise

    def inner_spec(self, name: str) -> MapSpec | None:
        """Return what the maps inside a map of maps are like, None if the object does not say it."""
        return self._inner.get(name)

    def close(self) -> None:
        """Unload it."""
        self._object.close()


def _read_object(path: Path, options: ProgramOptions) -> OwnFile:
    found = read_object(path)
    program = _chosen(path.name, found, options.entry)
    for name, value in options.constants.items():
        if name not in found.constants:
            known = ", ".join(found.constants) or "no variable"
            raise ObjectFileError(f"constant={name}: .rodata of {path.name} has {known}: is it const volatile?")
        if not -(1 << found.constants[name].size * 8 - 1) <= value < 1 << found.constants[name].size * 8:
            raise ObjectFileError(f"constant={name}: {value} does not fit into {found.constants[name].size} bytes")
    return OwnFile(
        kind=_kind(path.name, program, options),
        object=found,
        program=program,
        maps=_made_maps(path.name, found, program, options),
    )


def _chosen(name: str, found: ObjectFile, entry: str | None) -> ProgramInFile:
    if not found.programs:
        raise ObjectFileError(f'{name} holds no program: a function in SEC("sk_reuseport") or SEC("socket") is one')
    listed = ", ".join(f"{each.function} ({each.section})" for each in found.programs)
    if entry is None:
        if len(found.programs) > 1:
            raise ObjectFileError(f"{name} has more than one program: {listed}; say --program-option entry=NAME")
        return found.programs[0]
    meant = [each for each in found.programs if entry == each.function]
    meant = meant or [each for each in found.programs if entry == each.section]
    if len(meant) > 1:
        raise ObjectFileError(f"entry={entry}: that section has more than one program: {listed}; name a function")
    if not meant:
        raise ObjectFileError(f"entry={entry}: {name} has no such program; it has {listed}")
    return meant[0]


def _kind(name: str, program: ProgramInFile, options: ProgramOptions) -> str:
    if options.kind is not None:
        return options.kind
    first = program.section.lstrip("?").split("/")[0].split(".")[0]
    if first in _OTHER_KINDS:
        raise ObjectFileError(
            f"{name}: {program.function} is a program of another kind ({program.section}); a reuseport group takes "
            f"{' and '.join(KINDS)} (--program-option type=KIND overrules the section)"
        )
    return "socket_filter" if first.startswith("socket") else "sk_reuseport"


def _made_maps(
    name: str, found: ObjectFile, program: ProgramInFile, options: ProgramOptions
) -> Mapping[str, MapSpec] | None:
    """Return the maps that the harness makes for the program, None if libbpf makes all of them."""
    specs = dict(options.maps)
    if unused := specs.keys() - set(found.undefined) - found.legacy.keys():
        raise ObjectFileError(f"map={min(unused)}: {name} has no extern or legacy map of that name")
    if found.has_maps and (found.undefined or found.legacy):
        raise ObjectFileError(
            f'{name} has maps in SEC(".maps") and {", ".join([*found.undefined, *found.legacy])} besides: define all '
            'maps in SEC(".maps")'
        )
    if missing := [each for each in found.undefined if each not in specs]:
        raise ObjectFileError(
            f"{name} uses {', '.join(missing)}, which it does not define: say what its loader makes, as "
            f"--program-option map={missing[0]}=sockmap,key=4,value=8,max=64"
        )
    if not specs and not found.legacy:
        return None
    if program.needs:
        raise ObjectFileError(
            f"{name}: a program with extern or legacy maps cannot have {program.needs[0]} here: make functions "
            'static __always_inline, and define maps in SEC(".maps") to have the rest'
        )
    try:
        return {each: from_legacy(legacy, name=each) for each, legacy in found.legacy.items()} | specs
    except ValueError as error:
        raise ObjectFileError(f"{name}: {error}") from error
