"""The way over the internet, with stand-ins under the real names: the lab's bundle serves them.

Nobody has run it against the real servers; what is shown here is that the stages ask for the
upstream addresses, trust only the key with the wanted fingerprint, and pull from registry.k8s.io.
"""

from pathlib import Path

from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import run_lab, ssh

HOST = "cp-2"

# What the machine of such a site has: names that resolve, and a mirror of its distribution.
_SURROUNDINGS = r"""
grep -q pkgs.k8s.io /etc/hosts || cat >>/etc/hosts <<'END'
10.77.0.1 pkgs.k8s.io download.docker.com registry.k8s.io
END
mkdir -p /etc/standin && cat >/etc/standin/ca.crt
cat >/etc/apt/sources.list.d/debian.sources <<'END'
Types: deb
URIs: https://10.77.0.1/debian
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/standin.asc
END
echo 'Acquire::https::10.77.0.1::CaInfo "/etc/standin/ca.crt";' >/etc/apt/apt.conf.d/99standin
"""
_BUNDLE = Path.home() / ".cache/barekube/bundle"


def _surround() -> None:
    run_lab("up", HOST, seconds=300)
    ca, key = (_BUNDLE / "ca.crt").read_text(), (_BUNDLE / "apt.asc").read_text()
    script = _SURROUNDINGS.replace(
        "cat >/etc/standin/ca.crt", f"cat >/etc/standin/ca.crt <<'END'\n{ca}END"
    )
    ssh(HOST, f"{script}\ncat >/etc/apt/keyrings/standin.asc <<'END'\n{key}END\n")


_UPSTREAM = ["--group-data", "tests/lab/upstream"]


def _stage(deploy: Deploy, stage: str, *words: str) -> Run:
    return deploy(f"deploys/{stage}.py", *words, "--limit", HOST, "-y", extra=HOST)


def test_packages_and_images_come_from_the_upstream_addresses(deploy: Deploy, site: Run) -> None:
    _surround()
    done = _stage(deploy, "host", *_UPSTREAM)
    assert done.status == 0, done.text[-4000:]
    ssh(
        HOST,
        "cp /etc/standin/ca.crt /usr/local/share/ca-certificates/standin.crt"
        " && update-ca-certificates >/dev/null 2>&1",
    )
    for stage in ("preflight", "runtime", "kubernetes_packages"):
        done = _stage(deploy, stage, *_UPSTREAM)
        assert done.status == 0, done.text[-4000:]
    policy = ssh(HOST, "apt-cache policy kubelet containerd.io")
    assert "https://pkgs.k8s.io/core:/stable:/v1.37/deb" in policy
    assert "https://download.docker.com/linux/debian bookworm/stable" in policy
    assert ssh(HOST, "kubelet --version") == "Kubernetes v1.37.2\n"
    _no_bundle()
    pulled = ssh(HOST, "crictl pull registry.k8s.io/pause:3.10.2 2>&1")
    assert "up to date" in pulled


def _no_bundle() -> None:
    left = ssh(HOST, "ls -R /etc/containerd /etc/barekube /etc/apt 2>/dev/null || true")
    of_a_bundle = ("hosts.toml", "bundle", "barekube-debian")
    assert [each for each in of_a_bundle if each in left] == []


def test_a_bundle_that_group_data_names_no_more_leaves_nothing(deploy: Deploy, site: Run) -> None:
    stages = ("host", "runtime", "kubernetes_packages")
    for stage in stages:
        done = _stage(deploy, stage)
        assert done.status == 0, done.text[-4000:]
    assert "hosts.toml" in ssh(HOST, "ls -R /etc/containerd")
    for stage in stages:
        done = _stage(deploy, stage, *_UPSTREAM)
        assert done.status == 0, done.text[-4000:]
    _no_bundle()
    again = _stage(deploy, "runtime", *_UPSTREAM)
    assert "unchanged" in again.text and "changed:" not in again.text.replace("unchanged:", "")


def test_a_key_with_another_fingerprint_is_not_trusted(deploy: Deploy, site: Run) -> None:
    _surround()
    ssh(HOST, "rm -f /etc/apt/sources.list.d/barekube-* /etc/apt/keyrings/barekube-*")
    wrong_key = ["--group-data", "tests/lab/upstream_wrong_key"]
    done = _stage(deploy, "kubernetes_packages", *_UPSTREAM, *wrong_key)
    assert done.status == 1
    assert "the key at https://pkgs.k8s.io/core:/stable:/v1.37/deb/Release.key is not" in done.text
    assert "barekube-kubernetes.asc" not in ssh(HOST, "ls /etc/apt/keyrings")
