"""What can be used is documented: every command, option, setting and key of a case; and what is named exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from cds_hooks import cases
from cds_hooks.cli import main
from cds_hooks.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
TEXT = "\n".join(path.read_text("utf-8") for path in FILES if path.exists())
README = (ROOT / "README.md").read_text("utf-8")


def settings(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings(inner, f"{above}{name}.")
        else:
            yield above + name


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_command_is_documented(name: str) -> None:
    assert re.search(rf"cds-hooks {name}\b", TEXT)


OPTIONS = {
    f"{name} {parameter.opts[0]}": parameter.opts
    for name, command in sorted(main.commands.items())
    for parameter in command.params
    if isinstance(parameter, click.Option)
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_documented(option: str) -> None:
    assert any(re.search(rf"(?<![\w-]){re.escape(spelling)}\b", TEXT) for spelling in OPTIONS[option])


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_table_of_commands_is_whole(name: str) -> None:
    """Each command has a row, with all its options and no others; those of `call` are told below the table."""
    section = README.partition("\n## Commands\n")[2].partition("\n## ")[0]
    (row,) = re.findall(rf"^\| `({name}\b[^`]*)`.*\|$", section, re.MULTILINE)
    told = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row))
    if name == "call":
        told |= set(re.findall(r"`(--[a-z-]+)`", section))
    offered = [set(spellings) for option, spellings in OPTIONS.items() if option.split()[0] == name]
    assert [spellings for spellings in offered if not spellings & told] == []
    assert told <= set().union(*offered)


@pytest.mark.parametrize("name", sorted(settings(Settings)))
def test_each_setting_is_documented(name: str) -> None:
    """As `section.key`, or the key in a table or TOML block that names the section."""
    section, _, key = name.rpartition(".")
    assert re.search(rf"`{re.escape(name)}`|^\s*\|?\s*`?{key}`?\s*[=|]", TEXT, re.MULTILINE), name
    assert not section or f"[{section}]" in TEXT or f"`{section}." in TEXT


def test_no_command_is_documented_that_does_not_exist() -> None:
    named = set(
        re.findall(r"(?:^|[\s`/])cds-hooks ([a-z]+)\b", "\n".join(re.findall(r"`[^`\n]+`|^ {4}.*$", TEXT, re.M)))
    )
    assert named <= set(main.commands), named - set(main.commands)


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`[^`\n]+`|^ {4}make .*$", TEXT, re.M))))
    assert named
    assert named <= targets


def test_files_that_are_linked_exist() -> None:
    for path in FILES:
        text = path.read_text("utf-8") if path.exists() else ""
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_files_that_the_makefile_names_exist() -> None:
    for name in re.findall(r"(?:examples|docs|requirements)/[\w./-]+\.\w+", (ROOT / "Makefile").read_text("utf-8")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("key", sorted(cases._KEYS))
def test_each_key_of_a_case_is_documented(key: str) -> None:
    assert re.search(rf"`?\b{key}\b`?", TEXT)


def test_the_readme_shows_how_to_start() -> None:
    for words in ("make run", "make test", "/cds-services"):
        assert words in README
