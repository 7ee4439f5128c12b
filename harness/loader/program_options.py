# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read the words of `--program-option`: what a program of the user's needs besides its file. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.model.uapi import (
    BPF_SK_REUSEPORT_SELECT,
    BPF_SK_REUSEPORT_SELECT_OR_MIGRATE,
    MAP_FLAG,
    MAP_TYPE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("sk_reuseport", "socket_filter")
ATTACH = {"select": BPF_SK_REUSEPORT_SELECT, "select_or_migrate": BPF_SK_REUSEPORT_SELECT_OR_MIGRATE}

HELP = """\
entry=NAME (the section or function, where the file has two programs); define=WORD[=VALUE] (clang's -D);
map=NAME=KIND[,key=BYTES][,value=BYTES][,max=ENTRIES][,flags=FLAG+…] (make the map of an extern declaration);
inner=NAME=KIND[,…] (what the maps inside NAME are like, the same words); constant=NAME=NUMBER (a variable of .rodata);
type=sk_reuseport|socket_filter; attach=select|select_or_migrate"""

_NAME = re.compile(r"[A-Za-z_]\w*")


class OptionError(ValueError):
    """A word that is no option of a program, or is there twice; the message says which."""


@dataclass(frozen=True, kw_only=True)
class MapSpec:
    """A map that the loader has to make; sizes are in bytes."""

    kind: str
    key_size: int = 4
    value_size: int = 8
    max_entries: int = 64
    flags: int = 0


@dataclass(frozen=True, kw_only=True)
class ProgramOptions:
    """What the options say of a program; empty where they say nothing."""

    entry: str | None = None
    kind: str | None = None
    attach_type: int | None = None
    defines: tuple[str, ...] = ()
    maps: dict[str, MapSpec] = field(default_factory=dict)
    inner: dict[str, MapSpec] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)


def read_options(words: Iterable[str]) -> ProgramOptions:
    """Return what the words say. Raises OptionError."""
    options = ProgramOptions()
    for word in words:
        key, found, rest = word.partition("=")
        if word.startswith("-D"):
            key, found, rest = "define", "=", word[2:]
        if not found or not rest or key not in _READERS:
            raise OptionError(f"{word!r} is no option of a program; there are {', '.join(_READERS)}: {key or '…'}=…")
        options = _READERS[key](options, rest)
    return options


def _entry(options: ProgramOptions, rest: str) -> ProgramOptions:
    if options.entry is not None:
        raise OptionError(f"two entries, {options.entry} and {rest}: give one")
    return replace(options, entry=rest)


def _kind(options: ProgramOptions, rest: str) -> ProgramOptions:
    return replace(options, kind=_one_of("type", rest, KINDS))


def _attach(options: ProgramOptions, rest: str) -> ProgramOptions:
    return replace(options, attach_type=ATTACH[_one_of("attach", rest, ATTACH)])


def _define(options: ProgramOptions, rest: str) -> ProgramOptions:
    if not _NAME.match(rest):
        raise OptionError(f"define={rest}: a word for the preprocessor begins with a letter")
    return replace(options, defines=(*options.defines, rest))


def _map(options: ProgramOptions, rest: str) -> ProgramOptions:
    return replace(options, maps=options.maps | _read_map("map", rest, options.maps))


def _inner(options: ProgramOptions, rest: str) -> ProgramOptions:
    return replace(options, inner=options.inner | _read_map("inner", rest, options.inner))


def _constant(options: ProgramOptions, rest: str) -> ProgramOptions:
    name, _, number = rest.partition("=")
    try:
        return replace(options, constants=options.constants | {name: int(number, 0)})
    except ValueError:
        raise OptionError(f"constant={rest}: {number!r} is no whole number") from None


_READERS = {
    "entry": _entry, "define": _define, "map": _map, "inner": _inner, "constant": _constant, "type": _kind,
    "attach": _attach,
}  # fmt: skip


def _read_map(option: str, text: str, before: dict[str, MapSpec]) -> dict[str, MapSpec]:
    name, _, words = text.partition("=")
    kind, *fields = words.split(",")
    where = f"{option}={text}"
    if not _NAME.fullmatch(name):
        raise OptionError(f"{where}: {name!r} is no name of a map")
    if name in before:
        raise OptionError(f"{where}: the map {name} is there twice")
    spec = MapSpec(kind=_one_of(f"{option}={name}", kind, MAP_TYPE))
    for word in fields:
        key, _, value = word.partition("=")
        if key == "flags":
            spec = replace(spec, flags=sum(MAP_FLAG[_one_of(where, flag, MAP_FLAG)] for flag in value.split("+")))
            continue
        _one_of(where, key, ("key", "value", "max", "flags"))
        number = int(value) if value.isdecimal() else 0
        if not 0 < number < 1 << 31:
            raise OptionError(f"{where}: {key}={value}: a whole number above 0 is needed")
        spec = replace(
            spec,
            key_size=number if key == "key" else spec.key_size,
            value_size=number if key == "value" else spec.value_size,
            max_entries=number if key == "max" else spec.max_entries,
        )
    if spec.kind in {"array", "array_of_maps", "sockmap", "sockarray"} and spec.key_size != 4:
        raise OptionError(f"{where}: the key of a {spec.kind} has 4 bytes, not {spec.key_size}; a sockhash has any key")
    return {name: spec}


def _one_of(where: str, word: str, allowed: Iterable[str]) -> str:
    if word not in allowed:
        raise OptionError(f"{where}: {word!r} is none of {', '.join(allowed)}")
    return word
