"""The end of a run in a few lines: what became of each host, and the one command to go on with."""

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath
from typing import Final

from barekube.keys import ASKED

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
# What follows a deploy that is no stage: the deploy, and why.
_THEN = {
    "upgrade": ("verify", "to prove that the cluster works:"),
    "maintain": ("verify", "to prove that the cluster works:"),
    "remove_node": ("site", "once the inventory names who is to be in the cluster:"),
    "reset": ("site", "to have them in a cluster again:"),
    "replace_disk": ("storage", "to give Ceph the disk in its place:"),
    "zap": ("storage", "to give Ceph the disk:"),
}
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
    NOT_RESET = "not reset"
    UNWELL = "not well"


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
    # The sentences that it was refused with.
    refused: Sequence[str] = ()
    # It was refused what the command itself asks for, which lacked this --data ("": or is wrong).
    misasked: str | None = None
    # What is not well, and no change of this host mends.
    unwell: Sequence[str] = ()
    # Each line that was said of it.
    said: Sequence[str] = ()
    # Its SSH connection is gone.
    lost: bool = False
    # The run is about it: remove_node.py takes it out of the cluster, and it may be dead.
    leaves: bool = False


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
    # The sentences that ended it for all hosts.
    problems: Sequence[str] = ()
    # The inventory has hosts for storage.
    storage: bool = False

    @property
    def stems(self) -> list[str]:
        """The deploys' names."""
        return [PurePath(each).stem for each in self.deploys]


def changes(host: HostRun, run: Run) -> int:
    """How many operations changed something on it, or would."""
    return host.would_change if run.preview else sum(each.changed for each in host.operations)


def outcome(host: HostRun, run: Run) -> tuple[Outcome, str]:
    """What became of one host, and a few words on it."""
    if not host.connected:
        others = any(each.connected for each in run.hosts.values())
        if host.leaves and others and "remove_node" in run.stems:
            return Outcome.NOT_RESET, "it does not answer"
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
    elif not run.executed or any(each.succeeded is None for each in host.operations):
        return Outcome.NOT_FINISHED, ""
    if host.unwell and not changes(host, run):
        return Outcome.UNWELL, "; ".join(host.unwell)
    return (Outcome.CHANGED if changes(host, run) else Outcome.UNCHANGED), ""


# What the comparison that runs by itself, deploys/drift.py, ends with where something differs, or
# is left over. What is not well is trouble only where no run would change anything, which may mend
# it.
DRIFT = 3


def status(run: Run) -> int:
    """The exit status: 0 only if every host of the limit is as it was asked to be."""
    outcomes = {outcome(host, run)[0] for host in run.hosts.values()}
    if run.broken_off or not run.hosts or run.without_api or outcomes.intersection(_BAD):
        return 1
    if "drift" not in run.stems:
        return 0
    if Outcome.UNWELL in outcomes and Outcome.CHANGED not in outcomes:
        return 1
    return DRIFT if Outcome.CHANGED in outcomes or run.left_over else 0


def with_plan(printed: str, run: Run) -> str:
    """pyinfra's JSON document with `summary` in it; that alone where pyinfra printed none."""
    try:
        document = json.loads(printed)
    except ValueError:
        document = {}
    hosts = {}
    for name, host in run.hosts.items():
        what, words = outcome(host, run)
        if what is Outcome.FAILED and host.refused:
            words = f"{words}: {'; '.join(host.refused)}"
        hosts[name] = {
            "outcome": what.value,
            "changes": changes(host, run),
            "words": words,
            "said": list(host.said),
        }
    document["summary"] = {
        "preview": run.preview,
        "problems": list(run.problems),
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
    sentences: dict[tuple[Outcome, str], list[str]] = {}
    for name, host in run.hosts.items():
        what, words = outcome(host, run)
        if what in (Outcome.REFUSED, Outcome.UNWELL):
            sentences.setdefault((what, words), []).append(name)
            continue
        if what is Outcome.CHANGED:
            words = str(changes(host, run))
        said[what].append(f"{name} ({words})" if words else name)
    result = []
    if not run.executed and not run.preview:
        said[Outcome.NOT_FINISHED] = []
        result.append("nothing was changed: the run ended before its first step")
    for what, hosts in said.items():
        if hosts:
            label = _PREVIEW.get(what, what.value) if run.preview else what.value
            result.append(f"{label + ':':<14} {_count(hosts, shorten=what not in _BAD)}")
    for (what, words), hosts in sentences.items():
        result.append(f"{what.value + ':':<14} {_count(hosts, shorten=False)}: {words}")
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


# These look at who is in the run: with fewer hosts they mean another thing, or are refused.
_TOGETHER: Final = {"remove_node", "reset"}


def next_command(run: Run) -> list[str]:
    """The one command to go on with, and why."""
    if not run.hosts:
        return []
    bad = [n for n, host in run.hosts.items() if outcome(host, run)[0] in _BAD]
    if not run.executed and not run.preview:
        bad = [name for name, host in run.hosts.items() if host.failed or not host.connected]
    if run.unanswered:
        return [
            "nobody is there to press enter; to do it:",
            f"  {command([*run.arguments, '-y'])}",
        ]
    for host in run.hosts.values():
        if host.misasked is not None:
            return _asked_otherwise(run, host.misasked)
    if (run.broken_off or run.without_api) and not bad:
        return ["mend the error above, then run again:", f"  {command(run.arguments)}"]
    if bad:
        again = command(run.arguments)
        if not len(bad) == len(run.hosts) > 1 and not _TOGETHER.intersection(run.stems):
            again = command(_without(run.arguments, ("--limit", "--exclude")), "--limit", bad)
        return ["mend the errors above, then run again:", f"  {again}"]
    if run.preview and any(host.would_change for host in run.hosts.values()):
        # What drifted is brought back by the deploy that it was compared with.
        words = [each.replace("drift.py", "site.py") for each in _for_real(run.arguments)]
        return ["to do it:", f"  {command(words)}"]
    return _after(run)


def _for_real(arguments: Sequence[str]) -> list[str]:
    """The arguments of a run that asks nobody, also of those of a preview."""
    return [*_without(arguments, (), ("--dry", "--diff", "--json", "-y")), "-y"]


def _asked_otherwise(run: Run, data: str) -> list[str]:
    """What follows a command that was refused for what it asks."""
    if not data:
        return ["that cannot be done as it was asked; the sentence above says what can"]
    words = _for_real(_without_data(run.arguments, {data.partition("=")[0]}))
    return ["to do it:", f"  {command([*words, '--data', data])}"]


def _after(run: Run) -> list[str]:
    """What follows where all is done, or there was nothing to do."""
    if not run.stems:
        return []
    last = run.stems[-1]
    if run.preview and any("prune=true" in remedy for remedy in run.left_over.values()):
        return ["to see what would go:", f"  {command([*run.arguments, '--data', 'prune=true'])}"]
    if last in _THEN:
        deploy, why = _THEN[last]
        words = _instead(run, deploy)
        if last == "remove_node":
            # It is the others whom the node's leaving concerns.
            words = _without(words, ("--limit", "--exclude"))
        if deploy == "verify":
            # The cluster is to be proven, not only who was worked on.
            words = _without(words, ("--limit",))
        if run.preview and deploy == "verify":
            # Its preview proves nothing.
            words = _for_real(words)
        return [why, f"  {command(words)}"]
    stages = STAGES if run.storage else STAGES[:-1]
    well = all(outcome(host, run)[0] is not Outcome.UNWELL for host in run.hosts.values())
    if last in stages[:-1] and well:
        following = stages[stages.index(last) + 1]
        return ["the next stage:", f"  {command(_instead(run, following))}"]
    if run.control_plane is None:
        return []
    look = ["pyinfra", run.inventory, "-y", "--limit", run.control_plane, "exec", "--"]
    look += ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "nodes"]
    return ["to look at the cluster:", f"  {shlex.join(look)}"]


def _instead(run: Run, deploy: str) -> list[str]:
    """The arguments with this deploy in the place of all, without what only those were asked."""
    first = run.deploys[0]
    named = {first: [str(PurePath(first).with_name(f"{deploy}.py"))]}
    named |= {each: [] for each in run.deploys[1:]}
    return [
        word for each in _without_data(run.arguments, ASKED) for word in named.get(each, [each])
    ]


def _without_data(arguments: Sequence[str], keys: Collection[str]) -> list[str]:
    """The arguments less what --data says of these keys."""
    result: list[str] = []
    for each in arguments:
        if each.removeprefix("--data=").partition("=")[0] not in keys:
            result.append(each)
        elif result[-1:] == ["--data"]:
            result.pop()
        elif not each.startswith("--data="):
            result.append(each)
    return result


def command(arguments: Sequence[str], option: str = "", values: Sequence[str] = ()) -> str:
    """pyinfra with these arguments, to be shown; the option is repeated for each value."""
    repeated = [word for value in values for word in (option, value)]
    return shlex.join(["pyinfra", *_unsecret(arguments), *repeated])


# pyinfra's options whose value is a secret, and keys of --data; what stands for it in a command.
_SECRET = re.compile(r"--(ssh-)?(key-)?password")
_SECRET_DATA = re.compile(r"(--data=)?(ssh|ssh_key|_sudo|_su)_password=")
_HIDDEN = "PASSWORD"


def _unsecret(arguments: Sequence[str]) -> list[str]:
    """The arguments with a placeholder for each password: they are shown, and kept in logs."""
    result: list[str] = []
    for before, each in zip(["", *arguments], arguments, strict=False):
        option, sign, _ = each.partition("=")
        if _SECRET.fullmatch(before):
            result.append(_HIDDEN)
        elif sign and _SECRET.fullmatch(option):
            result.append(f"{option}={_HIDDEN}")
        elif data := _SECRET_DATA.match(each):
            result.append(f"{data[0]}{_HIDDEN}")
        else:
            result.append(each)
    return result


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
