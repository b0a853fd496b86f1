"""Whether an OSD of Ceph can go without anything being lost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What the toolbox is asked, a line of JSON each; the last line says what Ceph itself thinks.
ASK = (
    "ceph osd tree -f json; echo; ceph osd pool ls detail -f json; echo; ceph status -f json; echo;"
    " if ceph osd safe-to-destroy osd.{number} >/dev/null 2>&1; then echo safe;"
    " else echo needed; fi"
)
# Of a placement group whose copies, as many as there are, are all complete. One that has no other
# place than an OSD that was marked out stays on it, "remapped"; while data moves, it says more.
_WHOLE = frozenset(("active", "clean", "remapped", "undersized", "degraded", "scrubbing", "deep"))


@dataclass(frozen=True)
class View:
    """Ceph as its toolbox has it: the host of each OSD, those that are up, those of them that data
    is put on, those that are down and counted on to come back, the most copies that a pool keeps,
    and the states of its placement groups. `safe`: Ceph says that the OSD in question holds nothing
    that is needed."""

    hosts: Mapping[int, str]
    up: frozenset[int]
    used: frozenset[int]
    away: frozenset[int]
    copies: int
    states: frozenset[str]
    safe: bool


def view(lines: Sequence[str]) -> View:
    """The answer to `ASK`. Raises ValueError if it is none."""
    try:
        tree, pools, status, safe = (line for line in lines if line.strip())
        nodes = json.loads(tree)["nodes"] + json.loads(tree).get("stray", [])
        osds = {each["id"]: each for each in nodes if each["type"] == "osd"}
        above = {
            child: each["name"]
            for each in nodes
            if each["type"] == "host"
            for child in each["children"]
        }
        up = frozenset(number for number, each in osds.items() if each["status"] == "up")
        return View(
            {number: above.get(number, "") for number in osds},
            up,
            frozenset(number for number in up if osds[number]["reweight"] > 0),
            frozenset(n for n, each in osds.items() if n not in up and each["reweight"] > 0),
            max((pool["size"] for pool in json.loads(pools)), default=0),
            frozenset(each["state_name"] for each in json.loads(status)["pgmap"]["pgs_by_state"]),
            safe == "safe",
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"Ceph's answer lacks {error}") from None


def needed(seen: View, number: int) -> str | None:
    """Why an OSD that was marked out is still needed, or None.

    Where Ceph has as many hosts left as it keeps copies, it makes the OSD's copies anew elsewhere,
    and this waits for that. With one host less it cannot, and what is left has to be complete.
    """
    if seen.safe:
        return None
    if away := ", ".join(f"osd.{each}" for each in sorted(seen.away - {number})):
        return f"{away} is down, and the copies there are missed already"
    restless = sorted(each for each in seen.states if set(each.split("+")) - _WHOLE)
    if restless:
        return f"there are placement groups that are {', '.join(restless)}"
    left = {seen.hosts[each] for each in seen.used if each != number}
    if len(left) >= seen.copies:
        return "its copies are made anew on other disks"
    if len(left) < seen.copies - 1:
        return f"only {len(left)} other hosts have disks in use, and there are {seen.copies} copies"
    if len(left) < 2 and number in seen.up:
        return "without it one copy would be left; add a disk on another host first"
    return None
