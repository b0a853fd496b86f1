"""The doors: who carries them, and when a certificate is made anew."""

from datetime import UTC, datetime, timedelta

import bcrypt
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from barekube import doors, kubeadm_config
from barekube.cluster import Cluster, Node

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MASTER = Node("cp-1", "192.0.2.11", control_plane=True)
WORKER = Node("w-1", "192.0.2.21", control_plane=False)
EDGE = Node("w-2", "192.0.2.22", control_plane=False, edge=True)
PODS = "10.32.0.0/12"


def _cluster(*nodes: Node) -> Cluster:
    return Cluster("home", "1.37.2", "api.home", 6443, "10.96.0.0/12", PODS, nodes)


def test_workers_carry_the_internal_door_and_edge_hosts_the_public_one() -> None:
    assert doors.of(_cluster(MASTER, WORKER, EDGE)) == {"internal": [WORKER], "public": [EDGE]}
    assert doors.of(_cluster(MASTER, WORKER)) == {"internal": [WORKER]}
    assert doors.of(_cluster(MASTER)) == {}


def test_a_host_that_becomes_edge_is_labelled_and_tainted_and_keeps_other_taints() -> None:
    phrases, patch = doors.placing(EDGE, {doors.LABEL: "internal"}, [{"key": "x", "effect": "y"}])
    assert phrases == [
        "label node-restriction.kubernetes.io/door: internal -> public",
        "taint barekube/edge:NoSchedule: set (pods that run there stay until the node is drained)",
    ]
    assert patch == {
        "metadata": {"labels": {doors.LABEL: "public"}},
        "spec": {"taints": [{"key": "x", "effect": "y"}, doors.TAINT]},
    }


def test_a_host_that_leaves_edge_loses_label_and_taint() -> None:
    phrases, patch = doors.placing(WORKER, {doors.LABEL: "public"}, [doors.TAINT])
    assert phrases[1] == "taint barekube/edge:NoSchedule: gone"
    assert patch == {"metadata": {"labels": {doors.LABEL: "internal"}}, "spec": {"taints": []}}


def test_a_taint_of_another_effect_is_not_the_wanted_one() -> None:
    weak = {**doors.TAINT, "effect": "PreferNoSchedule"}
    phrases, patch = doors.placing(EDGE, {doors.LABEL: "public"}, [weak])
    assert len(phrases) == 1
    assert patch == {"spec": {"taints": [doors.TAINT]}}


def test_a_host_of_edge_has_its_taint_before_it_has_a_pod() -> None:
    cluster = _cluster(MASTER, WORKER, EDGE)
    for node, taints in ((EDGE, [doors.TAINT]), (WORKER, [])):
        text = kubeadm_config.join(cluster, node, "a.b", "sha256:c", cut_off=False)
        assert yaml.safe_load(text)["nodeRegistration"]["taints"] == taints


def test_a_host_that_is_as_wanted_gets_no_patch() -> None:
    assert doors.placing(EDGE, {doors.LABEL: "public"}, [doors.TAINT]) == ([], {})
    assert doors.placing(MASTER, {}, [{"key": "other"}]) == ([], {})


def test_a_self_made_certificate_is_renewed_in_its_last_month_or_for_other_names() -> None:
    pem, key = doors.certificate(["cluster.internal"], NOW)
    assert doors.unfit(pem, key, NOW) is None
    assert doors.self_made(pem)
    assert doors.to_renew(pem, ["cluster.internal"], NOW + timedelta(days=366)) is None
    later = NOW + timedelta(days=368)
    assert doors.to_renew(pem, ["cluster.internal"], later) == "it ends on 2027-12-25"
    assert doors.to_renew(pem, ["a", "b"], NOW) == "it is not for a, b"
    assert doors.ended(pem, NOW + timedelta(days=398)) == "its last day is 2027-12-25"
    assert doors.unfit(pem, key, NOW - timedelta(days=1)) == "it begins on 2026-11-23"


def _for(days: int) -> bytes:
    """A certificate for so many days from NOW on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=days))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(("days", "well_until"), [(6, 4), (90, 60), (365, 335)])
def test_a_certificate_is_near_its_end_by_its_own_length(days: int, well_until: int) -> None:
    pem = _for(days)
    assert doors.ending(pem, NOW + timedelta(days=well_until, hours=-1)) is None
    said = doors.ending(pem, NOW + timedelta(days=well_until, hours=1))
    assert said == f"its last day is {NOW + timedelta(days=days):%Y-%m-%d}"


def test_the_public_doors_certificate_says_nothing_of_what_is_inside() -> None:
    cluster = _cluster(MASTER, WORKER, EDGE)
    assert doors.names(cluster, "public") == ["public.invalid"]
    assert doors.names(cluster, "internal")[:2] == ["cluster.internal", "*.cluster.internal"]


def test_a_name_that_both_doors_or_somebody_beside_a_page_want_is_named_with_its_ingresses() -> (
    None
):
    wanted = [
        ("internal", "shop.example.com", "shop/inner"),
        ("internal", "alone.example.com", "shop/alone"),
        ("public", "shop.example.com", "online/outer"),
        ("internal", "network.cluster.internal", "network-page/network-page"),
        ("internal", "network.cluster.internal", "evil/taken"),
        ("internal", "traefik.cluster.internal", "evil/taken"),
    ]
    assert doors.claims(wanted) == [
        "Ingress evil/taken wants network.cluster.internal, the name of a page",
        "Ingress evil/taken wants traefik.cluster.internal, the name of a page",
        "shop.example.com is wanted by both doors: Ingress shop/inner and, online, online/outer",
    ]


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
