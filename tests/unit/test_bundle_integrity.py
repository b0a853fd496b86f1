"""What was made is recorded, and one flipped byte is refused by name."""

from pathlib import Path

import pytest

from bundle.errors import BundleError
from bundle.integrity import Entry, Part, Record, key_of, sha256, write
from bundle.paths import Paths


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def filled(directory: Path) -> Entry:
    source = directory.parent / "source"
    source.mkdir()
    (source / "kubelet").write_bytes(b"kubelet's program")
    (source / "kubeadm").write_bytes(b"kubeadm's program")
    entry = Entry(directory)
    entry.fill(source, ["kubelet", "kubeadm"], {"image": ["a.deb"]})
    return entry


def recorded(top: Path) -> Record:
    files = {}
    for name in ("www/pool/a.deb", "registry/blobs/sha256/b"):
        path = top / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
        files[name] = sha256(path)
    record = Record(top / "manifest.json")
    for number, (name, digest) in enumerate(files.items()):
        record.put(f"part {number}", Part("key", {name: digest}))
    return record


def test_a_cached_directory_is_found_again_with_what_was_noted(tmp_path: Path) -> None:
    filled(tmp_path / "entry")
    again = Entry(tmp_path / "entry")
    assert again.present()
    assert sorted(again.files) == ["kubeadm", "kubelet"]
    assert again.notes == {"image": ["a.deb"]}
    assert again.path("kubelet").read_bytes() == b"kubelet's program"


def test_an_absent_directory_is_not_present(tmp_path: Path) -> None:
    assert not Entry(tmp_path / "entry").present()


def test_a_flipped_byte_in_the_cache_is_refused_by_name(tmp_path: Path) -> None:
    filled(tmp_path / "entry")
    flip(tmp_path / "entry/kubelet")
    with pytest.raises(BundleError) as refusal:
        Entry(tmp_path / "entry").present()
    assert str(refusal.value) == (
        f"{tmp_path}/entry/kubelet: its sha256 is not the recorded one; "
        "delete it and run python -m bundle build"
    )


def test_a_deleted_file_makes_the_cached_directory_absent(tmp_path: Path) -> None:
    filled(tmp_path / "entry").path("kubelet").unlink()
    assert not Entry(tmp_path / "entry").present()


def test_a_cached_directory_is_replaced_whole(tmp_path: Path) -> None:
    entry = filled(tmp_path / "entry")
    source = tmp_path / "source"
    (source / "crictl").write_bytes(b"crictl's program")
    entry.fill(source, ["crictl"], {})
    assert sorted(path.name for path in entry.directory.iterdir()) == ["crictl", "digests.json"]
    assert Entry(entry.directory).present()


@pytest.mark.parametrize("name", ["www/pool/a.deb", "registry/blobs/sha256/b"])
def test_a_flipped_byte_in_the_bundle_is_refused_by_name(tmp_path: Path, name: str) -> None:
    recorded(tmp_path)
    flip(tmp_path / name)
    with pytest.raises(BundleError, match=rf"^{tmp_path / name}: its sha256 is not the recorded"):
        Record(tmp_path / "manifest.json").check()


def test_a_part_with_a_missing_file_is_forgotten_and_the_others_are_kept(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / "www/pool/a.deb").unlink()
    record = Record(tmp_path / "manifest.json")
    assert record.check() == {tmp_path / "www/pool/a.deb"}
    assert list(record.parts) == ["part 1"]


@pytest.mark.parametrize("text", ["{", "[]", '{"parts": {"a": {"unknown": 1}}}'])
def test_a_record_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=rf"^{tmp_path / 'manifest.json'}: not a record"):
        Record(tmp_path / "manifest.json")


def test_a_key_changes_with_each_thing_that_a_part_is_made_from() -> None:
    keys = {
        key_of(sources="a", flags=["-s"]),
        key_of(sources="b", flags=["-s"]),
        key_of(sources="a", flags=["-s", "-w"]),
        key_of(sources="a", tags=["-s"]),
    }
    assert len(keys) == 4
    assert key_of(a=1, b=2) == key_of(b=2, a=1)


def test_a_file_that_was_readable_to_all_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / "ca.key"
    path.write_text("old")
    path.chmod(0o644)
    write(path, "secret", mode=0o600)
    assert path.read_text() == "secret"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_change_at_the_same_time_is_refused(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "cache", tmp_path / "bundle")
    with (
        paths.locked(),
        pytest.raises(BundleError, match="another build is running"),
        paths.locked(),
    ):
        pass
    assert paths.private.stat().st_mode & 0o777 == 0o700


def test_what_a_cut_off_build_left_is_removed(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "cache", tmp_path / "bundle")
    left = paths.programs / ".new-abc"
    left.mkdir(parents=True)
    (left / "kubelet").write_text("half of it")
    with paths.locked():
        assert not left.exists()
