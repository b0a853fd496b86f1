"""containerd after a power cut in the middle of a pull."""

import json

import pytest

from barekube import versions
from tests.lab.conftest import Run
from tests.lab.recorder import ssh

HOST = "worker-2"
IMAGE = versions.IMAGES["busybox"]


def _ctr(words: str) -> str:
    return ssh(HOST, f"ctr -n k8s.io {words}")


def test_a_layer_whose_download_was_spoilt_is_downloaded_anew_after_the_next_boot(
    site: Run,
) -> None:
    ssh(HOST, f"crictl pull {IMAGE}")
    digest = next(row.split()[2] for row in _ctr("images ls").splitlines() if IMAGE in row)
    manifest = json.loads(_ctr(f"content get {digest}"))
    while "layers" not in manifest:
        (one,) = [
            each for each in manifest["manifests"] if each["platform"]["architecture"] == "amd64"
        ]
        manifest = json.loads(_ctr(f"content get {one['digest']}"))
    layer = manifest["layers"][0]
    ssh(HOST, f"crictl rmi {IMAGE}")
    # As long as the layer and full of holes, under the name by which a pull looks for it.
    expected = f"--expected-size {layer['size']} --expected-digest {layer['digest']}"
    spoilt = f"head -c {layer['size']} /dev/zero | ctr -n k8s.io content ingest {expected}"
    ssh(HOST, f"{spoilt} layer-{layer['digest']} 2>&1 || true")
    with pytest.raises(AssertionError, match="unexpected commit digest"):
        ssh(HOST, f"crictl pull {IMAGE}")
    ssh(HOST, "systemctl restart containerd")
    ssh(HOST, f"crictl pull {IMAGE}")
