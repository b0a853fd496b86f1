"""The two doors: plain Ingress objects through each, and what keeps them apart."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from barekube import doors
from lab import pod_network
from lab.hosts import GATEWAY, Host, load
from lab.wires import inside
from tests.lab.conftest import Deploy, Run

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


BOTH = pytest.mark.parametrize(
    ("host", "name"), [(INTERNAL, "smoke.cluster.internal"), (PUBLIC, "smoke.example.com")]
)


@BOTH
def test_an_ingress_by_host_and_by_path_answers_behind_its_door(
    applications: list[str], host: Host, name: str
) -> None:
    assert _becomes(200, host.address, name, "/hostname").startswith("smoke-")
    assert _becomes(200, host.address, "any.example.org", "/hostname").startswith("smoke-")


@BOTH
def test_the_application_sees_its_client_and_no_forged_one(
    applications: list[str], host: Host, name: str
) -> None:
    _becomes(200, host.address, name, "/hostname")
    forged = ["X-Forwarded-For", "X-Real-Ip", "X_Forwarded_For", "X_Auth_User", "X-Auth-User"]
    headers = [word for each in forged for word in ("-H", f"{each}: 192.0.2.1")]
    seen = {each: _curl(host.address, name, f"/header?key={each}", *headers) for each in forged}
    assert seen == {
        "X-Forwarded-For": (200, GATEWAY),
        "X-Real-Ip": (200, GATEWAY),
        "X_Forwarded_For": (200, ""),
        "X_Auth_User": (200, ""),
        # What is not the door's passes: the application is asked, and answers.
        "X-Auth-User": (200, "192.0.2.1"),
    }


@BOTH
def test_http_leads_to_https(site: Run, host: Host, name: str) -> None:
    where = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"]
    options = ["--resolve", f"{name}:80:{host.address}", f"http://{name}/x?y=z"]
    command = inside("curl", "-s", "--max-time", "10", *where, *options)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"301 https://{name}/x?y=z"


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
    # Each has a name of its own: of two with one name either may win, and what is online lets no
    # pod of the internal door in.
    cases = [
        _FOREIGN.format(name="no-class", space="smoke", klass=""),
        _FOREIGN.format(name="no-class-online", space="online", klass=""),
        _FOREIGN.format(name="not-listed", space="smoke", klass="ingressClassName: public"),
    ]
    last = _FOREIGN.format(name="listed", space="online", klass="ingressClassName: public")
    for text in cases:
        subprocess.run([*applications, "apply", "-f", "-"], input=text, text=True, check=True)
    try:
        # The internal door shows when it knows them; the public one, when it knows what came after.
        subprocess.run([*applications, "apply", "-f", "-"], input=last, text=True, check=True)
        _becomes(200, INTERNAL.address, "no-class.example.com", "/header")
        _becomes(200, PUBLIC.address, "listed.example.com", "/header")
        get = ["-n", "online", "get", "ingress", "no-class-online", "-o", "jsonpath={.spec}"]
        spec = subprocess.run([*applications, *get], capture_output=True, check=True).stdout
        assert json.loads(spec)["ingressClassName"] == "internal"
        for name in ("no-class", "no-class-online", "not-listed"):
            assert _curl(PUBLIC.address, f"{name}.example.com", "/header")[0] == 404
        assert _curl(PUBLIC.address, "smoke.example.com", "/hostname")[0] == 200
    finally:
        for text in (*cases, last):
            delete = [*applications, "delete", "--ignore-not-found", "-f", "-"]
            subprocess.run(delete, input=text, text=True, check=True)


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


# Speaks one version of TLS, however weak, to a door; or, given a certificate and its key, to a
# server of its own that takes 1.1.
_TLS = """
import socket, ssl, sys, threading
address, port, version, *pair = sys.argv[1:]
if pair:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*pair)
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.minimum_version = ssl.TLSVersion.TLSv1_1
    listener = socket.create_server((address, 0))
    port = listener.getsockname()[1]
    def serve():
        server.wrap_socket(listener.accept()[0], server_side=True).recv(1)
    threading.Thread(target=serve, daemon=True).start()
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
client.set_ciphers("ALL:@SECLEVEL=0")
client.minimum_version = client.maximum_version = ssl.TLSVersion[version]
try:
    with (
        socket.create_connection((address, int(port)), 10) as way,
        client.wrap_socket(way, server_hostname="nothing.example.com") as secured,
    ):
        print(secured.version())
        print(ssl.DER_cert_to_PEM_cert(secured.getpeercert(True)))
except ssl.SSLError as error:
    print(error.reason)
"""


def _tls(*words: str) -> list[str]:
    """The version that was agreed on, and the lines of the certificate that was shown; or what
    was said instead."""
    command = [sys.executable, "-W", "ignore", "-c", _TLS, *words]
    # The server of its own is beside it, the doors are seen from the lab's gateway.
    command = command if words[0] == "127.0.0.1" else inside(*command)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")


def test_a_door_speaks_tls_of_1_2_at_least(site: Run, tmp_path: Path) -> None:
    files = [tmp_path / "made.pem", tmp_path / "made.key"]
    for file, content in zip(files, doors.certificate(["a"], datetime.now(UTC)), strict=True):
        file.write_bytes(content)
    assert _tls("127.0.0.1", "0", "TLSv1_1", *map(str, files))[0] == "TLSv1.1"
    for host in (INTERNAL, PUBLIC):
        # It is the door that says no.
        assert _tls(host.address, "443", "TLSv1_1")[0] == "TLSV1_ALERT_PROTOCOL_VERSION"
        assert _tls(host.address, "443", "TLSv1_2")[0] == "TLSv1.2"
        assert _tls(host.address, "443", "TLSv1_3")[0] == "TLSv1.3"


@pytest.mark.parametrize(("host", "door"), [(INTERNAL, "internal"), (PUBLIC, "public")])
def test_a_door_shows_the_certificate_of_its_secret(
    site: Run, kubectl: list[str], host: Host, door: str
) -> None:
    get = ["-n", f"traefik-{door}", "get", "secret", "certificate", "-o", "json"]
    secret = json.loads(subprocess.run([*kubectl, *get], capture_output=True, check=True).stdout)
    kept = base64.b64decode(secret["data"]["tls.crt"]).decode()
    shown = "\n".join(_tls(host.address, "443", "TLSv1_2")[1:])
    assert shown.strip() == kept.strip()


def _users(directory: Path, name: str, days: int) -> tuple[str, str]:
    """The files of a certificate of the user's, which ends in so many days, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    site = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = datetime.now(UTC)
    begin, end = now - timedelta(days=30), now + timedelta(days=days)
    made = x509.CertificateBuilder(site, site, key.public_key(), 1, begin, end)
    pem = serialization.Encoding.PEM
    bare, plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    files = directory / f"{name}.pem", directory / f"{name}.key"
    files[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, plain, bare))
    return str(files[0]), str(files[1])


def test_a_users_certificate_is_shown_and_insisted_on_and_one_that_is_no_use_is_refused_by_name(
    deploy: Deploy, applications: list[str], tmp_path: Path
) -> None:
    good, ended = _users(tmp_path, "good", 90), _users(tmp_path, "ended", -1)
    name, address = "smoke.example.com", PUBLIC.address

    def stage(*pair: str) -> Run:
        (tmp_path / "all.py").write_text(f"door_certificates = {{'public': {pair}}}\n")
        return deploy("deploys/ingress.py", "-y", "--group-data", str(tmp_path))

    def shown() -> str:
        return "\n".join(_tls(address, "443", "TLSv1_2")[1:]).strip()

    def becomes(wanted: Callable[[str], bool]) -> None:
        # kubelet brings a changed Secret into a pod within some two minutes.
        end = time.monotonic() + 180
        while not wanted(shown()):
            assert time.monotonic() < end, shown()
            time.sleep(2)

    before = shown()
    for pair, why in (
        (ended, f"public, {ended[0]}: its last day is "),
        ((good[0], ended[1]), f"public, {good[0]}: its key does not belong to its certificate"),
    ):
        refused = stage(*pair)
        assert refused.status == 1
        assert why in refused.text
    assert _becomes(200, address, name, "/hostname").startswith("smoke-")
    assert shown() == before

    assert stage(*good).status == 0
    users = Path(good[0]).read_text().strip()
    becomes(lambda now: now == users)
    hsts = "strict-transport-security: max-age=31536000"
    assert hsts in _curl(address, name, "/hostname", "-i")[1].lower()
    internal = _curl(INTERNAL.address, "smoke.cluster.internal", "/hostname", "-i")[1].lower()
    assert "strict-transport-security" not in internal

    assert deploy("deploys/ingress.py", "-y").status == 0
    becomes(lambda now: now not in (users, ""))
    assert hsts not in _curl(address, name, "/hostname", "-i")[1].lower()


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("traefik.cluster.internal", "/api/overview"),
        pytest.param(
            "network.cluster.internal",
            "/",
            marks=pytest.mark.skipif(
                pod_network.manifests() != pod_network.WEAVE, reason="the page is Weave's"
            ),
        ),
    ],
)
def test_an_ingress_that_takes_a_pages_name_is_sent_nothing(
    applications: list[str], name: str, page: str
) -> None:
    # By its other name it shows when it is known.
    taken = _TAKEN.format(name=name)
    subprocess.run([*applications, "apply", "-f", "-"], input=taken, text=True, check=True)
    try:
        _becomes(200, INTERNAL.address, "taken.example.com", "/hostname")
        assert _curl(INTERNAL.address, name, page)[0] == 401
        assert _curl(INTERNAL.address, name, "/hostname")[0] == 401
    finally:
        subprocess.run([*applications, "delete", "-f", "-"], input=taken, text=True, check=True)


_TAKEN = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: taken, namespace: smoke}}
spec:
  ingressClassName: internal
  rules:
    - host: {name}
      http: &all
        paths:
          - path: /
            pathType: Prefix
            backend: {{service: {{name: smoke, port: {{number: 80}}}}}}
    - host: taken.example.com
      http: *all
"""


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
