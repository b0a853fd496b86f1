"""systemd units: configured, enabled, running, and started after the files that they read."""

from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api import operation
from pyinfra.api.command import PyinfraCommand

from barekube.facts.machine import Machine
from barekube.operations import files as texts
from barekube.operations.order import changing, exclusively, refuse
from barekube.text import TextFile, changes
from barekube.units import reason_to_start


@operation()
def configured(
    unit: str, files: Sequence[TextFile], absent: Sequence[str] = ()
) -> Generator[PyinfraCommand]:
    """`unit` is enabled and runs, started after the last change of its `files`; those in `absent`,
    which it reads whenever it needs them, are not there.

    Decided from the real times, so that a restart that a power cut prevented is made up for.
    One round trip where nothing differs.
    """
    yield from exclusively(_configured(unit, files, absent))


def _configured(
    unit: str, files: Sequence[TextFile], absent: Sequence[str]
) -> Generator[PyinfraCommand]:
    paths = [file.path for file in files]
    found = host.get_fact(Machine, units=[unit], files=[*paths, *absent])
    if found is None:
        yield from refuse(f"{unit} cannot be asked for; mend the error above, then run again")
        return
    differing = changes(files, dict(found.files))
    written = {path: file.changed for path, file in found.files.items() if path in paths}
    reason = reason_to_start(
        found.units.get(unit), written, tuple(change.file.path for change in differing)
    )
    for change in differing:
        texts.say(change)
    going = texts.removal(absent, found.files)
    if reason:
        host.log(f"{unit}: {reason}")
    elif not going:
        host.noop(f"{unit} runs, with {len(files)} files as wanted")
    for change in differing:
        yield texts.write(change.file)
    yield from going
    if reason:
        yield changing(
            f"systemctl daemon-reload; systemctl -q enable {unit}; systemctl restart {unit}"
        )
