"""What the connection to the API leaves on this machine."""

import base64
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import urllib3
import yaml
from kubernetes import client as k8s

from barekube import api, remote, settings
from tests.unit.test_cluster import HOME

_USE = """
import os
from unittest.mock import MagicMock
from barekube import api

api.DynamicClient = MagicMock()
connection = object.__new__(api.Api)
connection.client, connection._dynamic = None, None
connection.dynamic
print(len(os.listdir(os.environ["TMPDIR"])))
"""


def test_what_kinds_there_are_is_kept_on_disk_until_the_exit_and_no_longer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _USE],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert list(tmp_path.iterdir()) == []


def _admin(**fields: str) -> str:
    """An admin.conf with these fields; an empty one is not in it."""
    coded = base64.b64encode(b"pem").decode()
    names = ("certificate_authority", "client_certificate", "client_key")
    said = {**dict.fromkeys(names, coded), **fields}
    data = {f"{name.replace('_', '-')}-data": text for name, text in said.items() if text}
    known = {"server": "https://api.home:6443", **data}
    return yaml.safe_dump({"clusters": [{"cluster": known}], "users": [{"user": data}]})


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(_admin(client_key=""), id="before the key"),
        pytest.param(_admin(client_key="LS0tL"), id="within the key"),
        pytest.param(_admin(client_certificate="LS0tL"), id="a certificate that is none"),
        pytest.param(_admin(certificate_authority="LS0tL"), id="an authority that is none"),
    ],
)
def test_an_admin_conf_that_a_power_cut_has_shortened_is_said_to_be_damaged(
    monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    monkeypatch.setattr(remote, "read_secret", lambda host, path: cut)
    monkeypatch.setattr(api, "Tunnel", MagicMock())
    host: Any = SimpleNamespace(name="cp-1")
    with pytest.raises(api.Trouble, match=r"^cp-1: /etc/kubernetes/admin.conf is damaged$"):
        api.Api(host, HOME)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (True, "cp-1 answers no more on SSH"),
        (False, "cp-1 has no /etc/kubernetes/admin.conf"),
    ],
)
def test_a_control_plane_that_lost_its_power_is_not_taken_for_one_without_a_cluster(
    monkeypatch: pytest.MonkeyPatch, lost: bool, said: str
) -> None:
    monkeypatch.setattr(remote, "read_secret", lambda host, path: None)
    transport = SimpleNamespace(is_active=lambda: not lost)
    client = SimpleNamespace(get_transport=lambda: transport)
    host: Any = SimpleNamespace(name="cp-1", connector=SimpleNamespace(client=client))
    with pytest.raises(api.Trouble, match=f"^{said}$"):
        api.Api(host, HOME)


def test_an_api_server_that_ends_before_tls_is_agreed_on_is_asked_again() -> None:
    def hang_up(*_: object, **__: object) -> None:
        raise urllib3.exceptions.SSLError("EOF occurred in violation of protocol")

    client = api._Client(k8s.Configuration(host="https://127.0.0.1:6443"))
    client.rest_client.pool_manager = SimpleNamespace(request=hang_up)
    with pytest.raises(api.API_ERRORS) as raised:
        k8s.CoreV1Api(client).get_api_resources()
    assert api.passing(raised.value)


@pytest.mark.parametrize(("lost", "passes"), [(True, False), (False, True)])
def test_an_api_is_waited_for_only_where_its_machine_is_still_reached(
    monkeypatch: pytest.MonkeyPatch, lost: bool, passes: bool
) -> None:
    host: Any = SimpleNamespace(name="cp-1")
    starting = SimpleNamespace(ready=lambda: "its API does not answer")
    monkeypatch.setattr(settings, "control_plane_hosts", lambda: [host])
    monkeypatch.setattr(remote, "reach", lambda host: True)
    monkeypatch.setattr(remote, "lost", lambda host: lost)
    monkeypatch.setattr(api, "Api", lambda host, cluster: starting)
    with pytest.raises(api.Trouble) as raised:
        api.connect(HOME)
    assert api.passing(raised.value) is passes


def test_a_cluster_that_is_not_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    host: Any = SimpleNamespace(name="cp-1", connector=SimpleNamespace(client=None))
    monkeypatch.setattr(settings, "control_plane_hosts", lambda: [host])
    monkeypatch.setattr(remote, "reach", lambda host: True)
    monkeypatch.setattr(remote, "read_secret", lambda host, path: None)
    with pytest.raises(api.Trouble) as raised:
        api.connect(HOME)
    assert not api.passing(raised.value)


def test_the_api_is_looked_for_where_the_living_cluster_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = _admin()
    tunnels = MagicMock()
    monkeypatch.setattr(remote, "read_secret", lambda host, path: admin)
    monkeypatch.setattr(api, "Tunnel", tunnels)
    monkeypatch.setattr(api, "_context", lambda ca, pair: None)
    host: Any = SimpleNamespace(name="cp-1")
    changed = replace(HOME, api_name="k8s.home", api_port=7443)
    assert api.Api(host, HOME).moved is None
    connection = api.Api(host, changed)
    assert connection.moved == (
        "controlPlaneEndpoint of the cluster is 'api.home:6443' and cannot change after init; set"
        " api_name (where it is None, cluster_name) or api_port back, from 'k8s.home:7443'"
    )
    assert [each.args for each in tunnels.call_args_list] == [(host, 6443), (host, 6443)]
    options = connection.client.rest_client.pool_manager.connection_pool_kw
    assert (options["assert_hostname"], options["server_hostname"]) == ("api.home", "api.home")
