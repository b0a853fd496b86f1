"""Mistakes in inventory and group_data, found before anything connects."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from barekube import checks, keys, kubeadm_config, settings
from tests.plan import machines

_TOP = Path(__file__).parents[2]
_ALL = _TOP / "group_data/all.py"


_SOURCE = ("https://packages.invalid", "/", "", "https://packages.invalid/key", "AB")
_SOURCES = (
    'a dict of "containerd" and "kubernetes" with (address, suite, components, address of the key,'
    " fingerprint) each, and nothing in braces but {minor}, {distribution}, {codename}"
)


_SERVICES = 'a network of /12 to /28 such as "10.96.0.0/12"'
_SYSCTLS = "a dict of kernel parameters with their values, each a text of one line"
_ARGUMENTS = 'a list of {"name": TEXT, "value": TEXT}'
_MODULES = "a dict of modules' names (letters, digits and '_') with the reason of each"


def _defaults() -> dict[str, Any]:
    own: dict[str, Any] = {}
    exec(_ALL.read_text(), own)
    imported = {
        alias.name
        for node in ast.parse(_ALL.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = {name for name in own if not name.startswith("__") and name not in imported}
    return {name: own[name] for name in names}


def test_the_known_keys_are_those_of_group_data() -> None:
    assert set(keys.CLUSTER) == set(_defaults()) - set(keys.HOST)


def test_the_defaults_are_as_they_must_be() -> None:
    assert checks.data("all.py", _defaults(), {**keys.CLUSTER, **keys.HOST}) == []
    assert checks.cluster(_defaults()) == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("cluster_name", "Bare_Kube", "a name of lower-case letters, digits and '-'"),
        ("kubernetes_version", "1.37", 'a version such as "1.37.2"'),
        ("api_port", True, "a port (1 to 65535)"),
        ("api_port", 65536, "a port (1 to 65535)"),
        ("service_network", "10.96.0.1/12", _SERVICES),
        ("service_network", "10.96.0.0", _SERVICES),
        ("service_network", "10.0.0.0/8", _SERVICES),
        ("api_name", "api of home", 'a name such as "api.example.org", or None'),
        ("api_name", "192.0.2.1", 'a name such as "api.example.org", or None'),
        ("bundle_url", "http://192.0.2.9", '"https://..." or None'),
        ("bundle_url", "https://192.0.2.9/", '"https://..." or None'),
        ("package_sources", {"kubernetes": _SOURCE}, _SOURCES),
        ("package_sources", {"kubernetes": _SOURCE, "containerd": ("{suite}",) * 5}, _SOURCES),
        ("package_sources", {"kubernetes": _SOURCE, "containerd": ("{minor",) * 5}, _SOURCES),
        ("sysctls", {"vm.overcommit_memory": 1}, _SYSCTLS),
        ("sysctls", {"vm.overcommit_memory": "1\nkernel.panic = 0"}, _SYSCTLS),
        ("sysctls", {"vm.overcommit_memory = 1\nkernel.panic": "0"}, _SYSCTLS),
        ("modules", {"overlay; reboot": "containers"}, _MODULES),
        # The kernel knows it as br_netfilter, and it would be loaded anew by every run.
        ("modules", {"br-netfilter": "bridges"}, _MODULES),
        (
            "host_packages",
            {"kmod; reboot": "x"},
            "a dict of packages' names with the reason of each",
        ),
        ("ignored_preflight", "Mem", "a list of texts"),
        (
            "audit_rules",
            [],
            'a list of dicts, one at least: [{"level": "None"}] logs nothing',
        ),
        ("ssh_port", "22", "a whole number"),
        ("_sudo", "yes", "True or False"),
        ("address", "192.0.2", "an IPv4 address in quotes"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_the_right_one(
    key: str, value: object, words: str
) -> None:
    known = {**keys.CLUSTER, **keys.HOST}
    sentence = f"all.py: {key} is {value!r}; make it {words}"
    assert checks.data("all.py", {key: value}, known) == [sentence]


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("kubelet_configuration", "maxpods", "maxPods"),
        ("kubelet_configuration", "evictionhard", "evictionHard"),
        ("kube_proxy_configuration", "nodePortAddress", "nodePortAddresses"),
    ],
)
def test_a_misspelt_setting_of_kubelet_or_kube_proxy_is_named_with_the_right_one(
    key: str, wrong: str, right: str
) -> None:
    sentence = f"all.py: {key}.{wrong} is no known key; did you mean {right}?"
    assert checks.data("all.py", {key: {wrong: 77}}, keys.CLUSTER) == [sentence]
    assert checks.data("all.py", {key: {right: 77}}, keys.CLUSTER) == []


def test_what_barekube_itself_gives_kubelet_and_kube_proxy_is_known() -> None:
    for key, ours in (
        ("kubelet_configuration", kubeadm_config.kubelet_configuration(machines.cluster())),
        ("kube_proxy_configuration", kubeadm_config.proxy_configuration(machines.cluster())),
    ):
        del ours["apiVersion"], ours["kind"]
        assert checks.data("all.py", {key: ours}, keys.CLUSTER) == []


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"apiserver": {}}, "apiserver is no known key; did you mean apiServer?"),
        (
            {"apiServer": {"extraArg": []}},
            "apiServer.extraArg is no known key; did you mean extraArgs?",
        ),
        ({"scheduler": []}, "scheduler is []; make it a dict"),
        # As v1beta3 had it: it would replace all of barekube's own arguments.
        (
            {"apiServer": {"extraArgs": {"v": "4"}}},
            "apiServer.extraArgs is {'v': '4'}; make it " + _ARGUMENTS,
        ),
        (
            {"controllerManager": {"extraArgs": [{"name": "v", "value": 4}]}},
            "controllerManager.extraArgs is [{'name': 'v', 'value': 4}]; make it " + _ARGUMENTS,
        ),
        (
            {"scheduler": {"extraArgs": [{"name": "v"}]}},
            "scheduler.extraArgs is [{'name': 'v'}]; make it " + _ARGUMENTS,
        ),
        (
            {"apiServer": {"certSANs": [{"name": "x"}]}},
            "apiServer.certSANs is [{'name': 'x'}]; make it a list of texts",
        ),
        (
            {"apiServer": {"extraVolumes": [{"hostPath": "/x"}]}},
            "apiServer.extraVolumes is [{'hostPath': '/x'}]; make it a list of dicts with a"
            ' "name" each',
        ),
    ],
)
def test_a_mistake_in_kubeadms_own_settings_is_named_with_its_place(
    value: object, sentence: str
) -> None:
    assert checks.data("all.py", {"cluster_configuration": value}, keys.CLUSTER) == [
        f"all.py: cluster_configuration.{sentence}"
    ]


def test_kubeadms_own_settings_may_be_all_that_it_knows() -> None:
    value = {
        "apiServer": {"certSANs": ["k8s.example.org"], "extraArgs": [{"name": "v", "value": "4"}]},
        "etcd": {"local": {"extraArgs": [{"name": "quota-backend-bytes", "value": "4294967296"}]}},
        "networking": {"dnsDomain": "home.example"},
        "caCertificateValidityPeriod": "87600h",
    }
    assert checks.data("all.py", {"cluster_configuration": value}, keys.CLUSTER) == []


@pytest.mark.parametrize("key", sorted(keys.WHOLE))
def test_what_is_the_whole_clusters_is_taken_from_no_group_and_no_host(key: str) -> None:
    own = {key: _defaults()[key], "firewall": True}
    words = f"{key} is the whole cluster's; set it in group_data/all.py"
    assert checks.group_data("group_data/workers.py", "workers", own, []) == [
        f"group_data/workers.py: {words}"
    ]
    assert _inventory(control_plane=([("cp-1", own)], own)) == [
        f"inventory.py, control_plane: {words}",
        f"inventory.py, cp-1: {words}",
    ]
    assert checks.group_data("group_data/all.py", "all", own, []) == []


def test_what_the_cluster_is_made_of_once_is_the_whole_clusters() -> None:
    made_of = set(re.findall(r"(?<!\.)\bdata\.(\w+)", inspect.getsource(settings.cluster)))
    assert "cluster_name" in made_of
    assert made_of <= keys.WHOLE


def test_data_of_the_command_line_is_all_that_the_stages_ask_for() -> None:
    files = [path for folder in ("deploys", "barekube") for path in (_TOP / folder).rglob("*.py")]
    code = "".join(path.read_text() for path in files if path.name != "checks.py")
    asked = set(re.findall(r"(?:host\.data|given)\.get\(\"(\w+)\"", code))
    assert asked - set(keys.HOST) == set(keys.ASKED)
    assert {path.stem for path in (_TOP / "deploys").glob("*.py")} == set(keys.READ)
    assert frozenset().union(*keys.READ.values()) == set(keys.ASKED)


def test_a_deploy_of_the_users_own_may_read_what_it_likes() -> None:
    assert checks.unread(["node", "packages"], ["deploys/host.py"]) == [
        "--data node means nothing to host.py; leave it out, and name hosts by --limit",
        "--data packages means nothing to host.py; leave it out",
    ]
    assert checks.unread(["host"], ["deploys/remove_node.py"]) == [
        "--data host means nothing to remove_node.py; leave it out (it reads --data node)"
    ]
    assert checks.unread(["node", "sysctls"], ["deploys/remove_node.py", "deploys/host.py"]) == []
    assert checks.unread(["node"], ["deploys/host.py", "deploys/mine.py"]) == []
    assert checks.unread(["node"], []) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("lok=true", "--data: lok is no known key; did you mean look?"),
        ("prune=no", "--data: prune is 'no'; make it true or false"),
        ("at_once=0", "--data: at_once is 0; make it a number of hosts, 1 or more"),
        ("osd=/dev/sdb", "--data: osd is '/dev/sdb'; make it the number of an OSD"),
        ("password=weave", "--data: password is 'weave'; make it weave-password or pages-login"),
        ("api_port=api", "--data: api_port is 'api'; make it a port (1 to 65535)"),
        ("look", "--data look has no value; write --data look=VALUE"),
        ("name=x", "--data: name is no known key; did you mean api_name?"),
    ],
)
def test_a_mistake_in_data_of_the_command_line_is_named(given: str, sentence: str) -> None:
    assert checks.overrides([given])[1] == [sentence]


def test_data_of_the_command_line_is_read_as_pyinfra_reads_it() -> None:
    given = [
        "look=True",
        "prune=false",
        "at_once=3",
        "node=w-1",
        'firewall_trusted=["192.0.2.0/24"]',
    ]
    assert checks.overrides([*given, "disk=/dev/disk/by-id/a=b"]) == (
        {
            "look": True,
            "prune": False,
            "at_once": 3,
            "node": "w-1",
            "firewall_trusted": ["192.0.2.0/24"],
            "disk": "/dev/disk/by-id/a=b",
        },
        [],
    )


def test_a_key_that_became_lost_is_asked_for() -> None:
    values = _defaults()
    del values["api_port"]
    assert checks.cluster(values) == [
        "group_data/all.py: api_port is missing; make it a port (1 to 65535)"
    ]


def test_a_key_that_would_rename_every_operation_is_refused() -> None:
    known = {**keys.CLUSTER, **keys.HOST}
    assert [each.split(";")[0] for each in checks.data("all.py", {"name": "x"}, known)] == [
        "all.py: name is no known key"
    ]


def test_a_group_data_file_of_no_group_is_found() -> None:
    assert checks.group_data("group_data/worker.py", "worker", {}, ["workers"]) == [
        "group_data/worker.py: worker is no group of the inventory; did you mean workers?"
    ]
    assert checks.group_data("group_data/rack_a.py", "rack_a", {}, ["rack_a"]) == []


def _inventory(**groups: object) -> list[str]:
    return checks.inventory("inventory.py", groups)[1]


def test_an_inventory_may_have_groups_of_its_own() -> None:
    groups, problems = checks.inventory(
        "inventory.py",
        {
            "control_plane": ["cp-1"],
            "workers": [("w-1", {"address": "192.0.2.21", "firewall": True})],
            "rack_a": (["w-1"], {"ssh_port": 2222}),
            "_private": ["no host"],
            "text": "no group",
        },
    )
    assert problems == []
    assert groups == {"control_plane": ["cp-1"], "workers": ["w-1"], "rack_a": ["w-1"]}


@pytest.mark.parametrize(
    ("groups", "sentences"),
    [
        (
            {"control_plane": ["cp-1"], "worker": ["w-1"]},
            ["inventory.py: worker is no group of barekube's; did you mean workers?"],
        ),
        (
            {"control_plane": ["cp-1"], "workers": ["cp-1"]},
            [
                "inventory.py: cp-1 is named 2 times; name it once, in control_plane or in workers",
            ],
        ),
        (
            {"control_plane": ["cp-1"], "workers": ["w-1"], "edge": ["w-11"]},
            [
                "inventory.py: w-11 is in edge, and neither in control_plane nor in workers;"
                " did you mean w-1?",
            ],
        ),
        (
            {"control_plane": ["cp-1"], "workers": ["pi-1"], "boards": ["pi-l"]},
            [
                "inventory.py: pi-l is in boards, and neither in control_plane nor in workers;"
                " did you mean pi-1?",
            ],
        ),
        (
            {"control_plane": "cp-1", "workers": ["w-1"]},
            ["inventory.py: control_plane is 'cp-1'; make it a list"],
        ),
        (
            {"control_plane": {"cp-1": {}}, "workers": ("w-1", "w-2")},
            [
                "inventory.py: control_plane is {'cp-1': {}}; make it a list",
                "inventory.py: workers is ('w-1', 'w-2'); make it a list",
            ],
        ),
        (
            {"control_plane": ["cp-1"], "ports": (22, 80)},
            [
                "inventory.py: ports is (22, 80); make it a list, or begin its name with _ if it is"
                " no group"
            ],
        ),
        (
            {"control_plane": ["cp-1"], "workers": (["w-1"], {"ssh_prt": 22, "firewall": "yes"})},
            [
                "inventory.py, workers: ssh_prt is no known key; did you mean ssh_port?",
                "inventory.py, workers: firewall is 'yes'; make it True or False",
            ],
        ),
        (
            {"control_plane": ["Metal_1"], "storage": ["Metal_1"]},
            [
                "inventory.py: 'Metal_1' cannot be a node's name; use lower-case letters, digits,"
                " '-' and '.'",
            ],
        ),
        (
            {"control_plane": ["cp-1", ""]},
            ['inventory.py: \'\' in control_plane is no host; write "NAME" or ("NAME", {...})'],
        ),
        (
            {"control_plane": [("cp-1", "192.0.2.1")]},
            [
                "inventory.py: ('cp-1', '192.0.2.1') in control_plane is no host; write \"NAME\""
                ' or ("NAME", {...})',
                "inventory.py names no machine; write yours into it, or try `make lab`, which"
                " brings some",
            ],
        ),
    ],
)
def test_a_mistake_in_the_inventory_is_named(
    groups: dict[str, object], sentences: list[str]
) -> None:
    assert _inventory(**groups) == sentences


def test_a_limit_is_a_host_a_pattern_or_a_group_with_hosts() -> None:
    groups = {"all": ["cp-1", "w-1"], "control_plane": ["cp-1"], "workers": ["w-1"], "edge": []}
    assert checks.limits("--limit", ["w-*", "cp-1", "workers"], groups) == []
    assert checks.limits("--limit", ["edge", "worker"], groups) == [
        "--limit edge matches no host of the inventory; correct or remove it",
        "--limit worker matches no host of the inventory; did you mean workers?",
    ]
    # pyinfra would find nobody, and exclude nobody.
    assert checks.limits("--exclude", ["all"], groups) == [
        "--exclude all matches no host of the inventory; correct or remove it"
    ]


def test_a_password_of_the_wrong_type_is_not_shown() -> None:
    assert checks.data("--data", {"ssh_password": 12345}, keys.HOST) == [
        "--data: ssh_password is not as it must be; make it a text"
    ]
