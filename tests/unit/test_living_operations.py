"""A changed setting on one host of a living cluster: done, put back, or not begun."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.context import ctx_host

import barekube.api
from barekube import kubeadm_config, living, remote, settings
from barekube.cluster import Cluster
from barekube.operations import change, kubeadm, static_pods
from barekube.operations import encryption as rotation
from barekube.operations import living as operations
from tests.plan import machines
from tests.unit.harness import Answers, FakeHost, Outcome, outcome

CLUSTER = machines.cluster()
NAME = "@fake/cp-1"
SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml"
HALTED = (
    "left as it is, for {0} failed; mend that, or leave it out by --exclude {0}, then run this"
    " again"
)


def _config_map(name: str, noted: bool) -> SimpleNamespace:
    document, wanted = {
        "kubeadm-config": (
            living.CLUSTER,
            kubeadm_config.cluster_configuration(CLUSTER, ["192.0.2.11"]),
        ),
        "kubelet-config": (living.KUBELET, kubeadm_config.kubelet_configuration(CLUSTER)),
        "kube-proxy": (living.PROXY, kubeadm_config.proxy_configuration(CLUSTER)),
    }[name]
    text = kubeadm_config.dump(wanted)
    annotations = {living.ANNOTATION: living.note(wanted, text)} if noted else {}
    metadata = SimpleNamespace(annotations=annotations)
    return SimpleNamespace(data={document.key: text}, metadata=metadata)


@pytest.fixture
def noted() -> list[str]:
    """The ConfigMaps that have our note."""
    return ["kubeadm-config", "kubelet-config", "kube-proxy"]


@pytest.fixture(autouse=True)
def containers(
    monkeypatch: pytest.MonkeyPatch, noted: list[str]
) -> Iterator[list[SimpleNamespace]]:
    """Those of each static pod, as the API shows them."""
    running = SimpleNamespace(started_at=datetime.now(UTC))
    state = SimpleNamespace(running=running)
    shown = [SimpleNamespace(ready=True, container_id="1", state=state)]
    pod = SimpleNamespace(status=SimpleNamespace(container_statuses=shown))
    address = SimpleNamespace(type="InternalIP", address="192.0.2.11")
    node = SimpleNamespace(status=SimpleNamespace(addresses=[address]))
    core = SimpleNamespace(
        read_node=lambda name: node,
        read_namespaced_pod=lambda name, space: pod,
        read_namespaced_config_map=lambda name, space: _config_map(name, name in noted),
    )
    api = SimpleNamespace(core=core)
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    monkeypatch.setattr(barekube.api, "opened", lambda: None)
    monkeypatch.setattr(operations, "_renewed", lambda api, name: 0)
    masters = [FakeHost(each, {}, {}) for each in ("cp-0", NAME)]
    monkeypatch.setattr(settings, "control_plane_hosts", lambda: masters)
    yield shown
    operations._begun.clear()


def _answer(*, server: str = "apiserver", kept: str = "", keys: str = "key1") -> list[str]:
    lines = [keys if each == "key1" else each for each in machines._settings()]
    at = lines.index(f"== {SERVER}") + 1
    lines[at] = server
    return [*lines[:-1], "== kept", *([kept] if kept else []), "== end"]


def _control_plane(cluster: Cluster = CLUSTER, **options: Any) -> Outcome:  # noqa: ANN401
    lines = {each: options.pop(each) for each in ("server", "kept", "keys") if each in options}
    answers: Answers = {"SettingsFact": _answer(**lines)}
    return outcome(operations.control_plane, cluster, answers=answers, name=NAME, **options)


def _beginnings(done: Outcome) -> list[str]:
    """The commands without the lock that each takes, up to their first word of a path."""
    plain = [command.rpartition(">/run/lock/barekube; ")[2] for command in done.commands]
    return [each.partition(";")[0].rstrip("'") for each in plain]


KEEPS, FORGETS = "umask 077", "rm -rf /var/lib/barekube/before-change"
WRITES, WRITES_RULES = "mkdir -p /etc/kubernetes/manifests", "mkdir -p /etc/kubernetes"


def test_what_is_there_is_kept_before_a_static_pod_is_written_and_until_it_is_ready() -> None:
    done = _control_plane(server="by hand")
    assert _beginnings(done) == [KEEPS, WRITES, "await_new()", FORGETS]
    assert SERVER.lstrip("/") in done.commands[0]
    assert done.stdin == ["apiserver\n"]


def test_what_is_there_is_kept_before_audit_rules_are_written() -> None:
    done = _control_plane(replace(CLUSTER, audit_rules=[{"level": "Bogus"}]))
    restart = "crictl ps -q --name '\"'\"'^kube-apiserver$'\"'\"' | xargs"
    assert [each.partition(" -r ")[0] for each in _beginnings(done)] == [
        KEEPS,
        WRITES_RULES,
        restart,
        "await_new()",
        FORGETS,
    ]
    assert "etc/kubernetes/audit-policy.yaml" in done.commands[0]


def test_a_comment_in_a_static_pod_is_taken_out_without_waiting_for_another_pod() -> None:
    assert _beginnings(_control_plane(server="apiserver # by hand")) == [WRITES]


KEPT = "/var/lib/barekube/before-change/etc/kubernetes/manifests/kube-apiserver.yaml.written"


@pytest.mark.parametrize(
    ("ready", "commands"),
    [(True, [FORGETS]), (False, ["await_new()", FORGETS])],
)
def test_a_change_that_was_cut_off_ends_once_its_pods_are_ready(
    containers: list[SimpleNamespace], ready: bool, commands: list[str]
) -> None:
    containers[0].ready = ready
    done = _control_plane(kept=f"{machines.BOOT} {KEPT}")
    assert _beginnings(done) == commands
    assert done.logs == ["a change was cut off: done once its pods are ready with their files"]


def test_a_control_plane_is_left_as_it_is_after_another_host_has_failed() -> None:
    done = _control_plane(server="by hand", failed=["cp-0"])
    assert done.commands == ["false"]
    assert done.logs == [HALTED.format("cp-0")]
    assert _control_plane(failed=["cp-0"]).commands == []


NEWER = "kube-apiserver: restart (/etc/kubernetes/audit-policy.yaml newer than its start)"
RULES = replace(CLUSTER, audit_rules=[{"level": "Metadata"}])


def test_a_preview_says_all_that_a_change_of_a_control_plane_brings() -> None:
    changed = replace(RULES, encryption_key=2)
    done = _control_plane(changed, server="by hand", preview=True)
    assert [each.partition(":")[0] for each in done.logs] == [
        "/etc/kubernetes/audit-policy.yaml",
        SERVER,
        "key of the Secrets in etcd",
    ]
    assert NEWER in _control_plane(RULES, preview=True).logs


def test_another_pods_file_is_no_reason_to_restart_the_api_server_unsaid(
    containers: list[SimpleNamespace],
) -> None:
    containers[0].state.running.started_at = datetime.fromtimestamp(machines.BOOT - 1, UTC)
    scheduler = "/etc/kubernetes/manifests/kube-scheduler.yaml"
    lines = _answer()
    lines[lines.index(f"== {scheduler}") + 1] = "by hand"
    answers: Answers = {"SettingsFact": lines}
    done = outcome(operations.control_plane, CLUSTER, answers=answers, name=NAME, preview=True)
    assert [each.partition(",")[0] for each in done.logs] == [
        f"{scheduler}: 1 line added",
        NEWER,
    ]


@pytest.mark.parametrize(
    ("others", "preview", "told"),
    [("key1", True, False), ("key2", True, True), ("key1", False, True)],
)
def test_another_key_is_previewed_once_by_the_control_plane_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, others: str, preview: bool, told: bool
) -> None:
    first = FakeHost("cp-0", {}, {})
    monkeypatch.setattr(settings, "control_plane_hosts", lambda: [first, FakeHost(NAME, {}, {})])
    monkeypatch.setattr(rotation, "names", lambda other: [others])
    cluster = replace(CLUSTER, encryption_key=2)
    done = _control_plane(cluster, preview=preview, active=[first])
    line = (
        "key of the Secrets in etcd: key1 -> key2, on all control planes, whose API servers"
        " restart one by one"
    )
    assert done.logs == ([line] if told else [])
    assert done.commands == (["rotated()"] if told else [])


def _settings(**options: Any) -> Outcome:  # noqa: ANN401
    cluster = options.pop("cluster", CLUSTER)
    options |= {"name": NAME, "active": settings.control_plane_hosts()[1:]}
    return outcome(operations.cluster_settings, cluster, answers={}, **options)


PROXY = "DaemonSet kube-system/kube-proxy: restart, node by node (its settings changed)"
MODE = replace(CLUSTER, kube_proxy_configuration={"nodePortAddresses": ["primary"]})


def test_a_preview_says_that_kube_proxy_restarts_with_its_settings() -> None:
    done = _settings(cluster=MODE, preview=True)
    assert done.logs == ["ConfigMap kube-system/kube-proxy", PROXY]
    done = _settings(cluster=replace(CLUSTER, kubelet_configuration={"maxPods": 9}), preview=True)
    assert done.logs == ["ConfigMap kube-system/kubelet-config"]


def test_what_an_init_of_this_run_has_made_is_noted_and_what_a_cut_one_has_is_written_anew(
    monkeypatch: pytest.MonkeyPatch, noted: list[str]
) -> None:
    names = list(noted)
    noted.clear()
    done = _settings()
    assert [each.partition("(")[0] for each in done.commands[1::2]] == ["_note"] * 3
    unknown = "written anew, for it is not noted what made it"
    assert done.logs == [*(f"ConfigMap kube-system/{each}: {unknown}" for each in names), PROXY]
    monkeypatch.setattr(kubeadm, "created", [CLUSTER.name])
    assert _settings() == Outcome(commands=["_note()"] * 3)


def test_settings_are_changed_beside_a_dead_worker_and_not_beside_a_dead_control_plane() -> None:
    assert _settings(cluster=MODE, unreached=["w-9"]).logs[-1] == PROXY
    refused = _settings(cluster=MODE, unreached=["cp-0"])
    assert (refused.commands, refused.logs) == (["false"], [HALTED.format("cp-0")])
    assert _settings(unreached=["cp-0"]).commands == []
    assert _control_plane(server="by hand", unreached=["w-9"]).commands[0] != "false"
    assert len(_kubelet("w-1", unreached=["w-9"]).commands) == 2


def _kubelet(name: str, **options: Any) -> Outcome:  # noqa: ANN401
    machine = machines.Machine(files={operations.KUBELET_FILE: "maxPods: 1\n"})
    answers: Answers = {"Machine": machine.answer()}
    return outcome(operations.kubelet, CLUSTER, answers=answers, name=name, **options)


def test_no_kubelet_gets_settings_that_another_was_lost_with() -> None:
    assert len(_kubelet("w-1", fails_at="systemctl restart kubelet").commands) == 1
    done = _kubelet("w-2")
    assert done.commands == ["false"]
    assert done.logs[-1] == HALTED.format("w-1")


def test_kubelets_are_restarted_one_after_the_other_until_a_host_has_failed() -> None:
    assert len(_kubelet("w-1").commands) == 2
    assert len(_kubelet("w-2").commands) == 2
    assert _kubelet("w-3", failed=["w-9"]).logs[-1] == HALTED.format("w-9")


@pytest.mark.parametrize(
    ("put_back", "again", "end"),
    [
        ([SERVER], None, "; its files are as before; correct group_data and run this again"),
        (
            [SERVER],
            "no API",
            "; its files are as before and still: no API; correct group_data and run this again",
        ),
        (
            [],
            None,
            "; correct group_data and run this again, or look at `crictl ps -a` and `crictl logs`"
            " on it",
        ),
    ],
)
def test_what_was_there_before_is_put_back_where_no_pod_becomes_ready(
    monkeypatch: pytest.MonkeyPatch, put_back: list[str], again: str | None, end: str
) -> None:
    answers = iter(["kube-apiserver not ready", again])
    monkeypatch.setattr(static_pods, "wait", lambda *_: next(answers))
    monkeypatch.setattr(change, "put_back", lambda host: put_back)
    monkeypatch.setattr(remote, "lines", lambda host, script: ["Error: unknown flag: --even-ttl"])
    host: Any = FakeHost(NAME, {}, {})
    state: Any = None
    with ctx_host.use(host):
        assert not static_pods.await_new(state, host, CLUSTER, {}, ["kube-apiserver"])
    assert host.logs == [
        "kube-apiserver not ready 300 s after its settings changed (kube-apiserver: Error: unknown"
        f" flag: --even-ttl){end}"
    ]


@pytest.mark.parametrize("trouble", ["", "cp-1: its API does not answer"])
def test_a_change_that_was_cut_off_is_taken_back_only_where_no_api_answers(
    monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    looks = iter([trouble, ""])
    taken_back: list[str] = []
    monkeypatch.setattr(kubeadm, "connect", lambda cluster: (None, next(looks)))
    monkeypatch.setattr(change, "cut_off", lambda host: taken_back.append(host.name))
    host: Any = FakeHost(NAME, {}, {})
    state: Any = None
    assert kubeadm._await_api(state, host, CLUSTER)
    assert taken_back == ([NAME] if trouble else [])
