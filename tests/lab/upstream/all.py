"""group_data of a site on the internet, whose servers are stand-ins with a key of their own."""

from pathlib import Path as _Path

from barekube.openpgp import fingerprints as _fingerprints

bundle_url = None
bundle_ca = None
bundle_key = None
_key = _fingerprints((_Path.home() / ".cache/barekube/bundle/apt.asc").read_text())[0]
package_sources = {
    "kubernetes": (
        "https://pkgs.k8s.io/core:/stable:/{minor}/deb/",
        "/",
        "",
        "https://pkgs.k8s.io/core:/stable:/{minor}/deb/Release.key",
        _key,
    ),
    "containerd": (
        "https://download.docker.com/linux/{distribution}",
        "{codename}",
        "stable",
        "https://download.docker.com/linux/{distribution}/gpg",
        _key,
    ),
}
# It would be data of the hosts.
del _key
