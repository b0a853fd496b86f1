"""Manifests that are no use, how objects differ, and what is left over of a stage."""

import base64
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client as k8s

from barekube.manifests import (
    BadManifest,
    Object,
    by_hand,
    difference,
    left_over,
    pruned,
    read,
    secrets_of,
    stage_of,
)


def _object(version: str, kind: str, name: str, space: str = "", **rest: Any) -> dict[str, Any]:  # noqa: ANN401
    metadata = {"name": name, **({"namespace": space} if space else {}), **rest}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


LABELS = {"barekube/stage": "network"}
WANTED = [_object("apps/v1", "DaemonSet", "weave-net", "kube-system", labels=LABELS)]


def test_what_the_manifests_have_no_more_is_left_over_also_under_another_namespace() -> None:
    same = _object("apps/v1", "DaemonSet", "weave-net", "kube-system")
    moved = _object("apps/v1", "DaemonSet", "weave-net", "default")
    assert stage_of(WANTED) == "network"
    assert left_over([same, moved], WANTED) == [moved]


@pytest.mark.parametrize(
    ("version", "kind", "may_go"),
    [
        ("apps/v1", "DaemonSet", True),
        ("v1", "ConfigMap", True),
        ("v1", "Secret", False),
        ("v1", "Namespace", False),
        ("v1", "PersistentVolumeClaim", False),
        ("storage.k8s.io/v1", "StorageClass", False),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
        ("ceph.rook.io/v1", "CephCluster", False),
    ],
)
def test_data_and_what_others_hang_on_is_never_pruned(
    version: str, kind: str, may_go: bool
) -> None:
    assert pruned(_object(version, kind, "x")) == may_go


def test_what_is_not_pruned_is_named_with_its_command() -> None:
    secret = _object("v1", "Secret", "password", "kube-system")
    assert by_hand(secret) == "kubectl delete -n kube-system secret password"


def test_the_secrets_of_a_workload_are_those_of_all_its_containers() -> None:
    def container(name: str) -> k8s.V1Container:
        reference = k8s.V1EnvVarSource(secret_key_ref=k8s.V1SecretKeySelector(name=name, key="k"))
        field = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="spec.nodeName"))
        variables = [("A", "b", None), ("B", None, reference), ("C", None, field)]
        env = [k8s.V1EnvVar(name=key, value=value, value_from=of) for key, value, of in variables]
        return k8s.V1Container(name=name, env=env)

    twice = [container("second")] * 2
    pod = k8s.V1PodSpec(init_containers=[container("first")], containers=twice)
    assert secrets_of(pod) == ["first", "second"]
    assert secrets_of(k8s.V1PodSpec(containers=[k8s.V1Container(name="bare")])) == []


_NO_OBJECT = "{file} holds a document that is no Kubernetes object; correct or remove it"
_NO_NAME = "{file} holds a ConfigMap without a name; give it metadata.name"
_NO_MAPPING = "{file}: ConfigMap s/n: metadata.%s is no mapping; fill it or take it out"
_NO_NAMESPACE = "{file}: %s n: it is in no namespace; give it metadata.namespace"
_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n, namespace: s}\n"
_SECRET = _MAP.replace("ConfigMap", "Secret")
_NO_TEXTS = "{file}: Secret s/n: %s is no mapping of names to texts; put its values in quotes"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a", _NO_OBJECT),
        ("a", _NO_OBJECT),
        ("kind: ConfigMap\nmetadata: {name: n, namespace: s}", _NO_OBJECT),
        ("apiVersion: v1\nmetadata: {name: n, namespace: s}", _NO_OBJECT),
        ("apiVersion: 1\nkind: ConfigMap\nmetadata: {name: n, namespace: s}", _NO_OBJECT),
        ("apiVersion: v1\nkind: ConfigMap", _NO_NAME),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata:", _NO_NAME),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: s}", _NO_NAME),
        (
            _MAP.replace("name: n,", "name: 5,"),
            "{file}: ConfigMap s/5: metadata.name is no text; correct it",
        ),
        (
            _MAP.replace("namespace: s", "namespace: 5"),
            "{file}: ConfigMap 5/n: metadata.namespace is no text; correct it",
        ),
        (_MAP.replace("s}", "s, labels: }"), _NO_MAPPING % "labels"),
        (_MAP.replace("s}", "s, labels: [a]}"), _NO_MAPPING % "labels"),
        (_MAP.replace("s}", "s, annotations: }"), _NO_MAPPING % "annotations"),
        (_MAP.replace(", namespace: s", ""), _NO_NAMESPACE % "ConfigMap"),
        (
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: n}",
            _NO_NAMESPACE % "DaemonSet",
        ),
        # The API would say what it found instead of a text: the password.
        (f"{_SECRET}stringData: {{password: 12345678}}", _NO_TEXTS % "stringData"),
        (f"{_SECRET}data:", _NO_TEXTS % "data"),
        (
            "date: 2026-13-01",
            "{file}: it is not YAML: month must be in 1..12; correct it",
        ),
    ],
)
def test_a_document_that_cannot_be_applied_is_named_with_its_file_and_the_reason(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(BadManifest) as error:
        read(tmp_path)
    assert str(error.value) == sentence.format(file=file)


def test_what_belongs_to_no_namespace_or_may_not_is_no_bad_manifest(tmp_path: Path) -> None:
    wide = [
        _object("v1", "Namespace", "n"),
        _object("rbac.authorization.k8s.io/v1", "ClusterRole", "n", labels={}, annotations={}),
        # The API knows of these.
        _object("ceph.rook.io/v1", "CephCluster", "n"),
    ]
    (tmp_path / "a.yaml").write_text("---\n".join(f"{each}\n" for each in wide))
    assert [each for _, each in read(tmp_path)] == wide


def _secret(values: dict[str, str], texts: dict[str, str] | None = None, **rest: Any) -> Object:  # noqa: ANN401
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    secret = _object("v1", "Secret", "s", "n", **rest)
    return {**secret, "data": data, **({"stringData": texts} if texts else {})}


@pytest.mark.parametrize(
    ("live", "wanted", "said"),
    [
        pytest.param(
            _secret({"a": "old-value", "b": "kept-value"}),
            _secret({"a": "new-value", "b": "kept-value"}),
            ["-  a: (secret)", "+  a: (another secret)"],
            id="changed",
        ),
        pytest.param(
            _secret({"a": "old-value"}),
            _secret({"a": "old-value"}, {"a": "new-value"}),
            ["-  a: (secret)", "+  a: (another secret)"],
            id="changed as text",
        ),
        pytest.param(
            _secret({"a": "kept-value"}),
            _secret({}, {"a": "kept-value"}),
            [],
            id="the same as text",
        ),
        pytest.param(
            _secret({"a": "kept-value"}), _secret({"a": "kept-value"}), [], id="unchanged"
        ),
        pytest.param(
            _secret({"a": "kept-value"}),
            _secret({"a": "kept-value", "b": "new-value"}),
            ["+  b: (secret)"],
            id="one more",
        ),
        pytest.param(
            _secret({"a": "kept-value", "b": "old-value"}),
            _secret({"a": "kept-value"}),
            ["-  b: (secret)"],
            id="one less",
        ),
    ],
)
def test_a_changed_secret_is_a_difference_that_does_not_show_it(
    live: Object, wanted: Object, said: list[str]
) -> None:
    diff = difference(live, wanted)
    signs = [each for each in diff if each[0] in "+-" and each[:3] not in ("+++", "---")]
    assert signs == said


def test_no_value_of_a_secret_is_in_its_difference_not_even_in_kubectls_note() -> None:
    note = {"kubectl.kubernetes.io/last-applied-configuration": '{"stringData": {"a": "in-clear"}}'}
    live = _secret({"a": "in-clear"}, annotations=note)
    wanted = _secret({"a": "other"}, {"b": "third"}, annotations=note, labels={"x": "y"})
    diff = "\n".join(difference(live, wanted))
    assert "(another secret)" in diff
    for value in ("in-clear", "other\n", "third"):
        assert value not in diff
        assert base64.b64encode(value.encode()).decode() not in diff


def test_what_an_editor_leaves_is_passed_over_and_what_cannot_be_read_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.yaml").write_text(_MAP)
    # Emacs's mark of a file that is being changed.
    (tmp_path / ".#a.yaml").symlink_to("somebody@somewhere.1234")
    assert [file for file, _ in read(tmp_path)] == [str(tmp_path / "a.yaml")]
    dangling = tmp_path / "b.yaml"
    dangling.symlink_to("nowhere")
    with pytest.raises(BadManifest) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"{dangling} cannot be read (No such file or directory); bring it back or remove it"
    )


def test_a_manifest_of_another_ending_is_not_forgotten_silently(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(_MAP)
    (tmp_path / "b.yml").write_text(_MAP)
    with pytest.raises(BadManifest) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'b.yml'} is not read; end its name with .yaml, or move it away"
    )
