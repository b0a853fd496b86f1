"""The end of a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from barekube import summary
from barekube.summary import HostRun, Operation, Run

_CHANGED = HostRun(True, False, [Operation("a", True, True), Operation("b", True, False)])
_UNCHANGED = HostRun(True, False, [Operation("a", True, False)])
_FAILED = HostRun(True, True, [Operation("a", False, False), Operation("b", None, False)])
_CUT_OFF = HostRun(True, False, [Operation("a", True, True), Operation("b", None, False)])
_ABSENT = HostRun(False, True)
_RUN = Run(
    hosts={"cp-1": _CHANGED, "w-1": _UNCHANGED},
    deploys=["deploys/site.py"],
    arguments=["inventory.py", "deploys/site.py", "-y"],
    inventory="inventory.py",
    control_plane="cp-1",
    seconds=65.2,
)


def test_a_good_run_says_how_to_look_at_the_cluster() -> None:
    assert summary.status(_RUN) == 0
    assert summary.lines(_RUN) == [
        "changed:       1: cp-1 (1)",
        "unchanged:     1: w-1",
        "took:          1 min 05 s",
        "to look at the cluster:",
        "  pyinfra inventory.py -y --limit cp-1 exec -- kubectl --kubeconfig"
        " /etc/kubernetes/admin.conf get nodes",
    ]


def test_hosts_that_are_not_well_are_all_named_and_the_next_run_is_limited_to_them() -> None:
    hosts = {"cp-1": _CHANGED, "w-1": _FAILED, "w-2": _ABSENT, "w-3": _CUT_OFF}
    arguments = ["inventory.py", "--limit", "workers", "deploys/site.py", "--exclude=w-9", "-y"]
    run = replace(_RUN, hosts=hosts, arguments=arguments)
    assert summary.status(run) == 1
    assert summary.lines(run) == [
        "changed:       1: cp-1 (1)",
        "failed:        1: w-1 (at 'a')",
        "not finished:  1: w-3",
        "not reached:   1: w-2",
        "took:          1 min 05 s",
        "mend the errors above, then run again:",
        "  pyinfra inventory.py deploys/site.py -y --limit w-1 --limit w-2 --limit w-3",
    ]


@pytest.mark.parametrize(
    ("stage", "again"),
    [("host", " --limit w-1"), ("reset", ""), ("remove_node", "")],
)
def test_what_is_for_the_whole_cluster_is_not_repeated_on_some_hosts(
    stage: str, again: str
) -> None:
    words = ["inventory.py", f"deploys/{stage}.py", "-y"]
    hosts = {"cp-1": _CHANGED, "w-1": _FAILED}
    run = replace(_RUN, hosts=hosts, deploys=words[1:2], arguments=words)
    assert summary.lines(run)[-1] == f"  pyinfra {' '.join(words)}{again}"


@pytest.mark.parametrize("given", [(), ("--data", "cluster=away"), ("--data=cluster=away",)])
@pytest.mark.parametrize("option", ["-y", "--dry"])
def test_what_lacked_a_word_is_offered_with_it_and_without_a_wrong_one(
    given: tuple[str, ...], option: str
) -> None:
    words = ["inventory.py", "deploys/zap.py", option, *given, "--data", "host=w-1"]
    host = replace(_FAILED, misasked="cluster=home")
    run = replace(_RUN, hosts={"w-1": host}, deploys=words[1:2], arguments=words)
    assert summary.next_command(run) == [
        "to do it:",
        "  pyinfra inventory.py deploys/zap.py --data host=w-1 -y --data cluster=home",
    ]


def test_what_cannot_be_done_is_not_offered_again() -> None:
    words = ["inventory.py", "deploys/remove_node.py", "-y", "--data", "node=nobody"]
    hosts = {"cp-1": replace(_FAILED, misasked=""), "w-1": _FAILED}
    run = replace(_RUN, hosts=hosts, deploys=words[1:2], arguments=words)
    assert summary.next_command(run) == [
        "that cannot be done as it was asked; the sentence above says what can"
    ]


def test_after_a_preview_with_nothing_to_upgrade_the_proof_is_no_preview() -> None:
    words = ["inventory.py", "deploys/upgrade.py", "--dry", "--data", "at_once=2"]
    run = replace(_RUN, hosts={"w-1": _UNCHANGED}, deploys=words[1:2], arguments=words)
    assert summary.next_command(replace(run, preview=True, executed=False))[1] == (
        "  pyinfra inventory.py deploys/verify.py -y"
    )


def test_a_dead_host_that_is_taken_out_of_the_cluster_is_no_failure() -> None:
    dead = replace(_ABSENT, leaves=True)
    run = replace(_RUN, hosts={"cp-1": dead, "w-1": _CHANGED}, deploys=["deploys/remove_node.py"])
    assert summary.status(run) == 0
    assert "not reset:     1: cp-1 (it does not answer)" in summary.lines(run)
    # Others have to have done it.
    assert summary.status(replace(run, hosts={"cp-1": dead})) == 1
    assert summary.status(replace(run, hosts={"cp-1": dead, "w-1": _FAILED})) == 1
    assert summary.status(replace(run, deploys=["deploys/site.py"])) == 1


def test_a_host_that_could_not_do_what_another_one_led_is_not_called_unchanged() -> None:
    idle = replace(_UNCHANGED, unwell=["cp-1 failed, so that this is not done"])
    run = replace(_RUN, hosts={"cp-1": _FAILED, "w-1": idle, "w-2": _UNCHANGED})
    assert summary.status(run) == 1
    assert summary.lines(run)[:3] == [
        "unchanged:     1: w-2",
        "failed:        1: cp-1 (at 'a')",
        "not well:      1: w-1: cp-1 failed, so that this is not done",
    ]


def test_a_host_that_lost_its_power_is_said_to_answer_no_more() -> None:
    run = replace(_RUN, hosts={"cp-1": _CHANGED, "w-1": replace(_FAILED, lost=True)})
    assert summary.lines(run)[1] == (
        "failed:        1: w-1 (at 'a', it answers no more on SSH: see whether it has power)"
    )


def test_where_no_host_is_well_the_next_run_is_the_same_one() -> None:
    arguments = ["inventory.py", "--limit", "workers", "deploys/site.py", "-y"]
    run = replace(_RUN, hosts={"w-1": _FAILED, "w-2": _ABSENT}, arguments=arguments)
    assert summary.lines(run)[-1] == "  pyinfra inventory.py --limit workers deploys/site.py -y"


def test_a_run_that_was_interrupted_is_a_failure_though_no_host_failed() -> None:
    assert summary.status(replace(_RUN, hosts={"cp-1": _CUT_OFF})) == 1


@pytest.mark.parametrize("bad", [_FAILED, _ABSENT])
def test_a_preview_fails_only_if_a_host_could_not_be_looked_at(bad: HostRun) -> None:
    looked_at = HostRun(True, False, [Operation("a", None, False)], would_change=1)
    preview = replace(_RUN, preview=True, executed=False, hosts={"cp-1": looked_at})
    assert summary.status(preview) == 0
    assert summary.status(replace(preview, hosts={"cp-1": looked_at, "w-1": bad})) == 1


@pytest.mark.parametrize("deploy", ["deploys/host.py", "deploys/drift.py"])
def test_a_preview_that_refuses_or_could_not_ask_the_api_is_neither_0_nor_drift(
    deploy: str,
) -> None:
    fine = HostRun(True, False, would_change=1)
    refused = HostRun(True, False, would_change=1, refused=["no room; make some", "no time"])
    run = replace(_RUN, preview=True, executed=False, deploys=[deploy])
    here = replace(run, hosts={"cp-1": fine, "w-1": refused, "w-2": refused})
    assert summary.status(here) == 1
    assert summary.lines(here)[:2] == [
        "would change:  1: cp-1 (1)",
        "refused:       2: w-1, w-2: no room; make some; no time",
    ]
    silent = replace(run, hosts={"cp-1": fine}, without_api=["cp-1: its API does not answer"])
    assert summary.status(silent) == 1
    line = "API:           no control plane answers (cp-1: its API does not answer)"
    assert line in summary.lines(silent)


def test_a_preview_with_changes_says_the_command_that_makes_them() -> None:
    looked_at = HostRun(True, False, [Operation("a", None, False)], would_change=2)
    run = replace(
        _RUN,
        preview=True,
        executed=False,
        hosts={"cp-1": looked_at},
        arguments=["inventory.py", "deploys/site.py", "--dry", "--diff"],
    )
    assert summary.lines(run)[2:] == ["to do it:", "  pyinfra inventory.py deploys/site.py -y"]


def test_a_preview_that_broke_off_claims_nothing_of_its_hosts() -> None:
    run = replace(_RUN, preview=True, executed=False, broken_off=True)
    assert summary.status(run) == 1
    assert summary.lines(run)[0] == "not finished:  2: cp-1, w-1"


def test_a_run_that_broke_off_before_its_first_step_says_that_nothing_changed() -> None:
    waiting = HostRun(True, False, [Operation("a", None, False)])
    run = replace(_RUN, hosts={"cp-1": waiting}, executed=False, broken_off=True)
    assert summary.status(run) == 1
    assert summary.lines(run) == [
        "nothing was changed: the run ended before its first step",
        "took:          1 min 05 s",
        "mend the error above, then run again:",
        "  pyinfra inventory.py deploys/site.py -y",
    ]


def test_a_run_without_hosts_is_a_failure() -> None:
    run = replace(_RUN, hosts={})
    assert summary.status(run) == 1
    assert summary.lines(run) == [
        "no host is in this run; look at --limit, --exclude and the inventory"
    ]
    assert json.loads(summary.with_plan("", run))["summary"]["next"] == []


def test_many_well_hosts_are_shortened_and_failed_ones_are_not() -> None:
    hosts = {f"w-{n}": _UNCHANGED for n in range(14)} | {f"x-{n}": _FAILED for n in range(14)}
    unchanged, failed = summary.lines(replace(_RUN, hosts=hosts))[:2]
    assert unchanged.endswith("w-10, w-11 and 2 more")
    assert failed.count("x-") == 14


_LOOK = "exec -- kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes"


@pytest.mark.parametrize(
    ("words", "following"),
    [
        ("deploys/control_plane.py deploys/workers.py -y", "deploys/network.py -y"),
        ("deploys/network.py -y", "deploys/ingress.py -y"),
        ("deploys/ingress.py -y --data prune=true", "deploys/storage.py -y"),
        ("deploys/host.py --dry --diff", "deploys/runtime.py --dry --diff"),
        ("deploys/storage.py -y", _LOOK),
        ("deploys/verify.py -y --data=look=true", _LOOK),
        ("deploys/drift.py --dry --json", _LOOK),
        ("deploys/upgrade.py -y --data=at_once=3", "deploys/verify.py -y"),
        # All of the cluster is to be proven, but for who is known to be away.
        ("deploys/maintain.py -y --limit w-1 --exclude w-9", "deploys/verify.py -y --exclude w-9"),
        ("deploys/remove_node.py --data node=w-9 -y", "deploys/site.py -y"),
        # It is the others who have to learn of it.
        ("deploys/remove_node.py --data node=w-9 --limit w-9 -y", "deploys/site.py -y"),
        ("deploys/zap.py -y --data disk=/dev/x --data osd=1", "deploys/storage.py -y"),
    ],
)
def test_a_run_that_left_nothing_to_do_ends_with_one_command(words: str, following: str) -> None:
    deploys = [each for each in words.split() if each.endswith(".py")]
    run = replace(
        _RUN,
        deploys=deploys,
        arguments=["inventory.py", *words.split()],
        preview="--dry" in words,
        storage=True,
    )
    commands = [line for line in summary.lines(run) if line.startswith("  ")]
    assert len(commands) == 1
    assert commands[0].startswith("  pyinfra inventory.py ")
    assert commands[0].endswith(f" {following}")


def test_a_site_without_storage_ends_with_its_doors() -> None:
    run = replace(_RUN, deploys=["deploys/ingress.py"])
    assert summary.lines(run)[-1].endswith(_LOOK)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("--ssh-password hunter2", "--ssh-password PASSWORD"),
        ("--password=hunter2", "--password=PASSWORD"),
        ("--ssh-key-password hunter2", "--ssh-key-password PASSWORD"),
        ("--data _sudo_password=hunter2", "--data _sudo_password=PASSWORD"),
        ("--data=ssh_password=hunter2", "--data=ssh_password=PASSWORD"),
        ("--data password=pages-login", "--data password=pages-login"),
    ],
)
def test_no_password_of_the_command_line_is_in_the_command_to_go_on_with(
    given: str, shown: str
) -> None:
    arguments = ["inventory.py", "deploys/site.py", *given.split(), "-y"]
    run = replace(_RUN, arguments=arguments, broken_off=True)
    assert summary.lines(run)[-1] == f"  pyinfra inventory.py deploys/site.py {shown} -y"
    assert "hunter2" not in summary.with_plan("", run)


_SEEN = HostRun(True, False, [Operation("a", None, False)])
_DRIFT = replace(
    _RUN,
    preview=True,
    executed=False,
    deploys=["deploys/drift.py", "deploys/verify.py"],
    hosts={"cp-1": _SEEN},
)


def test_what_differs_is_drift_whatever_other_deploy_is_named_beside() -> None:
    assert summary.status(_DRIFT) == 0
    changed = replace(_SEEN, would_change=1)
    assert summary.status(replace(_DRIFT, hosts={"cp-1": changed})) == 3
    assert summary.status(replace(_DRIFT, left_over={"ConfigMap a/b": "by hand"})) == 3


def test_what_is_not_well_is_trouble_unless_a_change_may_mend_it() -> None:
    sick = replace(_SEEN, unwell=["waits for w-1 to be Ready"])
    run = replace(_DRIFT, hosts={"cp-1": _SEEN, "w-1": sick})
    assert summary.status(run) == 1
    assert summary.lines(run)[:2] == [
        "as wanted:     1: cp-1",
        "not well:      1: w-1: waits for w-1 to be Ready",
    ]
    assert summary.lines(run)[-1].endswith(_LOOK)
    changed = replace(_SEEN, would_change=1)
    assert summary.status(replace(run, hosts={"cp-1": changed, "w-1": sick})) == 3
    # What a run only warns of is no failure of its preview.
    assert summary.status(replace(run, deploys=["deploys/network.py"])) == 0


def test_what_is_left_over_leads_to_a_preview_of_what_would_go() -> None:
    left = {"ConfigMap a/b": "--data prune=true deletes it"}
    arguments = ["inventory.py", "deploys/drift.py", "--dry"]
    assert summary.lines(replace(_DRIFT, left_over=left, arguments=arguments))[-1] == (
        "  pyinfra inventory.py deploys/drift.py --dry --data prune=true"
    )


def test_the_document_claims_nothing_of_hosts_that_a_run_did_not_begin_with() -> None:
    waiting = HostRun(True, False)
    run = replace(_RUN, hosts={"cp-1": waiting}, executed=False, broken_off=True, problems=["why"])
    document = json.loads(summary.with_plan("", run))["summary"]
    assert document["hosts"]["cp-1"]["outcome"] == "not finished"
    assert document["problems"] == ["why"]


def test_each_stage_leads_to_the_next_one_of_the_site() -> None:
    site = (Path(__file__).parents[2] / "deploys/site.py").read_text()
    stages = [line.split("/")[1].split(".py")[0] for line in site.splitlines() if "include" in line]
    assert stages == list(summary.STAGES)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (600, "10 min 00 s")]
)
def test_durations_are_readable(seconds: float, words: str) -> None:
    assert summary.duration(seconds) == words
