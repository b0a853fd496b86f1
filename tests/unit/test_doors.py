"""The doors: who carries them, what is online, and when a certificate is made anew."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from barekube import doors, manifests
from barekube.cluster import Cluster, Node

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MASTER = Node("cp-1", "192.0.2.11", control_plane=True)
WORKER = Node("w-1", "192.0.2.21", control_plane=False)
EDGE = Node("w-2", "192.0.2.22", control_plane=False, edge=True)
PODS = "10.32.0.0/12"


def _cluster(*nodes: Node) -> Cluster:
    return Cluster("home", "1.37.2", "api.home", 6443, "10.96.0.0/12", PODS, nodes)


def _documents(*directories: str) -> list[dict[str, Any]]:
    return [
        copy.deepcopy(document)
        for directory in directories
        for _, document in manifests.read(Path(directory))
    ]


def _one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(each for each in documents if each["kind"] == kind)


def test_workers_carry_the_internal_door_and_edge_hosts_the_public_one() -> None:
    assert doors.of(_cluster(MASTER, WORKER, EDGE)) == {"internal": [WORKER], "public": [EDGE]}
    assert doors.of(_cluster(MASTER, WORKER)) == {"internal": [WORKER]}
    assert doors.of(_cluster(MASTER)) == {}


def test_a_host_that_becomes_edge_is_labelled_and_tainted_and_keeps_other_taints() -> None:
    phrases, patch = doors.placing(EDGE, {doors.LABEL: "internal"}, [{"key": "x", "effect": "y"}])
    assert phrases == [
        "label node-restriction.kubernetes.io/door: internal -> public",
        "taint barekube/edge:NoSchedule: set",
    ]
    assert patch == {
        "metadata": {"labels": {doors.LABEL: "public"}},
        "spec": {"taints": [{"key": "x", "effect": "y"}, doors.TAINT]},
    }


def test_a_host_that_leaves_edge_loses_label_and_taint() -> None:
    phrases, patch = doors.placing(WORKER, {doors.LABEL: "public"}, [doors.TAINT])
    assert phrases[1] == "taint barekube/edge:NoSchedule: gone"
    assert patch == {"metadata": {"labels": {doors.LABEL: "internal"}}, "spec": {"taints": []}}


def test_a_host_that_is_as_wanted_gets_no_patch() -> None:
    assert doors.placing(EDGE, {doors.LABEL: "public"}, [doors.TAINT]) == ([], {})
    assert doors.placing(MASTER, {}, [{"key": "other"}]) == ([], {})


def test_the_doors_as_they_stand_are_apart() -> None:
    documents = _documents("manifests/traefik", "manifests/traefik/public")
    labels = {"w-1": {doors.LABEL: "internal"}, "w-2": {doors.LABEL: "public"}, "cp-1": {}}
    assert doors.claimed_twice(documents, labels) == []
    assert doors.dmz(_documents("manifests/traefik/public"), PODS) == []


def test_a_host_that_two_doors_want_is_named() -> None:
    documents = _documents("manifests/traefik", "manifests/traefik/public")
    internal = _one(documents, "DaemonSet")
    del internal["spec"]["template"]["spec"]["nodeSelector"]
    assert doors.claimed_twice(documents, {"w-2": {doors.LABEL: "public"}}) == [
        f"w-2 would carry traefik-internal and traefik-public, which both want its port {port};"
        " correct their nodeSelector"
        for port in (80, 443)
    ]


@pytest.mark.parametrize("spec", [None, {}, {"template": {"spec": {"containers": None}}}])
def test_a_door_that_is_not_written_as_kubernetes_wants_it_is_named(spec: object) -> None:
    documents = _documents("manifests/traefik/public")
    _one(documents, "DaemonSet")["spec"] = spec
    words = "DaemonSet traefik-public/traefik is not written as Kubernetes wants it"
    with pytest.raises(manifests.BadManifest, match=words):
        doors.claimed_twice(documents, {})
    with pytest.raises(manifests.BadManifest, match=words):
        doors.dmz(documents, PODS)


@pytest.mark.parametrize("what", ["served", "reached", "bound"])
def test_lists_of_what_is_online_that_differ_are_refused(what: str) -> None:
    documents = _documents("manifests/traefik/public")
    if what == "served":
        arguments = _one(documents, "DaemonSet")["spec"]["template"]["spec"]["containers"][0][
            "args"
        ]
        place = next(i for i, each in enumerate(arguments) if "ingress.namespaces" in each)
        arguments[place] += ",shop"
    elif what == "reached":
        policy = next(
            each
            for each in documents
            if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "traefik"
        )
        peer = policy["spec"]["egress"][0]["to"][0]
        peer["namespaceSelector"]["matchExpressions"][0]["values"].append("shop")
    else:
        _one(documents, "RoleBinding")["metadata"]["namespace"] = "shop"
    problems = doors.dmz(documents, PODS)
    assert problems
    assert all("shop" in each and "namespaces.yaml" in each for each in problems)


def test_a_public_door_that_reads_all_namespaces_or_has_an_api_or_reaches_pods_is_refused() -> None:
    documents = _documents("manifests/traefik/public")
    _one(documents, "ClusterRoleBinding")["roleRef"]["name"] = "traefik-public"
    _one(documents, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["args"].append(
        "--api=true"
    )
    problems = " ".join(doors.dmz(documents, "10.200.0.0/16"))
    for words in ("every namespace's Secrets", "switch its API on", "name 10.200.0.0/16"):
        assert words in problems


def test_a_self_made_certificate_is_renewed_in_its_last_month_and_a_users_is_not() -> None:
    pem, key = doors.certificate(["cluster.internal"], NOW)
    assert doors.unfit(pem, key, NOW) is None
    assert doors.self_made(pem)
    assert doors.to_renew(pem, NOW + timedelta(days=366)) is None
    assert doors.to_renew(pem, NOW + timedelta(days=368)) == "it ends on 2027-12-25"
    assert doors.unfit(pem, key, NOW + timedelta(days=398)) == "its last day is 2027-12-25"
    assert doors.unfit(pem, key, NOW - timedelta(days=1)) == "it begins on 2026-11-23"


def test_a_key_of_another_certificate_and_files_without_either_are_unfit() -> None:
    pem, key = doors.certificate(["a"], NOW)
    _, other = doors.certificate(["b"], NOW)
    assert doors.unfit(pem, other, NOW) == "its key does not belong to its certificate"
    assert doors.unfit(key, key, NOW) == "it holds no certificate"
    assert doors.unfit(pem, pem, NOW) == "it holds no key without a password"
    assert doors.unfit(None, None, NOW) == "it holds no certificate"


def test_only_the_public_door_with_the_users_certificate_insists_on_tls() -> None:
    assert "stsSeconds: 31536000" in doors.dynamic("public", own=True)
    assert "stsSeconds" not in doors.dynamic("public", own=False)
    assert "Strict-Transport-Security: ''" in doors.dynamic("public", own=False)
    assert "middlewares" not in doors.dynamic("internal", own=True)


def test_the_login_is_what_the_password_opens() -> None:
    text = yaml.safe_load(doors.login("a long password"))
    user, _, digest = text["http"]["middlewares"]["pages-login"]["basicAuth"]["users"][0].partition(
        ":"
    )
    assert user == "admin"
    assert bcrypt.checkpw(b"a long password", digest.encode())
