"""The end of a run."""

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


def test_many_well_hosts_are_shortened_and_failed_ones_are_not() -> None:
    hosts = {f"w-{n}": _UNCHANGED for n in range(14)} | {f"x-{n}": _FAILED for n in range(14)}
    unchanged, failed = summary.lines(replace(_RUN, hosts=hosts))[:2]
    assert unchanged.endswith("w-10, w-11 and 2 more")
    assert failed.count("x-") == 14


def test_each_stage_leads_to_the_next_one_of_the_site() -> None:
    site = (Path(__file__).parents[2] / "deploys/site.py").read_text()
    stages = [line.split("/")[1].split(".py")[0] for line in site.splitlines() if "include" in line]
    assert stages == list(summary.STAGES)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (600, "10 min 00 s")]
)
def test_durations_are_readable(seconds: float, words: str) -> None:
    assert summary.duration(seconds) == words
