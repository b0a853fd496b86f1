"""One cluster, never two; and machines that come later, while others are down."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import host_state, run_lab, ssh


@pytest.fixture
def cp_1_off(site: Run, kubectl: list[str]) -> Iterator[None]:
    """cp-1 without power, and afterwards with it again."""
    run_lab("power-off", "cp-1", seconds=300)
    yield
    run_lab("power-on", "cp-1", seconds=300)
    end = time.monotonic() + 180
    answers = [*kubectl, "get", "--raw", "/readyz"]
    while subprocess.run(answers, capture_output=True, check=False).returncode:
        assert time.monotonic() < end, "the API does not come back"
        time.sleep(1)


def test_a_worker_of_the_inventory_joins_alone_with_a_limit(
    deploy: Deploy, site: Run, kubectl: list[str]
) -> None:
    run_lab("up", "worker-3", seconds=300)
    try:
        # The firewall of an edge host has to know who is new before that one is let in.
        first = deploy("deploys/host.py", "-y", "--limit", "worker-2", extra="worker-3")
        assert first.status == 0, first.text[-4000:]
        done = deploy("deploys/site.py", "-y", "--limit", "worker-3", extra="worker-3")
        assert done.status == 0, done.text[-4000:]
        ready = subprocess.run(
            [*kubectl, "wait", "--for=condition=Ready", "node/worker-3", "--timeout=1s"],
            check=False,
        )
        assert ready.returncode == 0
        again = deploy(
            "deploys/site.py", "--dry", "--json", "--limit", "worker-3", extra="worker-3"
        )
        assert again.would_change() == {}
    finally:
        subprocess.run([*kubectl, "delete", "node", "worker-3"], check=False)
        run_lab("power-off", "worker-3", seconds=300)


def test_without_the_control_plane_nothing_is_created_and_the_sentence_names_it(
    deploy: Deploy, cp_1_off: None
) -> None:
    before = host_state("worker-1")
    for stage, sentence in {
        "control_plane": "cp-1: not reached; nothing is created or changed in its place",
        "workers": "no control plane answers (cp-1",
    }.items():
        done = deploy(f"deploys/{stage}.py", "-y")
        assert done.status == 1
        assert sentence in done.text
        assert "Traceback" not in done.text
    assert host_state("worker-1") == before


def test_a_second_control_plane_makes_no_cluster_of_its_own_while_the_first_is_down(
    deploy: Deploy, cp_1_off: None
) -> None:
    run_lab("up", "cp-2", seconds=300)
    try:
        done = deploy("deploys/control_plane.py", "-y", "--limit", "cp-2", extra="cp-2")
        assert done.status == 1
        assert "no cluster is created on cp-2 while cp-1 cannot be asked for one" in done.text
        made = (
            "/etc/kubernetes/pki /etc/kubernetes/*.conf /etc/kubernetes/manifests/* /var/lib/etcd"
        )
        assert ssh("cp-2", f"ls -d {made} 2>/dev/null || true") == ""
    finally:
        run_lab("power-off", "cp-2", seconds=300)
