"""The lab, deployed: every test here works on whole machines over SSH."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import hosts as lab_hosts
from lab import pod_network
from lab.paths import KUBECONFIG
from tests.lab.recorder import repository_root, run_lab

PYINFRA = [".venv/bin/pyinfra", "lab/inventory.py"]


class Run:
    """One finished run of pyinfra."""

    def __init__(self, done: "subprocess.CompletedProcess[str]", seconds: float) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        self.seconds = seconds

    @property
    def text(self) -> str:
        return self.out + self.err

    def would_change(self) -> dict[str, list[str]]:
        """{operation: hosts} of a `--dry --json` run that would change something."""
        plan = json.loads(self.out)["plan"]
        return {op["name"]: op["hosts_with_change"] for op in plan if op["hosts_with_change"]}


Deploy = Callable[..., Run]


def pytest_sessionstart() -> None:
    """BAREKUBE_WEAVE=1 is not content with tests that are skipped for want of images."""
    if os.environ.get("BAREKUBE_WEAVE") and pod_network.manifests() != pod_network.WEAVE:
        pytest.exit("BAREKUBE_WEAVE=1: the bundle lacks Weave; python -m bundle add FILE", 1)


def run_pyinfra(command: list[str], extra: str = "", seconds: float = 1800) -> Run:
    """Run pyinfra on machines of the lab; `extra` are spares that the inventory has then."""
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=repository_root(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=os.environ | {"BAREKUBE_LAB_EXTRA": extra},
    )
    return Run(done, time.monotonic() - began)


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    """Run pyinfra on the lab: deploy("deploys/site.py", "-y", extra="worker-3")."""

    def run(*arguments: str, extra: str = "") -> Run:
        done = run_pyinfra([*PYINFRA, *arguments], extra)
        # pytest shows it where a test fails.
        print(f"pyinfra {' '.join(arguments)}: {done.status}", done.out, done.err, sep="\n")
        return done

    return run


@pytest.fixture(scope="session")
def site(deploy: Deploy) -> Run:
    """The lab, up and as site.py makes it."""
    run_lab("up", seconds=4000)
    done = deploy("deploys/site.py", "-y")
    assert done.status == 0, done.text[-6000:]
    return done


@pytest.fixture(scope="session")
def kubectl(site: Run) -> Iterator[list[str]]:
    """The beginning of a kubectl command line with the lab's kubeconfig."""
    run_lab("kubeconfig", seconds=60)
    program = Path.home() / ".cache/barekube/bin/kubectl"
    yield [str(program), "--kubeconfig", str(KUBECONFIG)]


@pytest.fixture(scope="session")
def names() -> list[str]:
    """The hosts of the lab's inventory, spares left out."""
    return [host.name for host in lab_hosts.load().hosts if not host.spare]
