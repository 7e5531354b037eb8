"""The parts that every flow works with, put together once by ``app``."""

from collections.abc import Mapping

import msgspec

from commercehub.auth import Keyring
from commercehub.database import Database
from commercehub.settings import Settings
from commercehub.workflows.rendering import Render
from commercehub.workflows.tailing import Tailer
from payments.processors import Processor


class Hub(msgspec.Struct, frozen=True, kw_only=True):
    """A running hub: its settings, its database, its processors, how it writes answers, and its live news."""

    settings: Settings
    database: Database
    keyring: Keyring
    processors: Mapping[str, Processor]
    render: Render
    tailer: Tailer
