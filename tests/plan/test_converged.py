"""Machines on which all is as wanted: no change, and few round trips."""

import shutil
from pathlib import Path

import pytest

from tests.plan.conftest import Pyinfra

_INVENTORY = "tests/plan/inventory_converged.py"

# Remote commands a host and stage on a converged site; 3 is the most that the design allows.
# Not in it: one `cat admin.conf` on the first control plane, once a run, since the API is a
# stand-in here; its requests go through a connection that is open already.
_ROUND_TRIPS = {
    "preflight": {"cp-1": 1, "w-1": 1, "w-2": 1},
    "host": {"cp-1": 3, "w-1": 3, "w-2": 3},
    "runtime": {"cp-1": 2, "w-1": 2, "w-2": 2},
    "kubernetes_packages": {"cp-1": 1, "w-1": 1, "w-2": 1},
    "control_plane": {"cp-1": 3},
    "workers": {"w-1": 3, "w-2": 3},
    "network": {"cp-1": 1, "w-1": 1, "w-2": 1},
    "ingress": {},
}


@pytest.mark.parametrize("stage", _ROUND_TRIPS)
def test_a_second_run_changes_nothing_in_at_most_three_round_trips(
    pyinfra: Pyinfra, stage: str
) -> None:
    done = pyinfra(_INVENTORY, f"deploys/{stage}.py", "-y", "--debug", api=True)
    assert done.summary[0] == "unchanged:     3: @fake/cp-1, @fake/w-1, @fake/w-2"
    assert done.status == 0
    assert dict(done.remote_commands) == _ROUND_TRIPS[stage]
    assert max(_ROUND_TRIPS[stage].values(), default=0) <= 3


@pytest.mark.parametrize("stage", _ROUND_TRIPS)
def test_a_preview_of_a_converged_site_is_empty(pyinfra: Pyinfra, stage: str) -> None:
    done = pyinfra(_INVENTORY, f"deploys/{stage}.py", "--dry", "--json", api=True)
    assert done.plan
    assert [each["name"] for each in done.plan if each["hosts_with_change"]] == []


_HAD_A_BUNDLE = """
from tests.plan import machines

left = {left!r}
machine = machines.joined("cp-1")
machine.files |= {{path: "x\\n" for path in left}}
name, data = machines.converged("cp-1", "192.0.2.11")
data["fake_responses"] |= {{machines._FACT: machine.answer()}}
control_plane = [(name, data)]
del machine, name, data, left
"""
_MIRROR = "/etc/containerd/certs.d/_default/hosts.toml"
_LEFT_BY_A_BUNDLE = {
    "host": [
        "/etc/apt/sources.list.d/barekube-debian.sources",
        "/etc/apt/keyrings/barekube-debian.asc",
    ],
    "runtime": [_MIRROR],
    "kubernetes_packages": [
        "/etc/barekube/bundle-ca.crt",
        "/etc/apt/apt.conf.d/60barekube-bundle",
        _MIRROR,
    ],
}


@pytest.mark.parametrize("stage", _LEFT_BY_A_BUNDLE)
def test_what_a_bundle_left_is_removed_once_group_data_names_none(
    pyinfra: Pyinfra, tmp_path: Path, stage: str
) -> None:
    left = [path for paths in _LEFT_BY_A_BUNDLE.values() for path in paths]
    (tmp_path / "inventory.py").write_text(_HAD_A_BUNDLE.format(left=left))
    shutil.copytree("tests/plan/group_data", tmp_path / "group_data")
    done = pyinfra(str(tmp_path / "inventory.py"), f"deploys/{stage}.py", "--dry", api=True)
    said = [line.partition("[@fake/cp-1] ")[2] for line in done.stderr.splitlines()]
    assert [line for line in said if line.endswith(": removed")] == [
        f"{path}: removed" for path in _LEFT_BY_A_BUNDLE[stage]
    ]
    assert done.status == 0
