"""Every key of group_data, of a host in the inventory and of --data, and what it must be."""

import ipaddress
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import get_type_hints

from pyinfra.api.arguments import all_global_arguments
from pyinfra.connectors.fake import FakeConnectorData
from pyinfra.connectors.ssh import ConnectorData

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


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
        "a name of lower-case letters, digits and '-'", lambda value: _matches(LABEL, value)
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
