"""A worker's proxy to the API: what Traefik and kubelet are given."""

from dataclasses import replace

import yaml

from barekube import api_proxy
from barekube.cluster import Node
from tests.unit.test_cluster import HOME

MASTERS = tuple(Node(f"cp-{n}", f"192.0.2.1{n}", control_plane=True) for n in (1, 2, 3))
THREE = replace(HOME, nodes=(*MASTERS, Node("w-1", "192.0.2.21", control_plane=False)))


def test_the_proxy_knows_every_control_plane_and_looks_at_each_all_the_time() -> None:
    config, _ = api_proxy.files(THREE)
    tcp = yaml.safe_load(config.content)["tcp"]
    balancer = tcp["services"]["api"]["loadBalancer"]
    assert [each["address"] for each in balancer["servers"]] == [
        "192.0.2.11:6443",
        "192.0.2.12:6443",
        "192.0.2.13:6443",
    ]
    assert tcp["routers"]["api"]["service"] == "api"
    assert balancer["serversTransport"] in tcp["serversTransports"]
    seconds = [int(balancer["healthCheck"][each].rstrip("s")) for each in ("interval", "timeout")]
    assert sum(seconds) < 10, "a client's second try would meet the dead one again"


def test_the_pod_listens_on_loopback_only_and_reads_the_file_that_is_written() -> None:
    config, manifest = api_proxy.files(THREE)
    pod = yaml.safe_load(manifest.content)
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["hostNetwork"]
    assert "--entryPoints.api.address=127.0.0.1:6443" in container["command"]
    assert f"--providers.file.filename={config.path}" in container["command"]
    (mount,) = container["volumeMounts"]
    (volume,) = pod["spec"]["volumes"]
    assert mount["name"] == volume["name"]
    assert config.path.startswith(f"{mount['mountPath']}/")
    assert mount["mountPath"] == volume["hostPath"]["path"]
    # kubelet takes every file beside it for a pod.
    assert not config.path.startswith(api_proxy.MANIFEST.rpartition("/")[0])


def test_a_further_control_plane_changes_the_configuration_and_not_the_pod() -> None:
    five = replace(THREE, nodes=(*THREE.nodes, Node("cp-4", "192.0.2.14", control_plane=True)))
    before, after = api_proxy.files(THREE), api_proxy.files(five)
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_one_control_plane_needs_no_proxy() -> None:
    assert api_proxy.files(HOME) == []
