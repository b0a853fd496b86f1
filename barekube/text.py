"""Text files as wanted and as found: what differs, said as a unified diff."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class FoundFile(Protocol):
    """What a fact knows of a file."""

    @property
    def mode(self) -> str: ...
    @property
    def owner(self) -> str: ...
    def text(self) -> str: ...


@dataclass(frozen=True)
class TextFile:
    """A small text file as it should be on a host. `mode` is octal, without a leading zero."""

    path: str
    content: str
    mode: str = "644"
    owner: str = "root:root"


@dataclass(frozen=True)
class Change:
    """One file that differs: what to write, and the lines that say why."""

    file: TextFile
    summary: str
    diff: tuple[str, ...]


def changes(wanted: Iterable[TextFile], found: dict[str, FoundFile]) -> list[Change]:
    """The files that are not as wanted, in the order given; a path not in `found` is absent."""
    result = []
    for file in wanted:
        there = found.get(file.path)
        if there is None:
            amount = _lines(len(file.content.splitlines()))
            summary = f"{file.path}: new, mode {file.mode}, {amount}"
            result.append(Change(file, summary, unified(file.path, "", file.content)))
            continue
        old = there.text()
        said = []
        diff: tuple[str, ...] = ()
        if old != file.content:
            diff = unified(file.path, old, file.content)
            said.append(_amount(diff))
        if there.mode != file.mode:
            said.append(f"mode {there.mode} -> {file.mode}")
        if there.owner != file.owner:
            said.append(f"owner {there.owner} -> {file.owner}")
        if said:
            result.append(Change(file, f"{file.path}: {', '.join(said)}", diff))
    return result


def unified(path: str, old: str, new: str) -> tuple[str, ...]:
    """The unified diff of one file, named, as lines without line ends; equal: none."""
    return tuple(
        difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="", n=3)
    )


def _lines(number: int) -> str:
    return f"{number} line{'s' * (number != 1)}"


def _amount(diff: Sequence[str]) -> str:
    if not diff:
        return "its end of line differs"
    changed = diff[2:]  # without the names
    return f"{_lines(_starting('+', changed))} added, {_starting('-', changed)} removed"


def _starting(sign: str, lines: Sequence[str]) -> int:
    return sum(line.startswith(sign) for line in lines)
