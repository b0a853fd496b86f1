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
def configured(unit: str, files: Sequence[TextFile]) -> Generator[PyinfraCommand]:
    """`unit` is enabled and runs, started after the last change of its `files`.

    Decided from the real times, so that a restart that a power cut prevented is made up for.
    One round trip where nothing differs.
    """
    yield from exclusively(_configured(unit, files))


def _configured(unit: str, files: Sequence[TextFile]) -> Generator[PyinfraCommand]:
    found = host.get_fact(Machine, units=[unit], files=[file.path for file in files])
    if found is None:
        yield from refuse(f"{unit} cannot be asked for; mend the error above, then run again")
        return
    differing = changes(files, dict(found.files))
    written = {path: file.changed for path, file in found.files.items()}
    reason = reason_to_start(
        found.units.get(unit), written, tuple(change.file.path for change in differing)
    )
    if not differing and reason is None:
        host.noop(f"{unit} runs, with {len(files)} files as wanted")
        return
    for change in differing:
        texts.say(change)
    host.log(f"{unit}: {reason}")
    for change in differing:
        yield texts.write(change.file)
    yield changing(f"systemctl daemon-reload; systemctl -q enable {unit}; systemctl restart {unit}")
