import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]

# Does what `hub` asks of Python, in no time: answers, makes a .venv that holds only itself, and notes what pip is told.
FAKE_PYTHON = f"""#!/bin/sh
here=$(dirname "$0")
case "$1 $2" in
    -V*) echo Python 3.13.1 ;;
    "-c import ensurepip"*) echo "$0" ;;
    -c*) exec "{sys.executable}" "$@" ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") shift 2; echo "pip $*" >>"$HUB_TEST_LOG"; [ ! -e "$HUB_TEST_LOG.fail" ] ;;
    "-m commercehub.cli") shift 2; echo "ran" "$@" "from $PWD with ${{PYTHONSAFEPATH:-nothing}}"; [ ! -e /dev/fd/9 ] ;;
    *) exit 9 ;;
esac
"""


class Clone:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a clone"
        self.folder.mkdir()
        for name in ("hub", "pyproject.toml", "requirements.lock"):
            shutil.copy(CHECKOUT / name, self.folder)
        self.log = folder / "log"
        self.log.touch()
        self.bin = folder / "bin"  # all that is on PATH: no uv, and no Python but the fake
        self.bin.mkdir()
        for tool in ("sh", "dirname", "readlink", "cat", "cksum", "rm", "mv", "mkdir", "cp"):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        (self.bin / "python3").write_text(FAKE_PYTHON)
        (self.bin / "python3").chmod(0o755)

        self.environ = {"PATH": str(self.bin), "HUB_TEST_LOG": str(self.log)}

    def call(self, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(path or self.folder / "hub"), *arguments]
        return subprocess.run(
            command, env=self.environ, cwd="/", capture_output=True, text=True, timeout=20, check=False
        )

    def installs(self) -> int:
        """How often the packages were installed; one line per build is the hub itself."""
        return self.log.read_text().count("--require-hashes")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_first_call_installs_and_the_next_ones_only_run(clone: Clone) -> None:
    first = clone.call("demo", "two words")
    assert first.stdout == "ran demo two words from / with 1\n"
    assert "about half a minute" in first.stderr
    second = clone.call("test")
    assert (second.stdout, second.stderr, second.returncode) == ("ran test from / with 1\n", "", 0)
    assert clone.installs() == 1


def test_it_is_found_through_links(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "one").symlink_to(clone.folder / "hub")
    (tmp_path / "far" / "two").symlink_to("one")
    assert clone.call("doctor", path=tmp_path / "far" / "two").stdout.startswith("ran doctor")
    assert (clone.folder / ".venv").is_dir()


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_another_lock_or_project_file_installs_anew(clone: Clone, name: str) -> None:
    clone.call()
    with (clone.folder / name).open("a") as file:
        file.write("# changed\n")
    clone.call()
    assert clone.installs() == 2


def test_a_clone_that_was_moved_installs_anew(clone: Clone) -> None:
    clone.call()
    clone.folder = clone.folder.rename(clone.folder.with_name("moved"))
    clone.call()
    assert clone.installs() == 2


def test_a_failed_install_is_told_and_not_taken_for_done(clone: Clone) -> None:
    fail = Path(f"{clone.log}.fail")
    fail.touch()
    failed = clone.call("demo")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "that failed" in failed.stderr
    fail.unlink()
    assert clone.call("demo").stdout.startswith("ran demo")


def test_two_first_calls_at_once_install_once(clone: Clone) -> None:
    calls = [subprocess.Popen([clone.folder / "hub"], env=clone.environ, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [call.wait(20) for call in calls] == [0, 0, 0, 0]
    assert clone.installs() == 1


def test_without_a_python_one_screen_says_what_to_type(clone: Clone) -> None:
    (clone.bin / "python3").write_text('#!/bin/sh\ntest "$1" = -V && echo Python 3.9.2\n')
    refused = clone.call("demo")
    assert refused.returncode == 1
    assert "apt-get install python3 python3-venv" in refused.stderr
    assert "Python 3.9.2, which is too old" in refused.stderr
    assert len(refused.stderr.splitlines()) < 20


def test_the_python_that_was_asked_for_is_used_or_refused_and_never_another(clone: Clone, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\ntest "$1" = -V && echo Python 3.9.2\n')
    old.chmod(0o755)
    clone.environ["HUB_PYTHON"] = str(old)
    refused = clone.call("demo")
    assert (refused.returncode, clone.installs()) == (1, 0)
    assert f"{old} is Python 3.9.2" in refused.stderr
    clone.environ["HUB_PYTHON"] = str(clone.bin / "python3")
    assert clone.call("demo").stdout.startswith("ran demo")
    assert clone.call("demo").stderr == ""


def test_continuous_integration_runs_the_suite_and_passes_its_status_on(clone: Clone) -> None:
    shutil.copytree(CHECKOUT / ".ci", clone.folder / ".ci")
    (clone.folder / "hub").write_text('#!/bin/sh\necho "$PWD $*"\nexit 5\n')
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run([clone.folder / ".ci" / "run"], env=environ, cwd="/", capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode()) == (5, f"{clone.folder} test\n")
