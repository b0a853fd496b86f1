"""The host's firewall: loaded for some seconds, tried with a new SSH connection, then kept."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.exceptions import ConnectError

from barekube import firewall
from barekube.facts.machine import Found, Machine
from barekube.living import other_range
from barekube.operations import files
from barekube.operations.order import changing, exclusively, refuse
from barekube.text import Change, TextFile, changes, unified
from barekube.traces import KUBELET_CONF


@operation()
def configured(wanted: str | None) -> Generator[PyinfraCommand]:
    """The kernel has the table `wanted` (the text of barekube/firewall.py) and loads it at boot;
    None: it has none of ours.

    A change that shuts out a new SSH connection is taken back by the host itself. One round trip
    where nothing differs.
    """
    yield from exclusively(_configured(wanted))


def _configured(wanted: str | None) -> Generator[PyinfraCommand]:
    paths = [firewall.FILE, firewall.UNIT_FILE, firewall.UNDO]
    found = host.get_fact(
        Machine,
        files=paths,
        units=[firewall.UNIT],
        secret=[KUBELET_CONF],
        table=(firewall.TABLE, wanted or ""),
    )
    if found is None:
        yield from refuse("its firewall cannot be asked; mend the error above, then run again")
        return
    if wanted is None:
        yield from _removed([path for path in paths if path in found.files], found.table)
        return
    if KUBELET_CONF in found.files and firewall.FILE in found.files:
        pods = firewall.pods(found.files[firewall.FILE].text())
        if pods and (wrong := other_range(pods, firewall.pods(wanted))):
            yield from refuse(wrong)
            return
    differing = changes(firewall.files(wanted), dict(found.files))
    # What the table is to look like, the host's own nft says. An UNDO was cut off, or is going to
    # be done by the host.
    loaded = found.table and found.table == found.table_wanted and firewall.UNDO not in found.files
    unit = found.units.get(firewall.UNIT)
    enabled = unit is not None and unit.enabled == "enabled"
    if loaded and enabled and not differing:
        host.noop(f"table {firewall.TABLE} is as wanted, now and after a boot")
        return
    for change in differing:
        files.say(change)
    if not loaded:
        files.say(_drift(found, wanted, shown=firewall.FILE in [c.file.path for c in differing]))
    if not enabled:
        host.log(f"{firewall.UNIT}: enable")
    if not loaded:
        yield changing(firewall.LOAD, stdin=wanted)
        yield FunctionCommand(opens_again, (), {})
        yield changing(firewall.KEEP)
    for change in differing:
        yield files.write(change.file)
    yield changing(firewall.START)


def _drift(found: Found, wanted: str, *, shown: bool) -> Change:
    """What is said of a table that is not the wanted one; `shown`: its file's difference was."""
    path = f"table {firewall.TABLE}"
    diff = () if shown else unified(path, found.table, found.table_wanted)
    what = "loaded anew" if found.table else "loaded"
    return Change(TextFile(path, wanted), f"{path}: {what}, if SSH still opens then", diff)


def _removed(files_there: list[str], table: str) -> Generator[PyinfraCommand]:
    there = [*files_there, *([f"table {firewall.TABLE}"] if table else [])]
    if not there:
        host.noop("no firewall is wanted, and none of ours is there")
        return
    for each in there:
        host.log(f"{each}: removed")
    yield changing(firewall.REMOVE)


def opens_again(state: State, host: Host) -> bool:
    """Whether a second SSH connection opens, with all that the first was opened with."""
    second = type(host.connector)(state, host)
    try:
        second.connect()
    except ConnectError as error:
        host.log(
            f"no new SSH connection opens with these rules ({error}), so the host takes them back"
            f" within {firewall.SECONDS} s; give it the ssh_port that it listens on, or name your"
            " network in firewall_trusted"
        )
        return False
    if client := getattr(second, "client", None):
        client.close()
    return True
