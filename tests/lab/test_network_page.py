"""The network page's servers beside the real Weave, and the page behind the internal door."""

import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab import hosts as lab_hosts
from lab import pod_network
from lab.wires import inside
from tests.lab.recorder import ssh

PORT = 6786
SERVICE = "/api/v1/namespaces/network-page/services/network-page:http/proxy"

pytestmark = pytest.mark.skipif(
    pod_network.manifests() != pod_network.WEAVE,
    reason="needs Weave: its images are not in the bundle",
)


@pytest.fixture(scope="module", autouse=True)
def served(kubectl: list[str]) -> Iterator[None]:
    """The servers, as site.py has made them."""
    rollout = ["rollout", "status", "-n", "network-page", "daemonset/network-page"]
    subprocess.run([*kubectl, *rollout, "--timeout=180s"], check=True)
    yield


def _addresses(names: list[str]) -> dict[str, str]:
    return {host.name: host.address for host in lab_hosts.load().hosts if host.name in names}


def _ask(client: str, server: str, path: str, method: str = "GET") -> tuple[int, str]:
    """(status, text) of one request from a lab host, which has no curl."""
    request = f"{method} /{path} HTTP/1.0\\r\\n\\r\\n"
    script = f'exec 3<>/dev/tcp/{server}/{PORT} && printf "{request}" >&3 && cat <&3'
    head, _, text = (
        ssh(client, f"timeout 20 bash -c '{script}'").replace("\r", "").partition("\n\n")
    )
    return int(head.split()[1]), text


def _through_the_service(kubectl: list[str], path: str) -> str:
    command = [*kubectl, "get", "--raw", f"{SERVICE}/{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_page_is_behind_the_login_of_the_pages(kubectl: list[str]) -> None:
    get = ["-n", "traefik-internal", "get", "secret", "pages-login", "-o", "json"]
    secret = json.loads(subprocess.run([*kubectl, *get], capture_output=True, check=True).stdout)
    login = f"admin:{base64.b64decode(secret['data']['password']).decode()}"
    name, address = "network.cluster.internal", _addresses(["worker-1"])["worker-1"]
    asked = ["curl", "-sk", "--max-time", "10", "--resolve", f"{name}:443:{address}"]
    for path in ("/", "/cgi-bin/report"):
        for user, status in (("", "401"), ("admin:wrong", "401"), (login, "200")):
            words = [
                *asked,
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                *(["-u", user] if user else []),
            ]
            command = inside(*words, f"https://{name}{path}")
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert done.stdout == status, (path, user)


def _partners(report: dict[str, Any]) -> dict[str, Any]:
    """The established connections of a report by address: (kind, encrypted)."""
    return {
        connection["Address"].rpartition(":")[0]: (
            connection["Attrs"]["name"],
            connection["Attrs"].get("encrypted"),
        )
        for connection in report["Router"]["Connections"]
        if connection["State"] == "established"
    }


def test_any_server_gives_the_page_and_a_report_that_names_every_node(
    kubectl: list[str], names: list[str]
) -> None:
    assert "<title>Pod network</title>" in _through_the_service(kubectl, "")
    assert "Service: router" in _through_the_service(kubectl, "cgi-bin/status")
    report = json.loads(_through_the_service(kubectl, "cgi-bin/report"))
    assert sorted(peer["NickName"] for peer in report["Router"]["Peers"]) == sorted(names)
    assert report["IPAM"]["RangeNumIPs"] == 1 << 20


def test_each_node_says_itself_how_it_is_connected_to_every_other(names: list[str]) -> None:
    addresses = _addresses(names)
    for client in names:
        for server in names:
            status, text = _ask(
                client, addresses[client], f"cgi-bin/report?node={addresses[server]}"
            )
            assert status == 200, (client, server, text)
            report = json.loads(text)
            assert report["Router"]["NickName"] == server
            others = {addresses[name] for name in names if name != server}
            assert _partners(report) == dict.fromkeys(others, ("fastdp", True))
            assert report["IPAM"]["ActiveIPs"] > 0


def test_a_server_changes_nothing_and_asks_nobody_else(names: list[str]) -> None:
    server = _addresses(names)[names[0]]
    assert _ask(names[0], server, "cgi-bin/report", "POST")[0] == 405
    assert _ask(names[0], server, "cgi-bin/report", "DELETE")[0] == 405
    assert _ask(names[0], server, "cgi-bin/report?node=10.77.0.1")[0] == 404
    assert _ask(names[0], server, "cgi-bin/report?node=127.0.0.1")[0] == 404
    assert _ask(names[0], server, "connect")[0] == 404
    assert _listening(names[0])[3] == f"{server}:{PORT}"


def _listening(name: str) -> list[str]:
    """The words of ss on who listens on the page's port of a host."""
    return ssh(name, f"ss -Htlnp 'sport = :{PORT}'").split()


def test_its_processes_have_no_capability_and_are_not_roots(names: list[str]) -> None:
    pid = _listening(names[0])[-1].partition("pid=")[2].partition(",")[0]
    status = ssh(names[0], f"cat /proc/{int(pid)}/status")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert fields["Uid"].split() == ["65534"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
