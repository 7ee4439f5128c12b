# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read what a compiled BPF object holds, and refuse what cannot be one, before any kernel is asked."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, Symbol, SymbolTableSection

from harness.loader.object_types import resolved_by_libbpf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_BYTES = 64 << 20
MOST_INSTRUCTIONS = 1_000_000
"""BPF_COMPLEXITY_LIMIT_INSNS (include/linux/bpf.h): the longest program that a privileged process may load."""

_INSTRUCTION = 8
_EXECUTABLE = 0x4  # SHF_EXECINSTR
_NO_CONTENT = "SHT_NOBITS"
_MAP_LOAD, _CALL = 1, 10  # R_BPF_64_64, R_BPF_64_32 (Documentation/bpf/llvm_reloc.rst)
_LEGACY = "maps"
_LEGACY_FIELDS = 5  # type, key_size, value_size, max_entries, map_flags: struct bpf_map_def, and iproute2's begins so


class ObjectFileError(Exception):
    """A file that cannot be used as a program; the message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class MapUse:
    """A place in a program where the loader has to write a map's file descriptor."""

    offset: int  # bytes, from the program's start
    name: str


@dataclass(frozen=True, kw_only=True)
class ProgramInFile:
    """One program of an object: its section, its function, its instructions, and the maps that they name.

    `needs` has what the instructions use besides maps and cannot be had without libbpf: calls, global data.
    """

    section: str
    function: str
    instructions: bytes
    uses: tuple[MapUse, ...]
    needs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LegacyMap:
    """A map of a `maps` section: the numbers of `struct bpf_map_def`."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A variable of `.rodata`: where it lies in the section and how long it is, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class ObjectFile:
    """What a compiled object holds."""

    programs: tuple[ProgramInFile, ...]
    license: str
    undefined: tuple[str, ...]
    """Names that the programs use and the object does not define: `extern` maps."""
    legacy: dict[str, LegacyMap]
    has_maps: bool
    """Whether it defines maps in a `.maps` section, libbpf's form."""
    constants: dict[str, Constant]


def read_object(path: Path) -> ObjectFile:
    """Read an object. Raises ObjectFileError for a file that is none, is damaged, or is for another architecture."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ObjectFileError(f"{path.name} has {size >> 20} MiB; no BPF object is that large")
        with path.open("rb") as file:
            _check_header(path.name, file.read(20))
            elf = ELFFile(file)
            sections = list(elf.iter_sections())
            _check_whole(path.name, sections, size)
            return _read(path.name, sections)
    except OSError as error:
        raise ObjectFileError(f"cannot read {path}: {error.strerror}") from error
    except (ELFError, ConstructError, UnicodeDecodeError, struct.error, IndexError, ValueError) as error:
        raise ObjectFileError(f"{path.name} is a damaged object, or a part of one: {error}") from error


def _check_header(name: str, header: bytes) -> None:
    if header[:4] != b"\x7fELF":
        raise ObjectFileError(f"{name} is no compiled object: it does not begin as ELF files do")
    order = "little" if header[5:6] == b"\x01" else "big"
    if len(header) < 20:
        raise ObjectFileError(f"{name} is truncated: it ends in its first header")
    kind, machine = struct.unpack("<HH" if order == "little" else ">HH", header[16:20])
    if machine != 247:  # EM_BPF
        named = {62: "x86_64", 183: "aarch64", 3: "i386", 243: "riscv", 22: "s390", 21: "ppc64"}.get(machine, machine)
        raise ObjectFileError(f"{name} is for the machine {named}, not for BPF: compile it with clang -target bpf")
    if header[4:5] != b"\x02" or order != sys.byteorder:
        raise ObjectFileError(f"{name} is for a machine of the other byte order: compile it with clang -target bpf")
    if kind != 1:  # ET_REL
        raise ObjectFileError(f"{name} is no relocatable object (.o): do not link it")


def _check_whole(name: str, sections: list[Section], size: int) -> None:
    for section in sections:
        if section["sh_type"] != _NO_CONTENT and section["sh_offset"] + section["sh_size"] > size:
            raise ObjectFileError(f"{name} is truncated: its section {section.name} ends beyond the file")
    if not sections:
        raise ObjectFileError(f"{name} is truncated: it has no sections")


def _read(name: str, sections: list[Section]) -> ObjectFile:
    by_name = {section.name: section for section in sections}
    table = next((section for section in sections if isinstance(section, SymbolTableSection)), None)
    if table is None:
        raise ObjectFileError(f"{name} has no table of symbols: it was stripped; strip no more than -g does")
    symbols = list(table.iter_symbols())
    resolved = resolved_by_libbpf(by_name[".BTF"].data()) if ".BTF" in by_name else frozenset()
    programs = tuple(_programs(sections, symbols, resolved))
    for program in programs:
        count = len(program.instructions) // _INSTRUCTION
        if count > MOST_INSTRUCTIONS:
            raise ObjectFileError(
                f"{program.function} has {count} instructions; kernels take {MOST_INSTRUCTIONS:,} at most"
            )
    license_ = by_name["license"].data() if "license" in by_name else b""
    used = {use.name for program in programs for use in program.uses}
    return ObjectFile(
        programs=programs,
        license=license_.split(b"\0")[0].decode(),
        undefined=tuple(
            sorted({each.name for each in symbols if each["st_shndx"] == "SHN_UNDEF" and each.name} & used)
        ),
        legacy=_legacy_maps(sections, symbols),
        has_maps=".maps" in by_name,
        constants={
            symbol.name: Constant(offset=symbol["st_value"], size=symbol["st_size"])
            for symbol in _in_section(".rodata", sections, symbols)
        },
    )


def _programs(sections: list[Section], symbols: list[Symbol], resolved: frozenset[str]) -> Iterator[ProgramInFile]:
    for index, section in enumerate(sections):
        if not section["sh_flags"] & _EXECUTABLE or section.name == ".text" or not section["sh_size"]:
            continue
        for symbol in _symbols_of(index, symbols):
            if symbol["st_info"]["type"] != "STT_FUNC" or symbol["st_info"]["bind"] == "STB_LOCAL":
                continue
            start = symbol["st_value"]
            end = start + symbol["st_size"]
            uses, needs = _relocations(index, sections, symbols, range(start, end), resolved)
            yield ProgramInFile(
                section=section.name,
                function=symbol.name,
                instructions=section.data()[start:end],
                uses=uses,
                needs=needs,
            )


def _relocations(
    index: int, sections: list[Section], symbols: list[Symbol], where: range, resolved: frozenset[str]
) -> tuple[tuple[MapUse, ...], tuple[str, ...]]:
    uses, needs = [], []
    for table in sections:
        if not isinstance(table, RelocationSection) or table["sh_info"] != index:
            continue
        for entry in table.iter_relocations():
            if entry["r_offset"] not in where:
                continue
            symbol = symbols[entry["r_info_sym"]]
            number = symbol["st_shndx"]
            home = sections[number].name if isinstance(number, int) else ""
            shown = symbol.name or home
            if entry["r_info_type"] == _CALL:
                needs.append(f"the call of {shown}")
            elif shown in resolved:
                needs.append(f"the kernel's {shown}")
            elif entry["r_info_type"] == _MAP_LOAD and home in {"", _LEGACY, ".maps"}:
                uses.append(MapUse(offset=entry["r_offset"] - where.start, name=shown))
            else:
                needs.append(f"the data {shown}")
    return tuple(uses), tuple(dict.fromkeys(needs))


def _legacy_maps(sections: list[Section], symbols: list[Symbol]) -> dict[str, LegacyMap]:
    found = {}
    for symbol in _in_section(_LEGACY, sections, symbols):
        (section,) = (each for each in sections if each.name == _LEGACY)
        raw = section.data()[symbol["st_value"] : symbol["st_value"] + symbol["st_size"]]
        if len(raw) < _LEGACY_FIELDS * 4:
            raise ObjectFileError(f"the legacy map {symbol.name} has {len(raw)} bytes, too few for a bpf_map_def")
        if any(raw[_LEGACY_FIELDS * 4 :]):
            raise ObjectFileError(
                f"the legacy map {symbol.name} has more than struct bpf_map_def (iproute2's inner maps, pinning): "
                'define it in libbpf\'s form, SEC(".maps"), or make it extern and give --program-option map='
                f"{symbol.name}=KIND,…"
            )
        kind, key, value, most, flags = struct.unpack_from("=5I", raw)
        found[symbol.name] = LegacyMap(type=kind, key_size=key, value_size=value, max_entries=most, flags=flags)
    return found


def _in_section(name: str, sections: list[Section], symbols: list[Symbol]) -> Iterator[Symbol]:
    for index, section in enumerate(sections):
        if section.name == name:
            yield from (each for each in _symbols_of(index, symbols) if each["st_info"]["type"] == "STT_OBJECT")


def _symbols_of(index: int, symbols: list[Symbol]) -> Iterator[Symbol]:
    return (symbol for symbol in symbols if symbol["st_shndx"] == index)
