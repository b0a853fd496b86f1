"""The monthly work on a machine: its distribution's packages, and a reboot where one is due."""

import time
from collections.abc import Generator
from dataclasses import replace

from paramiko import SSHException
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import maintain, remote, settings, upgrade
from barekube.cluster import Cluster
from barekube.facts.maintain import UpkeepFact
from barekube.operations import packages, roll
from barekube.operations.order import answering, changing, persistently, refuse, wait
from barekube.operations.upgradable import ask, now

_BOOT_LIMIT, _WELL_LIMIT = 900, 300


@operation()
def listed() -> Generator[StringCommand]:
    """The package lists are today's, if packages are to be upgraded."""
    if not host.data.get("packages"):
        host.noop("no packages are to be upgraded")
        return
    yield changing(f"{packages.FINISH}; {packages.APT} update")


@operation()
def maintained(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This host has its distribution's packages and runs its newest kernel; drained meanwhile.

    One round trip where nothing is to do, and without data, where it only says what there is.
    """
    yield from answering(_maintained(cluster))


def _maintained(cluster: Cluster) -> Generator[PyinfraCommand]:
    upkeep = host.get_fact(UpkeepFact)
    if upkeep is None:
        yield from refuse("it cannot be looked at; mend the error above, then run again")
        return
    wanted, asked = bool(host.data.get("packages")), bool(host.data.get("reboot"))
    if not wanted and not asked:
        for phrase in maintain.report(upkeep):
            host.log(phrase)
        host.noop("nothing was asked for (--data packages=true, --data reboot=true)")
        return
    reason = "asked for" if asked else maintain.reboot_reason(upkeep)
    broken = wanted and upkeep.broken
    upgradable = upkeep.upgradable if wanted else ()
    if not broken and not upgradable and not reason:
        if persistently(lambda: roll.marked(cluster_api.connect(cluster), host.name)):
            host.log("uncordon: a run that was cut off has left it cordoned")
            yield from roll.back(cluster)
            return
        host.log("its packages are up to date, and no reboot is due")
        host.noop("nothing is due")
        return
    if sentence := roll.halted() or _hindrance(cluster):
        yield from refuse(sentence)
        return
    if broken:
        host.log("half installed packages: finish, then upgrade all")
    for name in upgradable:
        host.log(f"{name}: upgrade")
    if reason:
        host.log(f"reboot: {reason}")
    yield from roll.drained(cluster, lambda: _work(asked, packages_too=bool(broken or upgradable)))


def _hindrance(cluster: Cluster) -> str | None:
    """Why no node may go away now, or None: another one is not well."""
    active = _active()
    if left := sorted((now(cluster).cordoned & active) - {host.name}):
        return (
            f"{left[0]} was left cordoned by a run that was cut off; run this with --limit"
            f" {left[0]} first"
        )

    def unwell() -> str | None:
        seen = ask(cluster_api.connect(cluster))
        # Of itself a node is let back at the end, also by a run after one that was cut off.
        troubled = {name: why for name, why in seen.troubled.items() if name != host.name}
        others = [name for name in seen.kubelets if name not in active]
        return next(iter(upgrade.not_well(replace(seen, troubled=troubled), others)), None)

    # A control plane's pods start anew for a while after the reboot of another.
    return wait("the other nodes", _WELL_LIMIT if state.is_executing else -1, unwell)


def _active() -> set[str]:
    return {each.name for each in settings.hosts() if each in state.active_hosts}


def _work(asked: bool, *, packages_too: bool) -> Generator[PyinfraCommand]:
    if packages_too:
        yield changing(f"{packages.FINISH}; {packages.APT} --with-new-pkgs upgrade; sync")
    upkeep = host.get_fact(UpkeepFact)
    if upkeep is None:
        yield from refuse("it cannot be looked at; mend the error above, then run again")
    elif asked or maintain.reboot_reason(upkeep):
        yield FunctionCommand(_reboot, (), {})


def _reboot(state: State, host: Host) -> bool:
    before = remote.boot_id(host)
    try:
        command = StringCommand("systemctl reboot --no-block")
        done, output = host.run_shell_command(command, _sudo=remote.sudo(host))
    except (OSError, SSHException):
        done = True  # It goes down faster than it answers.
    if not done and before and remote.boot_id(host) == before:
        why = output.stderr or output.stdout or "without a word"
        host.log(
            f"it refuses to reboot ({why}); mend that, then run this again, which lets it back too"
        )
        return False
    end = time.monotonic() + _BOOT_LIMIT
    said = time.monotonic()
    while time.monotonic() < end:
        time.sleep(5)
        if remote.reconnect(host) and remote.boot_id(host) not in (None, before):
            return True
        if time.monotonic() - said > 30:
            said = time.monotonic()
            host.log(f"waiting for its SSH, {end - said:.0f} s of {_BOOT_LIMIT} s are left")
    host.log(f"it is not back {_BOOT_LIMIT} s after its reboot; look at its console")
    return False
