"""Text files on a host: compared whole, previewed as diffs, written so that a cut halves none."""

from collections.abc import Container, Generator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyinfra import host, state
from pyinfra.api import StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube.facts.machine import Machine
from barekube.operations.order import changing, exclusively, refuse
from barekube.text import Change, TextFile, changes


@dataclass(frozen=True)
class Text:
    """A file whose text alone was asked for; its mode and owner are not compared."""

    content: str
    mode: str = "600"
    owner: str = "root:root"

    def text(self) -> str:
        return self.content


def write(file: TextFile, then: str = "") -> StringCommand:
    """Write one file, and do what it is for. Synced, then renamed: a power cut leaves the old one
    or the new one.

    Meanwhile its name begins with a dot: kubelet takes any other file beside a static pod for one.
    """
    path = PurePosixPath(file.path)
    new = f"{path.parent}/.{path.name}.new"
    return changing(
        f"mkdir -p {path.parent}; umask 077; cat >{new}; chown {file.owner} {new};"
        f" chmod {file.mode} {new}; sync {new}; mv {new} {file.path}" + (then and f"; {then}"),
        stdin=file.content,
    )


def say(change: Change) -> None:
    """Log one change; the whole diff if --diff was asked for."""
    describe(change.summary, change.diff)


def removal(absent: Sequence[str], there: Container[str]) -> list[StringCommand]:
    """Say, and return as a command, what goes of the files `absent`."""
    going = [path for path in absent if path in there]
    for path in going:
        host.log(f"{path}: removed")
    return [changing(f"rm -f {' '.join(going)}")] if going else []


def describe(summary: str, lines: Sequence[str]) -> None:
    """Log what is so called; all its lines if --diff was asked for."""
    host.log(summary)
    if state.config.DIFF:
        for line in lines:
            host.log(f"  {line}")


@operation()
def texts(files: Sequence[TextFile], absent: Sequence[str] = ()) -> Generator[PyinfraCommand]:
    """Bring text files to their wanted content, mode and owner, and remove those in `absent`.

    One round trip where nothing differs.
    """
    yield from exclusively(_texts(files, absent))


def _texts(files: Sequence[TextFile], absent: Sequence[str]) -> Generator[PyinfraCommand]:
    found = host.get_fact(Machine, files=[*(file.path for file in files), *absent])
    if found is None:
        yield from refuse("its files cannot be read; mend the error above, then run again")
        return
    differing = changes(files, dict(found.files))
    for change in differing:
        say(change)
    going = removal(absent, found.files)
    if not differing and not going:
        host.noop(f"{len(files)} files are as wanted")
        return
    for change in differing:
        yield write(change.file)
    yield from going
