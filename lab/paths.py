"""Where the lab keeps things: what it built (kept), and what runs (gone after `down`)."""

from pathlib import Path
from typing import Final

CACHE: Final = Path.home() / ".cache/barekube/lab"
# Disks, keys and logs of the machines that are there now.
STATE: Final = CACHE / "state"
DISKS: Final = STATE / "disks"
LOGS: Final = STATE / "logs"
UML: Final = STATE / "uml"
KEY: Final = STATE / "id_ed25519"
KNOWN_HOSTS: Final = STATE / "known_hosts"
KUBECONFIG: Final = STATE / "kubeconfig"
# The guests' memory: files in a tmpfs of our own, so that no other one is filled.
MEMORY: Final = Path("/run/barekube-lab")
BUNDLE: Final = Path.home() / ".cache/barekube/bundle"
NAMESPACE: Final = "barekube-lab"
