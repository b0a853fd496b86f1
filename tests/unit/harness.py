"""One operation on one host that answers the batch facts, without a connection."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.context import ctx_host, ctx_inventory, ctx_state

from barekube.cluster import Cluster, Node
from barekube.facts.living import BEFORE

Answers = dict[str, list[str] | None]


def home(*nodes: Node, **more: Any) -> Cluster:  # noqa: ANN401
    """A cluster of these nodes."""
    networks = "10.96.0.0/12", "10.32.0.0/12"
    return Cluster("home", "1.37.2", "api.home", 6443, *networks, nodes, **more)


class Data(SimpleNamespace):
    """host.data."""

    def get(self, key: str, default: object = None) -> object:
        return getattr(self, key, default)


class FakeHost:
    """Answers facts from the lines that the host would print; None: the command failed there."""

    connected = True

    def __init__(self, name: str, answers: Answers, data: dict[str, Any]) -> None:
        self.name = name
        self.data = Data(**data)
        self.logs: list[str] = []
        self.noops: list[str] = []
        self.asked = 0
        self._answers = answers

    def get_fact(self, cls: Callable[[], Any], **arguments: object) -> Any:  # noqa: ANN401
        fact = cls()
        fact.command(**arguments)
        self.asked += 1
        lines = self._answers[type(fact).__name__]
        return None if lines is None else fact.process(lines)

    def log(self, line: str) -> None:
        self.logs.append(line)

    def noop(self, line: str) -> None:
        self.noops.append(line)


@dataclass
class Outcome:
    """What an operation did: its commands, what they read, what was said, how often it asked."""

    commands: list[str] = field(default_factory=list)
    stdin: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    noops: list[str] = field(default_factory=list)
    asked: int = 0


def outcome(
    operation: Callable[..., object],
    *arguments: object,
    answers: Answers,
    name: str = "n-1",
    data: dict[str, Any] | None = None,
    inventory: Sequence[object] = (),
    failed: Sequence[str] = (),
    unreached: Sequence[str] = (),
    active: Sequence[object] = (),
    fails_at: str | None = None,
    preview: bool = False,
    **options: object,
) -> Outcome:
    """Run an operation as a host's turn in a run would.

    `failed`: the hosts that have failed before, `unreached` those that never answered; `fails_at`:
    what is in the command that fails. A `preview` ends at the first command.
    """
    host = FakeHost(name, answers, data or {})
    away = [SimpleNamespace(name=each) for each in failed]
    state = SimpleNamespace(
        config=SimpleNamespace(DIFF=False),
        is_executing=not preview,
        failed_hosts=[*away, *(SimpleNamespace(name=each) for each in unreached)],
        activated_hosts=[host, *away],
        active_hosts=[*active, host],
        is_host_in_limit=lambda other: True,
    )
    result = Outcome(logs=host.logs, noops=host.noops)
    inner: Any = operation._inner  # type: ignore[attr-defined]
    with ctx_state.use(state), ctx_inventory.use(inventory), ctx_host.use(host):
        for command in inner(*arguments, **options):
            if isinstance(command, FunctionCommand):
                result.commands.append(f"{command.function.__name__}()")
                if preview:
                    break
                continue
            assert isinstance(command, StringCommand)
            result.commands.append(command.get_raw_value())
            stdin: Any = command.connector_arguments.get("_stdin")
            result.stdin += [] if stdin is None else [str(stdin)]
            if preview or (fails_at and fails_at in result.commands[-1]):
                break
    result.asked = host.asked
    return result


def begun(command: StringCommand, root: Path) -> "subprocess.Popen[str]":
    """A command, really run, on files below `root` in place of a host's own; programs in its bin
    come first."""
    script = command.get_raw_value()
    script = script.replace("/run/lock/barekube", f"{root}/lock").replace(BEFORE, f"{root}/before")
    return subprocess.Popen(
        ["sh", "-c", script],
        env={"PATH": f"{root}/bin:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
