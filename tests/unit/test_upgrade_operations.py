"""What an upgrade does on a host, every command in its order."""

import json
import re
import time
from base64 import b64encode
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes import client as k8s
from pyinfra.api import StringCommand
from pyinfra.api import operation as an_operation
from urllib3.exceptions import HTTPError

import barekube.api
from barekube import drain, living, parts, remote, settings, versions
from barekube.cluster import Cluster, Node
from barekube.operations import ceph, maintain, order, packages, roll, units, upgradable
from barekube.operations import upgrade as operations
from barekube.upgrade import State, Step
from group_data import all as defaults
from tests.plan.machines import Machine
from tests.unit.harness import Answers, Outcome, begun, outcome

OLD, NEW = "1.36.3", versions.KUBERNETES
CLUSTER = Cluster(
    "home",
    NEW,
    "api.home",
    6443,
    "10.96.0.0/12",
    "10.32.0.0/12",
    (Node("cp-1", "192.0.2.11", True), Node("w-1", "192.0.2.21", False)),
)
STARTED = "1, started, cp-1, https://192.0.2.11:2380, https://192.0.2.11:2379, false"
HEALTHY = [STARTED, "health", '[{"endpoint":"https://192.0.2.11:2379","health":true}]', "end"]


class Operation:
    """In the place of an operation that has tests of its own."""

    def __init__(self, words: str) -> None:
        self._words = words

    def _inner(self, **options: Any) -> Iterator[Any]:  # noqa: ANN401
        yield StringCommand(self._words, *map(str, options.get("wanted", ())))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of the old version, nothing of it upgraded yet."""
    state = State(OLD, {"cp-1": OLD, "w-1": OLD}, {"cp-1": OLD}, OLD)
    node = SimpleNamespace(metadata=SimpleNamespace(annotations={}))
    api = SimpleNamespace(
        core=SimpleNamespace(
            read_node=lambda name: node,
            list_node=lambda: SimpleNamespace(items=[]),
            read_namespaced_config_map=lambda name, space: SimpleNamespace(
                metadata=SimpleNamespace(annotations={}),
                data=dict.fromkeys(("ClusterConfiguration", "kubelet", "config.conf"), ""),
            ),
        )
    )
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    monkeypatch.setattr(barekube.api, "opened", lambda: None)
    for module in (operations, upgradable, maintain):
        monkeypatch.setattr(module, "ask", lambda api: state)
    monkeypatch.setattr(packages, "installed", Operation("install"))
    monkeypatch.setattr(units, "configured", Operation("configure"))
    monkeypatch.setattr(settings, "control_plane_hosts", lambda: [SimpleNamespace(name="cp-1")])
    yield
    upgradable._lacking.clear()
    operations._snapshots.clear()


def _answers(**changed: list[str]) -> Answers:
    debs = {name: (f"{OLD}-1.1", "hold") for name in ("kubeadm", "kubelet", "kubectl")}
    return {
        "Machine": Machine(packages=debs).answer(),
        "RemainsFact": ["end"],
        "EtcdFact": HEALTHY,
        **changed,
    }


def _on(name: str, operation: Any, *arguments: object, **changed: Any) -> Outcome:  # noqa: ANN401
    upgradable._lacking[True, name] = list(Step)
    data = {"kubernetes_version": NEW, "bundle_url": None, **changed.pop("data", {})}
    return outcome(operation, *arguments, answers=_answers(**changed), name=name, data=data)


def _beginnings(done: Outcome) -> list[str]:
    """The commands without the lock that each takes, and without kubeadm's configuration."""
    plain = [command.rpartition(">/run/lock/barekube; ")[2] for command in done.commands]
    plain = [command.rpartition("umask 022; ")[2] for command in plain]
    return [command.replace(operations._SYNCING, "syncing:") for command in plain]


def test_a_control_plane_gets_kubeadm_then_its_servers_and_keeps_our_notes(cluster: None) -> None:
    done = _on("cp-1", operations.servers, CLUSTER)
    assert _beginnings(done) == [
        "install kubeadm",
        "syncing: kubeadm upgrade apply --config /run/barekube/kubeadm.yaml --yes; sync'",
        "_annotate()",
        "_await_servers()",
    ]
    assert f"kubernetesVersion: v{NEW}" in done.stdin[0]


def test_a_worker_is_configured_drained_renewed_and_let_back(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = State(NEW, {"cp-1": OLD, "w-1": OLD}, {"cp-1": NEW}, NEW)
    for module in (operations, upgradable):
        monkeypatch.setattr(module, "ask", lambda api: after)
    assert _beginnings(_on("w-1", operations.node, CLUSTER, [])) == [
        "install kubeadm",
        "kubeadm upgrade node --config /run/barekube/kubeadm.yaml; sync'",
        "_drain()",
        "install kubelet kubeadm kubectl kubernetes-cni cri-tools",
        "install containerd.io",
        "configure",
        "systemctl daemon-reload; systemctl restart kubelet; rm -rf /etc/kubernetes/tmp; sync'",
        "_await_well()",
        "let_back()",
        "_await_ceph()",
    ]


@pytest.mark.parametrize(("operation", "more"), [(operations.servers, []), (operations.node, [[]])])
def test_a_step_goes_on_though_the_api_server_is_started_anew_at_each_of_its_looks(
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    operation: Any,  # noqa: ANN401
    more: list[list[str]],
) -> None:
    calls, connect = iter(range(99)), barekube.api.connect

    def flaky(cluster: Cluster) -> Any:  # noqa: ANN401
        if next(calls) % 2 == 0:
            raise HTTPError("refused")
        return connect(cluster)

    after = State(OLD, {"cp-1": OLD, "w-1": OLD}, {"cp-1": NEW}, OLD)
    for module in (operations, upgradable):
        monkeypatch.setattr(module, "ask", lambda api: after)
    monkeypatch.setattr(barekube.api, "connect", flaky)
    monkeypatch.setattr(order, "time", SimpleNamespace(monotonic=lambda: 0, sleep=lambda _: None))
    done = _on("w-1", operation, CLUSTER, *more)
    assert "false" not in done.commands
    assert "install kubeadm" in _beginnings(done)


def _index(kept: list[str]) -> str:
    """What a bundle tells of an image that it has for these architectures, in base64."""
    platforms = [{"platform": {"os": "linux", "architecture": each}} for each in kept]
    return b64encode(json.dumps({"manifests": platforms}).encode()).decode()


def _bundle_of(kept: list[str], offered: list[str]) -> list[str]:
    """What is found on a 32-bit board whose bundle has these architectures of every image."""
    state = State(OLD, {"w-1": OLD}, {}, OLD, architectures={"w-1": "arm"})
    index = _index(kept)
    bundle = "https://192.0.2.9:8443"
    urls = [parts.index(bundle, image) for image in parts.images(NEW, (), control_plane=False)]
    data = {
        "bundle_url": bundle,
        "bundle_ca": "/dev/null",
        "bundle_key": "0A",
        "package_sources": defaults.package_sources,
    }
    answers = {
        "LookFact": [f"clock {time.time()}", "end"],
        "Offered": [*offered, "end"],
        "Sources": [*(f"text {url} {index}" for url in urls), "end"],
    }
    upgradable._states[True] = state
    try:
        done = _on("w-1", upgradable.examined, CLUSTER, data=data, **answers)
        assert done.commands == []
        return upgradable._findings[True, "w-1"]
    finally:
        upgradable._states.clear()


def test_what_the_bundle_of_a_board_lacks_is_named_with_the_command_that_builds_it(
    cluster: None,
) -> None:
    debs = [f"{name}={full}" for name, full in versions.kubernetes_debs(NEW).items()]
    debs.append(f"containerd.io={versions.containerd_deb('debian', '12', 'bookworm')}")
    assert _bundle_of(["amd64", "arm"], debs) == []
    there = "on the machine that the bundle is on"
    assert _bundle_of(["amd64"], debs) == [
        f"the bundle has no image registry.k8s.io/{name} for arm; run `python -m bundle build"
        f" --arch arm` {there}"
        for name in (f"pause:{versions.PAUSE}", f"kube-proxy:v{NEW}")
    ]
    for lacks in (debs[0], debs[-1]):
        (wrong,) = _bundle_of(["amd64", "arm"], [each for each in debs if each != lacks])
        assert wrong.endswith(
            f" does not offer {lacks}; run `python -m bundle build --arch arm` {there}"
        )


@pytest.mark.parametrize(
    ("kept", "silent", "said", "logged"),
    [
        (["amd64", "arm"], False, [], []),
        (
            ["amd64"],
            False,
            [
                "pi-1, which this run leaves out, gets kube-proxy with the others: the bundle has"
                f" no image registry.k8s.io/kube-proxy:v{NEW} for arm; run `python -m bundle build"
                " --arch arm` on the machine that the bundle is on"
            ],
            [],
        ),
        (
            ["amd64"],
            True,
            [],
            [
                "warning: https://192.0.2.9:8443 is not reached from here, so whether it has"
                f" kube-proxy {NEW} for pi-1 is not known"
            ],
        ),
    ],
)
def test_a_board_that_is_left_out_does_not_stop_the_upgrade_half_way(
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    kept: list[str],
    silent: bool,
    said: list[str],
    logged: list[str],
) -> None:
    url = "https://192.0.2.9:8443"
    image = parts.index(url, f"registry.k8s.io/kube-proxy:v{NEW}")
    index = _index(kept)
    answer = [f"silent {url}/v2/", f"silent {image}"] if silent else [f"text {image} {index}"]
    board = SimpleNamespace(bundle_url=url, bundle_ca="/dev/null")
    online = SimpleNamespace(bundle_url=None, bundle_ca=None)
    there = [
        SimpleNamespace(name="cp-1", data=online),
        SimpleNamespace(name="pi-1", data=board),
        SimpleNamespace(name="not-joined", data=board),
    ]
    monkeypatch.setattr(settings, "hosts", lambda: there)
    state = State(OLD, {}, {}, OLD, architectures={"cp-1": "amd64", "pi-1": "arm"})
    found: list[str] = []

    @an_operation()
    def asked() -> Generator[Any]:
        found.extend(upgradable._proxy_elsewhere(CLUSTER, state, ["cp-1"]))
        yield from ()

    done = outcome(asked, answers={"Sources": [*answer, "end"]}, name="cp-1")
    assert (found, done.logs) == (said, logged)


def test_a_node_that_only_has_to_be_let_back_loses_kubeadms_copies_first(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "lacking", lambda cluster, only: [Step.UNCORDON])
    monkeypatch.setattr(operations, "now", lambda cluster: State(NEW, {}, {"cp-1": NEW}, NEW))
    assert _beginnings(_on("w-1", operations.node, CLUSTER, [])) == [
        "rm -rf /etc/kubernetes/tmp; sync'",
        "let_back()",
        "_await_ceph()",
    ]


def test_the_cluster_is_judged_once_a_machine_that_came_back_has_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = iter(["starting", "starting", None])
    hosts = [SimpleNamespace(name="w-1")]

    def ask(api: Any) -> State:  # noqa: ANN401
        why = next(seen)
        # One that is not in this run is not waited for.
        return State(OLD, {}, {}, OLD, troubled={"w-2": "off"} | ({"w-1": why} if why else {}))

    state = SimpleNamespace(is_executing=True, active_hosts=hosts)
    monkeypatch.setattr(upgradable, "state", state)
    monkeypatch.setattr(upgradable, "ask", ask)
    monkeypatch.setattr(order, "time", SimpleNamespace(monotonic=lambda: 0, sleep=lambda _: None))
    api: Any = None
    assert upgradable._settled(api).troubled == {"w-2": "off"}


def test_new_manifests_are_synced_while_kubeadm_works_and_no_longer(tmp_path: Path) -> None:
    stub = tmp_path / "bin/sync"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/synced\n')
    stub.chmod(0o755)
    working = begun(order.changing(f"{operations._SYNCING} sleep 1.3"), tmp_path)
    assert working.wait(timeout=10) == 0
    lines = (tmp_path / "synced").read_text().splitlines()
    assert len(lines) >= 2
    assert set(lines) == {"/etc/kubernetes/manifests/*.yaml"}
    time.sleep(1.2)
    # The last look may have been the work's last moment.
    assert len((tmp_path / "synced").read_text().splitlines()) <= len(lines) + 1


WANTED: dict[living.Document, dict[str, Any]] = {
    living.CLUSTER: {"kubernetesVersion": f"v{NEW}"},
    living.KUBELET: {"maxPods": 50},
    living.PROXY: {"mode": "iptables"},
}


class ConfigMaps:
    """Those of kubeadm, each as wanted and noted."""

    def __init__(self) -> None:
        self.texts = {each: yaml.safe_dump(wanted) for each, wanted in WANTED.items()}
        self.notes: dict[living.Document, str | None] = {
            each: living.note(wanted, self.texts[each]) for each, wanted in WANTED.items()
        }
        self.patched: list[living.Document] = []

    def read_namespaced_config_map(self, name: str, space: str) -> Any:  # noqa: ANN401
        (document,) = [each for each in WANTED if each.config_map == name]
        note = self.notes[document]
        metadata = SimpleNamespace(annotations={living.ANNOTATION: note} if note else None)
        return SimpleNamespace(metadata=metadata, data={document.key: self.texts[document]})

    def patch_namespaced_config_map(self, name: str, space: str, body: Any) -> None:  # noqa: ANN401
        (document,) = [each for each in WANTED if each.config_map == name]
        self.notes[document] = body["metadata"]["annotations"][living.ANNOTATION]
        self.patched.append(document)

    def differing(self) -> list[living.Document]:
        return [
            each
            for each, wanted in WANTED.items()
            if living.difference("", wanted, self.texts[each], self.notes[each]) is not None
        ]


@pytest.fixture
def config_maps(cluster: None, monkeypatch: pytest.MonkeyPatch) -> ConfigMaps:
    made = ConfigMaps()
    api = SimpleNamespace(core=made)
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    monkeypatch.setattr(operations, "wanted_of", lambda cluster: WANTED)
    return made


def _noting(config_maps: ConfigMaps) -> None:
    before = operations._left_unnoted(CLUSTER)
    if before is not None:
        host: Any = SimpleNamespace(name="cp-1")
        state: Any = SimpleNamespace()
        assert operations._annotate(state, host, CLUSTER, before)


def test_an_upgrade_that_was_cut_off_before_its_notes_notes_what_is_as_wanted(
    config_maps: ConfigMaps,
) -> None:
    _noting(config_maps)
    assert config_maps.patched == []
    # kubeadm wrote two of them without our notes, and the third keeps a stale one.
    config_maps.notes |= {living.KUBELET: None, living.PROXY: None}
    config_maps.notes[living.CLUSTER] = living.note({"kubernetesVersion": f"v{OLD}"}, "older")
    assert config_maps.differing() == list(WANTED)
    _noting(config_maps)
    assert config_maps.differing() == []


def test_a_setting_that_is_not_as_wanted_is_left_to_the_stage_that_shows_it(
    config_maps: ConfigMaps,
) -> None:
    config_maps.texts[living.KUBELET] = yaml.safe_dump({"maxPods": 60})
    _noting(config_maps)
    config_maps.notes[living.KUBELET] = None
    _noting(config_maps)
    assert config_maps.patched == []
    assert config_maps.differing() == [living.KUBELET]


def _node(name: str, ready: str) -> SimpleNamespace:
    condition = SimpleNamespace(type="Ready", status=ready, reason="R", message="kubelet is silent")
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, annotations={}),
        status=SimpleNamespace(conditions=[condition]),
    )


@pytest.mark.parametrize(
    ("dead", "beside", "stops"),
    [
        ("cp-1", [], "; mend it"),
        ("cp-1", ["cp-1", "w-1"], None),
        ("w-1", [], None),
        ("w-2", [], "; mend it, or leave it out by --exclude"),
        ("w-2", ["w-2", "w-1"], None),
        ("w-9", [], None),
    ],
)
def test_no_node_goes_away_while_another_one_that_is_needed_is(
    cluster: None, monkeypatch: pytest.MonkeyPatch, dead: str, beside: list[str], stops: str | None
) -> None:
    after = State(OLD, {"cp-1": OLD, "w-1": OLD}, {"cp-1": NEW}, OLD)
    for module in (operations, upgradable):
        monkeypatch.setattr(module, "ask", lambda api: after)
    monkeypatch.setattr(operations, "_WELL_LIMIT", -1)
    api: Any = barekube.api.connect(CLUSTER)
    api.core.list_node = lambda: SimpleNamespace(items=[_node(dead, "Unknown")])
    upgradable._lacking[True, "w-1"] = list(Step)
    done = outcome(
        operations.node,
        CLUSTER,
        beside,
        answers=_answers(),
        name="w-1",
        data={"kubernetes_version": NEW, "bundle_url": None},
        active=[SimpleNamespace(name="w-2")],
    )
    assert (done.commands == ["false"]) is (stops is not None)
    if stops:
        assert done.logs == [f"left as it is: {dead} is not well (kubelet is silent){stops}"]


def test_what_a_run_that_was_cut_off_left_cordoned_is_let_back_before_another_is_drained(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = frozenset(("w-1", "w-2", "w-3"))
    after = State(OLD, {"cp-1": OLD, "w-1": OLD}, {"cp-1": NEW}, OLD, cordoned=left)
    for module in (operations, upgradable):
        monkeypatch.setattr(module, "ask", lambda api: after)
    done = _on("w-1", operations.node, CLUSTER, ["w-1", "w-3"])
    assert done.commands[0] == "_others_back()"
    back: list[str] = []
    monkeypatch.setattr(roll, "uncordoned", lambda api, name: name == "w-2")
    host = SimpleNamespace(log=back.append)
    assert operations._others_back(SimpleNamespace(), host, CLUSTER, ["w-2", "w-4"])  # type: ignore[arg-type]
    assert back == ["w-2: uncordoned, for a run that was cut off had left it so"]


def test_no_kubelet_gets_newer_than_an_api_server(cluster: None) -> None:
    assert _on("w-1", operations.node, CLUSTER, []).logs == [
        "cp-1 has to be upgraded first: no kubelet may be newer than an API server; run this"
        " without --limit"
    ]


def test_a_control_plane_is_touched_only_while_all_of_etcd_is_healthy(cluster: None) -> None:
    lame = ["1, unstarted, , https://192.0.2.12:2380, , false", *HEALTHY]
    for operation, more in ((operations.servers, []), (operations.node, [[]])):
        done = _on("cp-1", operation, CLUSTER, *more, EtcdFact=lame)
        assert done.commands == ["false"]
    assert (
        _on("cp-1", operations.servers, CLUSTER, EtcdFact=lame).logs[-1]
        == "etcd's member 1 was added and never started; remove it"
    )


def test_the_end_says_how_far_the_cluster_is_and_where_its_past_is(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "acts_for_the_cluster", lambda: True)
    upgradable._lacking[True, "cp-1"] = list(Step)
    master = settings.control_plane_hosts()
    data = {"kubernetes_version": NEW}
    for operation in (operations.backed_up, operations.told):
        done = outcome(
            operation, CLUSTER, answers=_answers(), name="cp-1", data=data, active=master
        )
    assert done.logs[0] == f"0 of 2 nodes run {NEW}; left behind: cp-1 ({OLD}), w-1 ({OLD})"
    assert re.search(rf"-{OLD}/etcd\.db on cp-1$", done.logs[1])
    assert (done.commands, done.asked) == ([], 0)


def test_a_run_with_nothing_to_do_says_how_far_the_cluster_is_too(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "acts_for_the_cluster", lambda: True)
    monkeypatch.setattr(operations, "_snapshots", [])
    done = outcome(
        operations.told,
        replace(CLUSTER, version=OLD),
        answers=_answers(),
        name="cp-1",
        data={"kubernetes_version": OLD},
        active=settings.control_plane_hosts(),
    )
    assert done.logs == [f"all 2 nodes run {OLD}"]


def test_a_backup_has_a_verified_snapshot_on_one_control_plane(cluster: None) -> None:
    done = _on("w-1", operations.backed_up, CLUSTER)
    folder, what = "/var/lib/barekube/backup", "keys, manifests, settings"
    assert re.fullmatch(rf"{folder}-2[-\dT]{{18}}-{OLD}: {what}", done.logs[0])
    assert "etcdctl" not in done.commands[0]
    # A preview names no directory that never comes to be.
    upgradable._lacking[False, "w-1"] = list(Step)
    data = {"kubernetes_version": NEW}
    preview = outcome(
        operations.backed_up, CLUSTER, answers=_answers(), name="w-1", data=data, preview=True
    )
    assert preview.logs == [f"{folder}-TIME-{OLD}: {what}"]
    script = operations._BACKUP.format(target="/b", snapshot=operations._SNAPSHOT)
    order = ["snapshot save", "snapshot status", "sha256sum", "cp -a --parents", "mv $n /b"]
    assert sorted(order, key=script.index) == order


def test_what_was_lost_is_put_back_and_kubelet_started(cluster: None) -> None:
    copy = f"/var/lib/barekube/backup-2026-11-05T10-00-00-{OLD}"
    manifest = "/etc/kubernetes/manifests/etcd.yaml"
    done = _on(
        "cp-1", operations.mended, CLUSTER, RemainsFact=[f"file 100 {copy}{manifest}", "end"]
    )
    new = "/etc/kubernetes/.barekube-new"
    assert _beginnings(done) == [
        f"cp -a {copy}{manifest} {new}; sync {new}; mv {new} {manifest}; sync; systemctl restart"
        " kubelet'"
    ]
    assert done.logs == [f"{manifest}: put back from {copy}{manifest}"]


_THEN, _LATER = datetime(2026, 11, 28, 12, tzinfo=UTC), datetime(2026, 11, 28, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("boots", "looks"),
    [
        # A kubelet that was restarted speaks anew, or a little later.
        ("bb", [("b", _THEN), ("b", _LATER)]),
        ("bbb", [("b", _THEN), ("b", _THEN), ("b", _LATER)]),
        # Its machine is up, and what the API knows is from before.
        ("bbb", [("a", _THEN), ("a", _LATER), ("b", _LATER)]),
        # It loses its power while it is waited for.
        ("abb", [("a", _THEN), ("a", _LATER), ("b", _LATER)]),
        ("a-", [("a", _THEN), ("b", _LATER)]),
    ],
)
def test_a_node_is_well_by_a_word_from_after_its_reboot_only(
    monkeypatch: pytest.MonkeyPatch, boots: str, looks: list[tuple[str, datetime]]
) -> None:
    seen, booted = iter(looks), iter(boots)
    words: list[datetime] = []

    def read_node(name: str) -> SimpleNamespace:
        boot, said = next(seen)
        words.append(said)
        node = _node(name, "True")
        node.status.node_info = SimpleNamespace(boot_id=boot, kubelet_version=f"v{OLD}")
        return node

    pods = SimpleNamespace(items=[])
    core = SimpleNamespace(read_node=read_node, list_namespaced_pod=lambda *a, **k: pods)
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: SimpleNamespace(core=core))
    monkeypatch.setattr(roll, "renewed", lambda api, name: words[-1])
    monkeypatch.setattr(remote, "boot_id", lambda other: next(booted).strip("-") or None)
    monkeypatch.setattr(order, "time", SimpleNamespace(monotonic=lambda: 0, sleep=lambda _: None))
    host = SimpleNamespace(name="w-1", log=lambda line: None)
    assert roll._await_well(SimpleNamespace(), host, CLUSTER, OLD)  # type: ignore[arg-type]
    assert len(words) == len(looks)


@pytest.mark.parametrize(
    ("after", "said"), [("same", "it refuses to reboot (no bus)"), ("new", None)]
)
def test_a_machine_that_refuses_to_reboot_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, after: str, said: str | None
) -> None:
    boots = iter(["same", after, "new"])
    monkeypatch.setattr(remote, "boot_id", lambda other: next(boots))
    monkeypatch.setattr(remote, "reconnect", lambda other: True)
    monkeypatch.setattr(remote, "sudo", lambda other: False)
    clock = SimpleNamespace(monotonic=lambda: 0, sleep=lambda _: None)
    monkeypatch.setattr(maintain, "time", clock)
    logs: list[str] = []
    output = SimpleNamespace(stderr="no bus", stdout="")
    refused = SimpleNamespace(run_shell_command=lambda *a, **k: (False, output), log=logs.append)
    assert maintain._reboot(SimpleNamespace(), refused) is (said is None)  # type: ignore[arg-type]
    assert [line.partition(";")[0] for line in logs] == ([said] if said else [])


def test_a_control_plane_that_is_not_well_itself_can_be_rebooted_again(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ill = State(OLD, {"cp-1": OLD, "w-1": OLD}, {"cp-1": OLD}, OLD, troubled={"cp-1": "starts"})
    monkeypatch.setattr(maintain, "ask", lambda api: ill)
    monkeypatch.setattr(settings, "hosts", lambda: [])
    monkeypatch.setattr(maintain, "_WELL_LIMIT", -1)
    options: dict[str, Any] = {"UpkeepFact": [*UPKEEP, "end"], "data": {"reboot": True}}
    assert "_reboot()" in _on("cp-1", maintain.maintained, CLUSTER, **options).commands
    assert _on("w-1", maintain.maintained, CLUSTER, **options).commands == ["false"]


UPKEEP = ["running 6.1.0-9-amd64", "booted 1000"]


@pytest.mark.parametrize(
    ("data", "said", "commands"),
    [
        ({}, ["upgrade openssl"], []),
        ({"packages": True}, [], []),
        ({"packages": True}, ["upgrade openssl"], ["_drain()", "apt", "_await_well()"]),
        ({"packages": True}, ["broken apt"], ["_drain()", "apt", "_await_well()"]),
        ({}, ["broken apt"], []),
        ({"packages": True}, ["required x"], ["_drain()", "_reboot()", "_await_well()"]),
        ({"reboot": True}, ["upgrade openssl"], ["_drain()", "_reboot()", "_await_well()"]),
    ],
)
def test_maintenance_does_what_was_asked_for_and_is_due(
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, bool],
    said: list[str],
    commands: list[str],
) -> None:
    monkeypatch.setattr(settings, "hosts", lambda: [])
    done = _on("w-1", maintain.maintained, CLUSTER, UpkeepFact=[*UPKEEP, *said, "end"], data=data)
    shown = ["apt" if "--with-new-pkgs upgrade" in each else each for each in done.commands]
    assert shown == [*commands, "let_back()", "_await_ceph()"] if commands else shown == []


def test_no_machine_goes_while_another_one_is_cordoned_by_a_run_that_was_cut_off(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = State(OLD, {"cp-1": OLD, "w-1": OLD}, {}, OLD, cordoned=frozenset(("w-1", "w-2")))
    for module in (maintain, upgradable):
        monkeypatch.setattr(module, "ask", lambda api: left)
    monkeypatch.setattr(maintain, "_active", lambda: {"w-1", "w-2"})
    data = {"reboot": True}
    done = _on("w-1", maintain.maintained, CLUSTER, UpkeepFact=[*UPKEEP, "end"], data=data)
    sentence = "w-2 was left cordoned by a run that was cut off; run this with --limit w-2 first"
    assert (done.commands, done.logs) == (["false"], [sentence])


def test_a_machine_that_a_cut_off_run_left_cordoned_is_let_back(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll, "marked", lambda api, name: True)
    data = {"packages": True}
    done = _on("w-1", maintain.maintained, CLUSTER, UpkeepFact=[*UPKEEP, "end"], data=data)
    assert done.commands == ["let_back()", "_await_ceph()"]


def _nodes(monkeypatch: pytest.MonkeyPatch, node: SimpleNamespace) -> list[str]:
    """What is done to the API, for a drain that a budget blocks."""
    done: list[str] = []

    def patch_node(name: str, patch: dict[str, Any]) -> None:
        node.metadata.annotations |= patch["metadata"]["annotations"]
        done.append(f"mark {patch['metadata']['annotations'][roll.MARK]}")

    api = SimpleNamespace(core=SimpleNamespace(read_node=lambda name: node, patch_node=patch_node))
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    monkeypatch.setattr(roll, "renewed", lambda api, name: datetime.now(UTC))
    monkeypatch.setattr(drain, "drain", lambda *arguments: "budget shop/till keeps till-0")
    monkeypatch.setattr(drain, "uncordon", lambda api, name: done.append("uncordon"))
    monkeypatch.setattr(ceph, "awaited", lambda connect, node, back: None)
    monkeypatch.setattr(drain, "empty", lambda api, name: True)
    return done


@pytest.mark.parametrize(
    ("cordoned", "calls"), [(False, ["mark true", "uncordon", "mark None"]), (True, [])]
)
def test_a_drain_that_blocks_lets_the_node_back_unless_a_user_cordoned_it(
    monkeypatch: pytest.MonkeyPatch, cordoned: bool, calls: list[str]
) -> None:
    node = SimpleNamespace(
        metadata=SimpleNamespace(annotations={}), spec=SimpleNamespace(unschedulable=cordoned)
    )
    done = _nodes(monkeypatch, node)
    said: list[str] = []
    host = SimpleNamespace(name="w-1", log=said.append)
    assert roll._drain(SimpleNamespace(), host, CLUSTER) is False  # type: ignore[arg-type]
    assert done == calls
    assert said == [
        "drain, 600 s at most",
        "budget shop/till keeps till-0; nothing more is drained, and this node"
        f" {'stays cordoned, as it was' if cordoned else 'takes pods as before'}",
    ]


@pytest.mark.parametrize(
    ("looks", "asked", "said"),
    [
        # A pod is not well yet, then all are: the budget lets one go.
        ([(1, 0), (1, 0), (2, 1)], 3, []),
        # All are well and it lets none go: waiting brings nothing.
        ([(2, 0)], 1, ["PodDisruptionBudget shop/till lets no pod go, and till-0 runs on w-1"]),
    ],
)
def test_a_budget_is_waited_for_only_as_long_as_one_of_its_pods_is_not_well(
    monkeypatch: pytest.MonkeyPatch, looks: list[tuple[int, int]], asked: int, said: list[str]
) -> None:
    owners = [SimpleNamespace(kind="ReplicaSet", controller=True)]
    pod = SimpleNamespace(
        metadata=SimpleNamespace(
            name="till-0",
            namespace="shop",
            labels={"app": "till"},
            annotations={},
            owner_references=owners,
        ),
        spec=SimpleNamespace(node_name="w-1"),
        status=SimpleNamespace(phase="Running"),
    )
    every = SimpleNamespace(match_labels={"app": "till"}, match_expressions=None)
    left = list(looks)

    def budgets() -> SimpleNamespace:
        healthy, allowed = left.pop(0)
        status = SimpleNamespace(
            disruptions_allowed=allowed, current_healthy=healthy, expected_pods=2
        )
        metadata = SimpleNamespace(name="till", namespace="shop", owner_references=None)
        spec = SimpleNamespace(selector=every)
        return SimpleNamespace(items=[SimpleNamespace(metadata=metadata, spec=spec, status=status)])

    def wait(what: str, limit: int, look: Any) -> None:  # noqa: ANN401
        while look():
            pass

    core = SimpleNamespace(list_pod_for_all_namespaces=lambda: SimpleNamespace(items=[pod]))
    api = SimpleNamespace(client=None, core=core)
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    policies = SimpleNamespace(list_pod_disruption_budget_for_all_namespaces=budgets)
    monkeypatch.setattr(k8s, "PolicyV1Api", lambda client: policies)
    monkeypatch.setattr(upgradable, "state", SimpleNamespace(is_executing=True))
    monkeypatch.setattr(upgradable, "wait", wait)
    found = upgradable._blocked(CLUSTER, {"w-1"})
    assert [each.partition(";")[0] for each in found] == said
    assert len(looks) - len(left) == asked


def test_a_pod_that_nothing_starts_again_is_named_before_anything_is_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pods = [
        SimpleNamespace(
            metadata=SimpleNamespace(
                name=name, namespace="shop", labels={}, annotations={}, owner_references=owners
            ),
            spec=SimpleNamespace(node_name=node),
            status=SimpleNamespace(phase=phase),
        )
        for name, owners, node, phase in (
            ("debug", None, "w-1", "Running"),
            ("ended", None, "w-1", "Succeeded"),
            ("till-0", [SimpleNamespace(kind="ReplicaSet", controller=True)], "w-1", "Running"),
            ("other", None, "w-2", "Running"),
        )
    ]
    core = SimpleNamespace(list_pod_for_all_namespaces=lambda: SimpleNamespace(items=pods))
    monkeypatch.setattr(
        barekube.api, "connect", lambda cluster: SimpleNamespace(client=None, core=core)
    )
    none = SimpleNamespace(
        list_pod_disruption_budget_for_all_namespaces=lambda: SimpleNamespace(items=[])
    )
    monkeypatch.setattr(k8s, "PolicyV1Api", lambda client: none)
    monkeypatch.setattr(upgradable, "state", SimpleNamespace(is_executing=False))
    monkeypatch.setattr(upgradable, "wait", lambda what, limit, look: look())
    found = upgradable._blocked(CLUSTER, {"w-1"})
    assert [each.partition(";")[0] for each in found] == [
        "pod shop/debug would be lost, for nothing starts it again elsewhere"
    ]
    assert upgradable._blocked(CLUSTER, set()) == []


_PROXY, _API = "2 of 3 pods are up to date, 3 ready", "no API server is ready"


@pytest.mark.parametrize(
    ("empty", "proxy", "watched", "said"),
    [
        (False, _PROXY, None, f"kube-proxy: {_PROXY}"),
        (False, None, _API, _API),
        (False, None, None, None),
        (True, _PROXY, _API, None),
    ],
)
def test_no_pod_is_sent_away_while_nobody_would_see_it_go(
    monkeypatch: pytest.MonkeyPatch,
    empty: bool,
    proxy: str | None,
    watched: str | None,
    said: str | None,
) -> None:
    pods = SimpleNamespace(items=["the API servers"])
    core = SimpleNamespace(list_namespaced_pod=lambda space, label_selector: pods)
    monkeypatch.setattr(drain, "empty", lambda api, name: empty)
    monkeypatch.setattr(roll, "replacing", lambda api, *what: proxy)
    asked: list[datetime] = []

    def unwatched(servers: object, now: datetime) -> str | None:
        asked.append(now)
        return watched

    monkeypatch.setattr(drain, "unwatched", unwatched)
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    answer = SimpleNamespace(headers={"Date": format_datetime(now, usegmt=True)})
    client = SimpleNamespace(call_api=lambda *what, _preload_content: answer)
    assert roll._unseen(SimpleNamespace(core=core, client=client), "w-1") == said  # type: ignore[arg-type]
    # By the cluster's clock: that of the machine which runs this may be wrong by hours.
    assert asked in ([], [now])


def test_nothing_is_drained_while_nobody_would_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimpleNamespace(
        metadata=SimpleNamespace(annotations={}), spec=SimpleNamespace(unschedulable=None)
    )
    done = _nodes(monkeypatch, node)
    monkeypatch.setattr(roll, "_SEEN_LIMIT", 0)
    monkeypatch.setattr(roll, "_unseen", lambda api, name: _API)
    said: list[str] = []
    host = SimpleNamespace(name="w-1", log=said.append)
    assert roll._drain(SimpleNamespace(), host, CLUSTER) is False  # type: ignore[arg-type]
    assert (done, said) == ([], [f"nothing is drained: {_API}; mend that, then run this again"])


def test_nothing_is_drained_while_ceph_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimpleNamespace(
        metadata=SimpleNamespace(annotations={}), spec=SimpleNamespace(unschedulable=None)
    )
    done = _nodes(monkeypatch, node)
    monkeypatch.setattr(ceph, "awaited", lambda connect, node, back: None if back else "OSD_DOWN")
    said: list[str] = []
    host = SimpleNamespace(name="w-1", log=said.append)
    assert roll._drain(SimpleNamespace(), host, CLUSTER) is False  # type: ignore[arg-type]
    assert (done, said) == ([], ["nothing is drained: OSD_DOWN"])


@pytest.mark.parametrize(
    ("cordoned", "lacking", "passed"),
    [(False, None, True), (False, "PG_DEGRADED", False), (True, "PG_DEGRADED", True)],
)
def test_a_node_is_done_once_ceph_has_caught_up_unless_a_user_keeps_it_cordoned(
    monkeypatch: pytest.MonkeyPatch, cordoned: bool, lacking: str | None, passed: bool
) -> None:
    node = SimpleNamespace(spec=SimpleNamespace(unschedulable=cordoned))
    _nodes(monkeypatch, node)
    monkeypatch.setattr(ceph, "awaited", lambda connect, node, back: lacking if back else None)
    said: list[str] = []
    host = SimpleNamespace(name="w-1", log=said.append)
    assert roll._await_ceph(SimpleNamespace(), host, CLUSTER) is passed  # type: ignore[arg-type]
    assert said == ([] if passed else [lacking])
