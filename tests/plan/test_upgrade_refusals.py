"""What upgrade.py and maintain.py refuse, and that they change nothing, through the real command
line on machines that are all at the version of group_data/all.py."""

import re
import shutil
from pathlib import Path

import pytest

from tests.plan import machines
from tests.plan.conftest import Pyinfra, Result

_ALL = (
    "control_plane = [machines.converged('cp-1', '192.0.2.11')]\n"
    "workers = [machines.converged('w-1', '192.0.2.21'), machines.converged('w-2', '192.0.2.22')]\n"
)
_LOST = (
    "workers.append(('w-3', {'ssh_hostname': '127.0.0.1', 'ssh_port': 9, 'address': '192.0.2.23',"
    " 'ssh_strict_host_key_checking': 'no'}))\n"
)


def _run(
    pyinfra: Pyinfra, folder: Path, stage: str, *options: str, inventory: str = _ALL
) -> Result:
    (folder / "inventory.py").write_text(f"from tests.plan import machines\n{inventory}")
    if not (folder / "group_data").exists():
        shutil.copytree("tests/plan/group_data", folder / "group_data")
    return pyinfra(str(folder / "inventory.py"), stage, "--debug", *options, api=True)


def _said(done: Result) -> list[str]:
    return [re.sub(r"\] +", "] ", line.strip()) for line in done.stderr.splitlines()]


def _unchanged(done: Result) -> None:
    assert [each for each in done.changing_commands if "flock" in each] == []
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            "1.39.0",
            "from 1.37.2 to 1.39.0 skips 1.38; set kubernetes_version to a version of that, and"
            " upgrade once more after it",
        ),
        (
            "1.36.3",
            "the cluster has 1.37.2 and cannot go back to 1.36.3; set kubernetes_version to 1.37.2"
            " or a later one",
        ),
    ],
)
def test_skipping_a_minor_and_going_back_are_refused(
    pyinfra: Pyinfra, tmp_path: Path, wanted: str, sentence: str
) -> None:
    data = f"kubernetes_version={wanted}"
    done = _run(pyinfra, tmp_path, "deploys/upgrade.py", "-y", "--data", data)
    # That alone: what else such a version lacks, in the bundle say, is no help.
    for name in ("cp-1", "w-1", "w-2"):
        assert f"[@fake/{name}] {sentence}" in _said(done)
    assert "does not offer" not in done.stderr
    assert done.summary[-1].startswith("that cannot be done as it was asked")
    assert done.status == 1
    _unchanged(done)


def test_site_py_does_not_upgrade(pyinfra: Pyinfra, tmp_path: Path) -> None:
    data = ("--data", "kubernetes_version=1.38.0")
    for stage in ("deploys/site.py", "deploys/kubernetes_packages.py"):
        done = _run(pyinfra, tmp_path, stage, "-y", *data)
        assert (
            "[@fake/w-2] it runs Kubernetes 1.37.2 and group_data says 1.38.0; run"
            " deploys/upgrade.py, or set kubernetes_version back"
        ) in _said(done)
        assert done.status == 1
        _unchanged(done)


def test_another_containerd_comes_by_upgrade_py_alone(pyinfra: Pyinfra, tmp_path: Path) -> None:
    new, old = machines.RUNTIME, "2.0.0-1~debian.12~bookworm"
    inventory = f"{_ALL}workers[1] = machines.with_runtime(workers[1], {old!r})\n"
    sentence = (
        f"[@fake/w-2] it runs containerd.io {old} and this barekube has {new}; run"
        " deploys/upgrade.py, which drains it before"
    )
    for stage in ("deploys/site.py", "deploys/runtime.py"):
        done = _run(pyinfra, tmp_path, stage, "-y", inventory=inventory)
        assert sentence in _said(done)
        assert done.status == 1
        _unchanged(done)
    done = _run(pyinfra, tmp_path, "deploys/upgrade.py", "--dry", inventory=inventory)
    said = _said(done)
    assert done.status == 0, done.stderr[-4000:]
    assert "[@fake/w-2] to do: drain" in said
    assert not any(each.startswith("[@fake/w-1] to do") for each in said)


def test_a_cluster_that_has_the_version_is_left_alone(pyinfra: Pyinfra, tmp_path: Path) -> None:
    done = _run(pyinfra, tmp_path, "deploys/upgrade.py", "-y")
    assert done.status == 0, done.stderr[-4000:]
    _unchanged(done)
    assert set(done.remote_commands.values()) == {2}


def test_a_host_that_does_not_answer_stops_an_upgrade_before_its_first_change(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    data = ("--data", "kubernetes_version=1.37.3")
    inventory = f"{_ALL}{_LOST}"
    done = _run(pyinfra, tmp_path, "deploys/upgrade.py", "-y", *data, inventory=inventory)
    sentence = "w-3 is not in this run; bring it up, or leave it out by --exclude w-3"
    assert f"[@fake/cp-1] {sentence}" in _said(done)
    assert done.status == 1
    _unchanged(done)


def test_maintenance_without_data_says_what_there_is_to_do(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    done = _run(pyinfra, tmp_path, "deploys/maintain.py", "-y")
    assert (
        "[@fake/w-1] 1 packages can be upgraded (openssl); --data packages=true does it"
    ) in _said(done)
    assert done.status == 0
    _unchanged(done)


def test_maintenance_begins_only_if_every_host_of_the_run_answers(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    data = ("--data", "reboot=true")
    done = _run(pyinfra, tmp_path, "deploys/maintain.py", "-y", *data, inventory=f"{_ALL}{_LOST}")
    sentence = (
        "left as it is, for w-3 failed; mend that, or leave it out by --exclude w-3, then run this"
        " again"
    )
    assert f"[@fake/cp-1] {sentence}" in _said(done)
    assert done.status == 1
    _unchanged(done)


def test_an_upgrade_that_leaves_out_a_control_plane_does_not_begin(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    data = ("--data", "kubernetes_version=1.37.3", "--limit", "@fake/w-1")
    done = _run(pyinfra, tmp_path, "deploys/upgrade.py", "-y", *data)
    assert (
        "[@fake/w-1] @fake/cp-1 is a control plane of 1.37.2 and not in this run, and no kubelet"
        " may be newer than an API server; run this without --limit and --exclude"
    ) in _said(done)
    assert done.status == 1
    _unchanged(done)


def test_control_planes_are_upgraded_before_any_node(pyinfra: Pyinfra, tmp_path: Path) -> None:
    data = ("--dry", "--json", "--data", "kubernetes_version=1.37.3", "--data", "at_once=2")
    done = _run(pyinfra, tmp_path, "deploys/upgrade.py", *data)
    plan = [operation["name"] for operation in done.plan]
    assert [name for name in plan if name.startswith(("Upgrade", "Back up"))] == [
        "Back up etcd, keys and settings",
        "Upgrade the control plane on @fake/cp-1",
        "Upgrade @fake/cp-1",
        "Upgrade @fake/w-1, @fake/w-2",
    ]
    _unchanged(done)
