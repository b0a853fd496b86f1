"""Who may change a cluster while another run does, or was cut off."""

import copy
import os
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException
from pyinfra.api.exceptions import DeployError

import barekube.api
from barekube import lease, settings
from barekube.api import Trouble
from barekube.lease import refusal
from barekube.operations import files, order
from barekube.text import TextFile
from tests.plan.machines import Machine
from tests.unit.harness import Answers, Outcome, begun, outcome

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
# pytest's own parent lives at least as long as the test.
ALIVE = os.getppid()


def _ended() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def _of_mine(pid: int) -> str:
    return f"{lease.account()} (pid {pid})"


def _spec(who: str, ago: int) -> k8s.V1LeaseSpec:
    renewed = NOW - timedelta(seconds=ago)
    return k8s.V1LeaseSpec(holder_identity=who, lease_duration_seconds=60, renew_time=renewed)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(None, id="nobody ever did"),
        pytest.param(_spec("", 1), id="the last run gave it back"),
        pytest.param(_spec(lease.holder(), 1), id="this run"),
        pytest.param(_spec(_of_mine(_ended()), 1), id="my own run that was cut off"),
        pytest.param(_spec("you@there", 60), id="one that was not renewed in time"),
    ],
)
def test_a_cluster_that_nobody_changes_may_be_changed(spec: k8s.V1LeaseSpec | None) -> None:
    assert refusal(spec, lease.holder(), NOW) is None


@pytest.mark.parametrize(
    "who",
    [
        pytest.param("you@there (pid 7)", id="another operator"),
        pytest.param(_of_mine(ALIVE), id="another run of mine that lives"),
        pytest.param(f"you@there (pid {_ended()})", id="whose process is not of this machine"),
    ],
)
def test_a_second_run_is_told_who_is_first_and_how_long_to_wait(who: str) -> None:
    assert refusal(_spec(who, 15), lease.holder(), NOW) == (
        f"{who} changes this cluster now; wait for that run to end, or 45 s if it was cut off,"
        " then run this again"
    )


def test_the_other_runs_that_live_are_known_and_ended_ones_forgotten(runs: Path) -> None:
    assert lease.others() == []
    for pid in (ALIVE, _ended()):
        (runs / str(pid)).touch()
    assert lease.others() == [_of_mine(ALIVE)]
    assert {each.name for each in runs.iterdir()} == {str(ALIVE), str(os.getpid())}


def test_a_run_goes_on_where_it_can_write_no_file_of_its_own(runs: Path) -> None:
    runs.write_text("no directory")
    assert lease.others() == []


OTHER = "you@there (pid 7)"


class Leases:
    """The API's Lease; `away`: it does not answer."""

    def __init__(self, by: str | None, ago: float = 0) -> None:
        renewed = datetime.now(UTC) - timedelta(seconds=ago)
        self.lease: Any = None
        if by is not None:
            self.lease = k8s.V1Lease(
                spec=k8s.V1LeaseSpec(
                    holder_identity=by, lease_duration_seconds=60, renew_time=renewed
                )
            )
        self.away = False

    def read_namespaced_lease(self, *_: object, **__: object) -> k8s.V1Lease:
        if self.away or self.lease is None:
            raise ApiException(status=503 if self.away else 404)
        return copy.deepcopy(self.lease)

    def create_namespaced_lease(self, space: str, lease: k8s.V1Lease) -> None:
        self.lease = lease

    def replace_namespaced_lease(
        self, name: str, space: str, lease: k8s.V1Lease, **_: object
    ) -> None:
        self.lease = lease


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Leases]:
    """A run that holds nothing yet; in the list goes the way to each control plane, the one in use
    first."""
    ways: list[Leases] = []
    monkeypatch.setattr(lease, "_held", set())
    monkeypatch.setattr(lease, "_lost", [])
    monkeypatch.setattr(lease, "coordination", lambda api: api)
    monkeypatch.setattr(lease, "_ways", lambda: iter(ways))
    monkeypatch.setattr(lease, "state", SimpleNamespace(add_callback_handler=lambda handler: None))
    monkeypatch.setattr(lease, "host", SimpleNamespace(log=lambda line: None))
    nothing = SimpleNamespace(spawn=lambda function: None, sleep=lambda seconds: None)
    monkeypatch.setattr(lease, "gevent", nothing)
    return ways


def test_a_run_whose_lease_was_taken_meanwhile_is_refused_and_leaves_the_others(
    held: list[Leases],
) -> None:
    there = Leases(None)
    held.append(there)
    assert lease.take(there) is None  # type: ignore[arg-type]
    there.lease.spec.holder_identity = OTHER
    before = there.lease.spec.renew_time
    lease._write(renew_time=datetime.now(UTC))
    lease._write(holder_identity="")
    assert (there.lease.spec.holder_identity, there.lease.spec.renew_time) == (OTHER, before)
    assert lease.take(there) == (  # type: ignore[arg-type]
        f"{OTHER} changes this cluster since this run was away from it; wait for that run to end,"
        " then run this again"
    )


def test_a_lease_is_renewed_through_another_control_plane_while_one_is_rebooted(
    held: list[Leases],
) -> None:
    first, second = Leases(None), Leases(None)
    held += [first, second]
    assert lease.take(first) is None  # type: ignore[arg-type]
    second.lease = first.lease
    first.away = True
    now = datetime.now(UTC)
    lease._write(renew_time=now)
    assert second.lease.spec.renew_time == now


@pytest.mark.parametrize("lives", [True, False])
def test_a_lease_that_only_seems_to_have_run_out_is_not_taken(
    held: list[Leases], monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    there = Leases(OTHER, ago=90)

    def sleep(seconds: float) -> None:
        if lives:
            there.lease.spec.renew_time += timedelta(seconds=15)

    monkeypatch.setattr(lease, "gevent", SimpleNamespace(spawn=lambda function: None, sleep=sleep))
    wrong = lease.take(there)  # type: ignore[arg-type]
    if lives:
        said = "changes this cluster now; wait for that run to end, then run this again"
        assert wrong == f"{OTHER} {said}"
        assert there.lease.spec.holder_identity == OTHER
    else:
        assert wrong is None
        assert there.lease.spec.holder_identity == lease.holder()


def _files(
    monkeypatch: pytest.MonkeyPatch,
    there: str,
    *,
    api: bool,
    opened: Sequence[str] = (),
    etcd: bool = True,
    site: str = "",
) -> tuple[Outcome, list[str]]:
    """A stage that needs no API, twice on a host with this file, while another run holds the Lease
    of a cluster whose API answers, or does not; and what was looked for. `etcd`: it answers;
    `site`: what is wrong with group_data."""
    looks: list[str] = []
    connections = list(opened)

    def connect(cluster: object) -> str:
        looks.append("look")
        if not api:
            raise Trouble("cp-1: its API does not answer")
        connections.append("the API")
        return "the API"

    def take(api: object) -> str:
        if not etcd:
            looks.append("take")
            raise ApiException(503)
        return "you@there changes this cluster now"

    def cluster() -> None:
        if site:
            raise DeployError(site)

    monkeypatch.setattr(order, "_none_to_see", [])
    monkeypatch.setattr(order, "_PASSING", -1)
    monkeypatch.setattr(settings, "cluster", cluster)
    monkeypatch.setattr(barekube.api, "connect", connect)
    monkeypatch.setattr(barekube.api, "opened", lambda: next(iter(connections), None))
    monkeypatch.setattr(lease, "take", take)
    answers: Answers = {"Machine": Machine(files={"/etc/motd": there}).answer()}
    wanted = [TextFile("/etc/motd", "hello\n")]
    outcome(files.texts, wanted, answers=answers)
    return outcome(files.texts, wanted, answers=answers), looks


def test_a_host_is_not_changed_while_another_run_changes_its_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, looks = _files(monkeypatch, "old\n", api=True)
    assert result.commands == ["false"]
    assert result.logs[-1] == "you@there changes this cluster now"
    assert looks == ["look"]


def test_the_api_that_a_run_has_opened_is_the_one_whose_lease_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To look again may bring back the control plane that is to leave."""
    result, looks = _files(monkeypatch, "old\n", api=True, opened=["another one"])
    assert (result.commands, looks) == (["false"], [])


@pytest.mark.parametrize(
    ("answers", "looked"),
    [
        pytest.param({"api": False}, ["look"], id="the API is down"),
        pytest.param({"api": True, "etcd": False}, ["look", "take"], id="only its etcd is"),
        pytest.param({"api": True, "site": "overlap"}, [], id="group_data says where no more"),
    ],
)
def test_a_host_is_mended_while_the_api_is_down_which_is_looked_for_once_a_run(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], looked: list[str]
) -> None:
    result, looks = _files(monkeypatch, "old\n", **answers)
    assert len(result.commands) == 1
    assert "mv /etc/.motd.new /etc/motd" in result.commands[0]
    assert looks == looked


def test_a_host_that_is_as_wanted_looks_for_no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    result, looks = _files(monkeypatch, "hello\n", api=True)
    assert (result.commands, looks) == ([], [])


def _beside(by: str, root: Path, seconds: float) -> tuple[int, str]:
    """A command on a host that one of `by` works on: how it ends, and whether it waited."""
    first = subprocess.Popen(
        ["flock", "--close", "lock", "sh", "-c", f"echo '{by}' >lock; echo; exec sleep {seconds}"],
        cwd=root,
        stdout=subprocess.PIPE,
    )
    assert first.stdout is not None
    first.stdout.readline()
    second = begun(order.changing("echo done"), root)
    out, err = second.communicate(timeout=20)
    over = first.poll() is not None
    first.terminate()
    first.wait()
    assert over == (second.returncode == 0)
    return second.returncode, out + err


def test_a_host_is_waited_for_only_where_a_run_of_mine_left_a_command(
    runs: Path, tmp_path: Path
) -> None:
    assert _beside(_of_mine(_ended()), tmp_path, 0.5) == (0, "done\n")
    assert (tmp_path / "lock").read_text() == f"{lease.holder()}\n"
    lease.others()
    (runs / str(ALIVE)).touch()
    for by in (_of_mine(ALIVE), "you@there (pid 7)", f"{lease.account()}2 (pid 7)"):
        said = f"barekube of {by} works on this host, wait for it\n"
        assert _beside(by, tmp_path, 20) == (75, said)
    assert _beside(lease.holder(), tmp_path, 0.5) == (0, "done\n")


def test_an_api_that_is_away_is_asked_again_and_where_there_is_no_cluster_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    away = Trouble("cp-1: its API does not answer")
    away.passes = True

    def ask() -> str:
        asked.append(1)
        if len(asked) < 2:
            raise away
        return "there"

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert order.persistently(ask) == "there"
    asked.clear()
    away.passes = False
    with pytest.raises(Trouble):
        order.persistently(ask)
