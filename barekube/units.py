"""Whether a systemd unit has to be started or restarted, and why."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class FoundUnit(Protocol):
    """What a fact knows of a unit; `since` is in seconds of Unix time."""

    @property
    def load(self) -> str: ...
    @property
    def active(self) -> str: ...
    @property
    def enabled(self) -> str: ...
    @property
    def since(self) -> float: ...


def reason_to_start(
    unit: FoundUnit | None, written: Mapping[str, float], rewritten: Sequence[str] = ()
) -> str | None:
    """Why the unit has to be (re)started, or None.

    `written` maps the files that it reads to the time of their last change, in seconds of
    Unix time; `rewritten` are those that are about to change.
    """
    if unit is None or unit.load == "not-found":
        return "start (it is not installed yet)"
    if unit.active not in ("active", "activating", "reloading"):
        return f"start (it is {unit.active})"
    newer = list(rewritten) or [p for p, changed in written.items() if changed > unit.since]
    if newer:
        return f"restart ({', '.join(newer)} newer than its start)"
    if unit.enabled != "enabled":
        return "enable"
    return None
