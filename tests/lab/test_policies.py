"""The examples of manifests/policies: what must pass does, and what must not does not.

Each thing that an example forbids is tried between pods of which nothing else forbids it: `rover`
may send anything, `porter` may be sent anything, and `peer` is in a namespace without policies.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab import pod_network

SPACE, BEYOND = "segregated", "unsegregated"
# With a dot at its end, lest each domain of the search list be waited for where DNS is kept out.
NAMED_API = "kubernetes.default.svc.cluster.local.:443"
# Name -> namespace, role, node.
_PODS = {
    "web": (SPACE, "web", "worker-1"),
    "porter": (SPACE, "web", "worker-1"),
    "client": (SPACE, "client", "worker-2"),
    "rover": (SPACE, "client", "worker-2"),
    "operator": (SPACE, "operator", "worker-2"),
    "other": (SPACE, "other", "worker-2"),
    "peer": (BEYOND, "client", "cp-1"),
}
# Two ports, that one of them can be the wrong one.
_POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {space}, labels: {{role: {role}, name: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: {node}
  containers:
    - name: right
      image: registry.k8s.io/e2e-test-images/agnhost:2.66.1
      args: [netexec, --http-port=8080, --udp-port=-1]
    - name: wrong
      image: registry.k8s.io/e2e-test-images/agnhost:2.66.1
      args: [netexec, --http-port=8081, --udp-port=-1]
---
"""
_FREE = f"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: rover, namespace: {SPACE}}}
spec: {{podSelector: {{matchLabels: {{name: rover}}}}, policyTypes: [Egress], egress: [{{}}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: porter, namespace: {SPACE}}}
spec: {{podSelector: {{matchLabels: {{name: porter}}}}, policyTypes: [Ingress], ingress: [{{}}]}}
---
"""
# What passes under default-deny, since nothing of the examples is in its way.
_ALWAYS = {("rover", "peer"), ("peer", "porter")}
_BY_LABEL = {("client", "web"), ("rover", "web"), ("client", "porter")}
_TO_API_AND_DNS = {("operator", "API by name"), ("operator", "API"), ("operator", "DNS")}
_NEVER = {
    # Nobody comes in, but from clients of this namespace, to this port.
    ("peer", "web"),
    ("rover", "web's other port"),
    # Nobody gets out, but clients to web, at this port, and operators to API and DNS.
    ("other", "porter"),
    ("other", "API"),
    ("other", "DNS"),
    ("client", "peer"),
    ("client", "porter's other port"),
    ("client", "API"),
    ("client", "DNS"),
    ("operator", "peer"),
    ("operator", "porter"),
}
_WAYS = _ALWAYS | _BY_LABEL | _TO_API_AND_DNS | _NEVER

pytestmark = pytest.mark.skipif(
    pod_network.manifests() != pod_network.WEAVE,
    reason="needs Weave: its images are not in the bundle",
)


@pytest.fixture(scope="module")
def apply(kubectl: list[str]) -> Iterator[list[str]]:
    """Pods of every role, and the beginning of a command that applies an example."""
    pods = "".join(
        _POD.format(name=name, space=space, role=role, node=node)
        for name, (space, role, node) in _PODS.items()
    )
    spaces = "".join(
        f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n"
        for name in (SPACE, BEYOND)
    )
    subprocess.run(
        [*kubectl, "apply", "-f", "-"], input=spaces + _FREE + pods, text=True, check=True
    )
    for space in (SPACE, BEYOND):
        wait = ["wait", "-n", space, "--for=condition=Ready", "pod", "--all", "--timeout=180s"]
        subprocess.run([*kubectl, *wait], check=True)
    yield [*kubectl, "apply", "-f"]
    subprocess.run([*kubectl, "delete", "namespace", SPACE, BEYOND], check=True, timeout=180)


def _got(kubectl: list[str], *words: str) -> dict[str, Any]:
    command = [*kubectl, "get", "-o", "json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def targets(kubectl: list[str], apply: list[str]) -> dict[str, str]:
    """Where the ways lead. By addresses, but for one: a name needs DNS, which is a way itself."""
    pods = [
        each for space in (SPACE, BEYOND) for each in _got(kubectl, "pods", "-n", space)["items"]
    ]
    at = {each["metadata"]["name"]: each["status"]["podIP"] for each in pods}
    api = _got(kubectl, "service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    dns = _got(kubectl, "service", "kube-dns", "-n", "kube-system")["spec"]["clusterIP"]
    return {
        **{name: f"{at[name]}:8080" for name in ("web", "porter", "peer")},
        **{f"{name}'s other port": f"{at[name]}:8081" for name in ("web", "porter")},
        "API": f"{api}:443",
        "API by name": NAMED_API,
        "DNS": f"{dns}:53",
    }


def _passes(kubectl: list[str], source: str, target: str) -> bool:
    pod = ["exec", "-n", _PODS[source][0], source, "-c", "right", "--"]
    words = [*pod, "/agnhost", "connect", target, "--timeout=2s"]
    done = subprocess.run([*kubectl, *words], capture_output=True, text=True, check=False)
    return done.returncode == 0


def _expect(kubectl: list[str], targets: dict[str, str], passing: set[tuple[str, str]]) -> None:
    """These ways pass and no other, some seconds after a policy was applied."""
    end = time.monotonic() + 90
    while True:
        # At once: what is kept out waits for names and answers that do not come.
        with ThreadPoolExecutor() as pool:
            said = pool.map(lambda way: _passes(kubectl, way[0], targets[way[1]]), _WAYS)
            found = {way for way, passes in zip(_WAYS, said, strict=True) if passes}
        if found == passing or time.monotonic() > end:
            break
    assert found == passing


def test_each_example_passes_what_it_says_and_nothing_else(
    kubectl: list[str], apply: list[str], targets: dict[str, str]
) -> None:
    _expect(kubectl, targets, _WAYS)
    subprocess.run([*apply, "manifests/policies/default-deny.yaml"], check=True)
    _expect(kubectl, targets, _ALWAYS)
    subprocess.run([*apply, "manifests/policies/allow-by-label.yaml"], check=True)
    _expect(kubectl, targets, _ALWAYS | _BY_LABEL)
    subprocess.run([*apply, "manifests/policies/egress-api-and-dns.yaml"], check=True)
    _expect(kubectl, targets, _ALWAYS | _BY_LABEL | _TO_API_AND_DNS)
