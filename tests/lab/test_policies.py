"""The examples of manifests/policies: what must pass does, and what must not does not."""

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import pod_network

SPACE = "segregated"
API = "kubernetes.default.svc.cluster.local:443"
_POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: segregated, labels: {{role: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: {node}
  containers:
    - name: agnhost
      image: registry.k8s.io/e2e-test-images/agnhost:2.66.1
      args: [netexec, --http-port=8080]
---
"""
_PODS = {"web": "worker-1", "client": "worker-2", "operator": "worker-2", "other": "worker-2"}

pytestmark = pytest.mark.skipif(
    pod_network.manifests() != pod_network.WEAVE,
    reason="needs Weave: its images are not in the bundle",
)


@pytest.fixture(scope="module")
def apply(kubectl: list[str]) -> Iterator[list[str]]:
    """Pods of every role, and the beginning of a command that applies an example."""
    pods = "".join(_POD.format(name=name, node=node) for name, node in _PODS.items())
    space = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SPACE}}}\n---\n"
    subprocess.run([*kubectl, "apply", "-f", "-"], input=space + pods, text=True, check=True)
    wait = ["wait", "-n", SPACE, "--for=condition=Ready", "pod", "--all", "--timeout=120s"]
    subprocess.run([*kubectl, *wait], check=True)
    yield [*kubectl, "apply", "-f"]
    subprocess.run([*kubectl, "delete", "namespace", SPACE], check=True, timeout=180)


def _passes(kubectl: list[str], source: str, target: str) -> bool:
    words = ["exec", "-n", SPACE, source, "--", "/agnhost", "connect", target, "--timeout=2s"]
    done = subprocess.run([*kubectl, *words], capture_output=True, text=True, check=False)
    return done.returncode == 0


def _expect(kubectl: list[str], wanted: dict[tuple[str, str], bool]) -> None:
    """Each way is as wanted, some seconds after a policy was applied."""
    where = ["get", "pod", "web", "-n", SPACE, "-o", "jsonpath={.status.podIP}"]
    web = subprocess.run([*kubectl, *where], capture_output=True, text=True, check=True).stdout
    targets = {"web": f"{web}:8080", "API": API}
    end = time.monotonic() + 30
    while True:
        # At once: what is kept out waits for names and answers that do not come.
        with ThreadPoolExecutor() as pool:
            said = pool.map(lambda way: _passes(kubectl, way[0], targets[way[1]]), wanted)
            found = dict(zip(wanted, said, strict=True))
        if found == wanted or time.monotonic() > end:
            break
    assert found == wanted


def test_each_example_passes_what_it_says_and_nothing_else(
    kubectl: list[str], apply: list[str]
) -> None:
    ways = {
        ("client", "web"): True,
        ("other", "web"): True,
        ("operator", "API"): True,
        ("other", "API"): True,
    }
    _expect(kubectl, ways)
    subprocess.run([*apply, "manifests/policies/default-deny.yaml"], check=True)
    ways = dict.fromkeys(ways, False)
    _expect(kubectl, ways)
    subprocess.run([*apply, "manifests/policies/allow-by-label.yaml"], check=True)
    ways[("client", "web")] = True
    _expect(kubectl, ways)
    subprocess.run([*apply, "manifests/policies/egress-api-and-dns.yaml"], check=True)
    ways |= {("operator", "API"): True, ("operator", "web"): False}
    _expect(kubectl, ways)
