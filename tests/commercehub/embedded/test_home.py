import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from commercehub.embedded import (
    AlreadyRunning,
    Found,
    Home,
    NotOurs,
    Supervisor,
    home_folder,
    open_home,
    reset,
    start_postgres,
)
from commercehub.embedded.home import own_folder
from tests.commercehub.embedded.observing import Stage, needs_root, processes_in, wait_until
from tests.commercehub.embedded.test_postgres import run_sql


def modes_above(folder: Path) -> dict[Path, tuple[int, int, int]]:
    return {parent: (parent.stat().st_mode, parent.stat().st_uid, parent.stat().st_gid) for parent in folder.parents}


def test_it_lives_in_the_checkout_unless_told_otherwise() -> None:
    assert home_folder({}, Path("/src/hub")) == Path("/src/hub/.hub")
    assert home_folder({"HUB_HOME": "/data/shop"}, Path("/src/hub")) == Path("/data/shop")


def test_a_path_with_spaces_and_a_very_long_one_both_work_and_leave_nothing(tmp_path: Path, postgres: Found) -> None:
    folder = tmp_path / "my shop % & co" / "/".join(["a long way down"] * 8)
    before = modes_above(tmp_path / "x")
    home = open_home(folder)
    try:
        assert open_home(folder) == home
        with Supervisor(home.logs) as hub:
            assert run_sql(start_postgres(hub, home, postgres, durable=False), "SELECT 1") == 1
    finally:
        reset(folder)
    assert not folder.exists()
    assert not home.run.exists()
    assert not home.state.exists()
    assert modes_above(tmp_path / "x") == before


@needs_root
def test_root_under_a_closed_folder_opens_nothing_above_its_own(tmp_path: Path, postgres: Found) -> None:
    closed = tmp_path / "root"
    closed.mkdir(mode=0o700)
    before = modes_above(closed / "hub")
    home = open_home(closed / "hub")
    try:
        assert not home.state.is_relative_to(closed)
        assert home.account
        assert home.account.uid != 0
        with Supervisor(home.logs) as hub:
            run_sql(start_postgres(hub, home, postgres, durable=False), "CREATE TABLE kept (id int)")
        assert modes_above(closed / "hub") == before
        assert stat.S_IMODE(home.database.stat().st_mode) == 0o700
        closed.chmod(0o711)  # the data is still found where it was put
        assert open_home(closed / "hub") == home
    finally:
        reset(closed / "hub")
    assert not home.state.exists()


@needs_root
def test_root_in_somebody_s_folder_does_as_that_person_would(another_home: Home, postgres: Found) -> None:
    folder = another_home.folder / "theirs"
    folder.mkdir()
    os.chown(folder, 2, 2)
    home = open_home(folder)
    assert home.account
    assert home.account.uid == 2
    assert {path.stat().st_uid for path in (home.run, home.logs)} == {2}
    reset(folder)


@needs_root
def test_an_ordinary_user_runs_the_wheel_in_place(another_home: Home, stage: Callable[..., Stage]) -> None:
    user = pwd.getpwnam("daemon")
    folder = another_home.folder / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        hub = stage(folder / "hub", uid=user.pw_uid)
    except PermissionError:
        pytest.skip("this checkout and its Python lie where only root can reach them")
    assert hub.line() == "ready"
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in processes_in(folder)}
    programs = {str(Path(f"/proc/{pid}/exe").readlink()) for pid in processes_in(folder)}
    assert owners == {user.pw_uid}
    assert all("site-packages" in program for program in programs)
    assert {path.stat().st_uid for path in folder.rglob("*")} == {user.pw_uid}
    hub.process.kill()
    wait_until(lambda: processes_in(folder) == [])


def test_a_folder_with_other_things_in_it_is_neither_used_nor_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for use in (open_home, reset):
        with pytest.raises(NotOurs, match="not the hub's"):
            use(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_running_hub_is_not_reset(another_home: Home) -> None:
    with Supervisor(another_home.logs), pytest.raises(AlreadyRunning):
        reset(another_home.folder)
    assert another_home.logs.exists()


def test_a_folder_that_somebody_else_put_there_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotOurs, match="belongs to another user"):
        own_folder(tmp_path / "run", mode=0o700)
