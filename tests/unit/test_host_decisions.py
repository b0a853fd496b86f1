"""Files, packages, units, kernel and /etc/hosts: what differs, in the words that users read."""

from dataclasses import dataclass

import pytest

from barekube import dpkg, hosts_file, kernel, text, units, versions
from barekube.facts.machine import File, Package, Unit

WANTED = text.TextFile("/etc/a.conf", "one\ntwo\n")


def _file(content: str, mode: str = "644", owner: str = "root:root") -> File:
    return File(mode, owner, len(content.encode()), 0.0, content.splitlines())


def test_a_file_that_is_as_wanted_is_no_change() -> None:
    assert text.changes([WANTED], {"/etc/a.conf": _file("one\ntwo\n")}) == []


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        pytest.param({}, "/etc/a.conf: new, mode 644, 2 lines", id="absent"),
        pytest.param(
            {"/etc/a.conf": _file("one\n2\n")},
            "/etc/a.conf: 1 line added, 1 removed",
            id="other content",
        ),
        pytest.param(
            {"/etc/a.conf": _file("one\ntwo\n", mode="600")},
            "/etc/a.conf: mode 600 -> 644",
            id="other mode",
        ),
        pytest.param(
            {"/etc/a.conf": _file("one\ntwo\n", owner="admin:admin")},
            "/etc/a.conf: owner admin:admin -> root:root",
            id="other owner",
        ),
        pytest.param(
            {"/etc/a.conf": _file("one\ntwo")},
            "/etc/a.conf: its end of line differs",
            id="no line end at its end",
        ),
    ],
)
def test_what_differs_of_a_file_is_said(found: dict[str, File], summary: str) -> None:
    assert [change.summary for change in text.changes([WANTED], dict(found))] == [summary]


def test_a_diff_names_the_file_and_both_lines() -> None:
    [change] = text.changes([WANTED], {"/etc/a.conf": _file("one\n2\n")})
    assert change.diff == (
        "--- /etc/a.conf", "+++ /etc/a.conf", "@@ -1,2 +1,2 @@", " one", "-2", "+two"
    )  # fmt: skip


def _plan(wanted: dict[str, str | None], **found: Package) -> dpkg.Plan:
    return dpkg.plan(wanted, dict(found))


def test_exact_versions_are_installed_and_held() -> None:
    assert _plan({"kubelet": "1.37.2-1.1"}) == dpkg.Plan(
        ("kubelet=1.37.2-1.1",), ("kubelet",), ("kubelet: install 1.37.2-1.1",)
    )


def test_another_version_is_replaced_and_held_anew_as_apt_takes_the_hold() -> None:
    found = Package("1.36.3-1.1", held=True, status="installed")
    assert _plan({"kubelet": "1.37.2-1.1"}, kubelet=found) == dpkg.Plan(
        ("kubelet=1.37.2-1.1",), ("kubelet",), ("kubelet: 1.36.3-1.1 -> 1.37.2-1.1",)
    )


def test_a_package_that_lost_power_half_way_is_finished() -> None:
    found = Package("0.1", held=False, status="half-configured")
    assert _plan({"socat": None}, socat=found).said == (
        "socat: finish its installation (half-configured)",
    )


def test_a_package_that_was_removed_is_installed_again() -> None:
    found = Package("0.1", held=False, status="config-files")
    assert _plan({"socat": None}, socat=found).install == ("socat",)


def test_a_hold_that_is_missing_is_set() -> None:
    found = Package("1", held=False, status="installed")
    assert _plan({"kubelet": "1"}, kubelet=found) == dpkg.Plan((), ("kubelet",), ("kubelet: hold",))


def test_any_version_will_do_where_none_is_wanted() -> None:
    found = Package("7", held=False, status="installed")
    assert _plan({"socat": None}, socat=found) == dpkg.Plan((), (), ())


RUNS = Unit("loaded", "active", "enabled", since=100.0)


@dataclass(frozen=True)
class Case:
    """A unit, when its files were written, and what is said."""

    unit: Unit | None
    written: dict[str, float]
    said: str | None


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(RUNS, {"/f": 99.9}, None), id="started after its file"),
        pytest.param(
            Case(RUNS, {"/f": 100.1}, "restart (/f newer than its start)"),
            id="its file was written after its start",
        ),
        pytest.param(
            Case(Unit("loaded", "failed", "enabled", 0.0), {}, "start (it is failed)"), id="failed"
        ),
        pytest.param(
            Case(Unit("not-found", "inactive", "", 0.0), {}, "start (it is not installed yet)"),
            id="not installed",
        ),
        pytest.param(
            Case(Unit("loaded", "active", "disabled", 100.0), {}, "enable"), id="not at boot"
        ),
    ],
)
def test_a_unit_is_started_for_a_reason_only(case: Case) -> None:
    assert units.reason_to_start(case.unit, case.written) == case.said


def test_parameters_are_compared_by_field_and_said_with_both_values() -> None:
    found = {"/proc/sys/net/a": ["1\t2"], "/proc/sys/net/b": ["0"]}
    assert kernel.running_differs({"net.a": "1 2", "net.b": "1", "net.c": "1"}, found) == [
        "net.b: 0 -> 1",
        "net.c: not there yet -> 1",
    ]


def test_a_line_break_in_a_parameter_is_no_second_parameter() -> None:
    with pytest.raises(ValueError, match="a kernel parameter is one line"):
        kernel.sysctl_text({"net.a": "1\nkernel.panic = 0"})


def test_swap_is_what_the_kernel_lists() -> None:
    lines = ["Filename Type Size Used Priority", "/dev/sda2 partition 1 0 -2"]
    assert kernel.swaps(lines) == ["/dev/sda2"]


NODES = [("cp-1", "192.0.2.11", True), ("cp-2", "192.0.2.12", True), ("w-1", "192.0.2.21", False)]


def test_the_apis_name_leads_to_loopback_first_then_to_every_control_plane() -> None:
    lines = hosts_file.with_nodes("127.0.0.1 localhost\n", NODES, "api.x").splitlines()
    assert [line for line in lines if line.endswith("api.x")] == [
        "127.0.0.1 api.x",
        "192.0.2.11 api.x",
        "192.0.2.12 api.x",
    ]


def test_where_a_proxy_listens_the_apis_name_leads_nowhere_else() -> None:
    listed = hosts_file.with_nodes("127.0.0.1 localhost\n", NODES, "api.x")
    alone = hosts_file.with_nodes(listed, NODES, "api.x", proxied=True)
    assert [line for line in alone.splitlines() if line.endswith("api.x")] == ["127.0.0.1 api.x"]
    assert "192.0.2.12 cp-2" in alone
    assert [hosts_file.proxied(text) for text in (listed, alone, "127.0.0.1 x\n", "")] == [
        False,
        True,
        False,
        False,
    ]
    assert hosts_file.with_nodes(alone, NODES, "api.x") == listed


def test_lines_of_others_stay_and_ours_are_written_once() -> None:
    old = "127.0.0.1 localhost\n192.0.2.99 printer\n"
    once = hosts_file.with_nodes(old, NODES, "api.x")
    assert once.startswith(old)
    assert hosts_file.with_nodes(once, NODES, "api.x") == once


def test_containerds_version_is_that_of_the_release() -> None:
    release = {"ID": "ubuntu", "VERSION_ID": "24.04", "VERSION_CODENAME": "noble"}
    written = versions.written_out({"containerd.io": versions.CONTAINERD_DEB}, release)
    assert written == {"containerd.io": f"{versions.CONTAINERD}-1~ubuntu.24.04~noble"}
