"""Hints of errors name commands and options that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from harness.cli.app import app
from harness.registry import model_entries

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"\bharness ([a-z]+)(?: ([a-z]+))?")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def hints() -> Iterator[tuple[str, str]]:
    """Place and text of each literal that is part of a hint: an argument `hint=`, or assigned to a name with `hint`."""
    for folder in ("harness", "baselines", "eager"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                named = isinstance(node, ast.Assign) and any(
                    "hint" in ast.unparse(name).lower() for name in node.targets
                )
                if named or (isinstance(node, ast.keyword) and node.arg == "hint"):
                    for part in ast.walk(node.value):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str):
                            yield f"{path.relative_to(ROOT)}:{part.lineno}", part.value


def tree() -> tuple[dict[str, set[str]], set[str]]:
    """Each command with its subcommands, and all options."""
    commands: dict[str, set[str]] = {}
    options: set[str] = set()

    def visit(command: click.Command) -> None:
        for parameter in command.params:
            options.update((*parameter.opts, *parameter.secondary_opts))
        for below in getattr(command, "commands", {}).values():
            visit(below)

    root = typer.main.get_command(app)
    visit(root)
    for name, command in getattr(root, "commands", {}).items():
        commands[name] = set(getattr(command, "commands", {}))
    return commands, options


def problems(text: str, commands: dict[str, set[str]], options: set[str]) -> list[str]:
    wrong = []
    for name, below in COMMAND.findall(text):
        if name not in commands or (commands[name] and below and below not in commands[name]):
            wrong.append(f"harness {name} {below}".strip())
    if "pip install" not in text and "torchrun" not in text:
        wrong += [option for option in OPTION.findall(text) if option not in options]
    return wrong


@pytest.mark.parametrize("text", ["see harness dataset", "harness data exprot shop", "write --core 5 or --min-users 3"])
def test_the_check_sees_wrong_names(text: str) -> None:
    assert len(problems(text, *tree())) == 1


def test_hints_name_what_exists() -> None:
    commands, options = tree()
    result = list(hints())
    assert len(result) > 300, "the scan sees the hints"
    assert not [f"{place}: {wrong}" for place, text in result for wrong in problems(text, commands, options)]


def test_models_that_refuse_items_without_text_have_the_setting_that_the_hint_names() -> None:
    entries = [entry for entry in model_entries().values() if "text" in entry.needs]
    assert {"textknn", "tiger", "lcrec", "eager-llm"} <= {entry.name for entry in entries}
    assert not [entry.name for entry in entries if "missing_text" not in entry.load().config_class.model_fields]
