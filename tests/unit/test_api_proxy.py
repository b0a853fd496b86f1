"""A worker's proxy to the API: what HAProxy and kubelet are given; tests/lab/test_api_proxy.py runs
it."""

import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from barekube import api_proxy, hosts_file
from barekube.cluster import Cluster, Node
from barekube.operations import workers
from tests.plan.machines import Machine
from tests.unit.harness import Outcome, outcome
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


def test_a_further_control_plane_changes_the_configuration_and_not_the_pod() -> None:
    five = replace(THREE, nodes=(*THREE.nodes, Node("cp-4", "192.0.2.14", control_plane=True)))
    before, after = api_proxy.files(THREE), api_proxy.files(five)
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_one_control_plane_needs_no_proxy_and_a_control_plane_none() -> None:
    assert api_proxy.files(HOME) == []
    assert [api_proxy.images(HOME, node.name) for node in HOME.nodes] == [()] * len(HOME.nodes)
    with_image = [node.name for node in THREE.nodes if api_proxy.images(THREE, node.name)]
    assert with_image == ["w-1"]


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 0), ("127.0.0.2", 1)])
def test_whether_it_listens_is_read_where_the_kernel_lists_it(address: str, status: int) -> None:
    with socket.create_server((address, 0)) as server:
        script = api_proxy.listens(server.getsockname()[1])
        assert subprocess.run(["sh", "-ec", script], check=False).returncode == status


LISTED = hosts_file.of(THREE, "127.0.0.1 localhost\n", proxied=False)
ALONE = hosts_file.of(THREE, LISTED, proxied=True)
WANTED = {file.path: file.content for file in api_proxy.files(THREE)}


def _on(cluster: Cluster, files: dict[str, str]) -> tuple[Outcome, list[str]]:
    """What is done on a worker with such files, and the words that tell its commands apart."""
    machine = Machine(files=files, mode={api_proxy.MANIFEST: "600"})
    done = outcome(
        workers.proxied, cluster, answers={"Machine": machine.answer()}, name="w-1", data={}
    )
    words = (
        "crictl pull",
        "crictl --timeout 60s stop",
        "haproxy.cfg",
        "barekube-api.yaml",
        "/etc/hosts",
    )
    more = ("try-restart kubelet", "rm -f", "_await_proxy")
    return done, [
        "+".join(word for word in (*words, *more) if word in command.replace("/.", "/"))
        for command in done.commands
    ]


def test_a_worker_is_led_to_its_proxy_alone_once_that_listens() -> None:
    done, steps = _on(THREE, {"/etc/hosts": LISTED})
    assert steps == [
        "crictl pull",
        "haproxy.cfg",
        "barekube-api.yaml",
        "_await_proxy",
        "/etc/hosts+try-restart kubelet",
    ]
    assert done.stdin == [*WANTED.values(), ALONE]
    assert _on(THREE, {**WANTED, "/etc/hosts": LISTED})[1] == steps[-2:]
    idle, none = _on(THREE, {**WANTED, "/etc/hosts": ALONE})
    assert none == []
    assert idle.asked == 1
    assert idle.noops == ["its way to 3 control planes is as wanted"]


def test_a_configuration_that_alone_differs_is_read_by_a_proxy_that_is_started_anew() -> None:
    files = {**WANTED, api_proxy.CONFIGURATION: "# by hand\n", "/etc/hosts": ALONE}
    _, steps = _on(THREE, files)
    assert steps == ["crictl pull", "crictl --timeout 60s stop+haproxy.cfg+rm -f", "_await_proxy"]


@pytest.mark.parametrize(
    ("pods", "containers", "stop", "status"),
    [
        ("echo p1", "echo c1", "exit 0", 0),
        ("echo", "exit 9", "exit 9", 0),
        ("exit 1", "echo c1", "exit 0", 1),
        ("echo p1", "exit 1", "exit 0", 1),
        ("echo p1", "echo c1", "exit 1", 1),
    ],
)
def test_a_proxy_that_cannot_be_started_anew_is_so_by_the_next_run(
    tmp_path: Path, pods: str, containers: str, stop: str, status: int
) -> None:
    configuration = tmp_path / "haproxy.cfg"
    configuration.touch()
    program = tmp_path / "crictl"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in pods*) {pods};; ps*) {containers};; *" stop "*) {stop};; esac\n'
    )
    program.chmod(0o755)
    script = api_proxy.RESTART.replace(api_proxy.CONFIGURATION, str(configuration))
    run = ["sh", "-ec", f"PATH={tmp_path}:$PATH; {script}"]
    assert subprocess.run(run, check=False).returncode == status
    assert configuration.exists() is (status == 0)


def test_where_one_control_plane_is_left_hosts_lead_to_it_before_the_proxy_goes() -> None:
    one = replace(THREE, nodes=(THREE.nodes[0], THREE.nodes[-1]))
    done, steps = _on(one, {**WANTED, "/etc/hosts": ALONE})
    assert steps == [
        "/etc/hosts+try-restart kubelet",
        "haproxy.cfg+barekube-api.yaml+rm -f",
    ]
    assert "192.0.2.11 api.home" in done.stdin[0]
    assert _on(one, {"/etc/hosts": done.stdin[0]})[1] == []


def test_a_host_without_our_lines_in_its_hosts_file_keeps_it_as_it_is() -> None:
    _, steps = _on(THREE, {"/etc/hosts": "127.0.0.1 localhost\n"})
    assert "/etc/hosts" not in "".join(steps)
