"""What can be wrong with the command line, the inventory and group_data, before anything connects.

Each problem is one sentence: which file, what is wrong, what to do.
"""

import difflib
import fnmatch
import ipaddress
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from pyinfra.api.arguments import all_global_arguments
from pyinfra.connectors.fake import FakeConnectorData
from pyinfra.connectors.ssh import ConnectorData

GROUPS = ("control_plane", "workers", "edge", "storage")
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words, and whether it is so."""

    words: str
    fits: Callable[[object], bool]


def _is_network(value: object) -> bool:
    try:
        ipaddress.IPv4Network(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _is_address(value: object) -> bool:
    try:
        ipaddress.IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _matches(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_mapping_of_texts(value: object) -> bool:
    return isinstance(value, dict) and _are_texts([*value, *value.values()])


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and _are_texts(value)


def _is_list_of_dicts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _are_sources(value: object) -> bool:
    return (
        isinstance(value, dict)
        and {"containerd", "kubernetes"} <= set(value)
        and all(
            isinstance(row, tuple) and len(row) == 5 and _are_texts(row) and _can_be_written(row)
            for row in value.values()
        )
    )


def _can_be_written(row: Iterable[str]) -> bool:
    """Whether what stands in braces is known."""
    try:
        fields = {field for text in row for _, field, *_ in string.Formatter().parse(text)}
    except ValueError:
        return False
    return fields <= {None, "minor", "distribution", "codename"}


def _are_certificates(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= {"internal", "public"}
        and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value.values())
        and all(_are_texts(pair) for pair in value.values())
    )


def _is_port(value: object) -> bool:
    return type(value) is int and 0 < value < 65536


_TEXT = Kind("a text", lambda value: isinstance(value, str))
_TEXT_OR_NONE = Kind("a text or None", lambda value: value is None or isinstance(value, str))
_TEXTS = Kind("a list of texts", _is_list_of_texts)
_NAMED_TEXTS = Kind("a dict of texts", _is_mapping_of_texts)
_YES_OR_NO = Kind("True or False", lambda value: isinstance(value, bool))
_NUMBER = Kind("a number", lambda value: type(value) in (int, float))
_WHOLE_NUMBER = Kind("a whole number", lambda value: type(value) is int)
_DICT = Kind("a dict", lambda value: isinstance(value, dict))
_ANY = Kind("anything", lambda value: True)

# Every key of group_data/all.py (a unit test holds the two together) and what it must be.
CLUSTER: Mapping[str, Kind] = {
    "cluster_name": Kind(
        "a name of lower-case letters, digits and '-'", lambda value: _matches(_LABEL, value)
    ),
    "kubernetes_version": Kind(
        'a version such as "1.37.2"', lambda value: _matches(r"\d+\.\d+\.\d+", value)
    ),
    "api_name": _TEXT_OR_NONE,
    "api_port": Kind("a port (1 to 65535)", _is_port),
    "service_network": Kind('a network such as "10.96.0.0/12"', _is_network),
    "network_manifests": _TEXT,
    "storage_manifests": _TEXT,
    "bundle_url": Kind(
        '"https://..." or None',
        lambda value: value is None or _matches(r"https://[^/].*[^/]", value),
    ),
    "bundle_ca": _TEXT_OR_NONE,
    "bundle_key": _TEXT_OR_NONE,
    "package_sources": Kind(
        'a dict of "containerd" and "kubernetes" with (address, suite, components, address of the'
        " key, fingerprint) each, and nothing in braces but {minor}, {distribution}, {codename}",
        _are_sources,
    ),
    "host_packages": _NAMED_TEXTS,
    "modules": _NAMED_TEXTS,
    "sysctls": _NAMED_TEXTS,
    "firewall": _YES_OR_NO,
    "firewall_trusted": Kind(
        'a list of networks such as ["192.0.2.0/24"]',
        lambda value: isinstance(value, list | tuple) and all(map(_is_network, value)),
    ),
    "ignored_preflight": _TEXTS,
    "cluster_configuration": _DICT,
    "kubelet_configuration": _DICT,
    "kube_proxy_configuration": _DICT,
    "ingress_manifests": _TEXT,
    "door_certificates": Kind(
        'a dict with (file of the certificate, file of its key) of "internal", "public" or both',
        _are_certificates,
    ),
    "encryption_key": Kind("a number from 1 on", lambda v: type(v) is int and v > 0),
    "audit_rules": Kind("a list of dicts", _is_list_of_dicts),
}

_BY_TYPE = {str: _TEXT, bool: _YES_OR_NO, int: _WHOLE_NUMBER, float: _NUMBER}


def _host_keys() -> dict[str, Kind]:
    """pyinfra's own keys (ssh_*, _sudo, ...), from its own tables, and ours."""
    result = {
        key: _BY_TYPE.get(kind, _ANY)
        for key, kind in all_global_arguments()
        # Not `name`: it would become the name of every operation.
        if key.startswith("_")
    }
    for table in (ConnectorData, FakeConnectorData):
        result |= {key: _BY_TYPE.get(kind, _ANY) for key, kind in get_type_hints(table).items()}
    # pyinfra says text, and takes True too.
    result["ssh_strict_host_key_checking"] = _ANY
    result["address"] = Kind("an IPv4 address in quotes", _is_address)
    return result


HOST: Mapping[str, Kind] = _host_keys()


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean <the nearest known one>?', or the end of a sentence without a guess."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; correct or remove it"


def data(file: str, values: Mapping[str, object], known: Mapping[str, Kind]) -> list[str]:
    """The problems of the keys and values of one file, or of one host in it."""
    problems = []
    for key, value in values.items():
        kind = known.get(key)
        if kind is None:
            problems.append(f"{file}: {key} is no known key{nearest(key, known)}")
        elif not kind.fits(value):
            problems.append(f"{file}: {key} is {value!r}; make it {kind.words}")
    return problems


def group_data(file: str, stem: str, groups: Iterable[str]) -> list[str]:
    """The problem of a file of group_data, <stem>.py, that belongs to no group."""
    known = {*GROUPS, *groups, "all"}
    if stem in known:
        return []
    return [f"{file}: {stem} is no group of the inventory{nearest(stem, known)}"]


def cluster(values: Mapping[str, object]) -> list[str]:
    """The problems of all that group_data says for all hosts together."""
    problems = [
        f"group_data/all.py: {key} is missing; make it {kind.words}"
        for key, kind in CLUSTER.items()
        if key not in values
    ]
    return problems + bundle("group_data/all.py", values)


def bundle(file: str, values: Mapping[str, object]) -> list[str]:
    """What a bundle lacks that the file gives to all hosts or a group; `values` hold for those."""
    if not values.get("bundle_url"):
        return []
    problems = [
        f"{file}: bundle_url needs {key}; `python -m bundle list` shows it"
        for key in ("bundle_ca", "bundle_key")
        if not values.get(key)
    ]
    ca = values.get("bundle_ca")
    if ca and not Path(str(ca)).is_file():
        problems.append(f"{file}: bundle_ca {ca} is not there; `python -m bundle list` shows it")
    return problems


def is_group(name: str, value: object) -> bool:
    """Whether pyinfra takes a name of the inventory's file for a group: a list, or (list, data)."""
    if name.startswith("_") or not isinstance(value, list | tuple) or value == ():
        return False
    members = value[0] if isinstance(value, tuple) else value
    return isinstance(members, list | tuple)


def members(value: object) -> list[object]:
    """The hosts of a group as written: texts, or tuples of text and data."""
    inner = value[0] if isinstance(value, tuple) else value
    return list(inner) if isinstance(inner, list | tuple) else []


def inventory(file: str, values: Mapping[str, object]) -> tuple[dict[str, list[str]], list[str]]:
    """The groups (name to hosts' names) of an inventory file's names, and its problems."""
    groups: dict[str, list[str]] = {}
    problems = []
    for group, value in values.items():
        if not is_group(group, value):
            continue
        groups[group] = []
        if group not in GROUPS and (near := nearest(group, GROUPS)).startswith("; did"):
            problems.append(f"{file}: {group} is no group of barekube's{near}")
        for entry in members(value):
            name, own = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, {})
            if not isinstance(name, str) or not isinstance(own, dict):
                problems.append(
                    f'{file}: {entry!r} in {group} is no host; write "NAME" or ("NAME", {{...}})'
                )
                continue
            groups[group].append(name)
            problems += data(f"{file}, {name}", own, {**CLUSTER, **HOST})
            if not name.startswith("@") and not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", name):
                problems.append(
                    f"{file}: {name!r} cannot be a node's name; use lower-case letters, digits,"
                    " '-' and '.'"
                )
    return groups, problems + _membership(file, groups)


def _membership(file: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    nodes = [*groups.get("control_plane", ()), *groups.get("workers", ())]
    if not nodes:
        return [
            f"{file} names no machine; write yours into it, or try `make lab`, which brings some"
        ]
    problems = []
    if not groups.get("control_plane"):
        problems.append(f"{file}: control_plane is empty; name one machine in it, better three")
    problems += [
        f"{file}: {name} is named {nodes.count(name)} times; name it once, in control_plane or in"
        " workers"
        for name in dict.fromkeys(nodes)
        if nodes.count(name) > 1
    ]
    problems += [
        f"{file}: {name} is in {group}, and neither in control_plane nor in workers"
        f"{nearest(name, nodes)}"
        for group in ("edge", "storage")
        for name in groups.get(group, ())
        if name not in nodes
    ]
    problems += [
        f"{file}: {name} is in edge and in control_plane; a host that faces the internet is a"
        " worker, name it in workers"
        for name in groups.get("edge", ())
        if name in groups.get("control_plane", ())
    ]
    return problems


def limits(patterns: Iterable[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The problem of each --limit that is no group with hosts, and matches no host's name."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    return [
        f"--limit {pattern} matches no host of the inventory"
        f"{nearest(pattern, [*names, *(group for group in groups if groups[group])])}"
        for pattern in patterns
        if not groups.get(pattern) and not fnmatch.filter(names, pattern)
    ]


def options(given: Mapping[str, object]) -> list[str]:
    """The problems of pyinfra's own options; `given` are those of the command line."""
    problems = []
    if given.get("dry") and given.get("yes"):
        problems.append("--dry with -y compares nothing; leave -y out")
    if "drift.py" in str(given.get("operations")) and not given.get("dry"):
        problems.append("drift.py only compares; add --dry")
    for key in ("serial", "no_wait"):
        if given.get(key):
            problems.append(
                f"--{key.replace('_', '-')} breaks the order that hosts wait for each other in;"
                " leave it out"
            )
    return problems
