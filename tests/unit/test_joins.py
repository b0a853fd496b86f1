"""A further control plane joins once etcd is well; a join that was cut off is undone, then done."""

import time
from collections.abc import Callable
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest

import barekube.api
from barekube import etcd, kubeadm_config, left_by_init, remote, settings, tokens, traces
from barekube.api import Trouble
from barekube.cluster import Cluster, Node
from barekube.facts.living import BEFORE
from barekube.operations import etcd as etcd_operations
from barekube.operations import kubeadm
from tests.plan import machines
from tests.plan.machines import Machine
from tests.unit.harness import Answers, FakeHost, Outcome, outcome

CLUSTER = Cluster(
    name="home",
    version="1.37.2",
    api_name="api.home",
    api_port=6443,
    service_network="10.96.0.0/12",
    pod_network="10.32.0.0/12",
    nodes=(Node("cp-1", "192.0.2.11", True), Node("cp-2", "192.0.2.12", True)),
)
FIRST = etcd.Member(
    "a1", "cp-1", "https://192.0.2.11:2380", "https://192.0.2.11:2379", learner=False, healthy=True
)
OWN = etcd.Member(
    "b2", "cp-2", "https://192.0.2.12:2380", "https://192.0.2.12:2379", learner=False, healthy=True
)
JOINS = [
    "make_room()",
    "write audit-policy.yaml",
    "write encryption.yaml",
    "_upload_keys()",
    "make_token()",
    "kubeadm join",
]


def _machine(*secret: str, ca: str = machines.CA) -> Machine:
    machine = Machine(
        files={"/etc/hosts": "127.0.0.1 api.home\n", **({traces.CA: ca} if secret else {})},
        packages=dict(machines.INSTALLED),
        units={traces.KUBELET: ("loaded", "active", "enabled")},
    )
    machine.secret = [each for each in secret if each != traces.CA]
    return machine


BEGUN = _machine(traces.CA, traces.KEYS[1], traces.ETCD)
WHOLE = _machine(*traces.MASTER_FILES, traces.ETCD)


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The stage on cp-2, whose cp-1 serves a cluster that `registered` it in turn or not."""

    def run(
        machine: Machine,
        *,
        registered: tuple[bool, ...] = (False, False),
        members: list[etcd.Member] | None = None,
        asked_in_vain: int = 0,
        other: bool = True,
        moved: str | None = None,
        first_has: Machine = WHOLE,
        silent: bool = False,
        preview: bool = False,
    ) -> Outcome:
        data: dict[str, Any] = {"sysctls": {}}
        first = FakeHost("cp-1", {"Machine": first_has.answer()}, data)
        config = SimpleNamespace(data={"ClusterConfiguration": "kubernetesVersion: v1.37.2"})
        core = SimpleNamespace(read_namespaced_config_map=lambda name, space: config)
        api = SimpleNamespace(host=first, ca=machines.CA, core=core, moved=moved)

        def connect(cluster: Cluster, besides: str = "") -> SimpleNamespace:
            if silent or (besides and not other):
                raise Trouble("cp-1: its API does not answer")
            return api

        answers = iter(registered)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        monkeypatch.setattr(barekube.api, "connect", connect)
        monkeypatch.setattr(settings, "control_plane_hosts", lambda: [first, first])
        monkeypatch.setattr(left_by_init, "lost", lambda api: [])
        monkeypatch.setattr(left_by_init, "registered", lambda api, name: next(answers))
        known = chain(repeat(None, asked_in_vain), repeat(members or [FIRST]))
        monkeypatch.setattr(etcd_operations, "members", lambda host: next(known))
        monkeypatch.setattr(remote, "read_secret", lambda host, path: "key\n")
        monkeypatch.setattr(tokens, "for_joining", lambda api: "abcdef.0123456789abcdef")
        monkeypatch.setattr(tokens, "ca_hash", lambda ca: "sha256:00")
        answered: Answers = {"Machine": machine.answer()}
        options: dict[str, Any] = {"name": "cp-2", "preview": preview, "data": data}
        return outcome(kubeadm.control_plane, CLUSTER, answers=answered, **options)

    return run


def _short(commands: list[str]) -> list[str]:
    """Each command by what it is."""
    marks = {
        "kubeadm reset phase cleanup-node": "undo",
        "phase control-plane-join mark-control-plane": "mark",
        "kubeadm join --config": "kubeadm join",
        "/etc/kubernetes/.audit-policy.yaml.new": "write audit-policy.yaml",
        "/etc/kubernetes/.encryption.yaml.new": "write encryption.yaml",
        "barekube; true": "wait for the lock",
    }
    return [next((m for words, m in marks.items() if words in each), each) for each in commands]


def test_a_bare_control_plane_joins_once_etcd_is_well(join: Callable[..., Outcome]) -> None:
    result = join(_machine())
    assert _short(result.commands) == [*JOINS, "approve()"]
    assert kubeadm_config.ENCRYPTION not in " ".join(result.stdin)
    # What kubeadm writes is on the disk before etcd counts on it.
    assert "sync -f /etc/kubernetes" in result.commands[-2]


def test_a_cut_off_join_is_undone_its_member_first_and_done_again(
    join: Callable[..., Outcome],
) -> None:
    for members in ([FIRST], [FIRST, OWN]):
        result = join(BEGUN, members=members)
        assert _short(result.commands) == [
            "wait for the lock",
            "make_room()",
            "undo",
            "delete_node()",
            *JOINS,
            "approve()",
        ]
        assert result.logs[0] == "kubeadm join: again, for one was cut off"
        undo = result.commands[2]
        # etcd's data are kept, and admin.conf goes before reset could use it.
        assert "mv -t $d" in undo
        assert undo.index("rm -f /etc/kubernetes/admin.conf") < undo.index("kubeadm reset")


def test_no_control_plane_joins_or_is_mended_for_an_api_at_another_place(
    join: Callable[..., Outcome],
) -> None:
    for machine in (_machine(), BEGUN, WHOLE):
        result = join(machine, moved="it is there")
        assert (result.commands, result.logs) == (["false"], ["it is there"])


APPROVES = "kubelet's serving certificate of cp-2: approve"
UPLOADS = "on cp-1: kubeadm init phase upload-certs, by which this host gets keys"
POLICY = ["/etc/kubernetes/audit-policy.yaml", "/etc/kubernetes/encryption.yaml"]


def _things(logs: list[str]) -> list[str]:
    """What was said, of a file its path only."""
    return [each.partition(":")[0] if each.startswith("/") else each for each in logs]


def test_a_preview_says_what_a_join_does_and_what_it_undoes(join: Callable[..., Outcome]) -> None:
    begins = ["kubeadm join", APPROVES, *POLICY, UPLOADS]
    assert _things(join(_machine(), preview=True).logs) == begins
    done = join(BEGUN, preview=True)
    assert _things(done.logs) == [
        "kubeadm join: again, for one was cut off",
        APPROVES,
        "what that join left is undone, unless it ends well meanwhile: its member of etcd removed,"
        " kubeadm reset phase cleanup-node, what is in /var/lib/etcd moved below /var/lib/barekube",
        "Node cp-2: deleted, if it is there",
        *POLICY,
        UPLOADS,
    ]
    assert _short(done.commands) == ["wait for the lock"]
    assert join(WHOLE, members=[FIRST, OWN], preview=True).logs[2:] == [
        "its last step: kubeadm join phase control-plane-join mark-control-plane"
    ]


SILENT = "start kubelet and wait for the API"


@pytest.mark.parametrize("kept", [False, True])
def test_a_preview_says_that_a_change_that_was_cut_off_may_be_taken_back(
    join: Callable[..., Outcome], kept: bool
) -> None:
    machine = _machine(*traces.MASTER_FILES, traces.ETCD, *([BEFORE] if kept else []))
    back = "a change of its static pods was cut off: taken back if no API answers"
    assert join(machine, silent=True, preview=True).logs == [SILENT, *([back] if kept else [])]


def test_a_preview_says_what_is_cleared_away_before_an_init_that_was_cut_off(
    join: Callable[..., Outcome],
) -> None:
    machine = _machine(traces.CA, traces.KEYS[1])
    done = join(machine, first_has=_machine(), silent=True, preview=True)
    assert done.logs[0] == "kubeadm init: finish the one that was cut off"
    for line in (
        "what is empty below /etc/kubernetes and /var/lib/kubelet: removed",
        "the cluster's settings: written anew when it answers, and kube-proxy restarts",
        "kubelet: stopped; /etc/kubernetes/pki and /etc/kubernetes/*.conf: moved below"
        " /var/lib/barekube, for no etcd has run with them",
    ):
        assert line in done.logs


def test_a_join_that_lacks_only_its_last_step_is_not_undone(join: Callable[..., Outcome]) -> None:
    result = join(WHOLE, members=[FIRST, OWN])
    assert _short(result.commands) == ["wait for the lock", "make_token()", "mark", "approve()"]


@pytest.mark.parametrize("asked_in_vain", [2, 5])
def test_it_is_not_undone_while_etcd_has_not_said_whether_it_is_a_member(
    join: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, asked_in_vain: int
) -> None:
    result = join(WHOLE, members=[FIRST, OWN], asked_in_vain=asked_in_vain)
    assert _short(result.commands) == ["wait for the lock", "make_token()", "mark", "approve()"]
    monkeypatch.setattr(etcd_operations, "_LIMIT", -1)
    result = join(WHOLE, members=[FIRST, OWN], asked_in_vain=5)
    assert _short(result.commands)[:2] == ["wait for the lock", "false"]
    assert (
        "cp-1 cannot ask etcd whether cp-2 is a member of it; look at its etcd there"
        " (`crictl ps -a`), then run this again"
    ) in result.logs
    assert "undo" not in _short(result.commands)


def test_a_join_that_ended_well_while_it_was_waited_for_is_left_alone(
    join: Callable[..., Outcome],
) -> None:
    result = join(BEGUN, registered=(False, True))
    assert _short(result.commands) == ["wait for the lock", "approve()"]


@pytest.mark.parametrize(
    ("machine", "other", "sentence"),
    [
        (
            BEGUN,
            False,
            "the join of cp-2 was cut off, and no other control plane answers (cp-1: its API does"
            " not answer); bring one up, then run this again",
        ),
        (
            _machine(traces.CA, traces.ETCD, ca="another\n"),
            True,
            "cp-2 belongs to another cluster (/etc/kubernetes/pki/ca.crt is not this cluster's);"
            " run `kubeadm reset -f` and delete /etc/kubernetes on it if that is not wanted, then"
            " run this again",
        ),
    ],
)
def test_nothing_is_undone_without_another_control_plane_of_the_same_cluster(
    join: Callable[..., Outcome], machine: Machine, other: bool, sentence: str
) -> None:
    result = join(machine, other=other)
    assert result.commands[0] == "false"
    assert sentence in result.logs
    assert "undo" not in _short(result.commands)


@pytest.mark.parametrize(
    ("own", "begun", "removed", "said"),
    [
        (None, False, [], ""),
        (etcd.Member("b2", "", OWN.peer, "", True, False), False, ["b2"], "left behind"),
        (OWN, True, ["b2"], "left behind"),
        (OWN, False, None, "was another machine; run deploys/remove_node.py --data node=cp-2"),
    ],
    ids=["none", "never started", "with a vote, of this host", "with a vote, of another machine"],
)
def test_a_member_that_a_join_left_behind_goes_first(
    monkeypatch: pytest.MonkeyPatch,
    own: etcd.Member | None,
    begun: bool,
    removed: list[str] | None,
    said: str,
) -> None:
    ran: list[str] = []
    known = [FIRST, *([own] if own else [])]

    def run(other: object, script: str) -> list[str]:
        ran.append(script)
        return []

    monkeypatch.setattr(etcd_operations, "members", lambda other: known)
    monkeypatch.setattr(remote, "lines", run)
    host: Any = FakeHost("cp-2", {}, {})
    api: Any = SimpleNamespace(host=FakeHost("cp-1", {}, {}))
    state: Any = None
    done = etcd_operations.make_room(state, host, api, CLUSTER.node("cp-2"), begun)
    assert done is (removed is not None)
    assert [script.split()[-1] for script in ran] == (removed or [])
    assert said in " ".join(host.logs)
