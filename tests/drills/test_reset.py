"""A whole cluster is reset, its machines are what they were, and make a cluster again; by name.

    .venv/bin/python -m pytest tests/drills/test_reset.py -s

On the lab, which it takes down first. The firewall is on, and a pod has a local volume.
"""

from collections.abc import Iterator

import pytest

from barekube import firewall, versions
from tests.drills.test_power_cuts import NAMES, _pyinfra
from tests.drills.test_removal import settled
from tests.lab.recorder import run_lab, ssh

_KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
_FIREWALL = ("--data", "firewall=true")
_RESET = ("deploys/reset.py", "-y", *_FIREWALL)
# kubelet mounts it below /var/lib/kubelet, where a reset deletes everything.
_KEEPER = f"""\
apiVersion: v1
kind: PersistentVolume
metadata: {{name: kept}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: kept
  local: {{path: /srv/kept}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions:
            - {{key: kubernetes.io/hostname, operator: In, values: [worker-1]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: kept, namespace: default}}
spec:
  storageClassName: kept
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: keeper, namespace: default}}
spec:
  tolerations: [{{operator: Exists}}]
  volumes: [{{name: kept, persistentVolumeClaim: {{claimName: kept}}}}]
  containers:
    - name: keeper
      image: {versions.IMAGES["agnhost"]}
      volumeMounts: [{{name: kept, mountPath: /kept}}]
"""
_LEFT = """
ls -d /etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/containerd /var/lib/barekube \
  /etc/cni /opt/cni /run/containerd /var/log/pods 2>/dev/null
cat /proc/mounts | grep -E 'kubelet|containerd|netns' || true
ps -e -o comm | grep -E 'kube|containerd|etcd|coredns|haproxy|traefik' || true
iptables-save 2>/dev/null | grep -E 'KUBE|WEAVE' || true
ls -d /run/barekube /var/cache/apt/archives/kube*.deb 2>/dev/null || true
"""


@pytest.fixture(scope="module")
def before() -> Iterator[dict[str, set[str]]]:
    """A cluster with data on a worker; what its machines were before it."""
    run_lab("down")
    run_lab("up")
    bare = {name: settled(name) for name in NAMES}
    run = _pyinfra("deploys/site.py", "-y", *_FIREWALL)
    assert run.status == 0, run.text[-6000:]
    ssh("worker-1", "mkdir /srv/kept && echo all >/srv/kept/word")
    ssh("cp-1", f"{_KUBECTL} apply -f - <<'END'\n{_KEEPER}\nEND")
    ssh("cp-1", f"{_KUBECTL} wait --for condition=Ready pod/keeper --timeout 120s")
    yield bare
    run_lab("down")


def test_what_is_not_confirmed_is_said_and_not_done(before: dict[str, set[str]]) -> None:
    for more in ((), ("--data", "cluster=another")):
        run = _pyinfra(*_RESET, *more)
        assert run.status == 1
        assert "--data cluster=lab" in run.text
    assert ssh("cp-1", f"{_KUBECTL} get nodes -o name").count("node/") == len(NAMES)
    assert ssh("worker-1", "mount | grep -c local-volume") == "1\n"


def test_each_host_is_what_it_was_and_its_data_are_there(before: dict[str, set[str]]) -> None:
    run = _pyinfra(*_RESET, "--data", "cluster=lab")
    print(f"\nreset: {run.seconds:.0f} s, status {run.status}", flush=True)
    assert run.status == 0, run.text[-8000:]
    for name in NAMES:
        now = settled(name)
        assert now == before[name], sorted(now ^ before[name])
        assert ssh(name, _LEFT) == "", name
        assert ssh(name, f"nft list table {firewall.TABLE} 2>&1 || true").startswith("Error")
    assert ssh("worker-1", "cat /srv/kept/word") == "all\n"
    again = _pyinfra(*_RESET, "--data", "cluster=lab")
    assert again.status == 0, again.text[-4000:]
    assert f"unchanged:     {len(NAMES)}" in again.text


def test_the_machines_make_a_cluster_again(before: dict[str, set[str]]) -> None:
    run = _pyinfra("deploys/site.py", "-y")
    print(f"\nsite.py: {run.seconds:.0f} s, status {run.status}", flush=True)
    assert run.status == 0, run.text[-8000:]
    assert _pyinfra("deploys/site.py", "--dry", "--json").would_change() == {}
    seen = _pyinfra("deploys/verify.py", "-y")
    assert seen.status == 0, seen.text[-4000:]
