# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keep what the witness saw of each case, as text and as data, and read it back.

The files are results/<run>/<kernel>/stories/<case>.txt and, beside it, <case>.json.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from harness.interface.json_form import story_from_json, story_to_json
from harness.interface.keys import STORY
from harness.interface.story import Story
from vm.report.results import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LONGEST = 120


def keep(properties: Iterable[tuple[str, object]], case: str, *, kernel: str, directory: Path) -> str | None:
    """Write the story among a report's properties under `directory`.

    Return the path of its text from there, None if there is no story. Raises OSError.
    """
    story = next((value for name, value in properties if name == STORY and isinstance(value, Story)), None)
    if story is None:
        return None
    stories = directory / kernel / "stories"
    stories.mkdir(parents=True, exist_ok=True)
    text = stories / f"{file_name(case)}.txt"
    write_text(_data_of(text), json.dumps(story_to_json(story), indent=1) + "\n")
    return str(write_text(text, f"{story}\n").relative_to(directory))


def file_name(case: str) -> str:
    """Return the name of a case's files, without suffix: its id in characters that every file system takes."""
    name = re.sub(r"[^\w.+-]+", "_", case.removeprefix("cases/")).strip("_")
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"
    return name


def read_text(path: Path) -> str:
    """Return the text of the story whose text is at `path`, or that it is gone."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return f"{path.name} is not there any more"


def read(path: Path) -> Story | None:
    """Return the story whose text is at `path`, from the data beside it; None if they are gone.

    Raises ValueError for data that are no story, or of another format.
    """
    file = _data_of(path)
    try:
        return story_from_json(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _data_of(text: Path) -> Path:
    return text.with_name(text.name.removesuffix(".txt") + ".json")
