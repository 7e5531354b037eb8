"""Types, strictly."""

import subprocess
import sys
from pathlib import Path


def test_mypy_finds_nothing(repository: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
