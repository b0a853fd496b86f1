"""The real bundle: every program is on its tag, and not one byte of it can change unseen."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barekube import versions
from bundle import components, debian, images, oci, packages
from bundle.integrity import Part, Record
from bundle.paths import Paths, default_cache
from bundle.registry import load_names

REPOSITORY = Path(__file__).parents[2]
BUNDLE = [sys.executable, "-m", "bundle"]
HOST = "127.0.0.1"

# Program -> how it is asked, and what it says when it is on its tag.
KUBERNETES = f"Kubernetes v{versions.KUBERNETES}"
VERSIONS = {
    "kubelet": (["--version"], KUBERNETES),
    "kube-apiserver": (["--version"], KUBERNETES),
    "kube-controller-manager": (["--version"], KUBERNETES),
    "kube-scheduler": (["--version"], KUBERNETES),
    "kube-proxy": (["--version"], KUBERNETES),
    "kubeadm": (["version", "-o", "short"], f"v{versions.KUBERNETES}"),
    "kubectl": (["version", "--client"], f"Client Version: v{versions.KUBERNETES}"),
    "containerd": (["--version"], f" v{versions.CONTAINERD}"),
    "ctr": (["--version"], f" v{versions.CONTAINERD}"),
    "containerd-shim-runc-v2": (["-v"], f"Version:  v{versions.CONTAINERD}"),
    "runc": (["--version"], f"runc version {versions.RUNC}"),
    "crictl": (["--version"], f"crictl version v{versions.CRI_TOOLS}"),
    "etcd": (["--version"], f"etcd Version: {versions.ETCD}"),
    "etcdctl": (["version"], f"etcdctl version: {versions.ETCD}"),
    "etcdutl": (["version"], f"etcdutl version: {versions.ETCD}"),
    "coredns": (["-version"], f"CoreDNS-{versions.COREDNS}"),
    "pause": (["-v"], f"pause.c v{versions.PAUSE}"),
    "traefik": (["version"], versions.TRAEFIK),
    "agnhost": (["--version"], f"version {versions.AGNHOST}"),
    **{
        plugin: (["--version"], f"CNI {plugin} plugin v{versions.CNI_PLUGINS}")
        for plugin in components.CNI.programs
    },
}


def bundle(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*BUNDLE, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )


@pytest.fixture(scope="session")
def paths() -> Paths:
    """The user's own bundle, built."""
    built = bundle("build")
    assert built.returncode == 0, built.stdout + built.stderr
    return Paths(default_cache(), default_cache() / "bundle")


def program(paths: Paths, name: str) -> Path:
    """The newest build of a program: the one that the packages and images are made of.

    Those of a former release, which the drill of upgrades builds beside, are no part of them.
    """
    former = tuple(f"{each.name}-{each.version}-" for each in components.FORMER)
    found = [
        path
        for path in paths.programs.glob(f"*-amd64-*/{name}")
        if not path.parent.name.startswith(former)
    ]
    return max(found, key=lambda path: path.stat().st_mtime)


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    """One bit of a file is another, until the end."""
    middle = path.stat().st_size // 2

    def flip() -> None:
        with path.open("r+b") as file:
            file.seek(middle)
            byte = file.read(1)[0]
            file.seek(middle)
            file.write(bytes([byte ^ 1]))

    flip()
    try:
        yield
    finally:
        flip()


@pytest.mark.parametrize("name", VERSIONS)
def test_a_program_says_the_version_of_its_tag(paths: Paths, name: str) -> None:
    arguments, wanted = VERSIONS[name]
    done = subprocess.run(
        [program(paths, name), *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    # The whole word: 3.7.0 is not 3.7.01.
    said = done.stdout + done.stderr
    assert re.search(rf"{re.escape(wanted)}(\s|$)", said), said


def test_every_program_that_is_compiled_is_asked_for_its_version() -> None:
    compiled = {name for component in components.COMPONENTS for name in component.programs}
    assert compiled - set(VERSIONS) == {"lab-network"}


def test_agnhosts_tag_is_that_of_the_kubernetes_which_it_is_built_from(paths: Paths) -> None:
    source = paths.cache / f"go/mod/k8s.io/kubernetes@v{versions.KUBERNETES}"
    assert (source / "test/images/agnhost/VERSION").read_text().strip() == versions.AGNHOST


def test_runc_has_seccomp_and_needs_no_library(paths: Paths) -> None:
    runc = program(paths, "runc")
    said = subprocess.run([runc, "--version"], capture_output=True, text=True, check=True).stdout
    assert "libseccomp: " in said
    assert b"ld-linux" not in runc.read_bytes()[:4096]


def test_a_second_build_with_nothing_to_do_makes_nothing(paths: Paths) -> None:
    began = time.monotonic()
    done = bundle("build")
    seconds = time.monotonic() - began
    assert done.returncode == 0
    assert ": made\n" not in done.stdout
    # 2 s; what it must not do takes minutes. Python alone was seven times slower here on some days.
    assert seconds < 30


def layer_of(paths: Paths, name: str, platform: str = "linux/amd64") -> Path:
    (image,) = (
        part
        for part in Record(paths.manifest).parts.values()
        if (part.notes.get("image"), part.notes.get("platform")) == (name, platform)
    )
    return max((paths.bundle / file for file in image.files), key=lambda path: path.stat().st_size)


def victims(paths: Paths) -> dict[str, Path]:
    pool = paths.www / "pkgs.k8s.io"
    index = load_names(paths)[versions.IMAGES["kube-proxy"]].removeprefix("sha256:")
    # A cache that an earlier barekube filled has its packages too, which nothing reads any more.
    fetched = debian.entry("trixie", "amd64", paths)
    socat = next(name for name in fetched.files if name.startswith("socat_"))
    return {
        "a compiled program": program(paths, "kubelet"),
        "a fetched package": fetched.path(socat),
        "a package of the pool": next(pool.rglob("kubelet_*.deb")),
        "an index of apt": next(pool.rglob("InRelease")),
        "a layer": layer_of(paths, versions.IMAGES["kube-proxy"]),
        "an image's index": paths.registry / "blobs/sha256" / index,
        "the images' names": paths.registry / "images.json",
    }


VICTIMS = [
    "a compiled program",
    "a fetched package",
    "a package of the pool",
    "an index of apt",
    "a layer",
    "an image's index",
    "the images' names",
]


@pytest.mark.parametrize("which", VICTIMS)
def test_a_flipped_byte_is_refused_by_name(paths: Paths, which: str) -> None:
    victim = victims(paths)[which]
    sentence = (
        f"{victim}: its sha256 is not the recorded one; delete it and run python -m bundle build"
    )
    with flipped(victim):
        done = bundle("build")
        # A server would look at what it serves, and not at the cache.
        served = victim.is_relative_to(paths.bundle)
        refusal = bundle("serve", "--port", str(free_port())) if served else None
    assert done.returncode == 1
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if refusal:
        assert (refusal.returncode, refusal.stderr) == (1, f"bundle: {sentence}\n")
    assert bundle("build").returncode == 0


def test_a_deleted_file_is_made_again(paths: Paths) -> None:
    victim = victims(paths)["a layer"]
    content = victim.read_bytes()
    victim.unlink()
    assert bundle("build").returncode == 0
    assert victim.read_bytes() == content


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def url(paths: Paths) -> Iterator[str]:
    """The bundle, served."""
    port = free_port()
    process = subprocess.Popen(
        [*BUNDLE, "serve", "--address", HOST, "--port", str(port)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline().startswith("serving ")
    yield f"https://{HOST}:{port}"
    process.kill()
    process.wait()


@pytest.mark.parametrize("release", debian.RELEASES)
def test_apt_gets_a_whole_node_from_it(
    paths: Paths, url: str, tmp_path: Path, release: str
) -> None:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "status").touch()
    signed = f"deb [signed-by={paths.bundle / 'apt.asc'}] {url}"
    sources = tmp_path / "sources.list"
    sources.write_text(
        f"{signed}/debian {release} main\n"
        f"{signed}/pkgs.k8s.io/core:/stable:/{versions.kubernetes_minor()}/deb/ /\n"
        f"{signed}/download.docker.com/linux/debian {release} stable\n"
    )
    configuration = debian.configuration(tmp_path, "amd64")
    configuration += (
        f'\nDir::Etc::sourcelist "{sources}";'
        f'\nAcquire::https::CaInfo "{paths.bundle / "ca.crt"}";\n'
    )
    (tmp_path / "apt.conf").write_text(configuration)
    env = {**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf")}
    containerd = packages.containerd_package(debian.RELEASES[release], release)
    wanted = [*packages.kubernetes_packages(), containerd]
    install = [f"{package.name}={package.version}" for package in wanted]
    subprocess.run(["apt-get", "-q", "update", "--error-on=any"], check=True, env=env)
    subprocess.run(
        ["apt-get", "-qy", "install", "--download-only", *install, *debian.HOST_PACKAGES],
        check=True,
        env=env,
    )
    fetched = {path.name.split("_")[0] for path in (tmp_path / "cache/archives").glob("*.deb")}
    assert {package.name for package in wanted} | set(debian.HOST_PACKAGES) <= fetched


def get(paths: Paths, url: str) -> bytes:
    command = ["curl", "-sSf", "--cacert", str(paths.bundle / "ca.crt"), url]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("name", versions.IMAGES)
def test_an_image_is_pulled_whole_as_containerd_asks_for_it(
    paths: Paths, url: str, tmp_path: Path, name: str
) -> None:
    host, _, rest = versions.IMAGES[name].partition("/")
    path, _, tag = rest.rpartition(":")
    top = f"{url}/v2/{path}"
    index = json.loads(get(paths, f"{top}/manifests/{tag}?ns={host}"))
    platform = {"os": "linux", "architecture": "amd64"}
    (entry,) = (each for each in index["manifests"] if each["platform"] == platform)
    manifest = json.loads(get(paths, f"{top}/manifests/{entry['digest']}?ns={host}"))
    config = json.loads(get(paths, f"{top}/blobs/{manifest['config']['digest']}?ns={host}"))
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    tar = tmp_path / "layer.tar"
    tar.write_bytes(get(paths, f"{top}/blobs/{layer['digest']}?ns={host}"))
    (tmp_path / "root").mkdir()
    subprocess.run(["tar", "-xf", tar, "-C", tmp_path / "root"], check=True)
    program = (config["config"].get("Entrypoint") or config["config"]["Cmd"])[0]
    assert os.access(tmp_path / "root" / program.lstrip("/"), os.X_OK)


def unpack(paths: Paths, name: str, root: Path) -> None:
    layer = layer_of(paths, versions.IMAGES[name])
    subprocess.run(["tar", "-xf", layer, "-C", root], check=True)


def test_busyboxs_image_has_the_version_of_its_tag_and_the_names_that_run(
    paths: Paths, tmp_path: Path
) -> None:
    unpack(paths, "busybox", tmp_path)
    (image,) = (image for image in images.IMAGES if image.name == versions.IMAGES["busybox"])
    for name in image.applets:
        done = subprocess.run(["chroot", tmp_path, f"/bin/{name}", "--help"], capture_output=True)
        assert f"BusyBox v{versions.BUSYBOX} ".encode() in done.stderr, name


def test_kube_proxys_image_has_an_iptables_that_runs(paths: Paths, tmp_path: Path) -> None:
    unpack(paths, "kube-proxy", tmp_path)
    for program, said in {
        "iptables": "(nf_tables)",
        "iptables-restore": "(nf_tables)",
        "ip6tables-save": "(nf_tables)",
        "nft": "nftables v",
        "conntrack": "conntrack v",
        "modprobe": "kmod version",
    }.items():
        done = subprocess.run(
            ["chroot", tmp_path, program, "--version"], capture_output=True, text=True, check=True
        )
        assert said in done.stdout


# What readelf says of a program of an architecture, and what an image's index calls it.
MACHINES = {"arm64": ("AArch64", "linux/arm64"), "arm": ("ARM", "linux/arm/v7")}


def held(paths: Paths, arch: str) -> list[Part]:
    """What the bundle has of an architecture beside amd64; none is built by default."""
    found = [
        part
        for part in Record(paths.manifest).parts.values()
        if part.notes.get("architecture") == arch or part.notes.get("platform") == MACHINES[arch][1]
    ]
    if not found:
        pytest.skip(f"the bundle has nothing for {arch}: python -m bundle build --arch {arch}")
    return found


def machines_of(root: Path) -> set[str]:
    """For which CPUs the programs below a directory are."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    programs = [path for path in files if path.open("rb").read(4) == b"\x7fELF"]
    said = subprocess.run(
        ["readelf", "-h", *programs], capture_output=True, text=True, check=True
    ).stdout
    return set(re.findall(r"Machine: +(\S+)", said))


@pytest.mark.parametrize("arch", MACHINES)
def test_every_package_of_an_architecture_has_programs_for_it(
    paths: Paths, tmp_path: Path, arch: str
) -> None:
    debian_arch = versions.DEBIAN_ARCHITECTURES[arch]
    names = {package.name for package in packages.kubernetes_packages()} | {"containerd.io"}
    files = [file for part in held(paths, arch) for file in part.files if file.endswith(".deb")]
    ours = [paths.bundle / f for f in files if Path(f).name.split("_")[0] in names]
    assert {path.name.split("_")[0] for path in ours} == names
    for deb in ours:
        assert deb.name.endswith(f"_{debian_arch}.deb")
        field = ["dpkg-deb", "-f", str(deb), "Architecture"]
        said = subprocess.run(field, capture_output=True, text=True, check=True).stdout
        assert said.strip() == debian_arch
        root = tmp_path / deb.name
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
        assert machines_of(root) == {MACHINES[arch][0]}, deb.name


@pytest.mark.parametrize("arch", MACHINES)
def test_every_images_index_shows_an_architecture_that_its_programs_are_for(
    paths: Paths, tmp_path: Path, arch: str
) -> None:
    machine, platform = MACHINES[arch]
    found = {part.notes["image"] for part in held(paths, arch) if "image" in part.notes}
    built = [image for image in images.IMAGES if image.name in found]
    assert {"pause", "kube-proxy"} <= {name.rpartition("/")[2].partition(":")[0] for name in found}
    for number, image in enumerate(built):
        digest = load_names(paths)[image.name].removeprefix("sha256:")
        index = json.loads((paths.registry / "blobs/sha256" / digest).read_text())
        platforms = {oci.platform_text(each["platform"]) for each in index["manifests"]}
        assert {platform, "linux/amd64"} <= platforms, image.name
        root = tmp_path / str(number)
        root.mkdir()
        layer = layer_of(paths, image.name, platform)
        subprocess.run(["tar", "-xf", layer, "-C", root], check=True)
        assert machines_of(root) == {machine}, image.name


@pytest.mark.parametrize("arch", MACHINES)
def test_runc_of_an_architecture_needs_no_library_and_has_seccomp(paths: Paths, arch: str) -> None:
    held(paths, arch)
    found = paths.programs.glob(f"runc-*-{arch}-*/runc")
    runc = max(found, key=lambda path: path.stat().st_mtime).read_bytes()
    assert b"ld-linux" not in runc[:4096]
    assert b"libseccomp-golang.(*ScmpFilter)" in runc
