"""What the connection to the API leaves on this machine."""

import os
import subprocess
import sys
from pathlib import Path

_USE = """
import os
from unittest.mock import MagicMock
from barekube import api

api.DynamicClient = MagicMock()
connection = object.__new__(api.Api)
connection.client, connection._dynamic = None, None
connection.dynamic
print(len(os.listdir(os.environ["TMPDIR"])))
"""


def test_what_kinds_there_are_is_kept_on_disk_until_the_exit_and_no_longer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _USE],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert list(tmp_path.iterdir()) == []
