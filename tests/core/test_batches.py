"""What an interrupted reader was about to get goes back."""

from __future__ import annotations

from contextlib import suppress

import pytest

from brokerrun.core.batches import reading
from brokerrun.core.broker import Broker
from brokerrun.core.model import Selection
from brokerrun.core.settings import settings_for

EACH_READ_VACUUMS = {"BROKER_AUTO_VACUUM_INTERVAL": 1, "BROKER_VACUUM_THRESHOLD": 0}


@pytest.mark.parametrize("config", [{}, EACH_READ_VACUUMS], ids=["plain", "vacuumed"])
def test_one_message_goes_back_to_its_place_also_where_its_row_is_gone(
    database: str, config: dict[str, object]
) -> None:
    with Broker(database, settings=settings_for(config)) as broker:
        ids = broker.write_many("q", ["a", "b"])
        with suppress(KeyboardInterrupt), reading(broker, "q", Selection(limit=1)) as taken:
            assert [message.body for message in taken] == ["a"]
            raise KeyboardInterrupt
        assert [message.id for message in broker.peek("q", Selection(limit=None))] == ids
