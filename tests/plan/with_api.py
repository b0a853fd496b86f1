"""pyinfra's command line with a stand-in for the API, run as a program by the plan tests.

The stand-in has three Ready nodes and whatever object it is asked for; a dry run of an apply
finds nothing to change.
"""

from pyinfra_cli.main import main  # first: it patches the sockets for gevent

# ruff: noqa: I001
from types import SimpleNamespace
from unittest.mock import MagicMock

import yaml
from kubernetes import client as k8s
from pyinfra import inventory

import barekube.api
from tests.plan import machines


def node(name: str) -> k8s.V1Node:
    master = any(f"@fake/{each}" == name and is_master for each, _, is_master in machines.ALL)
    ready = SimpleNamespace(type="Ready", status="True")
    labels = {"node-role.kubernetes.io/control-plane": ""} if master else {}
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, labels=labels),
        status=SimpleNamespace(
            conditions=[ready], node_info=SimpleNamespace(machine_id=machines.MACHINE_ID)
        ),
    )


class Kind:
    """A kind of the dynamic client, of which there is what the manifests say."""

    def get(self, name: str, namespace: str | None = None) -> SimpleNamespace:
        documents = yaml.safe_load_all((machines.MANIFESTS / "network.yaml").read_text())
        found = next(each for each in documents if each["metadata"]["name"] == name)
        return SimpleNamespace(to_dict=lambda: found)

    def server_side_apply(self, body: dict[str, object], **options: object) -> SimpleNamespace:
        assert options.get("dry_run") == "All", "nothing is to be changed here"
        return SimpleNamespace(to_dict=lambda: body)


def connect(cluster: object) -> SimpleNamespace:
    """In the place of barekube.api.connect."""
    core = MagicMock()
    core.read_node = node
    return SimpleNamespace(
        host=next(iter(inventory)),
        ca=machines.CA,
        client=MagicMock(),
        core=core,
        apps=MagicMock(),
        certificates=MagicMock(),
        dynamic=SimpleNamespace(resources=SimpleNamespace(get=lambda **kind: Kind())),
    )


if __name__ == "__main__":
    barekube.api.connect = connect  # type: ignore[assignment]
    main()
