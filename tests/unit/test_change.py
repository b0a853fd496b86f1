"""Files of a control plane before a change, kept and put back by a real shell."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import StringCommand
from pyinfra.context import ctx_state

from barekube.operations import change
from barekube.text import TextFile
from tests.unit.harness import begun


class Here:
    """A host whose files are below a directory."""

    def __init__(self, root: Path) -> None:
        self.data: dict[str, object] = {}
        self.logs: list[str] = []
        self.root = root
        (root / "bin").mkdir()
        systemctl = root / "bin/systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >>{root}/systemctl\n')
        systemctl.chmod(0o755)

    def run_shell_command(self, command: StringCommand, **_: object) -> tuple[bool, Any]:
        done = begun(command, self.root)
        out, err = done.communicate(timeout=20)
        assert not err
        return done.returncode == 0, SimpleNamespace(stdout_lines=out.splitlines())

    def log(self, line: str) -> None:
        self.logs.append(line)

    def file(self, name: str, content: str) -> TextFile:
        return TextFile(f"{self.root}/etc/{name}.yaml", content, mode="600")

    def write(self, name: str, content: str) -> None:
        path = Path(self.file(name, "").path)
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)

    def keep(self, **contents: str) -> None:
        files = [self.file(name, content) for name, content in contents.items()]
        assert self.run_shell_command(change.keep(files))[0]

    def put_back(self) -> list[str] | None:
        with ctx_state.use(SimpleNamespace(config=SimpleNamespace(SUDO=False))):
            return change.put_back(self)  # type: ignore[arg-type]

    def texts(self) -> dict[str, str]:
        return {each.stem: each.read_text() for each in (self.root / "etc").iterdir()}


@pytest.fixture
def here(tmp_path: Path) -> Here:
    host = Here(tmp_path)
    host.write("pod", "old\n")
    host.write("audit", "old\n")
    return host


def test_what_was_written_is_put_back_and_kubelet_started_anew(here: Here) -> None:
    Path(here.file("pod", "").path).chmod(0o666)
    here.keep(pod="new\n", audit="new\n")
    here.write("pod", "new\n")
    here.write("audit", "new\n")
    assert sorted(here.put_back() or []) == [f"{here.root}/etc/{e}.yaml" for e in ("audit", "pod")]
    assert here.texts() == {"pod": "old\n", "audit": "old\n"}
    assert Path(here.file("pod", "").path).stat().st_mode & 0o777 == 0o666
    assert (here.root / "systemctl").read_text() == "restart kubelet\n"
    assert not (here.root / "before").exists()


def test_what_the_change_did_not_reach_or_somebody_wrote_since_is_left_alone(here: Here) -> None:
    here.keep(pod="new\n", audit="new\n")
    here.write("pod", "an upgrade's\n")
    assert here.put_back() == []
    assert here.texts() == {"pod": "an upgrade's\n", "audit": "old\n"}
    assert not (here.root / "systemctl").exists()
    assert here.put_back() == []


def test_what_an_older_change_was_to_write_is_no_concern_of_a_newer_one(here: Here) -> None:
    here.keep(pod="never written\n")
    here.write("pod", "an upgrade's\n")
    here.keep(pod="new\n")
    here.write("pod", "never written\n")
    assert here.put_back() == []


def test_after_two_changes_that_were_cut_off_what_was_there_before_both_is_put_back(
    here: Here,
) -> None:
    here.keep(pod="bad\n")
    here.write("pod", "bad\n")
    here.keep(pod="worse\n", audit="worse\n")
    here.write("pod", "worse\n")
    assert here.put_back() == [here.file("pod", "").path]
    assert here.texts() == {"pod": "old\n", "audit": "old\n"}


def test_a_second_change_that_is_cut_off_before_it_writes_hides_the_first_from_nobody(
    here: Here,
) -> None:
    here.keep(pod="bad\n")
    here.write("pod", "bad\n")
    here.keep(pod="good\n")
    assert here.put_back() == [here.file("pod", "").path]
    assert here.texts()["pod"] == "old\n"


def test_where_no_api_answers_a_change_that_was_cut_off_is_taken_back_with_a_word(
    here: Here,
) -> None:
    here.keep(pod="bad\n")
    here.write("pod", "bad\n")
    with ctx_state.use(SimpleNamespace(config=SimpleNamespace(SUDO=False))):
        for _ in range(2):
            change.cut_off(here)  # type: ignore[arg-type]
    path = here.file("pod", "").path
    assert here.logs == [f"a change of {path} was cut off; taken back, for no API answers"]
