"""The shop's clock: what today is, wherever the machine stands."""

import datetime as dt
from zoneinfo import ZoneInfo


def shop_now(zone: ZoneInfo | None) -> dt.datetime:
    """The present moment in the shop's time zone, whose calendar day `date` and `day_of_week` are counted from.

    Args:
        zone: The shop's; None: the machine's own.
    """
    return dt.datetime.now(zone) if zone is not None else dt.datetime.now().astimezone()
