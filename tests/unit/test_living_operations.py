"""A changed setting on one host of a living cluster: done, put back, or not begun."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.context import ctx_host

import barekube.api
from barekube import kubeadm_config, living, remote
from barekube.cluster import Cluster
from barekube.operations import change, kubeadm
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


def _config_map(name: str, space: str) -> SimpleNamespace:
    wanted = kubeadm_config.kubelet_configuration(CLUSTER)
    text = kubeadm_config.dump(wanted)
    annotations = {living.ANNOTATION: living.note(wanted, text)}
    return SimpleNamespace(
        data={"kubelet": text}, metadata=SimpleNamespace(annotations=annotations)
    )


@pytest.fixture(autouse=True)
def containers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SimpleNamespace]]:
    """Those of each static pod, as the API shows them."""
    running = SimpleNamespace(started_at=datetime.now(UTC))
    state = SimpleNamespace(running=running)
    shown = [SimpleNamespace(ready=True, container_id="1", state=state)]
    pod = SimpleNamespace(status=SimpleNamespace(container_statuses=shown))
    core = SimpleNamespace(
        read_namespaced_pod=lambda name, space: pod, read_namespaced_config_map=_config_map
    )
    api = SimpleNamespace(core=core)
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    monkeypatch.setattr(barekube.api, "opened", lambda: None)
    monkeypatch.setattr(operations, "_renewed", lambda api, name: 0)
    yield shown
    operations._begun.clear()


def _answer(*, server: str = "apiserver", kept: str = "") -> list[str]:
    lines = list(machines._settings())
    at = lines.index(f"== {SERVER}") + 1
    lines[at] = server
    return [*lines[:-1], "== kept", *([kept] if kept else []), "== end"]


def _control_plane(cluster: Cluster = CLUSTER, **options: Any) -> Outcome:  # noqa: ANN401
    failed = options.pop("failed", ())
    answers: Answers = {"SettingsFact": _answer(**options)}
    return outcome(operations.control_plane, cluster, answers=answers, name=NAME, failed=failed)


def _beginnings(done: Outcome) -> list[str]:
    """The commands without the lock that each takes, up to their first word of a path."""
    plain = [command.rpartition(">/run/lock/barekube; ")[2] for command in done.commands]
    return [each.partition(";")[0].rstrip("'") for each in plain]


KEEPS, FORGETS = "umask 077", "rm -rf /var/lib/barekube/before-change"
WRITES, WRITES_RULES = "mkdir -p /etc/kubernetes/manifests", "mkdir -p /etc/kubernetes"


def test_what_is_there_is_kept_before_a_static_pod_is_written_and_until_it_is_ready() -> None:
    done = _control_plane(server="by hand")
    assert _beginnings(done) == [KEEPS, WRITES, "_await_pods()", FORGETS]
    assert SERVER.lstrip("/") in done.commands[0]
    assert done.stdin == ["apiserver\n"]


def test_what_is_there_is_kept_before_audit_rules_are_written() -> None:
    done = _control_plane(replace(CLUSTER, audit_rules=[{"level": "Bogus"}]))
    restart = "crictl ps -q --name '\"'\"'^kube-apiserver$'\"'\"' | xargs"
    assert [each.partition(" -r ")[0] for each in _beginnings(done)] == [
        KEEPS,
        WRITES_RULES,
        restart,
        "_await_pods()",
        FORGETS,
    ]
    assert "etc/kubernetes/audit-policy.yaml" in done.commands[0]


def test_a_comment_in_a_static_pod_is_taken_out_without_waiting_for_another_pod() -> None:
    assert _beginnings(_control_plane(server="apiserver # by hand")) == [WRITES]


KEPT = "/var/lib/barekube/before-change/etc/kubernetes/manifests/kube-apiserver.yaml.written"


@pytest.mark.parametrize(
    ("ready", "commands"),
    [(True, [FORGETS]), (False, ["_await_pods()", FORGETS])],
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
    monkeypatch.setattr(operations, "wait", lambda *_: next(answers))
    monkeypatch.setattr(change, "put_back", lambda host: put_back)
    monkeypatch.setattr(remote, "lines", lambda host, script: ["Error: unknown flag: --even-ttl"])
    host: Any = FakeHost(NAME, {}, {})
    state: Any = None
    with ctx_host.use(host):
        assert not operations._await_pods(state, host, CLUSTER, {}, ["kube-apiserver"])
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
