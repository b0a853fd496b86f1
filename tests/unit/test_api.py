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
import yaml

from barekube import api, remote
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


def test_the_api_is_looked_for_where_the_living_cluster_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = base64.b64encode(b"ca").decode()
    known = {"server": "https://api.home:6443", "certificate-authority-data": authority}
    admin = yaml.safe_dump({"users": [{"user": {}}], "clusters": [{"cluster": known}]})
    tunnels = MagicMock()
    monkeypatch.setattr(remote, "read_secret", lambda host, path: admin)
    monkeypatch.setattr(api, "Tunnel", tunnels)
    monkeypatch.setattr(api, "_context", lambda ca, user: None)
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
