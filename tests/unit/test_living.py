"""A living cluster against group_data: what is a difference, and what may not change."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from barekube import kubeadm_config, living
from barekube.cluster import contradiction
from barekube.kubeadm_config import merged
from tests.unit.test_cluster import HOME

WANTED = kubeadm_config.cluster_configuration(HOME, ["192.0.2.11"])


def test_settings_are_merged_by_key_and_by_name_and_names_are_added() -> None:
    base = {"a": {"x": 1, "y": 2}, "args": [{"name": "p", "value": "1"}], "names": ["one"]}
    extra = {"a": {"y": 3}, "args": [{"name": "p", "value": "2"}], "names": ["two"], "new": [1]}
    assert merged(base, extra) == {
        "a": {"x": 1, "y": 3},
        "args": [{"name": "p", "value": "2"}],
        "names": ["one", "two"],
        "new": [1],
    }


def _change(document: dict[str, Any], path: list[str], value: object) -> dict[str, Any]:
    head, *rest = path
    inner = _change(document[head], rest, value) if rest else value
    return document | {head: inner}


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            ["clusterName"],
            "other",
            "clusterName of the cluster is 'home' and cannot change after init; set cluster_name"
            " back, from 'other'",
        ),
        (
            ["networking", "podSubnet"],
            "10.0.0.0/8",
            "networking.podSubnet of the cluster is '10.32.0.0/12' and cannot change after init;"
            " set IPALLOC_RANGE of the network's manifest back, from '10.0.0.0/8'",
        ),
        (
            ["controlPlaneEndpoint"],
            "k8s.home:6443",
            "controlPlaneEndpoint of the cluster is 'api.home:6443' and cannot change after init;"
            " set api_name (where it is None, cluster_name) or api_port back, from 'k8s.home:6443'",
        ),
        (
            ["networking", "serviceSubnet"],
            "10.0.0.0/8",
            "networking.serviceSubnet of the cluster is '10.96.0.0/12' and cannot change after"
            " init; set service_network back, from '10.0.0.0/8'",
        ),
        (
            ["networking", "dnsDomain"],
            "other",
            "networking.dnsDomain of the cluster is 'cluster.local' and cannot change after init;"
            " set the dnsDomain in cluster_configuration back, from 'other'",
        ),
        (
            ["kubernetesVersion"],
            "v1.38.0",
            "the cluster runs v1.37.2 and group_data says v1.38.0; run deploys/upgrade.py, or"
            " set kubernetes_version back",
        ),
    ],
)
def test_what_cannot_change_is_refused_by_name(
    path: list[str], value: object, sentence: str
) -> None:
    assert living.fixed(WANTED, _change(WANTED, path, value), None) == [sentence]
    assert living.fixed(WANTED, WANTED, None) == []


# What kubeadm adds to a ClusterConfiguration when it stores it.
_ADDED = {
    "caCertificateValidityPeriod": "87600h0m0s",
    "certificateValidityPeriod": "8760h0m0s",
    "certificatesDir": "/etc/kubernetes/pki",
    "dns": {},
    "encryptionAlgorithm": "RSA-2048",
    "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
    "imageRepository": "registry.k8s.io",
    "proxy": {},
}


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not noted yet"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("certificatesDir", "/etc/other"),
        ("dns", {"disabled": True}),
        ("etcd", {"local": {"extraArgs": [{"name": "quota-backend-bytes", "value": "1"}]}}),
        ("featureGates", {"NodeLocalCRISocket": False}),
        ("imageRepository", "registry.example.org"),
        ("proxy", {"disabled": True}),
        ("apiserver", {"extraArgs": []}),
    ],
)
def test_what_would_change_on_no_node_is_refused_by_name(
    key: str, value: object, noted: bool
) -> None:
    note = living.note(WANTED, "") if noted else None
    stored = WANTED | _ADDED
    sentence = f"{key} of cluster_configuration is not rolled out on a living cluster; set it back"
    assert living.fixed(stored, WANTED | {key: value}, note) == [sentence]
    assert living.fixed(stored, WANTED, note) == []


def test_what_was_given_to_init_is_no_change_and_its_removal_is() -> None:
    given = WANTED | {"etcd": {"local": {"extraArgs": []}}, "dns": {"disabled": False}}
    stored = WANTED | _ADDED
    assert living.fixed(stored, given, None) == []
    assert living.fixed(stored, given, living.note(given, "")) == []
    slash = WANTED | {"etcd": {"local": {"dataDir": "/var/lib/etcd/"}}}
    assert living.fixed(stored, slash, living.note(slash, "")) == []
    gone = living.fixed(stored, WANTED, living.note(given, ""))
    assert [each.partition(" ")[0] for each in gone] == ["dns", "etcd"]


def test_what_the_nodes_get_or_the_next_certificate_has_is_not_refused() -> None:
    changed = WANTED | {
        "apiServer": {},
        "controllerManager": {},
        "scheduler": {},
        "certificateValidityPeriod": "24h",
    }
    assert living.fixed(WANTED | _ADDED, changed, living.note(WANTED, "")) == []


# As kubeadm stores it: what is empty left out, and defaults of its own.
STORED = yaml.safe_dump({"maxPods": 50, "cgroupDriver": "systemd", "syncFrequency": "0s"})


def test_what_kubeadm_made_of_a_setting_is_no_difference_once_it_is_noted() -> None:
    wanted = {"cgroupDriver": "systemd", "maxPods": 50}
    note = living.note(wanted, STORED)
    assert living.difference("it", wanted, STORED, note) is None


def test_a_setting_that_was_taken_out_of_group_data_is_a_difference() -> None:
    note = living.note({"cgroupDriver": "systemd", "maxPods": 50}, STORED)
    diff = living.difference("it", {"cgroupDriver": "systemd"}, STORED, note)
    assert diff is not None
    assert diff[2:] == ["@@ -1,2 +1 @@", " cgroupDriver: systemd", "-maxPods: 50"]


def test_a_hands_edit_is_a_difference_of_what_we_set_or_of_some_other_line() -> None:
    wanted = {"cgroupDriver": "systemd", "maxPods": 50}
    note = living.note(wanted, STORED)
    edited = living.difference("it", wanted, STORED.replace("50", "60"), note)
    assert edited is not None
    assert edited[2:] == [
        "@@ -1,2 +1,2 @@",
        " cgroupDriver: systemd",
        "-maxPods: 60",
        "+maxPods: 50",
    ]
    elsewhere = STORED.replace("0s", "9s")
    assert living.difference("it", wanted, elsewhere, note) == [
        "it: edited by somebody, written anew"
    ]


def test_a_cluster_without_notes_is_noted_without_a_word_if_it_is_as_wanted() -> None:
    wanted = {"cgroupDriver": "systemd", "serverTLSBootstrap": False}
    assert living.difference("it", wanted, STORED, None) == []
    assert living.difference("it", wanted | {"maxPods": 9}, STORED, None)


def test_a_setting_that_lost_its_note_gets_it_back_only_where_it_is_as_wanted() -> None:
    wanted = {"cgroupDriver": "systemd", "maxPods": 50}
    note = living.adopted(wanted, STORED)
    assert living.difference("it", wanted, STORED, note) is None
    assert living.adopted(wanted | {"maxPods": 51}, STORED) is None


def test_a_kubelets_file_differs_by_settings_not_by_what_is_its_own() -> None:
    own = {"containerRuntimeEndpoint": "unix:///x", "resolvConf": "/run/y", "maxPods": 50}
    cluster = {"containerRuntimeEndpoint": "", "maxPods": 50}
    assert living.kubelet_difference(yaml.safe_dump(own), cluster) == []
    assert living.kubelet_difference(yaml.safe_dump(own), cluster | {"maxPods": 51})[-2:] == [
        "-maxPods: 50",
        "+maxPods: 51",
    ]


def test_what_a_removed_setting_will_be_is_kubeadms_default_not_its_old_value() -> None:
    wanted = {"cgroupDriver": "systemd"}
    note = living.note(wanted | {"maxPods": 50}, STORED)
    assert living.expected(wanted, STORED, note) == {
        "cgroupDriver": "systemd",
        "syncFrequency": "0s",
    }


def test_a_value_that_kubeadm_writes_in_another_way_is_no_difference_once_it_is_noted() -> None:
    wanted = {"evictionPressureTransitionPeriod": "5m", "maxPods": 0, "unknown": 1}
    stored = "evictionPressureTransitionPeriod: 5m0s\n"
    note = living.note(wanted, stored)
    coming = living.expected(wanted, stored, note)
    assert coming == {"evictionPressureTransitionPeriod": "5m0s"}
    assert living.kubelet_difference(stored, coming) == []
    more = wanted | {"registryBurst": 9}
    assert living.expected(more, stored, note)["registryBurst"] == 9


@pytest.mark.parametrize(
    ("started", "path"),
    [(1000, None), (999, "/etc/a.yaml"), (None, None)],
    ids=["after all files", "before one", "does not run"],
)
def test_an_api_server_is_older_than_a_file_that_it_has_not_read(
    started: int | None, path: str | None
) -> None:
    start = datetime.fromtimestamp(started, UTC) if started else None
    assert living.newer_than(start, "1000 /etc/a.yaml\n900 /etc/b.yaml") == path


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cluster_configuration": {"networking": {"dnsDomain": "x"}}}, None),
        (
            {"cluster_configuration": {"clusterName": "x"}},
            "group_data: cluster_configuration has clusterName ('x'), which comes from"
            " cluster_name; take it out there",
        ),
    ],
)
def test_what_has_a_key_of_its_own_is_not_said_twice(
    settings: dict[str, Any], words: str | None
) -> None:
    assert contradiction(replace(HOME, **settings)) == words


@pytest.mark.parametrize(
    ("there", "other"),
    [
        ("# by hand\nspec: {a: 1}\n", False),
        ("spec: {a: 2}\n", True),
        ("", True),
        ("spec: [\n", True),
    ],
)
def test_only_what_makes_another_pod_is_waited_for(there: str, other: bool) -> None:
    assert living.other_pod(there, "spec: {a: 1}\n") is other


KEPT = "/before/etc/kubernetes"


@pytest.mark.parametrize(
    ("kept", "ready_since", "components"),
    [
        (f"1000 {KEPT}/manifests/kube-scheduler.yaml.written", 1000, set()),
        (f"1000 {KEPT}/manifests/kube-scheduler.yaml.written", 999, {"kube-scheduler"}),
        (f"1000 {KEPT}/manifests/kube-scheduler.yaml.written", None, {"kube-scheduler"}),
        (f"1000 {KEPT}/audit-policy.yaml.written", None, {"kube-apiserver"}),
        # It runs with the old rules, and is restarted for that.
        (f"1000 {KEPT}/audit-policy.yaml.written", 999, set()),
        ("", None, set()),
    ],
)
def test_a_change_that_was_cut_off_is_proven_by_pods_that_started_after_it(
    kept: str, ready_since: int | None, components: set[str]
) -> None:
    started = {}
    if ready_since:
        since = datetime.fromtimestamp(ready_since, UTC)
        started = dict.fromkeys(("kube-scheduler", "kube-apiserver"), since)
    assert living.unproven(kept, started) == components
