"""Which steps an upgrade takes, from any state, and what it refuses."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from barekube import kubeadm_config, living, upgrade, versions
from barekube.facts.machine import Package
from barekube.traces import MASTER_FILES, SERVING
from barekube.upgrade import Remains, State, Step
from tests.plan import machines

OLD, NEW = "1.36.3", "1.37.2"
NODES = ("cp-1", "cp-2", "cp-3", "w-1")
EXACT = {**versions.kubernetes_debs(NEW), "containerd.io": "2.4.2-1"}


def _state(**changed: Any) -> State:  # noqa: ANN401
    old = State(
        version=OLD,
        kubelets=dict.fromkeys(NODES, OLD),
        servers=dict.fromkeys(NODES[:3], OLD),
        proxy=OLD,
    )
    return State(**{**old.__dict__, **changed})


def _packages(**changed: str) -> dict[str, Package]:
    found = {name: Package(str(version), True, "installed") for name, version in EXACT.items()}
    for name in ("kubeadm", "kubelet", "kubectl"):
        found[name] = Package(f"{changed.get(name, OLD)}-1.1", True, "installed")
    return found


def _pods(version: str) -> Remains:
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return Remains({}, tuple(f"registry.k8s.io/{name}:v{version}" for name in names))


def _steps(
    name: str, state: State, pods: str = OLD, containerd: str = "2.4.2-1", **packages: str
) -> list[Step]:
    found = _packages(**packages)
    found["containerd.io"] = Package(containerd, True, "installed")
    return upgrade.steps(name, name != "w-1", found, EXACT, _pods(pods), state, NEW)


NODE_STEPS = [Step.DRAIN, Step.PACKAGES, Step.UNCORDON]
DONE = {"kubeadm": NEW, "kubelet": NEW, "kubectl": NEW}


def test_the_first_control_plane_applies_and_a_worker_follows() -> None:
    assert _steps("cp-1", _state()) == [Step.KUBEADM, Step.APPLY, *NODE_STEPS]
    assert _steps("w-1", _state()) == [Step.KUBEADM, Step.NODE, *NODE_STEPS]


def test_a_further_control_plane_follows_the_first() -> None:
    applied = _state(version=NEW, servers={"cp-1": NEW, "cp-2": OLD, "cp-3": OLD})
    assert _steps("cp-2", applied, kubeadm=NEW) == [Step.NODE, *NODE_STEPS]


def test_an_apply_that_was_cut_off_is_done_again_until_the_cluster_has_the_version() -> None:
    begun = _state(servers={"cp-1": NEW, "cp-2": OLD, "cp-3": OLD})
    assert Step.APPLY in _steps("cp-1", begun, pods=NEW, kubeadm=NEW)
    assert Step.APPLY in _steps("cp-2", begun)


def test_addons_that_a_cut_left_old_are_made_up_for() -> None:
    only_proxy = _state(version=NEW, servers=dict.fromkeys(NODES[:3], NEW))
    assert _steps("cp-3", only_proxy, pods=NEW, kubeadm=NEW)[0] is Step.NODE
    single = _state(version=NEW, servers={"cp-1": NEW})
    assert _steps("cp-1", single, pods=NEW, kubeadm=NEW)[0] is Step.APPLY


def test_a_control_plane_that_was_cut_off_after_its_servers_ends_its_upgrade() -> None:
    """Its kubelet's settings come after them, and the first control plane has made up for all that
    the cluster has in common."""
    assert _steps("cp-3", _upgraded(kubelets=dict.fromkeys(NODES, OLD)), pods=NEW, kubeadm=NEW) == [
        Step.NODE,
        *NODE_STEPS,
    ]


def _upgraded(**changed: Any) -> State:  # noqa: ANN401
    done = _state(
        version=NEW,
        kubelets=dict.fromkeys(NODES, NEW),
        servers=dict.fromkeys(NODES[:3], NEW),
        proxy=NEW,
    )
    return State(**{**done.__dict__, **changed})


@pytest.mark.parametrize("name", ["cp-1", "w-1"])
def test_a_second_run_has_nothing_to_do(name: str) -> None:
    assert _steps(name, _upgraded(), pods=NEW, **DONE) == []


def test_a_kubelet_that_was_installed_and_not_started_is_restarted() -> None:
    state = _upgraded(kubelets={**dict.fromkeys(NODES, NEW), "w-1": OLD})
    assert _steps("w-1", state, pods=NEW, **DONE) == [Step.NODE, *NODE_STEPS]


def test_a_node_that_a_cut_left_cordoned_is_let_back() -> None:
    assert _steps("w-1", _upgraded(cordoned=frozenset({"w-1"})), pods=NEW, **DONE) == [
        Step.UNCORDON
    ]


def test_another_containerd_comes_to_a_drained_node() -> None:
    assert _steps("w-1", _upgraded(), pods=NEW, containerd="2.4.1-1", **DONE) == NODE_STEPS


@pytest.mark.parametrize(
    ("state", "wanted", "sentences"),
    [
        (_state(), NEW, []),
        (_state(), OLD, []),
        (
            _state(),
            "1.38.0",
            [
                "from 1.36.3 to 1.38.0 skips 1.37; set kubernetes_version to a version of that, and"
                " upgrade once more after it"
            ],
        ),
        (
            _state(version=NEW, servers={"cp-1": NEW, "cp-2": OLD}),
            "1.38.0",
            [
                "from 1.36.3 to 1.38.0 skips 1.37; set kubernetes_version to a version of that, and"
                " upgrade once more after it"
            ],
        ),
        (
            _state(servers={"cp-1": NEW}),
            "1.36.4",
            [
                "the cluster has 1.37.2 and cannot go back to 1.36.4; set kubernetes_version to"
                " 1.37.2 or a later one"
            ],
        ),
        (
            _state(kubelets={"w-1": "1.33.9", "w-2": "1.34.0"}),
            NEW,
            [
                "the kubelet of w-1 is 1.33.9, more than 3 minors older than 1.37.2; upgrade that"
                " node first, or remove it"
            ],
        ),
    ],
)
def test_what_skew_forbids_is_refused(state: State, wanted: str, sentences: list[str]) -> None:
    assert upgrade.refusals(state, wanted) == sentences


def test_the_end_of_an_upgrade_says_who_is_left_behind() -> None:
    assert upgrade.reached({"cp-1": NEW, "w-1": NEW}, NEW) == f"all 2 nodes run {NEW}"
    assert upgrade.reached({"cp-1": NEW, "w-2": OLD, "w-1": OLD}, NEW) == (
        f"1 of 3 nodes run {NEW}; left behind: w-1 ({OLD}), w-2 ({OLD})"
    )


def test_no_upgrade_begins_that_a_control_plane_outside_the_run_would_end_half_way() -> None:
    old, active = {"cp-2": OLD, "cp-3": OLD}, {"cp-1", "cp-2", "w-1"}
    why = f"cp-3 is a control plane of {OLD} and not in this run, and no kubelet may be newer than"
    assert upgrade.servers_left_out(old, active, []) == [
        f"{why} an API server; run this without --limit and --exclude"
    ]
    (silent,) = upgrade.servers_left_out(old, active, ["cp-3"])
    assert silent.endswith("deploys/remove_node.py if it never comes back")


def test_only_a_worker_that_is_left_out_may_be_unwell() -> None:
    state = _state(troubled={"w-1": "kubelet is silent", "cp-2": "etcd-cp-2 is not ready"})
    master = "cp-2 is not well (etcd-cp-2 is not ready); mend it"
    assert upgrade.not_well(state, {"w-1", "cp-2"}) == [master]
    assert upgrade.not_well(state, set()) == [
        "w-1 is not well (kubelet is silent); mend it, or leave it out by --exclude",
        master,
    ]


def test_a_pod_that_waits_for_its_node_is_that_nodes() -> None:
    field = SimpleNamespace(key="metadata.name", operator="In", values=["w-1"])
    required = SimpleNamespace(node_selector_terms=[SimpleNamespace(match_fields=[field])])
    affinity = SimpleNamespace(
        node_affinity=SimpleNamespace(required_during_scheduling_ignored_during_execution=required)
    )
    waiting = SimpleNamespace(spec=SimpleNamespace(node_name=None, affinity=affinity))
    assert upgrade.place(waiting) == "w-1"
    there = SimpleNamespace(spec=SimpleNamespace(node_name="w-2", affinity=affinity))
    assert upgrade.place(there) == "w-2"


def test_room_is_a_fifth_or_five_gigabytes() -> None:
    assert upgrade.room("/var", 2_000_000, 10_000_000) is None
    assert upgrade.room("/var", 5_000_000, 100_000_000) is None
    assert upgrade.room("/var", 1_900_000, 10_000_000) == (
        "1.9 GB of 10.0 are free under /var; make room for new images"
    )


def test_a_certificate_that_ends_within_a_week_is_named() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    ends = {"/a.crt": now + timedelta(days=300), "/b.crt": now + timedelta(days=6)}
    assert upgrade.ending({"/a.crt": ends["/a.crt"]}, now) is None
    assert upgrade.ending({}, now) is None
    # site.py approves its next one, and may be refused until the upgrade is done.
    assert upgrade.ending({SERVING: ends["/b.crt"]}, now) is None
    assert str(upgrade.ending(ends, now)).startswith("/b.crt ends on 2026-11-07; renew it first")


def test_etcd_has_to_be_whole_and_without_alarm() -> None:
    started = (
        "8e9e05c52164694d, started, cp-1, https://192.0.2.11:2380, https://192.0.2.11:2379, false"
    )
    good = '[{"endpoint":"https://192.0.2.11:2379","health":true,"took":"4ms"}]'
    assert upgrade.etcd_troubles([started], good) == []
    assert upgrade.etcd_troubles(
        [started, "91bc3c398fb3c146, unstarted, , https://192.0.2.12:2380, , false"],
        '[{"endpoint":"https://192.0.2.11:2379","health":false,"error":"Alarm: NOSPACE"}]',
    ) == [
        "etcd's member 91bc3c398fb3c146 was added and never started; remove it",
        "etcd at https://192.0.2.11:2379 is not healthy (Alarm: NOSPACE); mend it",
    ]
    silent = ["etcd does not answer; look at `crictl logs` of it"]
    assert upgrade.etcd_troubles([], "") == silent
    assert upgrade.etcd_troubles([], good) == silent


def test_deprecated_apis_count_where_the_wanted_version_has_them_no_more() -> None:
    line = (
        'apiserver_requested_deprecated_apis{{group="flowcontrol",removed_release="{}",'
        'resource="flowschemas",subresource="",version="v1beta3"}} {}'
    )
    assert upgrade.deprecated([line.format("1.38", 1), line.format("1.37", 0), "# HELP"], NEW) == []
    assert upgrade.deprecated([line.format("1.37", 1)] * 2, NEW) == [
        "flowcontrol/v1beta3/flowschemas is in use and gone since 1.37; its users (in the audit"
        " log: k8s.io/deprecated) have to change first, then restart kube-apiserver"
    ]


def _pod(name: str, node: str, kind: str = "ReplicaSet", **labels: str) -> SimpleNamespace:
    owners = [SimpleNamespace(kind=kind)]
    metadata = SimpleNamespace(
        name=name, namespace="shop", labels=labels, owner_references=owners, deletion_timestamp=None
    )
    return SimpleNamespace(
        metadata=metadata,
        spec=SimpleNamespace(node_name=node),
        status=SimpleNamespace(phase="Running", conditions=[]),
    )


def _budget(allowed: int, **match: Any) -> SimpleNamespace:  # noqa: ANN401
    selector = SimpleNamespace(match_labels=None, match_expressions=None)
    selector.__dict__.update(match)
    return SimpleNamespace(
        metadata=SimpleNamespace(name="till", namespace="shop", owner_references=None),
        spec=SimpleNamespace(selector=selector),
        status=SimpleNamespace(disruptions_allowed=allowed),
    )


def test_a_budget_that_would_block_a_drain_for_ever_is_named_with_its_pod() -> None:
    pods = [_pod("till-0", "w-1", app="till"), _pod("log-0", "w-1", "DaemonSet", app="till")]
    sentence = (
        "PodDisruptionBudget shop/till lets no pod go, and till-0 runs on w-1; give it more"
        " replicas, or loosen the budget"
    )
    mine = {"match_labels": {"app": "till"}}
    assert upgrade.blocked([_budget(0, **mine)], pods, {"w-1"}) == [sentence]
    assert upgrade.blocked([_budget(1, **mine)], pods, {"w-1"}) == []
    assert upgrade.blocked([_budget(0, **mine)], pods, {"w-2"}) == []
    assert upgrade.blocked([_budget(0, **mine)], pods[1:], {"w-1"}) == []
    # Rook's own, of an upgrade that was cut off while a storage host was away, ends with that.
    rooks = _budget(0, **mine)
    rooks.metadata.owner_references = [SimpleNamespace(kind="CephCluster")]
    assert upgrade.blocked([rooks], pods, {"w-1"}) == []


@pytest.mark.parametrize(("healthy", "soon"), [(1, True), (2, False)])
def test_a_budget_recovers_by_itself_only_where_one_of_its_pods_is_not_well(
    healthy: int, soon: bool
) -> None:
    budget = _budget(0)
    budget.status.current_healthy, budget.status.expected_pods = healthy, 2
    assert upgrade.recovers(budget) is soon


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["till", "x"], True),
        ("NotIn", ["till"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_a_budget_can_select_by_expressions(operator: str, values: Any, fits: bool) -> None:  # noqa: ANN401
    expression = SimpleNamespace(key="app", operator=operator, values=values)
    budget = _budget(0, match_expressions=[expression])
    assert upgrade.selects(budget.spec.selector, {"app": "till"}) is fits


NOTHING = dict.fromkeys((*MASTER_FILES, "/var/lib/kubelet/kubeadm-flags.env"), 100)
BACKUP = "/var/lib/barekube/backup-2026-11-05T10-00-00-1.36.3"


def _with_backup(live: dict[str, int], backup: str = BACKUP) -> dict[str, int]:
    return {**live, **{backup + path: 100 for path in NOTHING}}


def test_what_a_cut_left_missing_or_empty_comes_back_from_the_backup_in_pairs() -> None:
    manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    live = {**NOTHING, "/etc/kubernetes/pki/apiserver.crt": 0}
    del live[manifest]
    assert upgrade.lost(_with_backup(live), OLD) == {
        path: BACKUP + path
        for path in (
            manifest,
            "/etc/kubernetes/pki/apiserver.crt",
            "/etc/kubernetes/pki/apiserver.key",
        )
    }
    assert upgrade.lost(_with_backup(NOTHING), OLD) == {}


def test_a_backup_of_an_earlier_version_and_one_that_was_cut_off_bring_nothing_back() -> None:
    assert upgrade.lost(_with_backup({}), NEW) == {}
    assert upgrade.lost(_with_backup({}, f"{BACKUP}.new"), OLD) == {}
    newer = BACKUP.replace("10-00-00", "11-00-00")
    both = _with_backup({}) | _with_backup({}, newer)
    assert set(upgrade.lost(both, OLD).values()) == {newer + path for path in NOTHING}


def test_workers_are_taken_n_at_a_time() -> None:
    assert upgrade.batches(["a", "b", "c"], 2) == [["a", "b"], ["c"]]


def test_of_the_hosts_that_keep_data_one_is_away_at_a_time() -> None:
    storage = ["b", "d", "other"]
    assert upgrade.batches(["a", "b", "c", "d"], 3, storage) == [["a", "c"], ["b"], ["d"]]


def test_our_note_survives_what_kubeadm_writes_only_if_it_was_true_before() -> None:
    wanted = {"kubernetesVersion": "v1.36.3", "clusterName": "home"}
    noted = living.note(wanted, "before")
    assert living.carried(noted, "before", "after", NEW) == living.note(
        {"kubernetesVersion": "v1.37.2", "clusterName": "home"}, "after"
    )
    assert living.carried(noted, "edited", "after", NEW) is None
    assert living.carried(None, "before", "after", NEW) is None


def test_kubeadm_is_told_the_version_and_what_to_pass_over() -> None:
    told = yaml.safe_load(kubeadm_config.upgrade(machines.cluster(), ["amd64", "amd64"]))
    assert told["apply"] == {
        "kubernetesVersion": f"v{versions.KUBERNETES}",
        "ignorePreflightErrors": [],
        "imagePullSerial": False,
    }


@pytest.mark.parametrize("board", ["arm", "arm64"])
def test_a_board_on_which_kubeadms_job_takes_long_holds_no_upgrade(board: str) -> None:
    told = yaml.safe_load(kubeadm_config.upgrade(machines.cluster(), ["amd64", board]))
    assert told["apply"]["ignorePreflightErrors"] == ["CreateJob"]
