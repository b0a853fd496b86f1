"""Fingerprints, compared with what gpg says of the same key."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from barekube.openpgp import fingerprints


def _gpg(home: Path, *words: str) -> str:
    command = ["gpg", "--batch", "--quiet", *words]
    env = os.environ | {"GNUPGHOME": str(home)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("kind", ["rsa2048", "ed25519"])
def test_the_fingerprint_is_the_one_that_gpg_shows(tmp_path: Path, kind: str) -> None:
    tmp_path.chmod(0o700)
    _gpg(tmp_path, "--passphrase", "", "--quick-gen-key", "someone", kind, "sign", "never")
    shown = _gpg(tmp_path, "--with-colons", "--list-keys")
    wanted = next(line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr"))
    assert fingerprints(_gpg(tmp_path, "--armor", "--export")) == [wanted]


def _armour(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    begin, end = (f"-----{word} PGP PUBLIC KEY BLOCK-----" for word in ("BEGIN", "END"))
    return f"{begin}\n\n{text}\n{end}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("<html>404</html>", "not an armoured OpenPGP public key", id="an error page"),
        pytest.param("", "not an armoured OpenPGP public key", id="nothing"),
        pytest.param(_armour(b"\xc6"), "the key is cut off", id="cut off in its head"),
        pytest.param(_armour(b"\xc6\x20\x04"), "the key is damaged", id="cut off in its body"),
    ],
)
def test_what_is_no_key_is_said(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fingerprints(text)
