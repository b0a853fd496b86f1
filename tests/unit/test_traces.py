"""One cluster, never two: the next step of a control plane and of a worker, as rules."""

from collections.abc import Sequence

import pytest

from barekube.traces import (
    CA,
    ETCD,
    MANIFESTS,
    MASTER_FILES,
    NODE_FILES,
    Decision,
    Step,
    Traces,
    decide,
    decide_worker,
)

BARE = Traces(frozenset(), frozenset(), kubelet_runs=False)
WHOLE = Traces(frozenset({*MASTER_FILES, ETCD}), frozenset(), kubelet_runs=True)
BEGUN = Traces(frozenset({CA}), frozenset(), kubelet_runs=False)
# As ext4 leaves files that were not synced.
EMPTIED = Traces(frozenset(), frozenset({CA}), kubelet_runs=False)
SILENT = "cp-1: its API does not answer"


def _decide(
    mine: Traces = BARE,
    others: dict[str, Traces | None] | None = None,
    members: list[str] | None = None,
    api: str | None = SILENT,
    registered: bool = False,
    lost: Sequence[str] = (),
) -> Decision:
    return decide("cp-1", mine, others or {}, members or [], api, registered, lost)


def test_bare_machines_of_which_all_answer_get_a_new_cluster() -> None:
    assert _decide(others={"cp-2": BARE, "cp-3": BARE}).step is Step.INIT


def test_no_cluster_is_made_while_a_control_plane_cannot_be_asked() -> None:
    assert _decide(others={"cp-2": None, "cp-3": BARE}) == Decision(
        Step.REFUSE,
        "no cluster is created on cp-1 while cp-2 cannot be asked for one; bring cp-2 up or take it"
        " out of the inventory, then run this again",
    )


@pytest.mark.parametrize("remains", [BEGUN, EMPTIED, WHOLE], ids=["CA", "empty CA", "all"])
def test_no_second_cluster_is_made_beside_one_whose_api_is_down(remains: Traces) -> None:
    assert _decide(others={"cp-2": remains}) == Decision(
        Step.REFUSE,
        f"cp-2 has a cluster, whose API does not answer ({SILENT}); mend it, then run this again",
    )


def test_no_cluster_is_made_while_a_worker_belongs_to_one() -> None:
    assert _decide(members=["w-1"]) == Decision(
        Step.REFUSE,
        "w-1 belongs to a cluster already, and no control plane of the inventory has it; reset w-1"
        " or correct the inventory, then run this again",
    )


@pytest.mark.parametrize("remains", [BEGUN, EMPTIED], ids=["CA", "empty CA"])
def test_an_init_that_was_cut_off_is_finished_where_it_began(remains: Traces) -> None:
    assert _decide(remains, {"cp-2": BARE}).step is Step.FINISH_INIT


def test_a_whole_control_plane_without_an_api_is_started_and_waited_for() -> None:
    assert _decide(WHOLE).step is Step.START


def test_a_damaged_control_plane_is_not_initialised_again_beside_another() -> None:
    assert _decide(BEGUN, {"cp-2": WHOLE}).step is Step.REFUSE


def test_with_an_api_a_bare_machine_joins() -> None:
    assert _decide(api=None, others={"cp-2": WHOLE}).step is Step.JOIN


def test_with_an_api_that_knows_it_nothing_is_done() -> None:
    assert _decide(WHOLE, api=None, registered=True) == Decision(Step.NOTHING)


def test_a_kubelet_that_does_not_run_is_started() -> None:
    stopped = Traces(WHOLE.there, frozenset(), kubelet_runs=False)
    assert _decide(stopped, api=None, registered=True).step is Step.START


def test_an_init_whose_last_steps_are_missing_in_the_api_is_finished() -> None:
    assert _decide(WHOLE, api=None, registered=False).step is Step.FINISH_INIT

    assert _decide(WHOLE, api=None, registered=True, lost=["coredns"]).step is Step.FINISH_INIT


@pytest.mark.parametrize("remains", [BEGUN, EMPTIED, WHOLE], ids=["CA", "empty CA", "all"])
def test_a_join_that_was_cut_off_beside_a_living_control_plane_is_done_again(
    remains: Traces,
) -> None:
    assert _decide(remains, {"cp-2": WHOLE}, api=None) == Decision(Step.REJOIN)
    assert _decide(remains, {"cp-2": None}, api=None) == Decision(Step.REJOIN)


def test_what_was_a_whole_control_plane_is_never_undone() -> None:
    assert _decide(BEGUN, {"cp-2": WHOLE}, api=None, registered=True) == Decision(
        Step.REFUSE,
        "cp-1 was a whole control plane and lacks /etc/kubernetes/pki/ca.key,"
        " /etc/kubernetes/pki/apiserver.crt, /etc/kubernetes/pki/apiserver.key; restore that or run"
        " deploys/remove_node.py --data node=cp-1, then run this again",
    )


def test_a_cluster_that_lost_what_init_made_is_no_reason_to_join_again() -> None:
    for registered in (True, False):
        decision = _decide(WHOLE, {"cp-2": WHOLE}, None, None, registered, ["coredns"])
        assert decision == Decision(
            Step.REFUSE,
            "the cluster lacks coredns, which its init made; restore that (kubeadm init phase"
            " addon, or upload-config), then run this again",
        )


NODE = Traces(frozenset(NODE_FILES), frozenset(), kubelet_runs=True)


def test_a_worker_is_not_made_a_control_plane_over_its_pods() -> None:
    assert _decide(NODE, {"cp-2": WHOLE}, api=None) == Decision(
        Step.REFUSE,
        "cp-1 was a worker until now; run deploys/remove_node.py --data node=cp-1, then run this"
        " again",
    )


def _worker(
    mine: Traces, *, ca_differs: bool = False, registered: bool = True, same: bool = True
) -> Decision:
    return decide_worker("w-1", mine, ca_differs, registered, same)


def test_a_worker_that_is_in_the_cluster_is_left_alone() -> None:
    assert _worker(NODE) == Decision(Step.NOTHING)


def test_a_bare_machine_joins_as_a_worker() -> None:
    assert _worker(BARE, registered=False, same=False).step is Step.JOIN


def test_a_join_that_registered_and_was_cut_off_is_done_again() -> None:
    assert _worker(BARE, registered=True, same=True).step is Step.JOIN


def test_a_worker_whose_node_was_deleted_joins_again() -> None:
    assert _worker(NODE, registered=False, same=False).step is Step.JOIN


def test_another_machine_of_the_same_name_is_refused() -> None:
    assert _worker(BARE, registered=True, same=False) == Decision(
        Step.REFUSE,
        "the cluster has a node w-1 that is another machine; if this one replaces it, run"
        " deploys/remove_node.py --data node=w-1, then this again",
    )


def test_a_worker_of_another_cluster_is_refused() -> None:
    assert _worker(NODE, ca_differs=True).step is Step.REFUSE


def test_a_control_planes_remains_on_a_worker_are_refused() -> None:
    remains = Traces(frozenset({*NODE_FILES, MANIFESTS[0]}), frozenset(), kubelet_runs=True)
    assert _worker(remains).step is Step.REFUSE
