"""The range of pod addresses, read from the network's manifests."""

from pathlib import Path

import pytest
from pyinfra.api import DeployError

from barekube.settings import pod_network

_SET = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: {name}, namespace: s}}
spec: {{template: {{spec: {{containers: [
  {{image: "a:1", env: [{{name: IPALLOC_RANGE, value: {range}}}]}}]}}}}}}
"""


@pytest.mark.parametrize(("name", "weave"), [("weave-net", True), ("another", False)])
def test_it_is_that_of_the_daemon_set(tmp_path: Path, name: str, weave: bool) -> None:
    (tmp_path / "a.yaml").write_text("# nothing but a comment\n---\n")
    (tmp_path / "b.yaml").write_text(_SET.format(name=name, range="10.32.0.0/12"))
    assert pod_network(tmp_path) == ("10.32.0.0/12", weave, 1463, ("a:1",))


def test_preflight_tries_packets_of_the_size_that_a_set_mtu_asks_for(tmp_path: Path) -> None:
    file = Path("manifests/weave/weave.yaml")
    told = file.read_text().replace("# - name: WEAVE_MTU", "- name: WEAVE_MTU")
    told = told.replace('#   value: "1300"', '  value: "1300"')
    (tmp_path / "weave.yaml").write_text(told)
    assert pod_network(tmp_path).packet == 1387


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            _SET.format(name="n", range="10.32.0.1/12"),
            "{file}: IPALLOC_RANGE: 10.32.0.1/12 has host bits set; correct it",
        ),
        (
            _SET.format(name="n", range="10.32.0.0/12}, {name: WEAVE_MTU, value: big"),
            "{file}: WEAVE_MTU: 'big' is no number of bytes; correct it",
        ),
        (
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: n, namespace: s}\nspec: {}",
            "{file}: DaemonSet s/n has no containers as Kubernetes wants them; correct it",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n, namespace: s}",
            "{folder}: no DaemonSet says IPALLOC_RANGE, the range of pod addresses; give its"
            " container that variable",
        ),
        ("- a", "{file} holds a document that is no Kubernetes object; correct or remove it"),
        (
            "apiVersion: v1\nkind: Secret\nmetadata:",
            "{file} holds a Secret without a name; give it metadata.name",
        ),
        (
            b"\xff\xfe",
            "{file}: it is not YAML: 'utf-8' codec can't decode byte 0xff in position 0: invalid"
            " start byte; correct it",
        ),
    ],
)
def test_manifests_that_do_not_say_it_are_a_sentence(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DeployError) as error:
        pod_network(tmp_path)
    assert str(error.value) == sentence.format(file=file, folder=tmp_path)
