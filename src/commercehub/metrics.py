"""What each process counts, and the page that Prometheus reads: the counts of all processes of one ``hub up`` together.

Every process keeps its own counts. Those that ``hub up`` started write them into one folder, named by the variable of
the library's own that it looks for when it is imported, and whichever process is asked adds them up.
"""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNMATCHED: Final = "none"
"""The route of requests that no route takes: a path is the caller's word and would make a series of each."""

_REGISTRY: Final = CollectorRegistry()

_REQUESTS: Final = Counter(
    "hub_requests", "Requests answered.", ["method", "route", "status"], registry=_REGISTRY
)  # shown as hub_requests_total
_SECONDS: Final = Histogram(
    "hub_request_seconds",
    "From a request's arrival to the first byte of its answer.",
    ["method", "route"],
    buckets=BUCKETS,
    registry=_REGISTRY,
)
_LOGGED: Final = Counter(
    "hub_log_events", "Lines logged as a warning or worse.", ["level", "event"], registry=_REGISTRY
)
_FAILED: Final = Counter("hub_job_failures", "Jobs that raised; each is run again.", ["job"], registry=_REGISTRY)
_UNDER_WAY: Final = Gauge(
    "hub_requests_under_way",
    "Requests that are being answered; live streams are, for as long as they last.",
    registry=_REGISTRY,
    multiprocess_mode="livesum",
)


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """A number that is read when it is asked for; ``parts`` where it is one number for each value of ``label``."""

    name: str
    told: str
    value: float = 0.0
    label: str = ""
    parts: Mapping[str, float] = {}


def begin_request() -> None:
    """A request has come."""
    _UNDER_WAY.inc()


def end_request(*, method: str, route: str, status: int, seconds: float) -> None:
    """A request was answered, its first byte after so many seconds."""
    _UNDER_WAY.dec()
    _REQUESTS.labels(method, route, str(status)).inc()
    _SECONDS.labels(method, route).observe(seconds)


def count_logged(_: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog: whatever is logged as a warning or worse is counted by its name."""
    if level in {"warning", "error", "exception", "critical"}:
        name = str(event.get("event"))
        _LOGGED.labels("error" if level == "exception" else level, name).inc()
        if name == "job.failed":
            _FAILED.labels(str(event.get("job"))).inc()
    return event


def render(signs: Iterable[Sign] = ()) -> bytes:
    """The page: what is counted, by all processes that share the folder, and the signs."""
    folder = os.environ.get(FOLDER_VARIABLE)
    counted = _REGISTRY
    if folder:
        _forget_dead(Path(folder))
        counted = CollectorRegistry()
        MultiProcessCollector(counted, folder)  # type: ignore[no-untyped-call]
    read = CollectorRegistry()
    read.register(_Signs(tuple(signs)))
    return generate_latest(counted) + generate_latest(read)


def serve(port: int, host: str) -> None:
    """Serve the page on a port of its own, from a thread that ends with the process."""
    start_http_server(port, addr=host, registry=_REGISTRY)


class _Signs(Collector):
    def __init__(self, signs: tuple[Sign, ...]) -> None:
        self._signs = signs

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for sign in self._signs:
            if sign.label:
                family = GaugeMetricFamily(sign.name, sign.told, labels=[sign.label])
                for part, value in sign.parts.items():
                    family.add_metric([part], value)
            else:
                family = GaugeMetricFamily(sign.name, sign.told, value=sign.value)
            yield family


def _forget_dead(folder: Path) -> None:
    """What a process that is gone had open is open no more; what it counted still counts."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            pass
