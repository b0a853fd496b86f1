"""The first of three control planes leaves and joins again, then dies and is replaced; by name.

    .venv/bin/python -m pytest tests/drills/test_first_leaves.py -s

On the lab, which it takes down first. Clients write through a worker's proxy meanwhile.
"""

import time
from collections.abc import Iterator

import pytest

from lab.disks import root_disk
from lab.hosts import load
from tests.drills.test_ha import (
    EXTRA,
    LOGS,
    MASTERS,
    _await_all,
    _members,
    _pyinfra,
    counting,
    deployed,
    through_worker,
)
from tests.lab.conftest import Run
from tests.lab.recorder import run_lab, ssh

__all__ = ["through_worker"]

FIRST, SECOND = MASTERS[:2]
_KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"


@pytest.fixture(scope="module")
def three() -> Iterator[str]:
    """The lab with three control planes, made by one run; the uid of its cluster."""
    with deployed(MASTERS) as run:
        print(f"\nsite.py with three control planes: {run.seconds:.0f} s", flush=True)
        yield _uid()


def _run(stage: str, *words: str) -> Run:
    run = _pyinfra(EXTRA, stage, *words)
    with (LOGS / "first-leaves.log").open("a") as log:
        log.write(run.text)
    return run


def _kubectl(words: str) -> str:
    return ssh(SECOND, f"{_KUBECTL} {words}")


def _uid() -> str:
    """Another one would be another cluster."""
    return _kubectl("get namespace kube-system -o jsonpath={.metadata.uid}")


def _nodes() -> list[str]:
    return _kubectl("get nodes -o jsonpath={.items[*].metadata.name}").split()


def _is_out() -> None:
    assert FIRST not in _nodes()
    members = _members(SECOND)
    assert len([line for line in members if ", started, " in line]) == 2, members
    assert len([line for line in members if "is healthy" in line]) == 2, members
    holder = _kubectl("get lease barekube -n kube-system -o jsonpath={.spec.holderIdentity}")
    assert holder == "", "the run that removed it holds the Lease still"


def _is_back(uid: str) -> None:
    _await_all()
    assert _uid() == uid
    assert set(MASTERS) <= set(_nodes())
    members = _members(FIRST)
    assert len([line for line in members if "is healthy" in line]) == 3, members
    again = _pyinfra(EXTRA, "deploys/site.py", "--dry", "--json")
    assert again.status == 0, again.text[-6000:]
    assert again.would_change() == {}


def test_the_first_control_plane_leaves_and_joins_again_and_hardly_a_call_fails(
    three: str, through_worker: None
) -> None:
    with counting() as clients:
        gone = _run("deploys/remove_node.py", "-y", "--data", f"node={FIRST}")
        print(f"\n{FIRST} left: {gone.seconds:.0f} s, status {gone.status}", flush=True)
        assert gone.status == 0, gone.text[-8000:]
        _is_out()
        left = ssh(FIRST, "ls -d /etc/kubernetes /var/lib/etcd /var/lib/kubelet 2>/dev/null; true")
        assert left == ""
        back = _run("deploys/site.py", "-y")
        print(f"{FIRST} joined: {back.seconds:.0f} s, status {back.status}", flush=True)
        assert back.status == 0, back.text[-8000:]
        _is_back(three)
    for why in (line for each in clients for line in each.failed):
        print(f"    failed: {why}", flush=True)
    # From its etcd's end until the proxy has looked its API server answers with errors, and
    # these clients try again at once.
    assert max(len(each.failed) for each in clients) <= 2
    assert all(each.calls > gone.seconds for each in clients), "the clients have slept"


def test_a_dead_first_control_plane_goes_and_a_fresh_machine_takes_its_name(
    three: str, through_worker: None
) -> None:
    with counting() as clients:
        run_lab("power-off", FIRST)
        time.sleep(60)
        gone = _run("deploys/remove_node.py", "-y", "--data", f"node={FIRST}")
        print(f"\ndead {FIRST} left: {gone.seconds:.0f} s, status {gone.status}", flush=True)
        assert gone.status == 0, gone.text[-8000:]
        _is_out()
        # Another machine: a disk, a machine-id and host keys of its own.
        root_disk(load().host(FIRST)).unlink()
        run_lab("up", FIRST)
        back = _run("deploys/site.py", "-y")
        print(f"a fresh {FIRST} joined: {back.seconds:.0f} s, status {back.status}", flush=True)
        assert back.status == 0, back.text[-8000:]
        _is_back(three)
    assert [each.failed for each in clients] == [[], []]
    seen = _pyinfra(EXTRA, "deploys/verify.py", "-y")
    assert seen.status == 0, seen.text[-6000:]
