"""as upstream/, with the fingerprint of nobody's key."""

package_sources = {
    "kubernetes": (
        "https://pkgs.k8s.io/core:/stable:/{minor}/deb/",
        "/",
        "",
        "https://pkgs.k8s.io/core:/stable:/{minor}/deb/Release.key",
        "0" * 40,
    ),
    "containerd": (
        "https://download.docker.com/linux/{distribution}",
        "{codename}",
        "stable",
        "https://download.docker.com/linux/{distribution}/gpg",
        "0" * 40,
    ),
}
