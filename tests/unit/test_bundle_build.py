"""A build as a whole: parts that fail, parts that are there, and what is left over."""

import re
from functools import partial
from pathlib import Path

import pytest

from barekube import versions
from bundle import __main__ as command
from bundle import aptrepo, build, images, listing, registry
from bundle.build import Builder, Done, Step
from bundle.components import FORMER
from bundle.errors import BundleError
from bundle.integrity import Entry, Part, Record, sha256
from bundle.paths import Paths


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    made = Paths(tmp_path / "cache", tmp_path / "bundle")
    made.make()
    (made.bundle / "apt.asc").write_text("the key")
    (made.private / "gnupg").mkdir()
    monkeypatch.setattr(build, "need_packages", lambda needed: None)
    monkeypatch.setattr("bundle.trust.Signer.close", lambda self: None)
    return made


def part(builder: Builder, name: str, content: str, key: str = "key") -> Done:
    def make() -> Part:
        path = builder.paths.www / name
        path.write_text(content)
        return Part(key, {f"www/{name}": sha256(path)})

    return builder._recorded(name, key, make)


def fails() -> Done:
    raise BundleError("the module cannot be downloaded")


def steps(monkeypatch: pytest.MonkeyPatch, *wanted: str, key: str = "key") -> None:
    def made(builder: Builder) -> list[Step]:
        return [
            Step(name, fails if name == "broken" else partial(part, builder, name, name, key))
            for name in wanted
        ]

    monkeypatch.setattr(Builder, "steps", made)


def test_a_part_that_cannot_be_made_is_named_and_the_others_are_made(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps(monkeypatch, "a", "broken", "b")
    assert build.build(paths, ["amd64"]) is False
    said = capsys.readouterr().out
    assert "[ 2/3] broken: the module cannot be downloaded\n" in said
    assert said.endswith("1 of 3 parts are missing: broken\n")
    assert sorted(path.name for path in paths.www.iterdir()) == ["a", "b"]


def test_what_is_there_is_not_made_again(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps(monkeypatch, "a", "b")
    assert build.build(paths, ["amd64"])
    (paths.www / "b").unlink()
    capsys.readouterr()
    assert build.build(paths, ["amd64"])
    said = capsys.readouterr().out
    assert "[ 1/2] a: is there\n[ 2/2] b: made\n" in said


def test_what_is_made_from_something_else_is_made_again(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps(monkeypatch, "a", key="Go 1.26.8")
    assert build.build(paths, ["amd64"])
    steps(monkeypatch, "a", key="Go 1.26.9")
    assert build.build(paths, ["amd64"])
    assert "a: is there" not in capsys.readouterr().out


def test_a_build_refuses_a_flipped_byte_and_makes_nothing(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(monkeypatch, "a")
    assert build.build(paths, ["amd64"])
    (paths.www / "a").write_text("b")
    steps(monkeypatch, "a", "b")
    with pytest.raises(BundleError, match=rf"^{paths.www}/a: its sha256 is not the recorded one"):
        build.build(paths, ["amd64"])
    assert not (paths.www / "b").exists()


def test_files_that_no_part_owns_are_removed(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [paths.www / "old/pool/a.deb", paths.registry / "blobs/sha256/abc"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    steps(monkeypatch, "a")
    assert build.build(paths, ["amd64"])
    assert not any(path.exists() for path in left)
    assert not (paths.www / "old").exists()


def test_an_architecture_that_cannot_be_built_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    paths = Paths(tmp_path / "cache", tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"^riscv64 cannot be built, only amd64, arm64, arm$"):
        build.build(paths, ["riscv64"])
    assert not paths.cache.exists()


def test_a_changed_recipe_is_seen() -> None:
    assert build.recipe("packages") != build.recipe("images")
    # The texts that go into packages are part of their recipe.
    assert len(build.recipe("packages")) > 8


def test_the_list_says_what_is_missing_and_what_fails_without_it(paths: Paths) -> None:
    said = listing.table(paths, Record(paths.manifest))
    assert "image registry.k8s.io/pause:3.10.2" in said
    line = next(line for line in said.splitlines() if "weave-kube:2.9.0" in line)
    assert line.split(None, 3)[2:] == [
        "missing",
        "the pod network Weave; a lab has its own instead",
    ]


def test_the_list_says_what_an_image_lacks_that_upstreams_has(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundle.trust.Signer.fingerprint", lambda self: "0A")
    name = versions.IMAGES["traefik"]
    record = Record(paths.manifest)
    record.put("a", registry.image_part("", name, "linux/amd64", {"digest": "sha256:0a"}, []))
    said = listing.table(paths, record)
    (line,) = (line for line in said.splitlines() if name in line)
    assert line.split(None, 2)[2] == "amd64 (built from traefik, without the dashboard's pages)"


def test_the_list_says_of_each_image_whether_it_was_built_or_added(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundle.trust.Signer.fingerprint", lambda self: "0A")
    record = Record(paths.manifest)

    def put(title: str, name: str) -> None:
        record.put(title, registry.image_part("", name, "linux/amd64", {"digest": "a"}, []))

    former = f"registry.k8s.io/kube-proxy:v{versions.FORMER['kubernetes']}"
    put("image former", former)
    put("image old", "registry.k8s.io/kube-proxy:v1.30.0")
    put("image agnhost", versions.IMAGES["agnhost"])
    put("added agnhost", versions.IMAGES["agnhost"])
    said = listing.table(paths, record).splitlines()
    there = {line.split()[1]: line.split(None, 2)[2] for line in said if " amd64 (" in line}
    assert there == {
        former: f"amd64 (built from {FORMER[0].name})",
        "registry.k8s.io/kube-proxy:v1.30.0": "amd64 (of an earlier build)",
        versions.IMAGES["agnhost"]: "amd64 (added)",
    }


def test_the_list_says_for_which_cpu_an_image_is_missing(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundle.trust.Signer.fingerprint", lambda self: "0A")
    record = Record(paths.manifest)
    for arch in ("amd64", "arm"):
        notes = {"repository": "debian bookworm", "architecture": arch}
        record.put(f"packages {arch}", Part(arch, {}, notes=notes))
    for name in ("docker.io/rajchaudhuri/weave-kube:2.9.0", "docker.io/rook/ceph:v1.20.6"):
        part = registry.image_part("", name, "linux/amd64", {"digest": "a"}, [])
        record.put(f"added {name}", part)
    said = [re.split("  +", line) for line in listing.table(paths, record).splitlines()]
    rows = [row[1:] for row in said if "weave-kube" in row[0] or "rook/ceph" in row[0]]
    # There is no Ceph for 32-bit ARM to be had.
    assert rows == [
        ["amd64 (added)"],
        ["amd64 (added)"],
        ["missing for arm", listing.NOT_BUILT["docker.io/rajchaudhuri/weave-kube:2.9.0"]],
    ]


def test_the_list_says_where_the_servers_ca_is(paths: Paths) -> None:
    assert "bundle_ca, of the server: not made" in listing.table(paths, Record(paths.manifest))
    (paths.bundle / "ca.crt").write_text("its CA")
    said = listing.table(paths, Record(paths.manifest))
    assert f"bundle_ca, of the server: {paths.bundle}/ca.crt" in said


def test_the_list_says_what_of_rook_is_missing(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundle.trust.Signer.fingerprint", lambda self: "0A")
    record = Record(paths.manifest)
    version, _, crds = next(
        line.split()[1:]
        for line in Path("manifests/rook/upstream.lock").read_text().splitlines()
        if line.startswith("crds ")
    )
    record.put("file rook crds", Part(crds, {f"www/files/{crds}": crds}))
    said = [re.split("  +", line) for line in listing.table(paths, record).splitlines()]
    assert [row[1:] for row in said if row[0] == f"file rook crds {version}"] == [["added"]]
    wanted = {
        f"file rook operator {version}": ["missing", "Rook, so all storage of the cluster"],
        "image quay.io/cephcsi/ceph-csi-operator": ["missing", "volumes from Ceph"],
    }
    assert {row[0]: row[1:] for row in said if row[0] in wanted} == wanted


def test_a_sentence_and_a_status_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bundle", "--dir", str(tmp_path / "bundle"), "add", str(tmp_path / "absent.tar")]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(command, "default_cache", lambda: tmp_path / "cache")
    assert command.main() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"bundle: {tmp_path}/absent.tar cannot be added: there is no such file\n"


def test_a_directory_that_cannot_be_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["bundle", "--dir", f"{tmp_path}/file/bundle", "build"])
    monkeypatch.setattr(command, "default_cache", lambda: tmp_path / "cache")
    assert command.main() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"bundle: {tmp_path}/file/bundle")
    assert said.endswith(": Not a directory; mend that, then run it again\n")


def test_an_added_image_stays_when_the_bundle_is_built_again(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = paths.registry / "blobs/sha256/0a"
    blob.write_text("an added image's layer")
    added = Part("", {"registry/blobs/sha256/0a": sha256(blob)})
    Record(paths.manifest).put("added example.org/a:1 linux/amd64", added)
    steps(monkeypatch, "a")
    assert build.build(paths, ["amd64"])
    assert blob.exists()


@pytest.mark.parametrize(
    ("program", "package", "tag", "of"),
    [
        ("busybox", "busybox-static", versions.BUSYBOX, "1%3a{}-6"),
        ("haproxy", "haproxy", versions.HAPROXY, "{}-1+deb13u5"),
    ],
)
def test_what_debian_has_is_of_the_version_of_its_tag_or_not_made(
    paths: Paths, program: str, package: str, tag: str, of: str
) -> None:
    (image,) = (image for image in images.IMAGES if image.name == versions.IMAGES[program])
    for version in (tag, "9.0.0"):
        name = f"{package}_{of.format(version)}_amd64.deb"
        packages = paths.cache / version
        packages.mkdir()
        (packages / name).write_text("deb")
        entry = Entry(paths.cache / "debian" / version)
        entry.fill(packages, [name], {"image": []})
        builder = Builder(paths, ["amd64"], former=False)
        builder._entries["trixie", "amd64"] = entry
        if version == tag:
            assert [deb.name for deb in builder._debs(image, "amd64")] == [name]
        else:
            with pytest.raises(BundleError, match=f"^trixie has no {package} {tag}$"):
                builder._debs(image, "amd64")


def test_an_architecture_that_is_added_leaves_what_is_there_of_others(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed: list[tuple[list[str], list[str]]] = []

    def publish(
        repository: aptrepo.Repository, www: Path, debs: set[Path], archs: list[str], signer: object
    ) -> list[Path]:
        indexed.append((sorted(path.name for path in debs), archs))
        index = www / repository.path / "InRelease"
        index.write_text(str(indexed))
        return [index]

    def add(arch: str, version: str) -> None:
        def collect(work: Path) -> list[Path]:
            deb = work / f"kubelet_{version}_{versions.DEBIAN_ARCHITECTURES[arch]}.deb"
            deb.write_text(version)
            return [deb]

        builder = Builder(paths, [arch], former=False)
        builder._packages(repository, arch, [version], collect)
        builder._index(repository)

    monkeypatch.setattr(aptrepo, "publish", publish)
    repository = aptrepo.kubernetes_repository()
    add("amd64", "1")
    add("arm", "1")
    add("amd64", "2")
    add("arm", "1")
    assert indexed == [
        (["kubelet_1_amd64.deb"], ["amd64"]),
        (["kubelet_1_amd64.deb", "kubelet_1_armhf.deb"], ["amd64", "armhf"]),
        (["kubelet_1_armhf.deb", "kubelet_2_amd64.deb"], ["amd64", "armhf"]),
    ]


def test_a_host_that_can_only_be_a_worker_gets_nothing_of_a_control_plane(paths: Paths) -> None:
    names = [step.name for step in Builder(paths, ["arm"], former=True).steps()]
    assert f"image {versions.IMAGES['kube-proxy']} arm" in names
    assert not any("etcd" in name or "apiserver" in name for name in names)
