"""The demo as a newcomer meets it: started for real, tried out as it says, killed in every way, and started again.

One hub serves the whole file, in the order of a day with it, since each start takes seconds.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from commercehub import migrations
from commercehub.auth import Keyring
from commercehub.database import Database
from commercehub.seed import planting
from tests.client import SHIP_TO
from tests.commercehub.embedded.observing import is_alive, needs_linux, processes_in
from tests.conftest import SECRET, on_database, run_on
from tests.serving import findings

COMMAND = (sys.executable, "-m", "commercehub.cli", "demo")
FIRST_SECONDS_MAX = 60
AGAIN_SECONDS_MAX = 10
HEALED_SECONDS_MAX = 15
GONE_SECONDS_MAX = 10

pytestmark = needs_linux


class Demo:
    """A demo of its own folder, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder.with_suffix(".out")
        self.seconds = 0.0

    def start(self, *arguments: str, seconds_max: float) -> None:
        begun = time.monotonic()
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments], env=environ(self.folder), stdout=out, stderr=out, cwd="/"
            )
        wait_for(lambda: self.is_ready() or self.process.poll() is not None, seconds_max, "it is not ready")
        assert self.process.poll() is None, self.told()
        self.seconds = time.monotonic() - begun

    @property
    def file(self) -> Path:
        return self.folder / "demo.json"

    @property
    def document(self) -> Any:
        return json.loads(self.file.read_text())

    def is_ready(self) -> bool:
        """Whether it answers at the address in its file, which a killed demo leaves behind."""
        try:
            return httpx.get(f"{self.document['base_url']}/health/ready", trust_env=False).status_code == 200
        except (OSError, httpx.HTTPError):
            return False

    def told(self) -> str:
        return self.output.read_text()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(GONE_SECONDS_MAX * 2)

    def child(self, part: str) -> int | None:
        """The process id of the child whose command line has this in it."""
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                if part in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                    return int(pid)
        return None

    def processes(self) -> list[int]:
        """Every process that lives in the folder, or was told of it."""
        mark = f"HUB_HOME={self.folder}".encode()
        told = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and mark in said(entry)]
        return [pid for pid in {*told, *processes_in(self.folder)} if is_alive(pid) and pid != self.process.pid]

    def ask(self, key: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {self.document['keys'][key]}", **headers}
        answer = httpx.request(
            method, self.document["base_url"] + path, json=body, headers=sent, timeout=10, trust_env=False
        )
        assert answer.status_code < 300, answer.text
        return answer.json()

    def buy(self) -> Any:
        cart = self.ask("app", "POST", "/v1/carts", {})
        token = {"X-Cart-Token": cart["token"]}
        path = f"/v1/carts/{cart['id']}"
        self.ask("app", "POST", f"{path}/lines", {"sku": "TEE-S"}, **token)
        self.ask("app", "PUT", f"{path}/delivery", {"method": "ship", "address": SHIP_TO}, **token)
        body = {"email": "ada@example.com", "tenders": [{"type": "card", "payment_method": "pm_ok"}]}
        order = self.ask("app", "POST", f"{path}/checkout", body, **token, **{"Idempotency-Key": str(uuid.uuid4())})
        assert order["state"] == "placed"
        return order

    def mails(self) -> list[Any]:
        box = httpx.get(self.document["mailbox_url"], headers={"Accept": "application/json"}, trust_env=False)
        return list(box.json()["data"])

    def is_told_of(self, order: Any) -> bool:
        return any(mail["order_id"] == order["id"] for mail in self.mails())


def environ(folder: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return {**clean, "HUB_HOME": str(folder), "HUB_PORT": "0", "PYTHONSAFEPATH": "1", **more}


def said(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""


def wait_for(condition: Callable[[], object], seconds_max: float, otherwise: str) -> None:
    give_up_at = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < give_up_at, otherwise
        time.sleep(0.05)


def wait_until_it_works(attempt: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + HEALED_SECONDS_MAX
    while True:
        try:
            attempt()
        except (AssertionError, httpx.HTTPError):
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hub-demo-", dir="/tmp"))  # where PostgreSQL's own account can reach it
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[Demo]:
    demo = Demo(folder)
    demo.start(seconds_max=FIRST_SECONDS_MAX)
    yield demo
    if demo.process.poll() is None:
        demo.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def bought(demo: Demo) -> Any:
    """An order of the first start."""
    return demo.buy()


def test_the_file_holds_what_a_client_needs_and_only_its_owner_reads_it(demo: Demo) -> None:
    document = demo.document
    assert stat.S_IMODE(demo.file.stat().st_mode) == 0o600
    assert set(document) == {
        *("base_url", "keys", "staff", "locations", "registers", "variants", "payment_methods", "mailbox_url"),
    }
    assert set(document["keys"]) == {"web", "app", "agent", "store", "call_center", "chat", "warehouse", "admin"}
    assert {(place["code"], place["kind"]) for place in document["locations"]} >= {
        ("DC1", "warehouse"),
        ("S1", "store"),
    }
    assert {each["location_id"] for each in document["registers"]} <= {place["id"] for place in document["locations"]}
    tee = next(variant for variant in document["variants"] if variant["sku"] == "TEE-S")
    assert (tee["price"], len(tee["barcode"])) == ({"amount": 1999, "currency": "USD"}, 13)
    assert set(document["payment_methods"]) == {"ok", "declined", "requires_action", "answer_lost"}
    assert document["mailbox_url"].startswith(document["base_url"])


def _block(readme: str, name: str) -> str:
    return readme.partition(f"<!-- {name} -->\n```sh\n")[2].partition("\n```")[0]


def test_the_readme_sells_as_it_says(demo: Demo, repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    done = subprocess.run(
        ["sh", "-e"],
        input=_block(readme, "sell") + "\necho CHANNELS\n" + _block(readme, "channels"),
        env=environ(demo.folder),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sold, _, crossed = done.stdout.partition("CHANNELS\n")
    told = sold.splitlines()
    assert [told[2], *told[3:9]] == ["authorized", "picking", "picked", "packed", "shipped", "delivered", "completed"]
    assert told[9:11] == ["paid", "open"]
    told = crossed.splitlines()
    assert told[4:9] == ["picking", "picked", "ready", "handed_over", "completed"]
    assert (told[10], told[12]) == ("open", "closed")
    assert told[15:19] == ["picking", "picked", "packed", "shipped"]
    assert told[-1] == "partially_refunded"


def test_every_key_works(demo: Demo) -> None:
    for key in planting.KEYS:
        assert demo.ask(key, "GET", "/v1/products?limit=1")["data"]
    (here,) = {register["location_id"] for register in demo.ask("store", "GET", "/v1/registers")["data"]}
    assert here == next(place["id"] for place in demo.document["locations"] if place["code"] == "S1")


def test_it_tells_where_it_is_and_every_key(demo: Demo) -> None:
    told = demo.told()
    assert f"{demo.document['base_url']}/openapi.json" in told
    assert all(key in told for key in demo.document["keys"].values())
    assert str(demo.folder) in told


def test_an_order_is_confirmed_by_mail(demo: Demo, bought: Any) -> None:
    wait_for(lambda: demo.is_told_of(bought), 5, "no confirmation came")


def test_the_lines_it_prints_buy_something(demo: Demo) -> None:
    lines = re.search(r"^  HUB=.*?(?=\n\n)", demo.told(), re.DOTALL | re.MULTILINE)
    assert lines is not None
    done = subprocess.run(["sh", "-e"], input=lines[0], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    order = json.loads(done.stdout.splitlines()[-1])
    assert (order["state"], order["payment_state"]) == ("placed", "authorized")


def test_a_payer_may_have_to_act_and_a_card_may_be_declined(demo: Demo) -> None:
    for method, status in (("requires_action", 202), ("declined", 402)):
        cart = demo.ask("app", "POST", "/v1/carts", {})
        headers = {"X-Cart-Token": cart["token"], "Authorization": f"Bearer {demo.document['keys']['app']}"}
        path = f"{demo.document['base_url']}/v1/carts/{cart['id']}"
        with httpx.Client(headers=headers, trust_env=False) as http:
            http.post(f"{path}/lines", json={"sku": "TEE-S"})
            http.put(f"{path}/delivery", json={"method": "ship", "address": SHIP_TO})
            tenders = [{"type": "card", "payment_method": demo.document["payment_methods"][method]}]
            body = {"email": "ada@example.com", "tenders": tenders}
            answer = http.post(f"{path}/checkout", json=body, headers={"Idempotency-Key": method})
            assert answer.status_code == status, answer.text
            if status == 202:
                assert http.get(answer.json()["next_action"]["url"]).status_code == 200


def test_a_port_that_is_taken_is_one_sentence_and_costs_nothing(demo: Demo, folder: Path) -> None:
    port = demo.document["base_url"].rpartition(":")[2]
    other = folder.with_name("other")
    refused = _run(other, HUB_PORT=port)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"hub: Port {port} is taken. Choose another: HUB_PORT={int(port) + 1} ./hub demo (0: any free one).\n"
    )
    assert not (other / "postgres").exists()


def test_a_second_demo_in_the_same_folder_is_one_sentence_whatever_its_port(demo: Demo, folder: Path) -> None:
    for arguments in ((), ("--reset",), ("--port", demo.document["base_url"].rpartition(":")[2])):
        refused = _run(folder, *arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert f"already running from {folder}" in refused.stderr
    assert demo.process.poll() is None


@pytest.mark.parametrize(
    "wrong", [{"HUB_PORT": "http"}, {"HUB_PORT": "70000"}, {"HUB_CLOCK_OFFSET_SECONDS": "soon"}], ids=str
)
def test_a_setting_that_cannot_be_is_named(wrong: dict[str, str], folder: Path) -> None:
    refused = _run(folder.with_name("wrong"), **wrong)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert next(iter(wrong.values())) in refused.stderr


@pytest.mark.parametrize("part", ["granian", "commercehub.sandbox", "postgres", "valkey"])
def test_a_part_that_is_killed_comes_back_and_the_demo_sells_again(part: str, demo: Demo) -> None:
    pid = demo.child(part)
    assert pid is not None, f"{part} does not run"
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: demo.child(part) not in {None, pid}, HEALED_SECONDS_MAX, f"{part} was not started again")
    wait_until_it_works(demo.buy)


def test_a_jobs_process_that_is_killed_comes_back_and_catches_up(demo: Demo) -> None:
    pid = demo.child("commercehub.worker")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    order = demo.buy()
    wait_for(lambda: demo.is_told_of(order), HEALED_SECONDS_MAX, "no confirmation came")
    assert "jobs was ended by SIGKILL, and is started again" in demo.told()


def test_ctrl_c_ends_it_well_and_leaves_no_process_and_no_file_that_says_it_runs(demo: Demo) -> None:
    assert demo.child("granian") in demo.processes()
    assert demo.end(signal.SIGINT) == 0
    assert demo.processes() == []
    assert not demo.file.exists()
    assert "Traceback" not in demo.told()


def test_the_next_start_is_quick_and_has_kept_data_and_keys(demo: Demo, bought: Any) -> None:
    keys = re.findall(r"hub_[ps]k_\w+", demo.told())
    demo.start(seconds_max=AGAIN_SECONDS_MAX)
    assert set(demo.document["keys"].values()) == set(keys)
    assert demo.ask("admin", "GET", f"/v1/orders/{bought['id']}")["number"] == bought["number"]
    assert demo.is_told_of(bought)


def test_a_killed_demo_leaves_no_process(demo: Demo) -> None:
    assert len(demo.processes()) > 5
    demo.end(signal.SIGKILL)
    wait_for(lambda: demo.processes() == [], GONE_SECONDS_MAX, "processes are left")


def test_reset_starts_afresh_even_after_a_kill(demo: Demo, bought: Any) -> None:
    demo.start("--reset", seconds_max=FIRST_SECONDS_MAX)
    assert demo.mails() == []
    assert demo.ask("admin", "GET", "/v1/orders")["data"] == []
    assert demo.buy()["number"] <= bought["number"]


def _run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environ(folder, **more),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


# What the demo plants, on databases of the suite.


@pytest.fixture(scope="module")
def planted_url(make_database: Callable[[str], str]) -> str:
    return make_database("demo_planted")


@pytest.fixture(scope="module")
def empty_url(server_url: str, worker_id: str) -> str:
    name = f"hub_{worker_id}_demo_empty"
    drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    asyncio.run(run_on(server_url, drop, f"CREATE DATABASE {name}"))
    migrations.upgrade(on_database(server_url, name))
    return on_database(server_url, name)


async def test_a_database_that_outlives_its_folder_learns_the_keys_of_the_next(planted_url: str) -> None:
    database = await Database.connect(planted_url, pool_size=2)
    try:
        for _ in range(2):
            assert not await planting.plant(database, secret="another folder's secret, as long as one")
        keyring = Keyring(database)
        for secret in (SECRET, "another folder's secret, as long as one"):
            for name in planting.KEYS:
                principal = await keyring.verify(planting.demo_secret(secret, name))
                assert principal is not None
                assert principal.role is planting.KEYS[name].role
        async with database.connection() as db:
            assert await db.fetchval("SELECT count(*) FROM commercehub.api_keys") == 2 * len(planting.KEYS)
    finally:
        await database.close()


async def test_a_planting_that_was_cut_short_is_begun_again_and_doubles_nothing(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await Database.connect(empty_url, pool_size=2)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(planting, "_plant_channels", None)  # as if it were killed before its last step
            with pytest.raises(TypeError):
                await planting.plant(database, secret=SECRET)
        assert await planting.plant(database, secret=SECRET)
        assert not await planting.plant(database, secret=SECRET)
        async with database.connection() as db:
            assert await findings(db) == []
            assert await db.fetchval("SELECT count(*) FROM commercehub.variants") == 120
            assert await db.fetchval("SELECT count(*) FROM inventory.locations") == 4
            assert await db.fetchval("SELECT sum(on_hand) FROM inventory.positions WHERE sku = 'TEE-S'") == 216
    finally:
        await database.close()
