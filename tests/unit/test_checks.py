"""Mistakes in inventory and group_data, found before anything connects."""

import ast
from pathlib import Path
from typing import Any

import pytest

from barekube import checks, keys

_ALL = Path(__file__).parents[2] / "group_data/all.py"


_SOURCE = ("https://packages.invalid", "/", "", "https://packages.invalid/key", "AB")
_SOURCES = (
    'a dict of "containerd" and "kubernetes" with (address, suite, components, address of the key,'
    " fingerprint) each, and nothing in braces but {minor}, {distribution}, {codename}"
)


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
        ("service_network", "10.96.0.1/12", 'a network such as "10.96.0.0/12"'),
        ("bundle_url", "http://192.0.2.9", '"https://..." or None'),
        ("bundle_url", "https://192.0.2.9/", '"https://..." or None'),
        ("package_sources", {"kubernetes": _SOURCE}, _SOURCES),
        ("package_sources", {"kubernetes": _SOURCE, "containerd": ("{suite}",) * 5}, _SOURCES),
        ("package_sources", {"kubernetes": _SOURCE, "containerd": ("{minor",) * 5}, _SOURCES),
        ("sysctls", {"vm.overcommit_memory": 1}, "a dict of texts"),
        ("ignored_preflight", "Mem", "a list of texts"),
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
    assert checks.group_data("group_data/worker.py", "worker", ["workers"]) == [
        "group_data/worker.py: worker is no group of the inventory; did you mean workers?"
    ]
    assert checks.group_data("group_data/rack_a.py", "rack_a", ["rack_a"]) == []


def _inventory(**groups: object) -> list[str]:
    return checks.inventory("inventory.py", groups)[1]


def test_an_inventory_may_have_groups_of_its_own() -> None:
    groups, problems = checks.inventory(
        "inventory.py",
        {
            "control_plane": ["cp-1"],
            "workers": [("w-1", {"address": "192.0.2.21", "api_port": 6444})],
            "rack_a": (["w-1"], {}),
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
            {"control_plane": ["Metal_1"]},
            [
                "inventory.py: 'Metal_1' cannot be a node's name; use lower-case letters, digits,"
                " '-' and '.'",
            ],
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
    assert checks.limits(["w-*", "cp-1", "workers", "all"], groups) == []
    assert checks.limits(["edge", "worker"], groups) == [
        "--limit edge matches no host of the inventory; correct or remove it",
        "--limit worker matches no host of the inventory; did you mean workers?",
    ]
