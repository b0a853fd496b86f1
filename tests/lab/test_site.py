"""The main promise: bare machines become a Kubernetes, and a second run changes nothing."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.lab.conftest import PYINFRA, Deploy, Run
from tests.lab.recorder import host_state, objects, repository_root, ssh

# Runs a command, then prints the most memory that it had, in KiB.
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""

STAGES = [
    "preflight",
    "host",
    "runtime",
    "kubernetes_packages",
    "control_plane",
    "workers",
    "network",
]


def _get(kubectl: list[str], *what: str) -> dict[str, object]:
    shown = subprocess.run(
        [*kubectl, "get", *what, "-o", "json"], capture_output=True, text=True, check=True
    ).stdout
    result: dict[str, object] = json.loads(shown)
    return result


def _nodes(kubectl: list[str]) -> dict[str, Any]:
    listed: Any = _get(kubectl, "nodes")["items"]
    return {item["metadata"]["name"]: item for item in listed}


def _runtime(node: Any) -> str:  # noqa: ANN401
    return str(node["status"]["nodeInfo"]["containerRuntimeVersion"])


def test_every_machine_is_a_ready_node_of_the_wanted_version_and_address(
    kubectl: list[str], names: list[str]
) -> None:
    nodes = _nodes(kubectl)
    # kubelet writes "Unknown" when containerd is late to its question, and asks it again.
    until = time.monotonic() + 60
    while any("Unknown" in _runtime(node) for node in nodes.values()) and time.monotonic() < until:
        time.sleep(5)
        nodes = _nodes(kubectl)
    assert sorted(nodes) == sorted(names)
    for name, node in nodes.items():
        ready = {c["type"]: c["status"] for c in node["status"]["conditions"]}
        assert ready["Ready"] == "True", name
        assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.2"
        assert _runtime(node) == "containerd://2.4.2"
    addresses = {a["address"] for a in nodes["cp-1"]["status"]["addresses"]}
    assert "10.77.0.11" in addresses


def test_a_second_run_changes_nothing_by_the_recorders_account(
    deploy: Deploy, site: Run, kubectl: list[str], names: list[str]
) -> None:
    before = {name: host_state(name) for name in names}
    cluster_before = objects(kubectl)
    began = time.monotonic()
    words = [sys.executable, "-c", MEASURED, *PYINFRA, "deploys/site.py", "-y"]
    done = subprocess.run(
        words, cwd=repository_root(), capture_output=True, text=True, timeout=1800
    )
    run = Run(done, time.monotonic() - began)
    assert run.status == 0, run.text
    assert int(run.out.splitlines()[-1]) < 300 << 10
    after = {name: host_state(name) for name in names}
    assert {n: before[n] ^ after[n] for n in names} == {n: set() for n in names}
    assert objects(kubectl) == cluster_before
    # Ten seconds, or on a slow day of this machine, which slowed the first run too, a share of that
    # one. On a lab that is at rest: what earlier tests deleted keeps its one control plane busy.
    limit = max(10, site.seconds / 8)
    times = [run.seconds]
    while min(times) >= limit and len(times) < 10:
        time.sleep(20)
        times.append(deploy("deploys/site.py", "-y").seconds)
    assert min(times) < limit, times


def test_a_preview_of_the_converged_lab_lists_no_change(deploy: Deploy, site: Run) -> None:
    run = deploy("deploys/site.py", "--dry", "--json")
    assert run.status == 0, run.text
    assert run.would_change() == {}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_runs_alone_on_one_host_and_changes_nothing(
    deploy: Deploy, site: Run, stage: str
) -> None:
    run = deploy(f"deploys/{stage}.py", "--limit", "worker-2", "--dry", "--json")
    assert run.status == 0, run.text
    assert run.would_change() == {}


def test_drift_is_previewed_as_a_diff_and_mended(deploy: Deploy, site: Run) -> None:
    before = host_state("worker-2")
    ssh(
        "worker-2", "echo '# by hand' >>/etc/containerd/config.toml; echo 1 >/proc/sys/kernel/panic"
    )
    shown = deploy("deploys/runtime.py", "--dry", "--diff", "--limit", "worker-2")
    assert "-# by hand" in shown.text
    assert "/etc/containerd/config.toml" in shown.text
    assert "containerd.service: restart" in shown.text
    shown = deploy("deploys/host.py", "--dry", "--diff", "--limit", "worker-2")
    assert "kernel.panic: 1 -> 10" in shown.text
    for stage in ("host", "runtime"):
        assert deploy(f"deploys/{stage}.py", "-y", "--limit", "worker-2").status == 0
    # What is left is that the file was written anew and the unit restarted.
    changed = {line.split()[0] for line in before ^ host_state("worker-2")}
    assert changed <= {"file", "unit"}
    assert "by hand" not in ssh("worker-2", "cat /etc/containerd/config.toml")


@pytest.mark.parametrize("name", ["cp-1", "worker-1", "worker-2"])
def test_a_node_reaches_the_pods_of_another_and_their_service(
    kubectl: list[str], name: str
) -> None:
    """By the pod network's routes, and by kube-proxy's rules; the pods are CoreDNS's."""
    pods = _get(kubectl, "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
    far = [pod["status"]["podIP"] for pod in pods if pod["spec"]["nodeName"] != name]  # type: ignore[attr-defined]
    for address in [*far, "10.96.0.10"]:
        opened = ssh(name, f"timeout 10 bash -c 'exec 3<>/dev/tcp/{address}/53' && echo opened")
        assert opened == "opened\n", address


def test_secrets_are_encrypted_at_rest(kubectl: list[str]) -> None:
    subprocess.run(
        [*kubectl, "create", "secret", "generic", "seen", "--from-literal=word=plainly-visible"],
        check=True,
    )
    try:
        found = ssh("cp-1", "sync; grep -rlac plainly-visible /var/lib/etcd || true")
        assert found == ""
        stored = ssh("cp-1", "grep -rla k8s:enc:secretbox:v1:key1 /var/lib/etcd || true")
        assert stored != ""
    finally:
        subprocess.run([*kubectl, "delete", "secret", "seen"], check=True)


def test_the_audit_log_says_who_did_what_and_no_secret(kubectl: list[str]) -> None:
    subprocess.run([*kubectl, "get", "secrets", "-n", "default"], check=True)
    log = ssh("cp-1", "tail -n 2000 /var/log/kubernetes/audit/audit.log")
    assert '"username":"lab"' in log
    assert '"level":"Request' not in log


def test_no_join_token_is_left_and_logs_are_served_with_approved_certificates(
    kubectl: list[str],
) -> None:
    secrets = _get(kubectl, "secrets", "-n", "kube-system")["items"]
    assert [s for s in secrets if s["type"] == "bootstrap.kubernetes.io/token"] == []  # type: ignore[attr-defined]
    pods = _get(kubectl, "pods", "-n", "kube-system", "-l", "k8s-app=kube-proxy")["items"]
    for pod in pods:  # type: ignore[attr-defined]
        name = pod["metadata"]["name"]
        logs = subprocess.run(
            [*kubectl, "logs", "-n", "kube-system", name, "--tail=1"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert logs.returncode == 0, logs.stderr


def test_no_secret_of_the_run_is_printed_at_the_highest_verbosity(
    deploy: Deploy, site: Run
) -> None:
    run = deploy("deploys/site.py", "-y", "-vvv", "--diff")
    key = ssh("cp-1", "sed -n 's/.*secret: //p' /etc/kubernetes/encryption.yaml").strip()
    admin = ssh("cp-1", "sed -n 's/.*client-key-data: //p' /etc/kubernetes/admin.conf").strip()
    assert len(key) > 40
    assert len(admin) > 100
    assert key not in run.text
    assert admin[:60] not in run.text


def test_nodes_reach_the_api_by_the_endpoints_name_and_kubelet_has_its_own_address(
    kubectl: list[str],
) -> None:
    assert "server: https://api.lab:6443" in ssh("worker-1", "cat /etc/kubernetes/kubelet.conf")
    flags = ssh("worker-1", "cat /var/lib/kubelet/kubeadm-flags.env")
    assert "--node-ip=10.77.0.21" in flags


def test_a_host_that_lost_power_comes_back_by_itself(kubectl: list[str], site: Run) -> None:
    lab = [".venv/bin/python", "-m", "lab"]
    subprocess.run([*lab, "power-off", "worker-2"], check=True)
    subprocess.run([*lab, "power-on", "worker-2"], check=True, timeout=120)
    end = time.monotonic() + 180
    while time.monotonic() < end:
        status = subprocess.run(
            [
                *kubectl,
                "get",
                "node",
                "worker-2",
                "-o",
                "jsonpath={.status.conditions[?(@.type=='Ready')].status}{.status.nodeInfo.bootID}",
            ],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        boot = ssh("worker-2", "cat /proc/sys/kernel/random/boot_id").strip()
        if status == f"True{boot}":
            return
        time.sleep(2)
    pytest.fail(f"worker-2 is not Ready after its power cut: {status}")
