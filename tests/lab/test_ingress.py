"""The two doors: plain Ingress objects through each, and what keeps them apart."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from lab import pod_network
from lab.hosts import Host, load
from lab.wires import inside
from tests.lab.conftest import Run

INTERNAL, PUBLIC = load().host("worker-1"), load().host("worker-2")
_APPLICATIONS = ("manifests/smoke/smoke.yaml", "manifests/smoke/public/smoke.yaml")


@pytest.fixture(scope="module")
def applications(site: Run, kubectl: list[str]) -> Iterator[list[str]]:
    """kubectl, with the smoke application behind each door."""
    for file in _APPLICATIONS:
        subprocess.run([*kubectl, "apply", "-f", file], check=True)
    for space in ("smoke", "online"):
        wait = ["-n", space, "wait", "--for=condition=Available", "deploy/smoke", "--timeout=120s"]
        subprocess.run([*kubectl, *wait], check=True)
    yield kubectl
    for file in _APPLICATIONS:
        subprocess.run([*kubectl, "delete", "-f", file, "--wait=false"], check=False)


def _curl(address: str, name: str, path: str, *options: str) -> tuple[int, str]:
    """(status, body) of a request that the lab's gateway, no node, sends to a door."""
    scheme = "https" if "http" not in options else "http"
    extra = [each for each in options if each != "http"]
    port = 443 if scheme == "https" else 80
    done = subprocess.run(
        [
            *inside("curl", "-sk", "--max-time", "10"),
            *("--resolve", f"{name}:{port}:{address}", "-w", "\n%{http_code}"),
            *(*extra, f"{scheme}://{name}{path}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), body


def _becomes(status: int, address: str, name: str, path: str) -> str:
    end = time.monotonic() + 30
    while True:
        got, body = _curl(address, name, path)
        if got == status or time.monotonic() > end:
            assert got == status, body
            return body
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("host", "name"), [(INTERNAL, "smoke.cluster.internal"), (PUBLIC, "smoke.example.com")]
)
def test_an_ingress_by_host_and_by_path_answers_behind_its_door(
    applications: list[str], host: Host, name: str
) -> None:
    assert _becomes(200, host.address, name, "/hostname").startswith("smoke-")
    assert _becomes(200, host.address, "any.example.org", "/hostname").startswith("smoke-")


def test_http_leads_to_https(site: Run) -> None:
    for host in (INTERNAL, PUBLIC):
        status, _ = _curl(host.address, "smoke.example.com", "/x", "http")
        assert status == 301


def test_what_is_internal_is_not_served_in_public(applications: list[str]) -> None:
    _becomes(200, INTERNAL.address, "smoke.cluster.internal", "/hostname")
    assert _curl(PUBLIC.address, "smoke.cluster.internal", "/header")[0] == 404
    assert _curl(PUBLIC.address, "traefik.cluster.internal", "/api/overview")[0] == 404


_FOREIGN = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: {space}}}
spec:
  {klass}
  rules:
    - host: {name}.example.com
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {{service: {{name: smoke, port: {{number: 80}}}}}}
"""


def test_an_ingress_without_a_class_or_in_another_namespace_never_goes_online(
    applications: list[str],
) -> None:
    cases = [
        _FOREIGN.format(name="no-class", space="smoke", klass=""),
        _FOREIGN.format(name="no-class", space="online", klass=""),
        _FOREIGN.format(name="not-listed", space="smoke", klass="ingressClassName: public"),
    ]
    for text in cases:
        subprocess.run([*applications, "apply", "-f", "-"], input=text, text=True, check=True)
    try:
        # The internal door shows when they are known.
        _becomes(200, INTERNAL.address, "no-class.example.com", "/header")
        get = ["-n", "online", "get", "ingress", "no-class", "-o", "jsonpath={.spec}"]
        spec = subprocess.run([*applications, *get], capture_output=True, check=True).stdout
        assert json.loads(spec)["ingressClassName"] == "internal"
        for name in ("no-class", "not-listed"):
            assert _curl(PUBLIC.address, f"{name}.example.com", "/header")[0] == 404
        assert _curl(PUBLIC.address, "smoke.example.com", "/hostname")[0] == 200
    finally:
        for text in cases:
            subprocess.run([*applications, "delete", "-f", "-"], input=text, text=True, check=True)


@pytest.mark.parametrize(
    ("space", "allowed"), [("online", True), ("kube-system", False), ("traefik-internal", False)]
)
def test_the_public_door_reads_secrets_only_of_what_is_online(
    site: Run, kubectl: list[str], space: str, allowed: bool
) -> None:
    who = "--as=system:serviceaccount:traefik-public:traefik"
    asked = [*kubectl, "auth", "can-i", "list", "secrets", "-n", space, who]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ("yes" if allowed else "no")


def test_the_pages_are_behind_a_login_whose_password_is_in_a_secret(
    site: Run, kubectl: list[str]
) -> None:
    get = ["-n", "traefik-internal", "get", "secret", "pages-login", "-o", "json"]
    secret = json.loads(subprocess.run([*kubectl, *get], capture_output=True, check=True).stdout)
    password = base64.b64decode(secret["data"]["password"]).decode()
    page = (INTERNAL.address, "traefik.cluster.internal", "/api/overview")
    assert _curl(*page)[0] == 401
    assert _curl(*page, "-u", "admin:wrong")[0] == 401
    status, body = _curl(*page, "-u", f"admin:{password}")
    assert status == 200
    assert "http" in json.loads(body)


def test_a_door_speaks_tls_of_1_2_at_least(site: Run) -> None:
    for options, status in ((("--tls-max", "1.1"), 0), (("--tls-max", "1.2"), 404)):
        assert _curl(PUBLIC.address, "nothing.example.com", "/", *options)[0] == status


_PROBE = """
apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: traefik-public}
spec:
  nodeName: worker-1
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
    - name: probe
      image: registry.k8s.io/e2e-test-images/agnhost:2.66.1
      args: [pause]
"""


@pytest.mark.skipif(
    pod_network.manifests() != pod_network.WEAVE, reason="the lab's network has no policies"
)
def test_the_public_doors_pods_reach_what_is_online_and_no_other_pod(
    applications: list[str],
) -> None:
    subprocess.run([*applications, "apply", "-f", "-"], input=_PROBE, text=True, check=True)
    try:
        wait = ["-n", "traefik-public", "wait", "--for=condition=Ready", "pod/probe"]
        subprocess.run([*applications, *wait, "--timeout=60s"], check=True)
        reached = {
            space: subprocess.run(
                [
                    *(*applications, "-n", "traefik-public", "exec", "probe", "--"),
                    *("/agnhost", "connect", "--timeout=5s", f"{_pod(applications, space)}:8080"),
                ],
                check=False,
            ).returncode
            == 0
            for space in ("online", "smoke")
        }
    finally:
        delete = ["-n", "traefik-public", "delete", "pod", "probe", "--wait=false"]
        subprocess.run([*applications, *delete], check=False)
    assert reached == {"online": True, "smoke": False}


def _pod(kubectl: list[str], space: str) -> str:
    get = ["-n", space, "get", "pods", "-l", "app=smoke", "-o", "jsonpath={.items[0].status.podIP}"]
    return subprocess.run([*kubectl, *get], capture_output=True, text=True, check=True).stdout
