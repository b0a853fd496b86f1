"""The real command line, in a process of its own, on machines of the @fake connector."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.plan import machines


@dataclass(frozen=True)
class Result:
    """What a run of pyinfra left."""

    status: int
    stdout: str
    stderr: str

    @property
    def plan(self) -> list[dict[str, Any]]:
        assert self.status == 0, self.stderr
        result: list[dict[str, Any]] = json.loads(self.stdout)["plan"]
        return result

    @property
    def summary(self) -> list[str]:
        """Its lines, without the time that it took."""
        after = self.stderr.partition("--> Summary:\n")[2].splitlines()
        return [line.strip() for line in after if not line.strip().startswith("took:")]

    @property
    def remote_commands(self) -> Counter[str]:
        """How many commands each host was given, as the connector itself logs them (--debug)."""
        return Counter(re.findall(r"\[fake\] simulating command on @fake/([^ :]+):", self.stderr))

    @property
    def changing_commands(self) -> list[str]:
        """The beginnings of those that may change a host: all but the known ones that only read."""
        given = re.findall(r"\[fake\] simulating (.*)", self.stderr)
        assert "[pyinfra_cli." in self.stderr, "run it with --debug"
        return [each for each in given if not _READING.match(each)]


# How the commands of our facts begin, and that of a refusal, which is to fail.
_READING = re.compile(
    r"command on [^ ]+: (export LC_ALL=C; |d=\$\(mktemp -d\) |perl -e |bash -c 'f=\$\(mktemp "
    r"|label='|config='|timeout 10 bash -c 'exec 3<>|cat /etc/kubernetes/admin\.conf$|false$)"
)
Pyinfra = Callable[..., Result]


@pytest.fixture
def pyinfra() -> Pyinfra:
    """Runs pyinfra with these arguments, the API being a stand-in if `api`."""

    def run(*arguments: str, api: bool = False) -> Result:
        program = ["tests/plan/with_api.py"] if api else ["-m", "pyinfra"]
        done = subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=machines.REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(machines.REPOSITORY)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
