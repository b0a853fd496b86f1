"""The end of a run in a few lines: what became of each host, and the one command to go on with."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath

STAGES = (
    "preflight",
    "host",
    "runtime",
    "kubernetes_packages",
    "control_plane",
    "workers",
    "network",
    "ingress",
    "storage",
)
# A deploy after which there is a cluster to look at.
_CLUSTER_IS_UP = ("site", "network", "ingress")
_SHOWN = 12
_LOST = "it answers no more on SSH: see whether it has power"


class Outcome(Enum):
    """What became of one host."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    REFUSED = "refused"
    NOT_FINISHED = "not finished"
    NOT_REACHED = "not reached"


_BAD = (Outcome.FAILED, Outcome.REFUSED, Outcome.NOT_FINISHED, Outcome.NOT_REACHED)


@dataclass(frozen=True)
class Operation:
    """One operation of one host. `succeeded` is None before it was run."""

    name: str
    succeeded: bool | None
    changed: bool


@dataclass(frozen=True)
class HostRun:
    """What pyinfra knows of one host at the end. `connected`: at the run's beginning."""

    connected: bool
    failed: bool
    operations: Sequence[Operation] = ()
    # Only in a preview: how many operations would change something.
    would_change: int = 0
    # The sentences that a preview refused it with.
    refused: Sequence[str] = ()
    # Its SSH connection is gone.
    lost: bool = False


@dataclass(frozen=True)
class Run:
    """A run: its command, and its hosts (those of the limit, in the inventory's order)."""

    hosts: Mapping[str, HostRun]
    deploys: Sequence[str]
    arguments: Sequence[str]
    inventory: str
    control_plane: str | None
    seconds: float
    preview: bool = False
    # An error ended it, or nobody agreed to it.
    broken_off: bool = False
    # Operations were begun.
    executed: bool = True
    # It asked whether to go on, and nobody was there.
    unanswered: bool = False
    # Why a preview found no API of the cluster that there is.
    without_api: Sequence[str] = ()
    # {object: how it goes} of what has a stage's label and is in its manifests no more.
    left_over: Mapping[str, str] = field(default_factory=dict)


def outcome(host: HostRun, run: Run) -> tuple[Outcome, str]:
    """What became of one host, and a few words on it."""
    if not host.connected:
        return Outcome.NOT_REACHED, ""
    if host.failed:
        at = next((each.name for each in host.operations if each.succeeded is False), None)
        where = [f"at {at!r}"] if at else []
        return Outcome.FAILED, ", ".join([*where, *([_LOST] if host.lost else [])])
    if run.preview:
        if run.broken_off:
            return Outcome.NOT_FINISHED, ""
        if host.refused:
            return Outcome.REFUSED, "; ".join(host.refused)
        count = host.would_change
        return (Outcome.CHANGED if count else Outcome.UNCHANGED), str(count or "")
    if any(each.succeeded is None for each in host.operations):
        return Outcome.NOT_FINISHED, ""
    count = sum(each.changed for each in host.operations)
    return (Outcome.CHANGED if count else Outcome.UNCHANGED), str(count or "")


# What the comparison that runs by itself, deploys/drift.py, ends with where something differs, or
# is left over.
DRIFT = 3


def status(run: Run) -> int:
    """The exit status: 0 only if every host of the limit is as it was asked to be."""
    outcomes = {outcome(host, run)[0] for host in run.hosts.values()}
    if run.broken_off or not run.hosts or run.without_api or outcomes.intersection(_BAD):
        return 1
    drift = [PurePath(each).stem for each in run.deploys] == ["drift"]
    return DRIFT if drift and (Outcome.CHANGED in outcomes or run.left_over) else 0


def with_plan(printed: str, run: Run) -> str:
    """pyinfra's JSON document with `summary` in it; that alone where pyinfra printed none."""
    try:
        document = json.loads(printed)
    except ValueError:
        document = {}
    hosts = {}
    for name, host in run.hosts.items():
        what, words = outcome(host, run)
        hosts[name] = {"outcome": what.value, "words": words}
    document["summary"] = {
        "preview": run.preview,
        "hosts": hosts,
        "without_api": list(run.without_api),
        "left_over": dict(run.left_over),
        "seconds": round(run.seconds, 1),
        "status": status(run),
        "next": [line.strip() for line in next_command(run)],
    }
    return json.dumps(document, indent=2)


def without_run(problems: Sequence[str]) -> str:
    """The JSON document of a command that was refused before there was a run."""
    summary = {"status": 1, "problems": list(problems), "hosts": {}}
    return json.dumps({"summary": summary}, indent=2)


def lines(run: Run) -> list[str]:
    """The summary."""
    if not run.hosts:
        return ["no host is in this run; look at --limit, --exclude and the inventory"]
    said: dict[Outcome, list[str]] = {each: [] for each in Outcome}
    refusals: dict[str, list[str]] = {}
    for name, host in run.hosts.items():
        what, words = outcome(host, run)
        if what is Outcome.REFUSED:
            refusals.setdefault(words, []).append(name)
        else:
            said[what].append(f"{name} ({words})" if words else name)
    result = []
    if not run.executed and not run.preview:
        # Nothing ran, so that "unchanged" would claim to know.
        said[Outcome.CHANGED] = said[Outcome.UNCHANGED] = said[Outcome.NOT_FINISHED] = []
        result.append("nothing was changed: the run ended before its first step")
    for what, hosts in said.items():
        if hosts:
            label = _PREVIEW.get(what, what.value) if run.preview else what.value
            result.append(f"{label + ':':<14} {_count(hosts, shorten=what not in _BAD)}")
    for words, hosts in refusals.items():
        result.append(f"{'refused:':<14} {_count(hosts, shorten=False)}: {words}")
    if run.without_api:
        result.append(f"{'API:':<14} no control plane answers ({'; '.join(run.without_api)})")
    if run.left_over:
        objects = [f"{title} ({remedy})" for title, remedy in run.left_over.items()]
        result.append(f"{'left over:':<14} {_count(objects, shorten=False)}")
    result.append(f"{'took:':<14} {duration(run.seconds)}")
    return result + next_command(run)


_PREVIEW = {Outcome.CHANGED: "would change", Outcome.UNCHANGED: "as wanted"}


def _count(hosts: Sequence[str], *, shorten: bool) -> str:
    shown = hosts[:_SHOWN] if shorten else hosts
    more = f" and {len(hosts) - len(shown)} more" if len(shown) < len(hosts) else ""
    return f"{len(hosts)}: {', '.join(shown)}{more}"


def duration(seconds: float) -> str:
    """'41 s', '3 min 05 s'."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"


def next_command(run: Run) -> list[str]:
    """The command to go on with, and why."""
    bad = [n for n, host in run.hosts.items() if outcome(host, run)[0] in _BAD]
    if not run.executed and not run.preview:
        bad = [name for name, host in run.hosts.items() if host.failed or not host.connected]
    if run.unanswered:
        return [
            "nobody is there to press enter; to do it:",
            f"  {_command([*run.arguments, '-y'])}",
        ]
    if run.broken_off and not bad:
        return ["mend the error above, then run again:", f"  {_command(run.arguments)}"]
    if bad:
        again = _command(run.arguments)
        if not len(bad) == len(run.hosts) > 1:
            again = _command(_without(run.arguments, ("--limit", "--exclude")), "--limit", bad)
        return ["mend the errors above, then run again:", f"  {again}"]
    if run.preview:
        if not any(host.would_change for host in run.hosts.values()):
            return []
        rest = _without(run.arguments, (), ("--dry", "--diff", "--json"))
        # What drifted is brought back by the deploy that it was compared with.
        rest = [each.replace("drift.py", "site.py") for each in rest]
        return ["to do it:", f"  {_command([*rest, '-y'])}"]
    if len(run.deploys) != 1:
        return []
    stage = PurePath(run.deploys[0]).stem
    if stage in _CLUSTER_IS_UP and run.control_plane:
        look = ["pyinfra", run.inventory, "-y", "--limit", run.control_plane, "exec", "--"]
        look += ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "nodes"]
        return ["to look at the cluster:", f"  {shlex.join(look)}"]
    if stage not in STAGES or stage == STAGES[-1]:
        return []
    after = STAGES[STAGES.index(stage) + 1]
    swap = {run.deploys[0]: str(PurePath(run.deploys[0]).with_name(f"{after}.py"))}
    rest = [swap.get(each, each) for each in run.arguments]
    return ["the next stage:", f"  {_command(rest)}"]


def _command(arguments: Sequence[str], option: str = "", values: Sequence[str] = ()) -> str:
    repeated = [word for value in values for word in (option, value)]
    return shlex.join(["pyinfra", *arguments, *repeated])


def _without(
    arguments: Sequence[str], with_value: Sequence[str], flags: Sequence[str] = ()
) -> list[str]:
    """The arguments less some options; those of `with_value` have theirs after a space or '='."""
    result: list[str] = []
    skip = False
    for each in arguments:
        if skip:
            skip = False
        elif each in with_value:
            skip = True
        elif each not in flags and each.partition("=")[0] not in with_value:
            result.append(each)
    return result
