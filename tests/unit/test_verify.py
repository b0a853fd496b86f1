"""How the answers of the proof are judged, and summed up."""

import subprocess
import time
from base64 import b64encode
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from kubernetes import client as k8s
from pyinfra.context import ctx_host

from barekube import api as cluster_api
from barekube.cluster import Cluster
from barekube.facts.verify import Answers, LookFact
from barekube.operations import verify as verifying
from barekube.verify import (
    Answer,
    Check,
    Pods,
    Try,
    certificates,
    clocks,
    judge,
    room,
    table,
    tries,
)
from tests.plan.machines import _certificate
from tests.unit.harness import FakeHost, outcome

OWN = Pods("a", "192.0.2.1", {"probe": "10.0.0.1", "closed": "10.0.0.2", "stranger": "10.0.0.3"})
OTHER = Pods("b", "192.0.2.2", {"probe": "10.0.1.1"})
YES = Answer('{"responses":["probe-x"]}', 0.1)
NO = Answer('{"errors":["dial tcp: i/o timeout"]}', 5.0)


def test_each_host_asks_its_own_pods_to_ask_further_and_its_own_ports_itself() -> None:
    dial = "/dial?protocol=http&request=hostname"
    assert tries(OWN, [OTHER], "10.96.0.9", 31234) == [
        Try("pods on b", "10.0.0.1", 8080, f"{dial}&host=10.0.1.1&port=8080", other="b"),
        Try(
            "DNS",
            "10.0.0.1",
            8080,
            f"{dial}&host=names.barekube-verify.svc.cluster.local&port=8080",
        ),
        Try("Service", "10.0.0.1", 8080, f"{dial}&host=10.96.0.9&port=80"),
        Try("NodePort", "192.0.2.1", 31234, "/hostname"),
        Try("hostPort", "192.0.2.1", 38080, "/hostname"),
        Try(
            "policy lets in",
            "10.0.0.1",
            8080,
            f"{dial}&host=10.0.0.2&port=8080",
            group="needs Weave",
        ),
        Try(
            "policy keeps out",
            "10.0.0.3",
            8080,
            f"{dial}&host=10.0.0.2&port=8080",
            passes=False,
            group="needs Weave",
        ),
    ]


PAIR = Try("pods on b", "10.0.0.1", 8080, "/", other="b")
DNS = Try("DNS", "10.0.0.1", 8080, "/")
NODE_PORT = Try("NodePort", "192.0.2.1", 30000, "/")
OUT = Try("policy keeps out", "10.0.0.3", 8080, "/", passes=False)


@pytest.mark.parametrize(
    ("asked", "answers", "line"),
    [
        (DNS, YES, "ok: DNS, answered (0.10 s)"),
        (DNS, NO, f"FAILED: DNS, no answer: {NO.text} (5.00 s)"),
        (DNS, Answer("", 15.0), "FAILED: DNS, no answer: silence (15.00 s)"),
        (OUT, NO, "ok: policy keeps out, nothing came back (5.00 s)"),
        (OUT, YES, "FAILED: policy keeps out, and was answered all the same (0.10 s)"),
        (
            OUT,
            Answer("bash: connect: Connection refused", 0.0),
            "FAILED: policy keeps out, the pod that is to ask says no answer: bash: connect:"
            " Connection refused (0.00 s)",
        ),
    ],
)
def test_an_answer_is_good_where_one_was_wanted(asked: Try, answers: Answer, line: str) -> None:
    assert [each.line for each in judge("a", [asked], [answers], ["b"])] == [line]


def test_a_refused_connection_is_no_answer() -> None:
    refused = Answer("bash: connect: Connection refused", 0.0)
    assert judge("a", [Try("hostPort", "192.0.2.1", 1, "/")], [refused], [])[0].good is False


@pytest.mark.parametrize(
    ("resolver", "good", "words"),
    [
        ("b", None, "for b, where CoreDNS runs, is not reached"),
        ("c", False, f"no answer: {NO.text}"),
    ],
)
def test_dns_is_not_blamed_for_a_pair_that_is_cut(
    resolver: str, good: bool | None, words: str
) -> None:
    dns = judge("a", [PAIR, DNS], [NO, NO], [resolver])[1]
    assert (dns.good, dns.words) == (good, words)


@pytest.mark.parametrize("lost", [True, False])
def test_a_name_that_led_to_a_pod_behind_a_cut_was_found(lost: bool) -> None:
    text = r'{"errors":["Get \"http://10.0.2.15:8080/hostname\": context deadline exceeded"]}'
    pair, dns = judge("a", [PAIR, DNS], [NO if lost else YES, Answer(text, 5.0)], [])
    assert pair.good is not lost
    assert dns.good is lost


def test_a_node_port_is_not_blamed_for_a_pair_that_is_cut() -> None:
    pair, port = judge("a", [PAIR, NODE_PORT], [NO, NO], [])
    assert pair.good is False
    said = "for b, to whose pod it may lead too, is not reached"
    assert (port.good, port.words) == (None, said)
    assert judge("a", [PAIR, NODE_PORT], [YES, NO], [])[1].good is False
    assert judge("a", [PAIR, NODE_PORT], [NO, YES], [])[1].good is True


def test_a_certificate_that_ends_within_a_month_fails_by_its_file() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    ends = {"ca.crt": datetime(2036, 1, 1, tzinfo=UTC), "a.crt": datetime(2026, 11, 30, tzinfo=UTC)}
    assert certificates("a", ends, [], now) == Check(
        "certificates", "a", False, "the first of 2 to end is a.crt, on 2026-11-30"
    )
    assert certificates("a", {}, [], now).good is None


_PEM = _certificate().splitlines()
_UNREAD = "holds no certificate that can be read; restore it, or remove it if it is yours"
_REST = ["disk /var 20 100 /", "disk /var/lib/etcd 20 100 /", "clock 1.0", "end"]


@pytest.mark.parametrize(
    ("lines", "good", "unread"),
    [
        pytest.param(["file /a.crt", *_PEM], ["/a.crt"], [], id="one"),
        pytest.param(["file /a.crt", *_PEM, *_PEM], ["/a.crt"], [], id="two in a file"),
        pytest.param(["file /a.crt", "file /b.crt", *_PEM], ["/b.crt"], ["/a.crt"], id="empty"),
        pytest.param(
            ["file /a.crt", *_PEM[:-1], "file /b.crt", *_PEM], ["/b.crt"], ["/a.crt"], id="cut off"
        ),
        pytest.param(
            ["file /a.crt", _PEM[0], "AAAA", _PEM[-1], "file /b.crt", *_PEM],
            ["/b.crt"],
            ["/a.crt"],
            id="of something else",
        ),
        pytest.param(["conf /a.conf", "conf /b.conf"], [], [], id="another file is named in it"),
        pytest.param(
            ["conf /a.conf", f"data {b64encode(_certificate().encode()).decode()}"],
            ["/a.conf"],
            [],
            id="in a kubeconfig",
        ),
        pytest.param(["conf /a.conf", "data AAA"], [], ["/a.conf"], id="damaged in a kubeconfig"),
    ],
)
def test_a_file_without_a_certificate_is_named_and_the_others_are_read(
    lines: list[str], good: list[str], unread: list[str]
) -> None:
    look = LookFact().process([*lines, *_REST])
    assert (list(look.ends), look.unread) == (good, unread)
    if unread:
        found = certificates("a", look.ends, look.unread, datetime.now(UTC))
        assert (found.good, found.words) == (False, f"{unread[0]} {_UNREAD}")


def test_a_look_at_this_machine_finds_its_disk_once() -> None:
    command = LookFact().command().get_raw_value()
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    look = LookFact().process(done.stdout.splitlines())
    assert (next(iter(look.disks)), abs(look.offset) < 5) == ("/var", True)
    assert LookFact().process(_REST).disks == {"/var": (20, 100)}


@pytest.mark.parametrize(("free", "good"), [(16, True), (15, False), (0, False)])
def test_a_disk_is_full_where_kubelet_begins_to_evict(free: int, good: bool) -> None:
    words = f"{free}% of /var/lib/etcd are free"
    disks = {"/var": (50, 100), "/var/lib/etcd": (free, 100)}
    assert room("a", disks) == Check("disk", "a", good, words)


def test_a_clock_is_compared_with_the_others_not_with_this_machines() -> None:
    offsets = {"a": 3600.0, "b": 3600.5, "c": 3630.0}
    assert [(each.host, each.good) for each in clocks(offsets)] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    assert clocks(offsets)[2].words == "+29.5 s against the median of 3 hosts"


def test_the_clock_of_a_single_host_is_compared_with_this_machines() -> None:
    assert clocks({"a": -20.0}) == [
        Check("clock", "a", False, "-20.0 s against the machine that this runs on")
    ]


def test_the_table_has_a_line_a_title_and_names_where_it_is_not_well() -> None:
    checks = [
        Check("pods on b", "a", True, ""),
        Check("pods on a", "b", False, ""),
        Check("DNS", "a", True, ""),
        Check("fast datapath", "a", None, "", group="needs Weave"),
        Check("fast datapath", "b", None, "", group="needs Weave"),
        Check("policy lets in", "a", None, "", group="needs Weave"),
        Check("DNS", "b", None, ""),
    ]
    assert table(checks) == [
        "node pairs         1/2  FAILED on b",
        "DNS                1/2  not checked on b",
        "fast datapath      0/2  needs Weave  not checked on a, b",
        "policy lets in     0/1  needs Weave  not checked on a",
        "ok: 2, FAILED: 1, not checked: 4",
        "not checked: 1 (DNS)",
        "not checked, needs Weave: 3 (fast datapath, policy lets in)",
    ]


def test_answers_come_back_in_the_order_of_their_questions() -> None:
    fact = Answers()
    fact.command(tries=[PAIR, DNS])
    output = ['1 200000 {"responses":["x y"]}', "0 15000000 ", "end"]
    assert fact.process(output) == [Answer("", 15.0), Answer('{"responses":["x y"]}', 0.2)]


def _told(monkeypatch: pytest.MonkeyPatch, *pods: tuple[str, str, str, str]) -> list[str]:
    """What node a says with `pods` of (node, kind, address, ready); all that it asks answers."""

    def pod(node: str, kind: str, address: str, ready: str) -> SimpleNamespace:
        condition = SimpleNamespace(type="Ready", status=ready)
        return SimpleNamespace(
            metadata=SimpleNamespace(labels={"app": kind}),
            spec=SimpleNamespace(node_name=node),
            status=SimpleNamespace(pod_ip=address, conditions=[condition]),
        )

    def node(name: str) -> SimpleNamespace:
        address = SimpleNamespace(type="InternalIP", address="192.0.2.1")
        status = SimpleNamespace(addresses=[address])
        return SimpleNamespace(metadata=SimpleNamespace(name=name), status=status)

    spec = SimpleNamespace(cluster_ip="10.96.0.9", ports=[SimpleNamespace(node_port=31234)])

    def listed(space: str, label_selector: str = "") -> SimpleNamespace:
        return SimpleNamespace(items=[] if label_selector else [pod(*each) for each in pods])

    core = SimpleNamespace(
        list_node=lambda: SimpleNamespace(items=[node("a"), node("b")]),
        list_namespaced_pod=listed,
        read_namespaced_service=lambda name, space: SimpleNamespace(spec=spec),
    )
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: SimpleNamespace(core=core))
    monkeypatch.setattr(verifying, "_checks", [])
    monkeypatch.setattr(verifying, "_SETTLING", 0)
    cluster = Cluster(
        "home", "1.37.2", "api", 6443, "10.96.0.0/12", "10.32.0.0/12", (), weave=False
    )
    asked = 4 + any(where == "b" and ready == "True" for where, _, _, ready in pods)
    lines = [*(f"{number} 1000 probe-x" for number in range(asked)), "end"]
    return outcome(verifying.tried, cluster, answers={"Answers": lines}, name="a").logs


OURS = [
    ("a", kind, f"10.32.0.{n}", "True") for n, kind in enumerate(("probe", "closed", "stranger"))
]


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param([], id="none was made"),
        pytest.param(OURS[:2], id="one was not made"),
        pytest.param([*OURS[:2], (*OURS[2][:3], "False")], id="one is not ready"),
        pytest.param([*OURS[:2], ("a", "stranger", "", "True")], id="one has no address"),
        pytest.param([("b", *each[1:]) for each in OURS], id="they run elsewhere"),
    ],
)
def test_pods_that_do_not_start_on_a_node_fail_there_and_nothing_else_is_tried(
    monkeypatch: pytest.MonkeyPatch, pods: list[tuple[str, str, str, str]]
) -> None:
    assert _told(monkeypatch, *pods) == [
        "FAILED: pods, those of barekube-verify do not run here (0.00 s)"
    ]


def test_pods_that_run_are_tried_and_those_that_do_not_start_elsewhere_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def titles(*pods: tuple[str, str, str, str]) -> list[str]:
        said = _told(monkeypatch, *pods)
        assert not [each for each in said if each.startswith("FAILED")]
        without_weave = ("policy lets in", "policy keeps out")
        said = [each.split(", ")[0] for each in said]
        return [each for each in said if not each.endswith(without_weave)]

    own = ["ok: DNS", "ok: Service", "ok: NodePort", "ok: hostPort"]
    assert titles(*OURS, ("b", "probe", "10.32.1.1", "True")) == ["ok: pods on b", *own]
    not_tried = ["not checked: pods on b", *own]
    assert titles(*OURS, ("b", "probe", "10.32.1.1", "False")) == not_tried
    assert titles(*OURS) == not_tried


def test_a_namespace_that_does_not_go_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_GONE_LIMIT", 0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(k8s, "NetworkingV1Api", MagicMock())
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: MagicMock())
    host: Any = FakeHost("a", {}, {})
    with ctx_host.use(host):
        assert not verifying._remove(None, host, None)  # type: ignore[arg-type]
    assert host.logs == [
        "what verify makes does not go away in 0 s (namespace barekube-verify); look at it with"
        " `kubectl get -o yaml`, then run this again"
    ]
