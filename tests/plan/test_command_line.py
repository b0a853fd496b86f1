"""config.py through the real command line: what it refuses, and how a run ends."""

import inspect
import json
import re
from pathlib import Path

import pytest
from pyinfra.api import arguments, inventory, util
from pyinfra.api.host import HostData
from pyinfra_cli import cli

from barekube import quick
from tests.plan.conftest import Pyinfra

_BARE = "tests/plan/inventory_bare.py"
_HOST = "deploys/host.py"
_NOTHING = "--> Nothing was connected to, and nothing was changed."


def test_the_one_private_name_of_pyinfra_is_there_and_used() -> None:
    assert list(inspect.signature(cli._set_fail_prompts).parameters) == ["state", "config"]
    assert "_set_fail_prompts(state, config)" in inspect.getsource(cli._main)


def test_what_is_made_quick_is_what_pyinfra_uses_and_answers_the_same() -> None:
    order = inspect.getsource(util.get_operation_order_from_stack)
    assert "stack()" in order
    assert set(re.findall(r"\bframe\.(\w+)", order)) == {"filename", "lineno"}
    frames = [each[0] for each in quick._stack()]
    assert frames == [each[0] for each in inspect.stack()]
    for frame in frames:
        place, same = quick._place(frame), inspect.getframeinfo(frame, context=0)
        assert (place.filename, place.lineno) == (same.filename, same.lineno)
    assert "in all_global_arguments()" in inspect.getsource(arguments.pop_global_arguments)
    assert "get_all_connectors()" in inspect.getsource(inventory.Inventory)


def test_the_data_of_a_host_is_laid_over_each_other_as_pyinfra_does() -> None:
    there = inventory.Inventory(  # type: ignore[no-untyped-call]
        ([("cp-1", {"own": [1], "three": "host"})], {"three": "all", "two": "all", "one": "all"}),
        masters=(["cp-1"], {"three": "group", "two": "group"}),
        override_data={"given": "--data"},
    )
    data = there.get_host("cp-1").data
    data.assigned = "in a deploy"
    for key in ("own", "three", "two", "one", "given", "assigned"):
        assert quick._of_host(data, key) == HostData.__getattr__(data, key), key
    data.three = "assigned"
    assert quick._of_host(data, "three") == "assigned"
    assert quick._of_host(data, "own") is not quick._of_host(data, "own")
    for ask in (quick._of_host, HostData.__getattr__):
        with pytest.raises(AttributeError, match="`cp-1` has no data `none`"):
            ask(data, "none")


def _site(folder: Path, inventory: str, **group_data: str) -> str:
    (folder / "inventory.py").write_text(inventory)
    (folder / "group_data").mkdir()
    for name, text in group_data.items():
        (folder / "group_data" / f"{name}.py").write_text(text)
    return str(folder / "inventory.py")


_ONE = 'control_plane = [("metal-1", {"address": "192.0.2.1"})]\n'


@pytest.mark.parametrize(
    ("inventory", "group_data", "sentence"),
    [
        (
            _ONE,
            {"all": "\napi_port = ("},
            "{folder}/group_data/all.py, line 2: '(' was never closed; correct it",
        ),
        (_ONE + "workers = [", {}, "{inventory}, line 2: '[' was never closed; correct it"),
        (
            _ONE + "x = tru",
            {},
            "{inventory}, line 2: NameError: name 'tru' is not defined; correct it",
        ),
        (
            _ONE,
            {"all": "from barekube import versions\n\nkubernetes_version = versions.KUBERNETE"},
            "{folder}/group_data/all.py, line 3: AttributeError: module 'barekube.versions' has no"
            " attribute 'KUBERNETE'; correct it",
        ),
        (
            "workers = [('w-1', {'ssh_hostnam': '192.0.2.1'})]\ncontrol_plane = ['cp-1']",
            {},
            "{inventory}, w-1: ssh_hostnam is no known key; did you mean ssh_hostname?",
        ),
        (
            _ONE,
            {"all": "cluster_nam = 'x'"},
            "{folder}/group_data/all.py: cluster_nam is no known key; did you mean cluster_name?",
        ),
        (
            _ONE,
            {"workers": "firewall = 'yes'"},
            "{folder}/group_data/workers.py: firewall is 'yes'; make it True or False",
        ),
        (
            _ONE,
            {"workers": "api_port = 6444"},
            "{folder}/group_data/workers.py: api_port is the whole cluster's; set it in"
            " group_data/all.py",
        ),
        (
            _ONE,
            {"all": "sysctls = {'kernel.panic': '10\\nvm.swappiness = 1'}"},
            "{folder}/group_data/all.py: sysctls is {{'kernel.panic': '10\\nvm.swappiness = 1'}};"
            " make it a dict of kernel parameters with their values, each a text of one line",
        ),
        (
            "control_plane = 'metal-1'",
            {},
            "{inventory}: control_plane is 'metal-1'; make it a list",
        ),
        (
            _ONE,
            {"all": "bundle_url = 'https://192.0.2.9:8443'\nbundle_key = 'AB'"},
            "group_data/all.py: bundle_url needs bundle_ca; `python -m bundle list` shows it",
        ),
        (
            _ONE,
            {"all": "bundle_url = 'https://192.0.2.9:8443'\nbundle_key = bundle_ca = '/no/ca'"},
            "group_data/all.py: bundle_ca /no/ca cannot be read (No such file or directory);"
            " `python -m bundle list` shows it",
        ),
        (
            _ONE,
            {"all": "bundle_url = 'https://192.0.2.9'\nbundle_key, bundle_ca = 'A', __file__"},
            "group_data/all.py: bundle_ca {folder}/group_data/all.py is no certificate;"
            " `python -m bundle list` shows it",
        ),
        (
            _ONE + "workers = [('pi-1', {'address': '192.0.2.2', 'bundle_url': 'https://192.0.2.9',"
            " 'bundle_key': 'AB'})]",
            {},
            "{inventory}, pi-1: bundle_url needs bundle_ca; `python -m bundle list` shows it",
        ),
        (
            _ONE + "workers = [('pi-1', {'address': '192.0.2.2'})]\n"
            "boards = (['pi-1'], {'bundle_url': 'https://192.0.2.9', 'bundle_key': 'AB'})",
            {},
            "{inventory}, boards: bundle_url needs bundle_ca; `python -m bundle list` shows it",
        ),
        (
            _ONE,
            {"workers": "bundle_url = 'https://192.0.2.9:8443'\nbundle_key = 'AB'"},
            "{folder}/group_data/workers.py: bundle_url needs bundle_ca; `python -m bundle list`"
            " shows it",
        ),
        (
            "control_plane = []\nworkers = []",
            {},
            "{inventory} names no machine; write yours into it, or try `make lab`,"
            " which brings some",
        ),
        (
            "workers = ['w-1']",
            {},
            "{inventory}: control_plane is empty; name one machine in it, better three",
        ),
    ],
)
def test_a_mistake_in_the_site_is_one_sentence_before_anything_connects(
    pyinfra: Pyinfra,
    tmp_path: Path,
    inventory: str,
    group_data: dict[str, str],
    sentence: str,
) -> None:
    path = _site(tmp_path, inventory, **group_data)
    done = pyinfra(path, _HOST, "-y")
    wanted = sentence.format(inventory=path, folder=tmp_path)
    assert done.stderr.splitlines()[1:] == [f"--> {wanted}", _NOTHING]
    assert done.status == 1


def test_an_error_of_ours_in_an_included_deploy_is_shown_as_it_is_and_counted(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    inner, outer = tmp_path / "inner.py", tmp_path / "outer.py"
    inner.write_text("raise KeyError('nothing of that name')\n")
    outer.write_text(f"from pyinfra import local\n\nlocal.include({str(inner)!r})\n")
    done = pyinfra(_BARE, str(outer), "-y")
    assert done.status == 1
    assert f"An exception occurred in: {inner}" in done.stderr
    assert "KeyError: 'nothing of that name'" in done.stderr
    assert "AttributeError" not in done.stderr
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--limit", "@fake/w-3"],
            "--limit @fake/w-3 matches no host of the inventory; did you mean @fake/w-2?",
        ),
        (
            ["--exclude", "all"],
            "--exclude all matches no host of the inventory; correct or remove it",
        ),
        (["--dry", "-y"], "--dry with -y compares nothing; leave -y out"),
        (["-y", "--data", "firewall=no"], "--data: firewall is 'no'; make it True or False"),
        (
            ["-y", "--data", "bundle_url=https://192.0.2.9", "--data", "bundle_key=AB"],
            "--data: bundle_url needs bundle_ca; `python -m bundle list` shows it",
        ),
        (
            ["-y", "--group-data", "no_such"],
            "--group-data no_such is neither a directory nor a Python file; correct it",
        ),
        (
            ["--serial", "-y"],
            "--serial breaks the order that hosts wait for each other in; leave it out",
        ),
    ],
)
def test_an_option_that_would_mislead_is_refused(
    pyinfra: Pyinfra, options: list[str], sentence: str
) -> None:
    done = pyinfra(_BARE, _HOST, *options)
    assert done.stderr.splitlines()[1:] == [f"--> {sentence}", _NOTHING]
    assert done.status == 1


def test_what_group_data_of_the_command_line_says_is_checked_like_the_sites_own(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/all.py").write_text("api_port = 'api'")
    (tmp_path / "workers.py").write_text("firewal = True\napi_port = 6443")
    files = ["--group-data", f"{tmp_path}/more", "--group-data", f"{tmp_path}/workers.py"]
    done = pyinfra(_BARE, _HOST, "-y", *files)
    assert done.stderr.splitlines()[1:] == [
        f"--> {tmp_path}/more/all.py: api_port is 'api'; make it a port (1 to 65535)",
        f"--> {tmp_path}/workers.py: api_port is the whole cluster's; set it in group_data/all.py",
        f"--> {tmp_path}/workers.py: firewal is no known key; did you mean firewall?",
        _NOTHING,
    ]
    assert done.status == 1


def test_a_refusal_is_a_json_document_too(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, _HOST, "--json", "--data", "lok=true")
    sentence = "--data: lok is no known key; did you mean look?"
    assert json.loads(done.stdout) == {
        "summary": {"status": 1, "problems": [sentence], "hosts": {}}
    }
    assert done.status == 1
    foreign = pyinfra("@no_such/host", _HOST, "--json")
    assert json.loads(foreign.stdout)["summary"]["problems"] == ["Invalid connector: no_such"]
    assert foreign.status == 1


def test_a_fact_as_json_is_on_standard_output(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, "fact", "server.Kernel", "--json")
    assert set(json.loads(done.stdout)["server.Kernel"]) == {"@fake/cp-1", "@fake/w-1", "@fake/w-2"}


def test_a_group_data_file_may_ask_for_the_inventory(pyinfra: Pyinfra, tmp_path: Path) -> None:
    text = "from pyinfra import inventory\n_sudo = len(inventory.get_group('control_plane')) == 1\n"
    done = pyinfra(_site(tmp_path, _ONE, all=text), "debug-inventory")
    assert done.status == 0, done.stderr


def test_after_success_the_next_stage_is_named(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, _HOST, "-y", "--limit", "workers")
    assert done.summary == [
        "changed:       2: @fake/w-1 (2), @fake/w-2 (2)",
        "the next stage:",
        f"pyinfra {_BARE} deploys/runtime.py -y --limit workers",
    ]
    assert done.status == 0


def test_json_stays_json(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, _HOST, "-y", "--json")
    assert json.loads(done.stdout)["results"]["failed_hosts"] == []
    assert done.summary[0].startswith("changed:")
    assert done.status == 0


_BROKEN = """
from tests.plan import machines

name, data = machines.bare("w-1", "192.0.2.21")
data["fake_responses"] = {"apt-get": {"success": False}, **data["fake_responses"]}
control_plane = [machines.bare("cp-1", "192.0.2.11")]
workers = [(name, data)]
"""
_ABSENT = """
workers.append(("w-2", {"ssh_hostname": "127.0.0.1", "ssh_port": 1, "address": "192.0.2.22"}))
"""
_DELAY = "fake_delay = 0\nfake_delay_jitter = 0\nnetwork_manifests = 'tests/plan/manifests'\n"


def test_a_failed_host_stops_no_other_and_is_not_forgotten(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    path = _site(tmp_path, _BROKEN + _ABSENT, all=_DELAY)
    done = pyinfra(path, _HOST, "-y")
    assert done.summary == [
        "changed:       1: @fake/cp-1 (2)",
        "failed:        1: @fake/w-1 (at 'Install what a node needs of its distribution')",
        "not reached:   1: w-2",
        "mend the errors above, then run again:",
        f"pyinfra {path} {_HOST} -y --limit @fake/w-1 --limit w-2",
    ]
    assert done.status == 1


def test_a_preview_that_does_not_reach_a_host_fails(pyinfra: Pyinfra, tmp_path: Path) -> None:
    path = _site(tmp_path, _BROKEN + _ABSENT, all=_DELAY)
    done = pyinfra(path, _HOST, "--dry")
    assert done.summary == [
        "would change:  2: @fake/cp-1 (2), @fake/w-1 (2)",
        "not reached:   1: w-2",
        "mend the errors above, then run again:",
        f"pyinfra {path} {_HOST} --dry --limit w-2",
    ]
    assert done.status == 1


def test_a_run_in_which_all_fail_ends_with_the_summary(pyinfra: Pyinfra, tmp_path: Path) -> None:
    path = _site(tmp_path, _BROKEN, all=_DELAY)
    done = pyinfra(path, _HOST, "-y", "--limit", "workers")
    assert done.summary == [
        "failed:        1: @fake/w-1 (at 'Install what a node needs of its distribution')",
        "mend the errors above, then run again:",
        f"pyinfra {path} {_HOST} -y --limit @fake/w-1",
    ]
    assert "Traceback" not in done.stderr
    assert done.status == 1


def test_without_y_and_without_anybody_to_ask_nothing_is_done(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, _HOST)
    assert done.summary == [
        "nothing was changed: the run ended before its first step",
        "nobody is there to press enter; to do it:",
        f"pyinfra {_BARE} {_HOST} -y",
    ]
    assert "Traceback" not in done.stderr
    assert done.status == 1


_STUMBLES = """
from pyinfra.api import operation


@operation()
def stumble():
    raise KeyError("client-key-data")
    yield


stumble(name="Stumble")
"""


def test_an_error_that_nobody_expected_is_in_the_document_and_ends_with_the_summary(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    (tmp_path / "stumble.py").write_text(_STUMBLES)
    done = pyinfra(_BARE, str(tmp_path / "stumble.py"), "--dry", "--json")
    summary = json.loads(done.stdout)["summary"]
    assert summary["problems"] == ["KeyError: 'client-key-data'"]
    assert done.summary[0] == "not finished:  3: @fake/cp-1, @fake/w-1, @fake/w-2"
    assert done.stderr.count("Traceback") == 1
    assert done.status == summary["status"] == 1


def test_a_command_that_was_given_to_exec_was_run_and_is_no_preview(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, "--json", "exec", "--", "true")
    summary = json.loads(done.stdout)["summary"]
    assert (summary["preview"], summary["next"]) == (False, [])
    assert done.summary == ["changed:       3: @fake/cp-1 (1), @fake/w-1 (1), @fake/w-2 (1)"]
    assert done.status == 0


def test_an_error_of_the_command_line_is_shown_once(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, "deploys/no_such_stage.py")
    assert done.stderr.count("No deploy file") == 1
    assert "Traceback" not in done.stderr
    assert done.status == 1


def test_a_comparison_by_itself_tells_by_its_status_whether_something_drifted(
    pyinfra: Pyinfra,
) -> None:
    drifted = pyinfra(_BARE, "deploys/drift.py", "--dry", "--json")
    assert drifted.status == 3
    assert json.loads(drifted.stdout)["summary"]["hosts"]["@fake/w-1"]["outcome"] == "changed"
    assert drifted.summary[-1] == f"pyinfra {_BARE} deploys/site.py -y"
    well = pyinfra("tests/plan/inventory_converged.py", "deploys/drift.py", "--dry", api=True)
    assert well.status == 0
    lost = pyinfra("tests/plan/inventory_lost.py", "deploys/drift.py", "--dry")
    assert lost.status == 1


def test_what_left_the_manifests_is_drift_and_named_and_no_failure_of_its_stage(
    pyinfra: Pyinfra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEFT_OVER", "old")
    converged = "tests/plan/inventory_converged.py"
    unchanged = "as wanted:     3: @fake/cp-1, @fake/w-1, @fake/w-2"
    left = "left over:     1: ConfigMap kube-system/old (--data prune=true deletes it)"
    drifted = pyinfra(converged, "deploys/drift.py", "--dry", "--json", api=True)
    would_go = f"pyinfra {converged} deploys/drift.py --dry --json --data prune=true"
    assert drifted.status == 3
    assert drifted.summary == [unchanged, left, "to see what would go:", would_go]
    assert json.loads(drifted.stdout)["summary"]["left_over"] == {
        "ConfigMap kube-system/old": "--data prune=true deletes it"
    }
    previewed = pyinfra(converged, "deploys/ingress.py", "--dry", api=True)
    assert (previewed.status, previewed.summary[:2]) == (0, [unchanged, left])
    # The stand-in deletes nothing: an attempt would fail the host.
    run = pyinfra(converged, "deploys/ingress.py", "-y", api=True)
    assert (run.status, run.summary[:2]) == (0, [unchanged.replace("as wanted", "unchanged"), left])


_FULL = """
from tests.plan import machines

control_plane = [machines.bare("cp-1", "192.0.2.11")]
workers = [machines.bare("w-1", "192.0.2.21", {"room": "/var:5000000:/"})]
"""
_NO_ROOM = (
    "it has 5.1 GB free under /var and a node needs 20; make room, or mount a larger disk there"
)


@pytest.mark.parametrize("deploy", ["preflight", "site", "drift"])
def test_a_preview_that_refuses_a_host_fails_and_says_with_what(
    pyinfra: Pyinfra, tmp_path: Path, deploy: str
) -> None:
    path = _site(tmp_path, _FULL, all=Path("tests/plan/group_data/all.py").read_text())
    done = pyinfra(path, f"deploys/{deploy}.py", "--dry", "--json")
    other = "nothing is changed here while @fake/w-1 has problems"
    assert done.summary[:2] == [
        f"refused:       1: @fake/cp-1: {other}",
        f"refused:       1: @fake/w-1: {_NO_ROOM}",
    ]
    assert done.status == 1
    hosts = json.loads(done.stdout)["summary"]["hosts"]
    assert hosts["@fake/w-1"]["outcome"] == "refused"
    assert hosts["@fake/w-1"]["words"] == _NO_ROOM


def test_the_document_says_how_a_run_was_refused(pyinfra: Pyinfra, tmp_path: Path) -> None:
    path = _site(tmp_path, _FULL, all=Path("tests/plan/group_data/all.py").read_text())
    done = pyinfra(path, "deploys/preflight.py", "-y", "--json")
    refused = json.loads(done.stdout)["summary"]["hosts"]["@fake/w-1"]
    assert refused["outcome"] == "failed"
    assert refused["words"] == f"at 'Judge what was found': {_NO_ROOM}"
    assert _NO_ROOM in refused["said"]


def test_the_document_says_what_ended_a_run_before_its_first_step(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, "deploys/replace_disk.py", "-y", "--json")
    summary = json.loads(done.stdout)["summary"]
    assert summary["problems"] == [
        "name the OSD by its number: --data osd=N (preflight says whose disk is OSD n)"
    ]
    assert {each["outcome"] for each in summary["hosts"].values()} == {"not finished"}
    assert done.status == summary["status"] == 1


def test_the_document_of_a_preview_has_the_lines_that_it_prints(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, _HOST, "--dry", "--diff", "--json")
    host = json.loads(done.stdout)["summary"]["hosts"]["@fake/w-1"]
    assert (host["outcome"], host["changes"], host["words"]) == ("changed", 2, "")
    printed = [
        line.partition("[@fake/w-1]")[2].strip()
        for line in done.stderr.splitlines()
        if line.strip().startswith("[@fake/w-1]") and not re.search("(Connected|Ready:)", line)
    ]
    assert [line.strip() for line in host["said"]] == printed
    assert "ca-certificates: install the version of its release" in host["said"]
    assert "  +net.ipv4.ip_forward = 1" in host["said"]


_SILENT = """
from tests.plan import machines

name, data = machines.converged("cp-1", "192.0.2.11")
data["fake_responses"] = {"cat /etc/kubernetes/admin.conf": "x", **data["fake_responses"]}
control_plane = [(name, data)]
workers = [machines.converged("w-1", "192.0.2.21")]
"""


@pytest.mark.parametrize("deploy", ["network", "drift"])
def test_a_preview_fails_if_the_api_of_a_cluster_is_not_there_to_compare_with(
    pyinfra: Pyinfra, tmp_path: Path, deploy: str
) -> None:
    done = pyinfra(_site(tmp_path, _SILENT, all=_DELAY), f"deploys/{deploy}.py", "--dry")
    lack = "@fake/cp-1: /etc/kubernetes/admin.conf is damaged"
    assert f"API:           no control plane answers ({lack})" in done.summary
    assert done.status == 1


_APART = """
from tests.plan import machines

name, data = machines.converged("w-1", "192.0.2.21")
_said = machines.weave_report("w-1", **{how!r})
data["fake_responses"] = {{**data["fake_responses"], machines._WEAVE: _said}}
control_plane = [machines.converged("cp-1", "192.0.2.11")]
workers = [(name, data), machines.converged("w-2", "192.0.2.22")]
"""


@pytest.mark.parametrize(
    ("how", "status"),
    [({"way": "sleeve"}, 0), ({"encrypted": False}, 1)],
    ids=["slow", "in clear"],
)
def test_nodes_that_weave_connects_badly_are_trouble_where_nothing_else_differs(
    pyinfra: Pyinfra, tmp_path: Path, how: dict[str, object], status: int
) -> None:
    group_data = Path("tests/plan/group_data/all.py").read_text()
    path = _site(tmp_path, _APART.format(how=how), all=group_data)
    done = pyinfra(path, "deploys/drift.py", "--dry", api=True)
    assert done.status == status, done.stderr
    assert "warning: @fake/w-1 and @fake/cp-1" in done.stderr
    assert any(line.startswith("not well:") for line in done.summary) is bool(status)


def test_a_node_that_is_not_ready_though_nothing_differs_is_trouble(
    pyinfra: Pyinfra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_READY", "@fake/w-2")
    done = pyinfra("tests/plan/inventory_converged.py", "deploys/drift.py", "--dry", api=True)
    assert done.summary[:2] == [
        "as wanted:     2: @fake/cp-1, @fake/w-1",
        "not well:      1: @fake/w-2: waits for @fake/w-2 to be Ready, 600 s at most",
    ]
    assert done.status == 1


def test_a_node_that_a_run_left_cordoned_is_trouble(
    pyinfra: Pyinfra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORDONED", "@fake/w-2")
    done = pyinfra("tests/plan/inventory_converged.py", "deploys/drift.py", "--dry", api=True)
    assert done.summary[1].startswith("not well:      1: @fake/w-2: it was left cordoned by a run")
    assert done.status == 1
    # A stage says so, and is not kept from its work by it.
    done = pyinfra("tests/plan/inventory_converged.py", "deploys/network.py", "-y", api=True)
    assert "[@fake/w-2]  it was left cordoned by a run that was cut off" in done.stderr
    assert done.status == 0


def test_a_comparison_by_itself_cannot_be_made_to_change_anything(pyinfra: Pyinfra) -> None:
    done = pyinfra(_BARE, "deploys/drift.py", "-y")
    assert done.stderr.splitlines()[1:] == ["--> drift.py only compares; add --dry", _NOTHING]
    assert done.status == 1


def test_json_on_standard_output_is_one_document_with_the_plan_and_the_summary(
    pyinfra: Pyinfra,
) -> None:
    done = pyinfra("tests/plan/inventory_converged.py", "deploys/site.py", "-y", "--json", api=True)
    document = json.loads(done.stdout)
    assert {"plan", "results", "summary"} <= set(document)
    summary = document["summary"]
    unchanged = {"outcome": "unchanged", "changes": 0, "words": "", "said": []}
    assert summary["hosts"]["@fake/cp-1"] == unchanged
    assert summary["status"] == done.status == 0
    assert summary["next"][1].endswith("kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes")
