"""A worker's proxy to the API: what HAProxy and kubelet are given; tests/lab/test_api_proxy.py runs
it."""

from dataclasses import replace

import yaml

from barekube import api_proxy
from barekube.cluster import Node
from tests.unit.test_cluster import HOME

MASTERS = tuple(Node(f"cp-{n}", f"192.0.2.1{n}", control_plane=True) for n in (1, 2, 3))
THREE = replace(HOME, nodes=(*MASTERS, Node("w-1", "192.0.2.21", control_plane=False)))


def test_the_proxy_knows_every_control_plane_and_looks_at_each() -> None:
    config, _ = api_proxy.files(THREE)
    servers = [line.split() for line in config.content.splitlines() if "    server " in line]
    looked_at = {words[1]: words[2] for words in servers if "check" in words}
    assert looked_at == {
        "cp-1": "192.0.2.11:6443",
        "cp-2": "192.0.2.12:6443",
        "cp-3": "192.0.2.13:6443",
    }
    tried_at_last = [words[2] for words in servers if "backup" in words]
    assert tried_at_last == list(looked_at.values())


def test_it_listens_on_loopback_only_and_its_pod_reads_the_file_that_is_written() -> None:
    config, manifest = api_proxy.files(THREE)
    (bind,) = [line.split()[1] for line in config.content.splitlines() if "    bind " in line]
    assert bind == "127.0.0.1:6443"
    pod = yaml.safe_load(manifest.content)
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["hostNetwork"]
    assert config.path in container["command"]
    (mount,) = container["volumeMounts"]
    (volume,) = pod["spec"]["volumes"]
    assert mount["name"] == volume["name"]
    assert config.path.startswith(f"{mount['mountPath']}/")
    assert mount["mountPath"] == volume["hostPath"]["path"]
    # kubelet takes every file beside it for a pod.
    assert not config.path.startswith(api_proxy.MANIFEST.rpartition("/")[0])


def test_a_further_control_plane_changes_the_pod_too_so_that_kubelet_starts_it_anew() -> None:
    five = replace(THREE, nodes=(*THREE.nodes, Node("cp-4", "192.0.2.14", control_plane=True)))
    before, after = api_proxy.files(THREE), api_proxy.files(five)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert api_proxy.files(THREE) == before


def test_one_control_plane_needs_no_proxy() -> None:
    assert api_proxy.files(HOME) == []
