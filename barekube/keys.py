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

from barekube import component_fields, doors, weave

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
NAME = rf"{LABEL}(\.{LABEL})*"


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words, and whether it is so; `fields`: the keys of such a dict."""

    words: str
    fits: Callable[[object], bool]
    fields: "Mapping[str, Kind] | None" = None


def _is_network(value: object) -> bool:
    try:
        ipaddress.IPv4Network(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _is_service_network(value: object) -> bool:
    # As kubeadm wants it: ten addresses at least, 20 bits of them at most.
    return _is_network(value) and 12 <= ipaddress.IPv4Network(str(value)).prefixlen <= 28


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


def _texts_by(name: str, text: str = r"(?s:.*)") -> Callable[[object], bool]:
    """Whether a value is a dict from texts of the pattern `name` to texts of the pattern `text`."""
    return lambda value: (
        isinstance(value, dict)
        and all(_matches(name, key) and _matches(text, each) for key, each in value.items())
    )


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and _are_texts(value)


def _are_rules(value: object) -> bool:
    # With a policy of none an API server does not start.
    return isinstance(value, list) and bool(value) and all(isinstance(e, dict) for e in value)


def _are_named(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in value
    )


def _are_arguments(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and set(each) == {"name", "value"} and _are_texts(each.values())
        for each in value
    )


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
_YES_OR_NO = Kind("True or False", lambda value: isinstance(value, bool))
_NUMBER = Kind("a number", lambda value: type(value) in (int, float))
_WHOLE_NUMBER = Kind("a whole number", lambda value: type(value) is int)
_DICT = Kind("a dict", lambda value: isinstance(value, dict))
_TRUE_OR_FALSE = Kind("true or false", _YES_OR_NO.fits)
_ANY = Kind("anything", lambda value: True)


def _dict_of(**fields: Kind) -> Kind:
    return Kind(_DICT.words, _DICT.fits, fields)


# Lists, and no tuples, which would not be merged with barekube's own.
_NAMES = Kind("a list of texts", lambda value: isinstance(value, list) and _are_texts(value))
_NAMED = Kind('a list of dicts with a "name" each', _are_named)
_IMAGE = {"imageRepository": _TEXT, "imageTag": _TEXT}
_COMPONENT = {
    "extraArgs": Kind('a list of {"name": TEXT, "value": TEXT}', _are_arguments),
    "extraVolumes": _NAMED,
    "extraEnvs": _NAMED,
}

# ClusterConfiguration of kubeadm.k8s.io/v1beta4, as kubeadm 1.37.2 has it.
_CLUSTER_CONFIGURATION = _dict_of(
    etcd=_dict_of(
        local=_dict_of(
            **_IMAGE,
            dataDir=_TEXT,
            extraArgs=_COMPONENT["extraArgs"],
            extraEnvs=_NAMED,
            serverCertSANs=_NAMES,
            peerCertSANs=_NAMES,
        ),
        external=_DICT,
    ),
    networking=_dict_of(serviceSubnet=_TEXT, podSubnet=_TEXT, dnsDomain=_TEXT),
    kubernetesVersion=_TEXT,
    controlPlaneEndpoint=_TEXT,
    apiServer=_dict_of(**_COMPONENT, certSANs=_NAMES),
    controllerManager=_dict_of(**_COMPONENT),
    scheduler=_dict_of(**_COMPONENT),
    dns=_dict_of(**_IMAGE, disabled=_YES_OR_NO),
    proxy=_dict_of(disabled=_YES_OR_NO),
    certificatesDir=_TEXT,
    imageRepository=_TEXT,
    featureGates=_DICT,
    clusterName=_TEXT,
    encryptionAlgorithm=_TEXT,
    certificateValidityPeriod=_TEXT,
    caCertificateValidityPeriod=_TEXT,
)

# Every key of group_data/all.py (a unit test holds the two together) and what it must be.
CLUSTER: Mapping[str, Kind] = {
    "cluster_name": Kind(
        "a name of lower-case letters, digits and '-'", lambda value: _matches(LABEL, value)
    ),
    "kubernetes_version": Kind(
        'a version such as "1.37.2"', lambda value: _matches(r"\d+\.\d+\.\d+", value)
    ),
    "api_name": Kind(
        'a name such as "api.example.org", or None',
        lambda value: value is None or (_matches(NAME, value) and not _is_address(value)),
    ),
    "api_port": Kind("a port (1 to 65535)", _is_port),
    "service_network": Kind('a network of /12 to /28 such as "10.96.0.0/12"', _is_service_network),
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
    "host_packages": Kind(
        "a dict of packages' names with the reason of each", _texts_by(r"[a-z0-9][a-z0-9+.-]+")
    ),
    "modules": Kind(
        "a dict of modules' names (letters, digits and '_') with the reason of each",
        _texts_by(r"[A-Za-z0-9_]+"),
    ),
    "sysctls": Kind(
        "a dict of kernel parameters with their values, each a text of one line",
        _texts_by(r"[A-Za-z0-9_][A-Za-z0-9_./:@+-]*", r"[\t -~]+"),
    ),
    "firewall": _YES_OR_NO,
    "firewall_trusted": Kind(
        'a list of networks such as ["192.0.2.0/24"]',
        lambda value: isinstance(value, list | tuple) and all(map(_is_network, value)),
    ),
    "ignored_preflight": _TEXTS,
    "cluster_configuration": _CLUSTER_CONFIGURATION,
    "kubelet_configuration": _dict_of(**dict.fromkeys(component_fields.KUBELET.split(), _ANY)),
    "kube_proxy_configuration": _dict_of(
        **dict.fromkeys(component_fields.KUBE_PROXY.split(), _ANY)
    ),
    "ingress_manifests": _TEXT,
    "door_certificates": Kind(
        'a dict with (file of the certificate, file of its key) of "internal", "public" or both',
        _are_certificates,
    ),
    "encryption_key": Kind("a number from 1 on", lambda v: type(v) is int and v > 0),
    "audit_rules": Kind(
        'a list of dicts, one at least: [{"level": "None"}] logs nothing', _are_rules
    ),
}

# Those of them that settings.cluster() and the stages take from whichever host comes first.
WHOLE = frozenset(
    {
        "cluster_name",
        "kubernetes_version",
        "api_name",
        "api_port",
        "service_network",
        "network_manifests",
        "storage_manifests",
        "ingress_manifests",
        "door_certificates",
        "ignored_preflight",
        "cluster_configuration",
        "kubelet_configuration",
        "kube_proxy_configuration",
        "audit_rules",
        "encryption_key",
    }
)

# What a single run is asked by --data (a unit test holds this and the code together).
ASKED: Mapping[str, Kind] = {
    "look": _TRUE_OR_FALSE,
    "prune": _TRUE_OR_FALSE,
    "packages": _TRUE_OR_FALSE,
    "reboot": _TRUE_OR_FALSE,
    "cluster": _TEXT,
    "node": _TEXT,
    "password": Kind(
        f"{weave.SECRET} or {doors.LOGIN}", lambda value: value in (weave.SECRET, doors.LOGIN)
    ),
    "host": _TEXT,
    "disk": _TEXT,
    "osd": Kind("the number of an OSD", lambda value: type(value) is int and value >= 0),
    "at_once": Kind("a number of hosts, 1 or more", lambda value: type(value) is int and value > 0),
}
# Which of these a deploy of ours reads.
READ: Mapping[str, frozenset[str]] = {
    "preflight": frozenset(),
    "host": frozenset(),
    "runtime": frozenset(),
    "kubernetes_packages": frozenset(),
    "control_plane": frozenset(),
    "workers": frozenset(),
    "network": frozenset({"prune", "password"}),
    "ingress": frozenset({"prune", "password"}),
    "storage": frozenset({"prune"}),
    "site": frozenset({"prune", "password"}),
    "drift": frozenset({"prune", "password"}),
    "verify": frozenset({"look"}),
    "upgrade": frozenset({"at_once"}),
    "maintain": frozenset({"packages", "reboot"}),
    "remove_node": frozenset({"node"}),
    "reset": frozenset({"cluster"}),
    "replace_disk": frozenset({"osd", "cluster"}),
    "zap": frozenset({"host", "disk", "cluster"}),
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
