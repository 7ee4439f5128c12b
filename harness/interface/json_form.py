# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The JSON form of stories, which results keep; docs/results.md describes it. Pure."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from harness.interface.steps import STARTS, STEPS
from harness.interface.story import Path, Phase, SecondRun, Story

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.interface.steps import Start, Step

FORMAT = 1
"""The version of the form."""


def story_to_json(story: Story) -> dict[str, Any]:
    """Return a story as a JSON object."""
    return {
        "format": FORMAT,
        "unavailable": story.unavailable,
        "second_run": None if story.second_run is None else asdict(story.second_run),
        "missing": list(story.missing),
        "lost": story.lost,
        "paths": [
            {"start": start_to_json(path.start), "steps": [step_to_json(step) for step in path.steps]}
            for path in story.paths
        ],
    }


def story_from_json(data: Mapping[str, Any]) -> Story:
    """Return the story that `story_to_json` turned into `data`. Raises ValueError if it is none of this format."""
    try:
        if data["format"] != FORMAT:
            raise ValueError(f"a story of format {data['format']}; this program reads {FORMAT}")
        return Story(
            paths=tuple(
                Path(start=start_from_json(path["start"]), steps=tuple(map(step_from_json, path["steps"])))
                for path in data["paths"]
            ),
            second_run=None if data["second_run"] is None else _second_run(data["second_run"]),
            missing=tuple(data["missing"]),
            lost=data["lost"],
            unavailable=data["unavailable"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError("no story: a part is missing, or is of another type") from error


def _second_run(data: Mapping[str, Any]) -> SecondRun:
    if data["failed_in"] not in (None, *get_args(Phase)):
        raise ValueError(f"no phase of a case: {data['failed_in']}")
    return SecondRun(failed_in=data["failed_in"], message=data["message"])


def start_to_json(start: Start) -> dict[str, Any]:
    """Return a start as a JSON object: its kind and its details."""
    return {"kind": start.kind, **asdict(start)}


def step_to_json(step: Step) -> dict[str, Any]:
    """Return a step as a JSON object: its kind, its actor and its details."""
    return {"kind": step.kind, "actor": step.actor, **asdict(step)}


def start_from_json(data: Mapping[str, Any]) -> Start:
    """Return the start that `start_to_json` turned into `data`. Raises ValueError if it is none."""
    start: Start = _from_json(STARTS, data)
    return start


def step_from_json(data: Mapping[str, Any]) -> Step:
    """Return the step that `step_to_json` turned into `data`. Raises ValueError if it is none."""
    step: Step = _from_json(STEPS, data)
    return step


def _from_json(kinds: Mapping[str, type[Any]], data: Mapping[str, Any]) -> Any:
    try:
        kind = kinds[data["kind"]]
        types = get_type_hints(kind)
        details = {field.name: _checked(data[field.name], types[field.name]) for field in fields(kind)}
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a step of a story: {data!r:.200}") from error
    return kind(**details)


def _checked(value: Any, wanted: Any) -> Any:
    """Return a value if it is of the type `wanted`: str, int, bool, a Literal, or X | None. Raises TypeError."""
    allowed = get_args(wanted) or (wanted,)
    if value in allowed or type(value) in allowed:
        return value
    raise TypeError(f"{value!r} is no {wanted}")
