"""Operations on a fresh, a converged and a drifted machine: every command, whole."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes.client.exceptions import ApiException
from pyinfra.api import State
from pyinfra.api.exceptions import ConnectError

import barekube.api
from barekube import firewall as rules
from barekube import hosts_file, kernel, lease, nodes, tokens, traces, versions
from barekube.api import Trouble
from barekube.cluster import Cluster, Node
from barekube.operations import files, firewall, packages, system, units, workers
from barekube.operations.order import changing
from barekube.text import TextFile
from tests.plan import machines
from tests.plan.machines import Machine
from tests.unit.harness import Outcome, begun, outcome


def _on(machine: Machine | None, operation: Any, *arguments: object, **options: Any) -> Outcome:  # noqa: ANN401
    answers = {"Machine": machine.answer() if machine else None, **options.pop("answers", {})}
    return outcome(operation, *arguments, answers=answers, **options)


def _alone(script: str) -> str:
    me = shlex.quote(lease.holder())
    lock = (
        "exec 9<>/run/lock/barekube; flock -n 9 || { by=$(cat <&9); case $by in '') false;;"
        f" {lease.account()}' (pid '*) flock -w 900 9;; *) false;; esac"
        ' || { echo "barekube of $by works on this host, wait for it" >&2; exit 75; }; };'
        f" echo {me} >/run/lock/barekube; "
    )
    return f"sh -ec {shlex.quote(lock + script)}"


def _write(path: str, mode: str = "644") -> str:
    folder, _, name = path.rpartition("/")
    new = f"{folder}/.{name}.new"
    return _alone(
        f"mkdir -p {folder}; umask 077; cat >{new}; chown root:root {new};"
        f" chmod {mode} {new}; sync {new}; mv {new} {path}"
    )


# -- files.texts

MOTD = TextFile("/etc/motd", "hello\n")


def test_a_file_that_is_absent_is_written() -> None:
    assert _on(Machine(), files.texts, [MOTD]) == Outcome(
        commands=[_write("/etc/motd")],
        stdin=["hello\n"],
        logs=["/etc/motd: new, mode 644, 1 line"],
        asked=1,
    )


def test_files_that_are_as_wanted_cost_one_question_and_no_command() -> None:
    there = Machine(files={"/etc/motd": "hello\n"})
    assert _on(there, files.texts, [MOTD], absent=["/etc/old"]) == Outcome(
        noops=["1 files are as wanted"], asked=1
    )


def test_only_the_file_that_differs_is_written_and_what_is_extra_removed() -> None:
    there = Machine(files={"/etc/motd": "hello\n", "/etc/b": "2\n", "/etc/old": "x\n"})
    wanted = [MOTD, TextFile("/etc/b", "1\n", mode="600")]
    assert _on(there, files.texts, wanted, absent=["/etc/old"]) == Outcome(
        commands=[_write("/etc/b", "600"), _alone("rm -f /etc/old")],
        stdin=["1\n"],
        logs=["/etc/b: 1 line added, 1 removed, mode 644 -> 600", "/etc/old: removed"],
        asked=1,
    )


def test_a_host_whose_files_cannot_be_read_fails_with_a_sentence() -> None:
    assert _on(None, files.texts, [MOTD]) == Outcome(
        commands=["false"],
        logs=["its files cannot be read; mend the error above, then run again"],
        asked=1,
    )


# -- packages.installed

KEY, FINGERPRINT = machines._key("kubernetes")
KEY_PATH = "/etc/apt/keyrings/barekube-kubernetes.asc"
SOURCE_PATH = "/etc/apt/sources.list.d/barekube-kubernetes.sources"
SOURCE = f"Types: deb\nURIs: https://p.example/v1.37/\nSuites: /\nSigned-By: {KEY_PATH}\n"
DATA = {
    "kubernetes_version": "1.37.2",
    "host_packages": {"ca-certificates": "why"},
    "bundle_url": None,
    "package_sources": {
        "kubernetes": (
            "https://p.example/{minor}/",
            "/",
            "",
            "https://p.example/{minor}/key",
            FINGERPRINT.lower(),
        )
    },
}
KUBELET = {"kubelet": "1.37.2-1.1", "socat": None}
NEW_SOURCE = f"{SOURCE_PATH}: new, mode 644, 4 lines"
NEW_KEY = f"{KEY_PATH}: the key {FINGERPRINT} from https://p.example/v1.37/key"
APT = (
    "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300"
    " -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0"
)


DEAD = (
    "a source of packages, named above, does not answer or is broken; mend it, or the network, then"
    " run again"
)


def _install(words: str) -> str:
    return _alone(
        "dpkg --configure -a --force-confold >/dev/null ||"
        f" {APT} --no-remove --fix-broken install || true;"
        f" find /var/lib/apt/lists -maxdepth 1 -type f -empty ! -name lock -delete; {APT}"
        f" -o APT::Update::Error-Mode=any -o Dir::Etc::sourcelist={SOURCE_PATH}"
        f" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 update || {{ echo '{DEAD}' >&2;"
        f" exit 1; }}; {APT} --no-install-recommends --allow-change-held-packages"
        f" --allow-downgrades install {words}"
    )


def _packages(machine: Machine, key: str | None = None) -> Outcome:
    answers = {"AptKey": None if key is None else [*key.splitlines(), "end"]}
    return _on(
        machine, packages.installed, KUBELET, source="kubernetes", answers=answers, data=DATA
    )


TRUSTS = {"ca-certificates": ("2023", "install")}


def _prepared() -> Machine:
    return Machine(packages=dict(TRUSTS))


def _whole() -> Machine:
    return Machine(
        files={SOURCE_PATH: SOURCE, KEY_PATH: KEY},
        packages={"kubelet": ("1.37.2-1.1", "hold"), "socat": ("1.7", "install"), **TRUSTS},
    )


def test_packages_are_installed_from_a_source_whose_key_is_the_wanted_one() -> None:
    assert _packages(_prepared(), KEY) == Outcome(
        commands=[
            _write(SOURCE_PATH),
            _write(KEY_PATH),
            _install("kubelet=1.37.2-1.1 socat"),
            _alone("apt-mark -qq hold kubelet"),
        ],
        stdin=[SOURCE, KEY],
        logs=[
            NEW_SOURCE,
            NEW_KEY,
            "kubelet: install 1.37.2-1.1",
            "socat: install the version of its release",
        ],
        asked=2,
    )


def test_a_mirror_that_is_dead_ends_with_a_sentence_and_nothing_is_installed(
    tmp_path: Path,
) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in {
        "dpkg": "",
        "apt-get": 'echo "$@" >>$0.log; echo "E: raw" >&2; exit 100',
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    install = changing(packages._install(["chrony"], None))
    process = begun(install, tmp_path)
    assert process.communicate()[1].splitlines() == ["E: raw", DEAD]
    assert process.returncode != 0
    assert "install" not in (tmp_path / "bin/apt-get.log").read_text()


def test_packages_that_are_as_wanted_cost_one_question_and_no_command() -> None:
    assert _packages(_whole()) == Outcome(
        noops=["2 packages and their source are as wanted"], asked=1
    )


def test_what_only_a_bundle_needs_goes_where_there_is_none_any_more() -> None:
    machine = _whole()
    conf = "/etc/apt/apt.conf.d/60barekube-bundle"
    machine.files |= {path: "x\n" for path in (packages.BUNDLE_CA, conf)}
    options = {"source": "kubernetes", "absent": packages.TRUST_IN_BUNDLE, "data": DATA}
    assert _on(machine, packages.installed, KUBELET, **options) == Outcome(
        commands=[_alone(f"rm -f {packages.BUNDLE_CA} {conf}")],
        logs=[f"{packages.BUNDLE_CA}: removed", f"{conf}: removed"],
        asked=1,
    )


def test_the_packages_of_a_node_are_of_another_version_only_by_an_upgrade() -> None:
    machine = _whole()
    machine.packages["kubelet"] = ("1.36.3-1.1", "hold")

    def installed(there: Machine) -> Outcome:
        options = {"source": "kubernetes", "node": "1.37.2", "data": DATA}
        return _on(there, packages.installed, KUBELET, **options)

    machine.secret.append(traces.KUBELET_CONF)
    assert installed(machine) == Outcome(
        commands=["false"],
        logs=[
            "it runs Kubernetes 1.36.3 and group_data says 1.37.2; run deploys/upgrade.py, or set"
            " kubernetes_version back"
        ],
        asked=1,
    )
    machine.secret.clear()
    assert installed(machine).logs == ["kubelet: 1.36.3-1.1 -> 1.37.2-1.1"]


def test_the_runtime_of_a_node_is_renewed_only_where_it_was_drained() -> None:
    old, new = "2.4.1-1~debian.12~bookworm", versions.containerd_deb("debian", "12", "bookworm")
    machine = _whole()
    machine.packages["containerd.io"] = (old, "hold")
    wanted = {"containerd.io": versions.CONTAINERD_DEB}

    def logs(*, drained: bool = False) -> list[str]:
        options = {"source": "kubernetes", "data": DATA, "drained": drained}
        return _on(machine, packages.installed, wanted, **options).logs

    renewed = [f"containerd.io: {old} -> {new}"]
    assert logs() == renewed
    machine.secret.append(traces.KUBELET_CONF)
    assert logs() == [
        f"it runs containerd.io {old} and this barekube has {new}; run deploys/upgrade.py, which"
        " drains it before"
    ]
    assert logs(drained=True) == renewed


def test_a_kubelet_that_an_upgrade_left_half_installed_is_not_renewed_past_it() -> None:
    half = SimpleNamespace(version="1.36.3-1.1", status="half-installed")
    found: Any = SimpleNamespace(packages={"kubelet": half, "containerd.io": half})
    said = packages._rolled(found, {"containerd.io": "2"}, "1.37.2", False)
    assert (said or "").startswith("it runs Kubernetes 1.36.3 and group_data says 1.37.2")
    # A runtime that is half there runs nothing: whoever comes first finishes it.
    assert packages._rolled(found, {"containerd.io": "2"}, None, False) is None


def test_an_older_version_is_replaced_and_held() -> None:
    machine = _whole()
    machine.packages["kubelet"] = ("1.36.0-1.1", "install")
    assert _packages(machine) == Outcome(
        commands=[_install("kubelet=1.37.2-1.1"), _alone("apt-mark -qq hold kubelet")],
        logs=["kubelet: 1.36.0-1.1 -> 1.37.2-1.1"],
        asked=1,
    )


WRONG_KEY = (
    f"the key at https://p.example/v1.37/key is not {FINGERPRINT}; compare it with what its"
    " publisher says, then correct group_data"
)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(machines._key("another")[0], id="another key"),
        pytest.param(KEY + machines._key("another")[0], id="another key behind it"),
        pytest.param("<html>404</html>\n", id="an error page"),
    ],
)
def test_nothing_is_installed_on_the_word_of_a_wrong_key(key: str) -> None:
    result = _packages(_prepared(), key)
    assert result.commands == [_write(SOURCE_PATH), "false"]
    assert result.logs[-1] == WRONG_KEY


def test_a_key_that_was_exchanged_on_the_host_is_downloaded_again() -> None:
    machine = _whole()
    machine.files[KEY_PATH] = KEY + machines._key("another")[0]
    assert _packages(machine, KEY) == Outcome(
        commands=[_write(KEY_PATH)], stdin=[KEY], logs=[NEW_KEY], asked=2
    )


def test_a_key_that_cannot_be_downloaded_is_said() -> None:
    result = _packages(_prepared())
    assert result.commands == [_write(SOURCE_PATH), "false"]
    assert result.logs[-1] == (
        "https://p.example/v1.37/key cannot be downloaded; mend the network or group_data's"
        " bundle_url, then run again"
    )


def test_without_what_host_py_brings_nothing_is_written_on_the_way_to_a_source(
    tmp_path: Path,
) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("the bundle's\n")
    bundle = {"bundle_url": "https://192.0.2.9:8443", "bundle_ca": str(ca), "bundle_key": "AB"}
    old = Machine(files={packages.BUNDLE_CA: "another's\n"}, packages=dict(TRUSTS))
    for machine, data, lack in (
        (Machine(), {}, "ca-certificates is not installed"),
        (_prepared(), bundle, f"{packages.BUNDLE_CA} is not as the bundle wants it"),
        (old, bundle, f"{packages.BUNDLE_CA} is not as the bundle wants it"),
    ):
        options = {"source": "kubernetes", "data": {**DATA, **data}}
        assert _on(machine, packages.installed, KUBELET, **options) == Outcome(
            commands=["false"], logs=[f"{lack}; run deploys/host.py first"], asked=1
        )


# -- units.configured

CONFIG = TextFile("/etc/a.toml", "a\n")
RESTART = _alone(
    "systemctl daemon-reload; systemctl -q enable a.service; systemctl restart a.service"
)


def _unit(load: str, active: str, enabled: str, content: str = "a\n") -> Outcome:
    machine = Machine(files={"/etc/a.toml": content}, units={"a.service": (load, active, enabled)})
    return _on(machine, units.configured, "a.service", [CONFIG])


def test_a_unit_that_runs_with_its_files_is_left_alone() -> None:
    assert _unit("loaded", "active", "enabled") == Outcome(
        noops=["a.service runs, with 1 files as wanted"], asked=1
    )


def test_a_file_that_a_unit_is_to_have_no_more_goes_without_a_restart() -> None:
    machine = Machine(
        files={"/etc/a.toml": "a\n", "/etc/old.toml": "x\n"},
        units={"a.service": ("loaded", "active", "enabled")},
    )
    done = _on(machine, units.configured, "a.service", [CONFIG], absent=["/etc/old.toml"])
    assert done == Outcome(
        commands=[_alone("rm -f /etc/old.toml")], logs=["/etc/old.toml: removed"], asked=1
    )


def test_a_unit_whose_file_drifted_is_restarted_after_it_is_written() -> None:
    assert _unit("loaded", "active", "enabled", "b\n") == Outcome(
        commands=[_write("/etc/a.toml"), RESTART],
        stdin=["a\n"],
        logs=[
            "/etc/a.toml: 1 line added, 1 removed",
            "a.service: restart (/etc/a.toml newer than its start)",
        ],
        asked=1,
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (("not-found", "inactive", ""), "start (it is not installed yet)"),
        (("loaded", "failed", "enabled"), "start (it is failed)"),
        (("loaded", "active", "disabled"), "enable"),
    ],
)
def test_a_unit_is_started_though_its_files_are_as_wanted(
    found: tuple[str, str, str], reason: str
) -> None:
    assert _unit(*found) == Outcome(commands=[RESTART], logs=[f"a.service: {reason}"], asked=1)


# -- system.configured

CLUSTER = Cluster(
    name="home",
    version="1.37.2",
    api_name="api.home",
    api_port=6443,
    service_network="10.96.0.0/12",
    pod_network="10.32.0.0/12",
    nodes=(Node("cp-1", "192.0.2.11", True), Node("w-1", "192.0.2.21", False)),
)
HOSTS = (
    "127.0.0.1 localhost\n# barekube: begin\n192.0.2.11 cp-1\n192.0.2.21 w-1\n"
    "127.0.0.1 api.home\n192.0.2.11 api.home\n# barekube: end\n"
)
FORWARD = "/proc/sys/net/ipv4/ip_forward"
SYSCTLS = {"net.ipv4.ip_forward": "1"}
NO_SWAP = "Filename Type Size Used Priority\n"
MODULES_TEXT, SYSCTL_TEXT = "br_netfilter\n", "net.ipv4.ip_forward = 1\n"


def _tuned() -> Machine:
    return Machine(
        files={
            kernel.MODULES_FILE: MODULES_TEXT,
            kernel.SYSCTL_FILE: SYSCTL_TEXT,
            "/proc/swaps": NO_SWAP,
            FORWARD: "1\n",
            "/etc/hosts": HOSTS,
        },
        units={"swap.target": ("masked", "inactive", "masked")},
        modules=["br_netfilter"],
    )


def _kernel(machine: Machine) -> Outcome:
    return _on(machine, system.configured, {"br_netfilter": "why"}, SYSCTLS, CLUSTER)


LOAD = _alone("modprobe -a br_netfilter")
SET = _alone(f"/usr/lib/systemd/systemd-sysctl {kernel.SYSCTL_FILE}")
MASK = _alone("ln -sfn /dev/null /etc/systemd/system/swap.target; systemctl daemon-reload")


def test_modules_are_loaded_before_parameters_are_set_and_swap_goes() -> None:
    fresh = Machine(
        files={
            "/proc/swaps": f"{NO_SWAP}/dev/sda2 partition 1 0 -2\n",
            FORWARD: "0\n",
            "/etc/hosts": HOSTS,
        },
        units={"swap.target": ("loaded", "active", "static")},
    )
    assert _kernel(fresh) == Outcome(
        commands=[
            _write(kernel.MODULES_FILE),
            _write(kernel.SYSCTL_FILE),
            LOAD,
            SET,
            MASK,
            _alone("swapoff -a"),
        ],
        stdin=[MODULES_TEXT, SYSCTL_TEXT],
        logs=[
            f"{kernel.MODULES_FILE}: new, mode 644, 1 line",
            f"{kernel.SYSCTL_FILE}: new, mode 644, 1 line",
            "module br_netfilter: load",
            "net.ipv4.ip_forward: 0 -> 1",
            "swap /dev/sda2: off",
            "swap.target: masked, so that no swap comes back at boot",
        ],
        asked=1,
    )


def test_a_kernel_that_is_as_wanted_costs_one_question_and_no_command() -> None:
    assert _kernel(_tuned()) == Outcome(
        noops=["1 modules, 1 parameters, swap and 2 nodes in /etc/hosts are as wanted"], asked=1
    )


def test_a_parameter_that_somebody_changed_is_set_from_the_file_that_is_there() -> None:
    machine = _tuned()
    machine.files[FORWARD] = "0\n"
    assert _kernel(machine) == Outcome(
        commands=[SET], logs=["net.ipv4.ip_forward: 0 -> 1"], asked=1
    )


def test_a_parameter_that_runs_but_is_not_on_disk_is_written_again() -> None:
    machine = _tuned()
    del machine.files[kernel.SYSCTL_FILE]
    assert _kernel(machine) == Outcome(
        commands=[_write(kernel.SYSCTL_FILE)],
        stdin=[SYSCTL_TEXT],
        logs=[f"{kernel.SYSCTL_FILE}: new, mode 644, 1 line"],
        asked=1,
    )


def test_what_is_taken_out_of_group_data_is_said_to_stay_until_a_boot() -> None:
    machine = _tuned()
    machine.files[kernel.MODULES_FILE] = "br_netfilter\nip_vs\n"
    machine.files[kernel.SYSCTL_FILE] = "kernel.panic = 10\nnet.ipv4.ip_forward = 1\n"
    assert _kernel(machine).logs == [
        f"{kernel.MODULES_FILE}: 0 lines added, 1 removed",
        f"{kernel.SYSCTL_FILE}: 0 lines added, 1 removed",
        "module ip_vs: no more after a boot; until then it stays as it is",
        "kernel.panic: no more after a boot; until then it stays as it is",
    ]


def test_the_nodes_are_named_beside_what_stands_in_the_hosts_file() -> None:
    machine = _tuned()
    machine.files["/etc/hosts"] = "127.0.0.1 localhost\n"
    assert _kernel(machine) == Outcome(
        commands=[_write("/etc/hosts")],
        stdin=[HOSTS],
        logs=["/etc/hosts: 6 lines added, 0 removed"],
        asked=1,
    )


ADDRESS = (
    "the cluster knows w-1 by its address {0}, which cannot change while it is a node; set"
    " `address` back, from 192.0.2.21, or take it out with deploys/remove_node.py --data node=w-1"
    " and run deploys/site.py then"
)


def test_a_node_that_kubeadm_gave_another_address_is_named_nowhere() -> None:
    machine = _tuned()
    machine.files["/etc/hosts"] = "127.0.0.1 localhost\n"
    machine.files[traces.KUBELET_FLAGS] = 'KUBELET_KUBEADM_ARGS="--node-ip=192.0.2.31 --v=2"\n'

    def asked() -> Outcome:
        return _on(machine, system.configured, {"br_netfilter": ""}, SYSCTLS, CLUSTER, name="w-1")

    # Of a join that was cut off it says nothing.
    assert asked().commands == [_write("/etc/hosts")]
    machine.secret.append(traces.KUBELET_CONF)
    assert asked() == Outcome(commands=["false"], logs=[ADDRESS.format("192.0.2.31")], asked=1)


def test_a_node_keeps_the_name_by_which_its_kubelet_finds_the_api() -> None:
    machine = _tuned()
    machine.files["/etc/hosts"] = HOSTS.replace("api.home", "api.old")
    assert _kernel(machine).commands == [_write("/etc/hosts")]
    machine.secret.append(traces.KUBELET_CONF)
    wrong = MOVED.format("'api.old'", "'api.home'")
    assert _kernel(machine) == Outcome(commands=["false"], logs=[wrong], asked=1)


def test_a_worker_that_is_led_to_its_proxy_alone_stays_so_until_it_is_no_node() -> None:
    machine = _tuned()
    several = (Node("cp-2", "192.0.2.12", True), Node("cp-3", "192.0.2.13", True))
    cluster = replace(CLUSTER, nodes=(*CLUSTER.nodes, *several))
    alone = hosts_file.of(cluster, "127.0.0.1 localhost\n", proxied=True)
    machine.files["/etc/hosts"] = alone

    def written(of: Cluster = cluster) -> list[str]:
        arguments = ({"br_netfilter": ""}, SYSCTLS, of)
        return _on(machine, system.configured, *arguments, name="w-1").stdin

    machine.secret.append(traces.KUBELET_CONF)
    assert written() == []
    assert written(CLUSTER) == [HOSTS]
    # It joins by what listens: of the proxy nothing may be left.
    machine.secret.remove(traces.KUBELET_CONF)
    (listed,) = written()
    assert "192.0.2.13 api.home" in listed


# -- firewall.configured

RULES = "table inet barekube { }\n"
SHOWN = ["table inet barekube {", "}"]
RULES_NEW = f"{rules.FILE}: new, mode 644, 1 line"
UNIT_NEW = f"{rules.UNIT_FILE}: new, mode 644, 15 lines"
LOADED = "table inet barekube: loaded, if SSH still opens then"
CHANGE = [_alone(rules.LOAD), "opens_again()", _alone(rules.KEEP)]


def _walled() -> Machine:
    return Machine(
        files={file.path: file.content for file in rules.files(RULES)},
        units={rules.UNIT: ("loaded", "active", "enabled")},
        table=SHOWN,
        table_wanted=SHOWN,
    )


def _firewall(machine: Machine | None, wanted: str | None = RULES) -> Outcome:
    return _on(machine, firewall.configured, wanted)


def test_rules_are_tried_before_they_are_written_for_the_next_boot() -> None:
    assert _firewall(Machine()) == Outcome(
        commands=[*CHANGE, _write(rules.FILE), _write(rules.UNIT_FILE), _alone(rules.START)],
        stdin=[RULES, *(file.content for file in rules.files(RULES))],
        logs=[RULES_NEW, UNIT_NEW, LOADED, f"{rules.UNIT}: enable"],
        asked=1,
    )


def test_a_firewall_that_is_as_wanted_costs_one_question_and_no_command() -> None:
    assert _firewall(_walled()) == Outcome(
        noops=["table inet barekube is as wanted, now and after a boot"], asked=1
    )


@pytest.mark.parametrize(
    ("table", "undo", "said"),
    [
        pytest.param([], False, "loaded", id="somebody deleted it"),
        pytest.param(["table inet barekube {"], False, "loaded anew", id="somebody changed it"),
        pytest.param(SHOWN, True, "loaded anew", id="the host is about to take it back"),
    ],
)
def test_rules_that_do_not_last_are_loaded_again(table: list[str], undo: bool, said: str) -> None:
    machine = _walled()
    machine.table = table
    machine.files |= {rules.UNDO: "table inet barekube\n"} if undo else {}
    assert _firewall(machine) == Outcome(
        commands=[*CHANGE, _alone(rules.START)],
        stdin=[RULES],
        logs=[f"table inet barekube: {said}, if SSH still opens then"],
        asked=1,
    )


def test_a_change_cut_off_after_ssh_was_tried_is_only_written() -> None:
    machine = _walled()
    del machine.files[rules.FILE]
    machine.units = {rules.UNIT: ("not-found", "inactive", "")}
    assert _firewall(machine) == Outcome(
        commands=[_write(rules.FILE), _alone(rules.START)],
        stdin=[RULES],
        logs=[RULES_NEW, f"{rules.UNIT}: enable"],
        asked=1,
    )


def test_a_host_that_left_the_edge_loses_its_firewall_whatever_is_left_of_it() -> None:
    paths = [file.path for file in rules.files(RULES)]
    assert _firewall(_walled(), None) == Outcome(
        commands=[_alone(rules.REMOVE)],
        logs=[f"{each}: removed" for each in (*paths, "table inet barekube")],
        asked=1,
    )
    half = Machine(files={rules.FILE: RULES})
    assert _firewall(half, None).commands == [_alone(rules.REMOVE)]
    assert _firewall(Machine(), None) == Outcome(
        noops=["no firewall is wanted, and none of ours is there"], asked=1
    )


def test_the_firewall_of_a_node_stays_where_the_range_of_pods_is_another_one() -> None:
    old, new = (
        rules.rules(replace(CLUSTER, pod_network=pods), 22, edge=False, trusted=["10.9.0.0/16"])
        for pods in ("10.32.0.0/12", "10.64.0.0/12")
    )
    machine = _walled()
    machine.files[rules.FILE] = old
    assert _firewall(machine, new).commands[0] == _write(rules.FILE)
    machine.secret.append(traces.KUBELET_CONF)
    assert _firewall(machine, new) == Outcome(
        commands=["false"],
        logs=[
            "networking.podSubnet of the cluster is '10.32.0.0/12' and cannot change after init;"
            " set IPALLOC_RANGE of the network's manifest back, from '10.64.0.0/12'"
        ],
        asked=1,
    )
    # As one that is not ours to read.
    machine.files[rules.FILE] = RULES
    assert _firewall(machine, new).commands[0] == _write(rules.FILE)


def test_a_firewall_that_cannot_be_asked_is_not_touched() -> None:
    assert _firewall(None) == Outcome(
        commands=["false"],
        logs=["its firewall cannot be asked; mend the error above, then run again"],
        asked=1,
    )


@pytest.mark.parametrize("shut", [False, True])
def test_rules_that_let_no_new_connection_in_fail_the_host_in_a_sentence(shut: bool) -> None:
    said: list[str] = []
    ends: list[str] = []

    class Second:
        def __init__(self, state: object, host: object) -> None:
            self.client = SimpleNamespace(close=lambda: ends.append("closed"))

        def connect(self) -> None:
            if shut:
                raise ConnectError("timed out")

    host: Any = SimpleNamespace(connector=Second(None, None), log=said.append)
    assert firewall.opens_again(cast(State, None), host) is not shut
    assert ends == ([] if shut else ["closed"])
    assert (
        said
        == [
            "no new SSH connection opens with these rules (timed out), so the host takes them back"
            " within 30 s; give it the ssh_port that it listens on, or name your network in"
            " firewall_trusted"
        ][: int(shut)]
    )


# -- workers.worker

TOKEN = "abcdef.0123456789abcdef"


def _node(machine_id: str, address: str) -> SimpleNamespace:
    info = SimpleNamespace(machine_id=machine_id)
    there = [SimpleNamespace(type="InternalIP", address=address)]
    return SimpleNamespace(status=SimpleNamespace(node_info=info, addresses=there))


def _worker(
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
    registered: str | None = None,
    runs: str = "1.37.2",
    known: str = "192.0.2.21",
    moved: str | None = None,
    preview: bool = False,
    asks: bool = False,
) -> Outcome:
    """`registered`, `known`: the machine-id and the address that the API has of w-1; `runs`: the
    cluster's version; `asks`: its kubelet for a certificate."""

    def read_node(name: str) -> SimpleNamespace:
        assert name == "w-1"
        if registered is None:
            raise ApiException(status=404)
        return _node(registered, known)

    text = f"kubernetesVersion: v{runs}\n"
    config = SimpleNamespace(data={"ClusterConfiguration": text})
    core = SimpleNamespace(
        read_node=read_node, read_namespaced_config_map=lambda name, space: config
    )
    api = SimpleNamespace(core=core, ca=machines.CA, moved=moved)
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    monkeypatch.setattr(nodes, "asks_serving", lambda api, node: asks)
    monkeypatch.setattr(tokens, "for_joining", lambda api: TOKEN)
    monkeypatch.setattr(tokens, "ca_hash", lambda ca: "sha256:00")
    data = {"sysctls": SYSCTLS}
    return _on(machine, workers.worker, CLUSTER, name="w-1", preview=preview, data=data)


MOVED = (
    "controlPlaneEndpoint of the cluster is {0} and cannot change after init; set api_name (where"
    " it is None, cluster_name) or api_port back, from {1}"
)


def test_no_worker_is_touched_where_group_data_has_the_api_at_another_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = MOVED.format("'api.old:6443'", "'api.home:6443'")
    for machine in (_bare(), _joined()):
        result = _worker(monkeypatch, machine, machines.MACHINE_ID, moved=wrong)
        assert result == Outcome(commands=["false"], logs=[wrong], asked=1)


def test_no_worker_joins_a_cluster_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _worker(monkeypatch, _bare(), runs="1.36.3") == Outcome(
        commands=["false"],
        logs=[
            "the cluster runs v1.36.3 and group_data says v1.37.2; run deploys/upgrade.py --exclude"
            " w-1 first, or set kubernetes_version back"
        ],
        asked=1,
    )


def _joined() -> Machine:
    machine = Machine(
        files={**_bare().files, traces.CA: machines.CA},
        packages=dict(machines.INSTALLED),
        units={traces.KUBELET: ("loaded", "active", "enabled")},
    )
    machine.secret = [each for each in (*traces.NODE_FILES, traces.SERVING) if each != traces.CA]
    return machine


def _bare() -> Machine:
    return Machine(
        files={
            traces.MACHINE_ID: f"{machines.MACHINE_ID}\n",
            "/proc/swaps": NO_SWAP,
            FORWARD: "1\n",
            "/etc/hosts": HOSTS,
        },
        packages=dict(machines.INSTALLED),
    )


TAKE = (
    'umask 077; mkdir -p /run/barekube; trap "rm -f /run/barekube/kubeadm.yaml" EXIT;'
    " cat >/run/barekube/kubeadm.yaml; umask 022"
)
JOIN = "kubeadm join --config /run/barekube/kubeadm.yaml; sync"
CLEAN = (
    "systemctl stop kubelet; find /etc/kubernetes /var/lib/kubelet -maxdepth 3"
    " -path /var/lib/kubelet/pods -prune -o -type f -size 0 -exec rm -f {} +"
)
GONE = "Node w-1: deleted, for kubeadm joins beside none of its name"
JOINS = "kubeadm join: home, api.home:6443"
APPROVES = "kubelet's serving certificate of w-1: approve"


def test_a_bare_worker_joins_and_its_token_is_in_no_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = _worker(monkeypatch, _bare())
    assert result.commands == ["make_token()", _alone(f"{TAKE}; {JOIN}"), "approve()"]
    assert result.logs == [JOINS, APPROVES]
    assert [TOKEN in text for text in result.stdin] == [True]


@pytest.mark.parametrize(
    ("path", "text", "lack"),
    [
        (FORWARD, "0\n", "net.ipv4.ip_forward: 0 -> 1"),
        ("/proc/swaps", f"{NO_SWAP}/dev/sda2 partition 1 0 -2\n", "swap /dev/sda2 is on"),
        ("/etc/hosts", "127.0.0.1 localhost\n", "/etc/hosts has no api.home"),
    ],
)
def test_a_machine_that_host_py_has_not_prepared_does_not_join(
    monkeypatch: pytest.MonkeyPatch, path: str, text: str, lack: str
) -> None:
    machine = _bare()
    machine.files[path] = text
    assert _worker(monkeypatch, machine) == Outcome(
        commands=["false"],
        logs=[f"it is not prepared ({lack}); run deploys/host.py first"],
        asked=1,
    )


def test_a_worker_in_the_cluster_costs_one_question_and_no_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _worker(monkeypatch, _joined(), machines.MACHINE_ID) == Outcome(
        noops=["w-1 is a worker of home"], asked=1
    )


def test_the_next_certificate_of_a_worker_is_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _worker(monkeypatch, _joined(), machines.MACHINE_ID, asks=True) == Outcome(
        commands=["approve()"], logs=["kubelet's serving certificate of w-1: approve"], asked=1
    )


def test_a_join_that_was_cut_off_is_cleaned_and_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _joined()
    machine.secret.remove(traces.KUBELET_CONF)
    result = _worker(monkeypatch, machine, machines.MACHINE_ID)
    assert result.commands == [
        "make_token()",
        "delete_node()",
        _alone(f"{TAKE}; {CLEAN}; {JOIN}"),
        "approve()",
    ]
    preview = _worker(monkeypatch, machine, machines.MACHINE_ID, preview=True)
    assert preview.commands == ["make_token()"]
    assert (
        result.logs
        == preview.logs
        == [
            JOINS,
            GONE,
            "kubelet: stopped; what is empty below /etc/kubernetes and /var/lib/kubelet: removed",
            APPROVES,
        ]
    )


def test_a_worker_whose_kubelet_stands_still_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _joined()
    machine.units[traces.KUBELET] = ("loaded", "inactive", "enabled")
    assert _worker(monkeypatch, machine, machines.MACHINE_ID) == Outcome(
        commands=[_alone("systemctl restart kubelet"), "approve()"],
        logs=["start kubelet and wait for the API: home, api.home:6443", APPROVES],
        asked=1,
    )


def test_a_worker_that_only_lacks_its_serving_certificate_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = _joined()
    machine.secret.remove(traces.SERVING)
    assert _worker(monkeypatch, machine, machines.MACHINE_ID) == Outcome(
        commands=["approve()"], logs=[APPROVES], asked=1
    )


def test_a_worker_that_the_cluster_knows_by_another_address_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = _joined()
    machine.units[traces.KUBELET] = ("loaded", "inactive", "enabled")
    assert _worker(monkeypatch, machine, machines.MACHINE_ID, known="192.0.2.31") == Outcome(
        commands=["false"], logs=[ADDRESS.format("192.0.2.31")], asked=1
    )
    # A machine that lost what it was joins anew, with the address that it has now.
    anew = _worker(monkeypatch, _bare(), machines.MACHINE_ID, known="192.0.2.31")
    assert anew.logs == [JOINS, GONE, APPROVES]


def test_a_worker_of_another_cluster_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _joined()
    machine.files[traces.CA] = "another CA\n"
    assert _worker(monkeypatch, machine, machines.MACHINE_ID) == Outcome(
        commands=["false"],
        logs=[
            "w-1 belongs to another cluster (/etc/kubernetes/pki/ca.crt is not this cluster's); run"
            " `kubeadm reset -f` and delete /etc/kubernetes on it if that is not wanted, then run"
            " this again"
        ],
        asked=1,
    )


def test_another_machine_under_a_nodes_name_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _worker(monkeypatch, _bare(), "f" * 32) == Outcome(
        commands=["false"],
        logs=[
            "the cluster has a node w-1 that is another machine; if this one replaces it, run"
            " deploys/remove_node.py --data node=w-1, then this again"
        ],
        asked=1,
    )


def test_without_an_api_a_worker_waits_for_the_control_plane_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(cluster: Cluster) -> None:
        raise Trouble("cp-1: its API does not answer")

    monkeypatch.setattr(barekube.api, "connect", silent)
    data = {"sysctls": SYSCTLS}
    assert _on(_bare(), workers.worker, CLUSTER, name="w-1", data=data) == Outcome(
        commands=["false"],
        logs=[
            "no control plane answers (cp-1: its API does not answer); run"
            " deploys/control_plane.py first"
        ],
        asked=1,
    )


def test_an_api_that_breaks_off_meanwhile_fails_this_host_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read_node(name: str) -> None:
        raise ApiException(status=500, reason="etcdserver: no leader")

    core = SimpleNamespace(read_node=read_node)
    api = SimpleNamespace(core=core, ca=machines.CA, moved=None)
    monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
    data = {"sysctls": SYSCTLS}
    assert _on(_bare(), workers.worker, CLUSTER, name="w-1", data=data) == Outcome(
        commands=["false"],
        logs=[
            "the API answers 500 etcdserver: no leader; see whether its control planes run, then"
            " run again"
        ],
        asked=1,
    )


def test_a_list_of_apts_that_a_power_cut_emptied_is_fetched_anew(tmp_path: Path) -> None:
    for name, text in (("lock", ""), ("a_InRelease", ""), ("b_Packages", "Package: kubelet\n")):
        (tmp_path / name).write_text(text)
    script = packages.FINISH.replace("/var/lib/apt/lists", str(tmp_path))
    script = script.replace("dpkg --configure", "true")
    subprocess.run(["sh", "-ec", script], check=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b_Packages", "lock"]
