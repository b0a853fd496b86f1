"""What remove_node.py and reset.py refuse, and that they change nothing then."""

import pytest

from tests.plan.conftest import Pyinfra, Result

_CONVERGED = "tests/plan/inventory_converged.py"


def _run(pyinfra: Pyinfra, deploy: str, *words: str) -> Result:
    return pyinfra(_CONVERGED, f"deploys/{deploy}.py", "--debug", *words, api=True)


def _refused(done: Result, *sentences: str) -> None:
    assert done.status == 1
    for sentence in sentences:
        assert sentence in done.stderr
    assert [each for each in done.changing_commands if "flock" in each] == []
    assert "Traceback" not in done.stderr


def test_without_a_name_the_nodes_and_the_data_are_said(pyinfra: Pyinfra) -> None:
    done = _run(pyinfra, "remove_node", "-y")
    _refused(done, "name the node: --data node=NAME (the cluster has @fake/cp-1, @fake/w-1")


def test_a_name_of_nobody_is_refused(pyinfra: Pyinfra) -> None:
    done = _run(pyinfra, "remove_node", "-y", "--data", "node=w-9")
    _refused(done, "w-9 is neither a node nor a host of the inventory")
    # The others stop with it, and the same command is not offered again.
    assert "[@fake/w-1]  nothing is changed here, for @fake/cp-1 failed" in done.stderr
    assert "w-9 is out of the cluster" not in done.stderr.partition("Beginning operation run")[2]
    assert done.summary[-1] == (
        "that cannot be done as it was asked; the sentence above says what can"
    )


@pytest.mark.parametrize("more", [(), ("--data", "cluster=away")])
def test_a_reset_without_the_clusters_name_says_what_would_go_and_the_command(
    pyinfra: Pyinfra, more: tuple[str, ...]
) -> None:
    done = _run(pyinfra, "reset", "-y", *more)
    why = "away is not the cluster's name" if more else "nobody confirmed it"
    _refused(done, f"nothing is reset, for {why} (--data cluster=barekube)")
    assert done.stderr.count("would go: packages kubelet") == 3
    assert " goes: " not in done.stderr
    assert done.summary[-2:] == [
        "to do it:",
        f"pyinfra {_CONVERGED} deploys/reset.py --debug -y --data cluster=barekube",
    ]


def test_a_host_that_would_not_be_reset_is_not_removed(pyinfra: Pyinfra) -> None:
    done = _run(pyinfra, "remove_node", "-y", "--limit", "@fake/cp-1", "--data", "node=@fake/w-1")
    _refused(done, "@fake/w-1 is left out of this run, and would not be reset; run this without")


def test_the_preview_of_a_removal_that_is_refused_resets_nobody(pyinfra: Pyinfra) -> None:
    done = _run(pyinfra, "remove_node", "--dry", "--data", "node=@fake/w-1")
    _refused(done, "@fake/cp-1 cannot ask etcd for its members")
    assert "it is not reset, for it may not leave the cluster" in done.stderr
    assert " goes: " not in done.stderr


@pytest.mark.parametrize(
    ("deploy", "data"),
    [("reset", "node=@fake/w-1"), ("upgrade", "node=@fake/w-1"), ("maintain", "host=@fake/w-1")],
)
def test_data_that_a_deploy_does_not_read_is_not_taken_for_a_limit(
    pyinfra: Pyinfra, deploy: str, data: str
) -> None:
    done = _run(pyinfra, deploy, "-y", "--data", data, "--data", "cluster=barekube")
    key = data.partition("=")[0]
    instead = (
        "for one node leaves by deploys/remove_node.py"
        if deploy == "reset"
        else "and name hosts by --limit"
    )
    said = f"--data {key} means nothing to {deploy}.py; leave it out, {instead} (it reads --data "
    assert said in done.stderr
    assert "Nothing was connected to" in done.stderr
    assert done.status == 1


def test_one_host_of_a_living_cluster_is_not_reset(pyinfra: Pyinfra) -> None:
    done = _run(pyinfra, "reset", "-y", "--limit", "@fake/w-1", "--data", "cluster=barekube")
    _refused(
        done,
        "@fake/w-1 is a node of a cluster that goes on on @fake/cp-1; run deploys/remove_node.py"
        " --data node=@fake/w-1 first, which resets it too",
    )
    assert "that cannot be done as it was asked; the sentence above says what can" in done.stderr
