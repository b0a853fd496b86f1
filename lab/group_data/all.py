"""What is different in the lab: a bundle instead of the internet, one CPU, a pod network of its own
unless the bundle has Weave's images."""

from barekube.openpgp import fingerprints as _fingerprints
from lab.paths import BUNDLE as _BUNDLE
from lab.pod_network import manifests as _pod_network

cluster_name = "lab"
bundle_url = "https://10.77.0.1"
bundle_ca = str(_BUNDLE / "ca.crt")
bundle_key = _fingerprints((_BUNDLE / "apt.asc").read_text())[0]
network_manifests = _pod_network()
# A User Mode Linux of one CPU is several times faster than of two.
ignored_preflight = ["NumCPU"]
