# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of variants is complete: every program under bpf/ is in it, and every entry has its rule."""

from __future__ import annotations

import pytest

from harness.__main__ import COMMANDS, main
from harness.loader.compiler import SOURCES
from harness.model.rules import RULES, rule
from harness.model.variants import VARIANTS, Attachment


def test_every_source_is_in_the_table() -> None:
    assert {path.name for path in SOURCES.glob("*.bpf.c")} == {v.file for v in VARIANTS.values()} - {None}


def test_every_variant_has_a_rule() -> None:
    assert RULES.keys() == VARIANTS.keys()


def test_a_variant_has_one_rule_only() -> None:
    with pytest.raises(ValueError, match="reference has two rules"):
        rule("reference")(RULES["reference"])


def test_classic_programs_are_those_with_instructions() -> None:
    assert all((v.attachment is Attachment.CLASSIC) == bool(v.classic) for v in VARIANTS.values())


def test_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["programs"]) == 0
    printed = capsys.readouterr().out
    assert all(f"│ {name} " in printed for name in VARIANTS)
    assert f"{len(VARIANTS)} programs" in printed


def test_unknown_command_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["nothing"])
    assert exited.value.code == 2
    assert "programs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], *([command.NAME] for command in COMMANDS)], ids=lambda words: " ".join(words) or "all"
)
def test_help_tells_users_what_a_command_does_and_its_exit_statuses(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main([*words, "--help"])
    assert exited.value.code == 0
    printed = capsys.readouterr().out
    assert "xit status" in printed
    assert "module" not in printed
