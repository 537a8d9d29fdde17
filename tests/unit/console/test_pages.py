"""The console without a browser: who may what, lists, decisions, price files. `tests/integration` has the browser."""

import datetime as dt
import html
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from werkzeug.test import TestResponse

from console import price_files, words
from console.confirm import SHOWN
from console.worklist import PAGE, STATES, Pick, read_table
from pricing.config import load_config
from pricing.data.panel import save_panel
from pricing.decision.decide import Policy
from pricing.decision.experiments import Arm, Experiment
from pricing.decision.reasons import BIT
from pricing.decision.switches import Review, Switches, Unfreeze
from pricing.errors import ConfigError, RegistryError, SourceError
from pricing.objects import FolderStore
from pricing.registry.control import Heard
from pricing.registry.knowledge import words_of_tests
from tests.kit.console import Console, Visitor, open_console, packed, price_table, put_table, shop_home
from tests.kit.control import NIGHT, SAID, approve, freeze, override, put_control, read_control, table
from tests.kit.price_api import price_api, status
from tests.kit.versions import product_names, shared_panel, with_test

HOSTILE = [
    '<script>alert("1")</script>',
    "'; DROP TABLE prices; --",
    '"><img src=x onerror=alert(1)>',
    "=1+1",
    "a/b?c=d&e#f",
    "Ünïcode 🧀",
]
PRODUCTS = product_names()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    with open_console(shop_home(tmp_path / "home")) as found:
        yield found


@pytest.fixture
def ann(console: Console) -> Visitor:
    """Who may decide."""
    return console.visitor("ann")


def policy(beyond: float | None) -> Policy:
    return Policy(load_config().decision.model_copy(update={"approve_beyond": beyond}))


def decided(home: Path) -> list[tuple[str, str, dict[str, Any]]]:
    return [(entry.who, entry.kind, json.loads(entry.body)) for entry in table(home).entries()]


def test_a_console_without_its_database_lives_and_is_not_ready(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = console.app.test_client()
    before = client.get("/health/ready").status_code

    def refused(*_words: object, **_more: object) -> None:
        raise RegistryError("password authentication failed")

    monkeypatch.setattr(console.app.extensions["shop"].record, "entries", refused)

    after = client.get("/health/ready")
    assert (before, after.status_code, client.get("/health/live").status_code) == (200, 503, 200)
    assert "password" not in after.text


# Who may what


def test_nobody_sees_a_page_without_a_key_that_opens_the_console(console: Console) -> None:
    stranger = console.anybody()

    for address in ("/", f"/products/{PRODUCTS[0]}", "/what-if", "/portfolio", "/price-file"):
        answer = stranger.client.get(address)
        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (302, "/login")
    page = stranger.see("/login")
    for key in ("", "x" * 30, "key-of-the-till-0123456789"):
        assert stranger.send("/login", page, key=key).status_code == 401
    assert stranger.client.get("/").status_code == 302


def test_who_looks_sees_everything_and_decides_nothing(console: Console) -> None:
    eve = console.visitor("eve")

    page = eve.see("/")
    refused = eve.send("/decide", page, one=f"approve:{PRODUCTS[0]}")

    assert "Approve" not in page
    assert refused.status_code == 403
    assert decided(console.home) == []


@pytest.mark.parametrize("keys", ["required", "local"])
def test_a_form_without_the_token_of_its_session_is_refused(tmp_path: Path, keys: str) -> None:
    with open_console(shop_home(tmp_path), PRICING_KEYS=keys) as console:
        ann, bob, other = (
            console.visitor(name) if keys == "required" else console.anybody() for name in ("ann", "bob", "ann")
        )
        page = ann.see("/")

        for csrf in ("", "?", "None", "ü", bob.see("/").partition('name="csrf" value="')[2].partition('"')[0]):
            for sender in (ann, other):  # `other` has seen no page: without keys it has no token at all
                answer = sender.send("/decide", page, one=f"approve:{PRODUCTS[0]}", csrf=csrf)
                assert answer.status_code == 400
    assert decided(tmp_path) == []


def test_a_form_that_is_too_large_is_refused_unread_before_anybody_is_known(console: Console) -> None:
    stranger = console.anybody()

    answer = stranger.send("/login", stranger.see("/login"), key="x" * 300_000)

    assert answer.status_code == 413


def test_the_session_is_signed_hidden_from_scripts_and_ends_with_its_key(console: Console, ann: Visitor) -> None:
    by_http, by_https = (
        console.anybody().client.get("/login", headers={"X-Forwarded-Proto": scheme}).headers["Set-Cookie"]
        for scheme in ("http", "https")
    )

    assert all(word in by_http for word in ("HttpOnly", "SameSite=Lax"))
    assert ("Secure" in by_http, "Secure" in by_https) == (False, True)
    ann.client.set_cookie("pricing_console", "eyJrZXkiOiJhbm4ifQ.forged.forged")
    assert ann.client.get("/").status_code == 302
    assert (console.home / "console" / "secret").stat().st_mode & 0o077 == 0
    kept = console.visitor("ann")
    (console.home / "keys").write_text("ann another-key-of-ann-0123456 decide")
    with open_console(console.home) as again:
        client = again.app.test_client()
        client.set_cookie("pricing_console", kept.client.get_cookie("pricing_console").value)  # type: ignore[union-attr]
        assert client.get("/").status_code == 302


def test_a_copied_cookie_opens_nothing_once_its_person_has_logged_out(console: Console, ann: Visitor) -> None:
    page = ann.see("/")
    copied = ann.client.get_cookie("pricing_console").value  # type: ignore[union-attr]
    thief = console.anybody().client
    thief.set_cookie("pricing_console", copied)
    before = thief.get("/").status_code

    ann.send("/logout", page)

    with open_console(console.home) as again:
        for app in (console.app, again.app):
            client = app.test_client()
            client.set_cookie("pricing_console", copied)
            client.get("/health/live")  # renews no cookie
            assert client.get("/").status_code == 302
    assert before == 200
    assert console.visitor("ann").client.get("/").status_code == 200


def test_every_answer_forbids_scripts_frames_and_caches(console: Console) -> None:
    page = console.visitor("ann").client.get("/")
    policy = page.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert " style=" not in page.text
    assert "<script>" not in page.text
    assert "://" not in page.text.replace("http://www.w3.org/", "")


@pytest.mark.parametrize("rule", ["local", "none"])
def test_without_keys_only_this_machine_is_answered_and_under_its_own_name(tmp_path: Path, rule: str) -> None:
    with open_console(shop_home(tmp_path), PRICING_KEYS=rule) as console:

        def status(**headers: str) -> int:
            return console.anybody(**headers).client.get("/", headers=headers).status_code

        assert status() == status(Host="127.0.0.1:8090") == 200
        assert status(Host="evil.example") == 403
        assert status(**{"X-Forwarded-For": "10.1.2.3"}) == (403 if rule == "local" else 200)


def test_a_console_that_others_reach_does_not_start_without_keys(tmp_path: Path) -> None:
    shop_home(tmp_path)
    (tmp_path / "keys").write_text("till key-of-the-till-0123456789 price")

    for host, rule in (("0.0.0.0", "local"), ("127.0.0.1", "required"), ("127.0.0.1", "requried")):
        with pytest.raises(ConfigError), open_console(tmp_path, host=host, PRICING_KEYS=rule):
            pass


def test_a_proxy_names_who_looks_and_who_decides_and_nobody_else_can(tmp_path: Path) -> None:
    shop_home(tmp_path, more="console:\n  trusted_proxy: 10.0.3.0/28\n")
    with open_console(tmp_path) as console:
        client = console.app.test_client()

        def status(sender: str, **headers: str) -> tuple[int, bool]:
            named = {f"X-{name.replace('_', '-')}": value for name, value in headers.items()}
            answer = client.get("/", headers=named, environ_base={"REMOTE_ADDR": sender})
            return answer.status_code, ">Approve<" in answer.text

        assert status("10.0.3.4", Forwarded_User="ann", Pricing_Role="decide") == (200, True)
        assert status("10.0.3.4", Forwarded_User="eve") == (200, False)
        assert status("10.0.3.4") == (401, False)
        assert status("10.0.4.4", Forwarded_User="ann", Pricing_Role="decide") == (403, False)


# Lists


def test_a_list_is_what_its_address_says_most_money_first(tmp_path: Path) -> None:
    products = [f"P{number:03d}" for number in range(200)]
    change = np.where(np.arange(200) % 4 == 0, -0.03, 0.08)
    category = np.where(np.arange(200) % 2, "tea", "milk")
    frame = price_table(products, change=change, category=category)
    with open_console(shop_home(tmp_path, frame)) as console:
        worklist = console.shop.standing()
        assert worklist is not None

        def listed(**given: Any) -> list[str]:
            rows = worklist.pick(Pick.of({name: str(value) for name, value in given.items()}))
            return worklist.text["product_id"][rows].tolist()  # type: ignore[no-any-return]

        assert sorted(listed(show="automatic")) == products[::4]
        assert sorted(listed()) == [one for one in products if one not in products[::4]]
        assert listed(category="milk", way="up") == [one for one in listed(way="up") if int(one[1:]) % 2 == 0]
        assert listed(show="all", least=5) == listed()
        assert listed(q="p00", show="all") == [one for one in listed(show="all") if one < "P010"]
        assert listed(reason="cost") == []
        gains = frame.set_index("product_id")["expected_gain"]
        assert gains[listed(show="all")].is_monotonic_decreasing
        page = console.visitor("ann").see("/?page=2&way=up&show=all")
        assert page.count('name="product"') == PAGE
        assert "way=up" in page


def test_an_address_that_makes_no_sense_is_the_plain_list() -> None:
    assert Pick.of({"least": "NaN", "page": "-3", "show": ""}) == Pick()
    assert Pick.of({"least": "x", "page": "2"}).query(page=2) == "page=2"


def test_where_a_proposal_stands_and_what_is_charged_follow_the_last_word_and_the_threshold() -> None:
    change = {"far": 0.1, "near": 0.04, "approved": 0.1, "rejected": 0.1, "outdated": 0.1, "frozen": 0.1, "given": 0.1}
    change |= {"cheap": 0.1, "held": 0.0, "freed": 0.1, "older": 0.0, "newer": 0.3, "doubtful": 0.0, "seen": 0.0}
    frame = price_table(list(change), change=list(change.values()))
    frame.loc[frame["product_id"].isin(["doubtful", "seen"]), "reasons"] = "low_confidence"
    worklist, said = read_table(packed(frame), key="1", made=NIGHT), Heard()
    price = dict(zip(change, frame["proposed_price"], strict=True))
    before, cost = (dict(zip(change, frame[name], strict=True)) for name in ("current_price", "unit_cost"))
    old = {
        "seen": before["seen"],
        "rejected": 0.9 * before["rejected"],
        "older": 0.9 * before["older"],
        "newer": 1.2 * before["newer"],
    }
    said.take(approve({"approved": price["approved"], **old}))
    no = {"rejected": price["rejected"], "outdated": 0.9 * price["outdated"]}
    said.take(Review(verdict="reject", prices=no, **SAID))
    for name in ("frozen", "freed"):
        said.take(freeze("product", name))
    said.take(Unfreeze(scope="product", name="freed", **SAID))
    for name, amount in (("given", 99.0), ("cheap", 0.01)):
        said.take(override(amount, name, at=NIGHT))

    table = worklist.standing(said, said.switches(at=NIGHT), policy=policy(0.05))

    by_state = {"open": ("far", "outdated", "freed", "older", "newer"), "by hand": ("frozen", "given", "cheap")}
    by_state |= {"automatic": ("near",), "approved": ("approved", "seen"), "rejected": ("rejected",)}
    by_state |= {"held": ("held", "doubtful")}
    stands = {name: state for state, products in by_state.items() for name in products}
    assert {name: STATES[table.state[row]] for name, row in table.rows.items()} == stands
    charged = (
        before | {name: price[name] for name in ("near", "approved")} | old | {"given": 99.0, "cheap": cost["cheap"]}
    )
    assert {name: table.number["charged"][row] for name, row in table.rows.items()} == pytest.approx(
        charged, abs=0.0101
    )
    assert {name for name, row in table.rows.items() if np.isnan(table.number["expected_gain"][row])} == {
        "frozen", "given", "cheap"
    }  # fmt: skip
    asked = set(worklist.text["product_id"][table.pick(Pick())].tolist())
    assert ("doubtful" in asked, "seen" in asked) == (True, False)  # what wants eyes does so until a person looked
    free = worklist.standing(Heard(), Switches(), policy=policy(None))
    assert free.number["charged"].tolist() == free.number["proposed_price"].tolist()
    assert "automatic" not in {STATES[state] for state in free.state}


def test_a_table_that_lacks_a_column_is_refused_and_the_last_one_stays(console: Console, ann: Visitor) -> None:
    before = console.shop.table
    put_table(console.home, pd.DataFrame({"product_id": ["tea"]}))

    console.shop.look()

    assert console.shop.table is before
    assert "proposed_price" in console.shop.trouble["prices"]
    assert "lacks" in ann.see("/")


def test_every_page_has_words_for_each_reason_and_guardrail() -> None:
    for bit in BIT.values():
        for step in ("", "target", "step", "stock", "guardrails", "price_test", "switch"):
            assert words.why(step, bit, 0.0, "margin").endswith(".")
            assert words.why(step, bit, -0.1, "match").endswith(".")


# Decisions


@pytest.mark.parametrize("action", ["reject", "freeze", "change"])
def test_all_but_an_approval_needs_a_reason(console: Console, ann: Visitor, action: str) -> None:
    page = ann.see("/")

    assert ann.send("/decide", page, action=action, product=PRODUCTS[0], price="5").status_code == 400
    assert (
        ann.send("/decide", page, action=action, product=PRODUCTS[0], price="5", reason="so", sure="yes").status_code
        == 302
    )
    (entry,) = decided(console.home)
    assert entry[2]["reason"] == "so"


def test_a_price_of_a_persons_own_counts_until_its_day_and_many_change_by_per_cent(
    console: Console, ann: Visitor
) -> None:
    page = ann.see("/")
    until = (dt.date.today() + dt.timedelta(days=3)).isoformat()
    wrong = {"price": "5", "product": PRODUCTS[:2]}, {"price": "dear"}, {"until": "2020-01-01", "price": "5"}, {}
    wrong += {"until": "9999-12-31", "price": "5"}, {"seen": "9" * 30, "price": "5"}, {"seen": "-1", "price": "5"}
    wrong += (
        {"price": "nan"},
        {"price": "1e999"},
        {"price": "-3"},
        {"percent": "-100"},
        {"product": "nobody", "price": "5"},
    )

    for fields in wrong:
        given = {"action": "change", "reason": "so", "product": PRODUCTS[0], **fields}
        assert ann.send("/decide", page, **given).status_code == 400
    done = {"action": "change", "reason": "so", "until": until, "sure": "yes"}
    ann.send("/decide", page, product=PRODUCTS[0], price="4,99", **done)
    ann.send("/decide", page, product=PRODUCTS[1:3], percent="-5", **done)

    given = {body["name"]: body["price"] for _, _, body in decided(console.home)}
    before = price_table(PRODUCTS).set_index("product_id")["current_price"]
    wanted = {PRODUCTS[0]: 4.99, **{one: before[one] * 0.95 for one in PRODUCTS[1:3]}}
    assert given == pytest.approx(wanted, abs=0.0051)
    ends = {(one.action, one.until) for one in read_control(console.home).switches}
    assert ends == {("override", console.shop.config.end_of(dt.date.fromisoformat(until)))}


def test_of_two_persons_at_once_the_second_sees_what_the_first_did_and_overrules_nothing(
    console: Console, ann: Visitor
) -> None:
    bob = console.visitor("bob")
    hers, his = ann.see("/"), bob.see("/")
    proposed = price_table(PRODUCTS).set_index("product_id")["proposed_price"]

    first = ann.send("/decide", hers, one=f"approve:{PRODUCTS[0]}", reason="agreed")
    late = bob.send("/decide", his, action="reject", product=PRODUCTS[:2], reason="no")
    whole = bob.send("/decide", his, action="reject", scope="all", reason="no")
    other = bob.send("/decide", his, action="reject", product=PRODUCTS[1], reason="no")

    assert [one.status_code for one in (first, late, whole, other)] == [302, 409, 409, 302]
    assert f"{PRODUCTS[0]}</b>: approve by ann" in late.text
    assert PRODUCTS[1] not in late.text
    given = [(who, body["verdict"], body["reason"], body["prices"]) for who, _, body in decided(console.home)]
    assert given == [
        ("ann", "approve", "agreed", {PRODUCTS[0]: proposed[PRODUCTS[0]]}),
        ("bob", "reject", "no", {PRODUCTS[1]: proposed[PRODUCTS[1]]}),
    ]
    assert read_control(console.home).switches.approved == {PRODUCTS[0]: proposed[PRODUCTS[0]]}


def test_what_was_seen_in_an_older_table_is_not_decided_on_the_newer_one(console: Console, ann: Visitor) -> None:
    page = ann.see("/")
    put_table(console.home, price_table(PRODUCTS, change=0.2))
    console.shop.look()

    assert ann.send("/decide", page, one=f"approve:{PRODUCTS[0]}").status_code == 409
    assert decided(console.home) == []


def test_hostile_names_are_text_in_pages_and_in_files(tmp_path: Path) -> None:
    with open_console(shop_home(tmp_path, price_table(HOSTILE, category="<b>bold</b>"))) as console:
        ann = console.visitor("ann")
        page = ann.see("/")

        assert "<script>alert" not in page
        assert "<img" not in page
        assert "<b>bold" not in page
        assert set(HOSTILE) == console.shop.table.rows.keys()  # type: ignore[union-attr]
        for address in [one.partition('"')[0] for one in page.split('<th scope="row"><a href="')[1:]]:
            assert "<img" not in ann.see(html.unescape(address))
        assert ann.send("/decide", page, action="approve", scope="all").status_code == 302
        assert sorted(read_control(tmp_path).switches.approved) == sorted(HOSTILE)
        ann.send("/price-file", page, show="all")
        (file,) = console_files(tmp_path).newest()
        assert "'=1+1" in ann.see(f"/price-file/{file.name}.csv")


# Further pages


def test_a_page_of_a_product_draws_what_is_known_and_leaves_out_what_is_not(
    console: Console, ann: Visitor, tmp_path: Path
) -> None:
    page = ann.see(f"/products/{PRODUCTS[0]}")
    save_panel(shared_panel(), console.home / "panel")
    console.shop.look()
    whole = ann.see(f"/products/{PRODUCTS[0]}")
    with open_console(shop_home(tmp_path / "other", price_table(["stranger"]))) as other:
        stranger = other.visitor("ann").see("/products/stranger")
        other.visitor("ann").see("/products/nobody", status=404)

    assert page.count('<svg class="chart"') == 3  # steps and two curves; there is no panel
    assert "Its category" in page
    assert str(console.shop.served.version.facts.next_delivery(PRODUCTS[0])) in page
    assert "stranger" in stranger
    assert whole.count('<svg class="chart"') == 5


@pytest.mark.parametrize(("category", "shown"), [("drinks", True), ("another", False)])
def test_tests_of_a_category_stand_beside_what_was_observed(
    console: Console, ann: Visitor, category: str, shown: bool
) -> None:
    served = console.shop.served
    assert served is not None
    addresses = ["/portfolio", f"/products/{PRODUCTS[0]}"]
    untested = [ann.see(address) for address in addresses]
    demand = with_test(served.version.demand)
    demand = replace(demand, categories=np.array([category, *demand.categories[1:]]))
    console.shop.served = replace(served, version=replace(served.version, demand=demand))

    tested = [ann.see(address) for address in addresses]

    words = words_of_tests(demand)[category]
    assert [words in page for page in untested] == [False, False]
    assert [words in page for page in tested] == [shown, shown]


def test_nothing_is_expected_of_a_price_that_a_person_set(ann: Visitor) -> None:
    before = ann.see(f"/products/{PRODUCTS[0]}")
    ann.decide(action="freeze", product=PRODUCTS[0], reason="an offer")

    page, shown = ann.see(f"/products/{PRODUCTS[0]}"), ann.see(f"/?show=by+hand&q={PRODUCTS[0]}")

    assert ("Expected gain" in before, "Expected gain" in page) == (True, False)
    assert "Approve" not in page
    assert ('<span class="state">set by hand' in shown, 'name="one"' in shown) == (True, False)
    assert ann.send("/decide", shown, action="approve", product=PRODUCTS[0]).status_code == 400


def test_what_if_changes_nothing_and_tells_what_the_guardrails_cost(console: Console, ann: Visitor) -> None:
    page = ann.see("/what-if?change=-10")
    one = ann.see(f"/what-if?product={PRODUCTS[0]}&try=revenue")

    assert "as tried: -10 %" in page
    assert "as tried: revenue" in one
    assert ann.client.get("/what-if?try=nonsense").status_code == 400
    assert ann.client.get("/what-if?change=-95").status_code == 400
    assert decided(console.home) == []


def test_the_portfolio_counts_what_moves_and_shows_what_monitoring_asks_for(console: Console, ann: Visitor) -> None:
    place = console.home / "monitoring" / "latest" / "outcome.json"
    place.parent.mkdir(parents=True)
    task = {"what": "Train a new model", "why": "errors grew", "commands": []}
    place.write_text(json.dumps({"todo": [task], "windows": ["error 0.3"], "metrics": {}}))
    console.shop.look()

    page = ann.see("/portfolio")

    assert f"<b>{len(PRODUCTS)}</b> go up" in page
    assert "Train a new model" in page


@pytest.mark.parametrize(("weeks", "told"), [(None, "6 products against 6"), (1, "too few products have sold")])
def test_what_an_experiment_measured_stands_on_the_portfolio(tmp_path: Path, weeks: int | None, told: str) -> None:
    panel = shared_panel()
    start = panel.dates[-1].astype(dt.date) - dt.timedelta(days=40 if weeks is None else -40)
    start -= dt.timedelta(days=start.weekday())
    save_panel(panel, tmp_path / "panel")
    put_control(
        tmp_path, Experiment("holdout", start, weeks, (Arm("keep", 0.5),), dict.fromkeys(PRODUCTS[::2], "keep"))
    )

    with open_console(shop_home(tmp_path)) as console:
        page = console.visitor("ann").see("/portfolio")

    assert told in page
    assert ("% profit" in page.replace("</b>", "")) == (weeks is None)


def test_price_tests_on_offer_begin_by_one_button(console: Console, ann: Visitor) -> None:
    after = shared_panel().dates[-1].astype(dt.date) + dt.timedelta(days=1)
    console.shop.now = lambda: dt.datetime.combine(after, dt.time(9), dt.UTC)
    offer = ann.see("/portfolio")
    begun = ann.send("/tests", offer)

    (tests,) = console.shop.record.control().experiments.every
    assert begun.status_code == 302
    assert f"<b>{len(tests.products)}</b> products by" in offer
    assert tests.name == "tests"
    assert tests.start.weekday() == 0
    running = ann.see("/portfolio")
    assert f"<b>{len(tests.products)}</b> products are drawn anew each week from" in running
    assert all(f"/products/{product}" in running for product in tests.products)
    assert ann.send("/tests", offer).status_code == 409

    assert ann.send("/tests/stop", offer).status_code == 302
    (stopped,) = console.shop.record.control().experiments.every
    assert (stopped.stopped, stopped.end) == (after, stopped.start)  # before they began: none is drawn
    assert ann.send("/tests/stop", offer).status_code == 409


# Price files


def console_files(place: Console | Path) -> price_files.PriceFiles:
    home = place if isinstance(place, Path) else place.home
    return price_files.PriceFiles(FolderStore(home / "published"), model="pricing")


def written(console: Console, visitor: Visitor) -> price_files.PriceFile:
    visitor.send("/price-file", visitor.see("/price-file"), show="all")
    return console_files(console).newest()[0]


def downloaded(visitor: Visitor, file: price_files.PriceFile) -> pd.DataFrame:
    content = io.StringIO(visitor.see(f"/price-file/{file.name}.csv"))
    return pd.read_csv(content, dtype=str, keep_default_na=False)


def upload(visitor: Visitor, frame: pd.DataFrame, **fields: str) -> TestResponse:
    content = io.BytesIO(frame.to_csv(index=False).encode())
    return visitor.send("/price-file/read", visitor.see("/price-file"), file=(content, "prices.csv"), **fields)


def test_a_file_comes_back_with_decisions_and_only_as_it_was_written(console: Console, ann: Visitor) -> None:
    file = written(console, ann)
    frame = downloaded(ann, file)

    dearer, foreign = frame.assign(new="99", decision="approve"), frame.assign(file="0" * 16)
    unknown = frame.assign(new="nan", decision="approve")
    approved = frame.assign(decision="approve")
    more = pd.DataFrame("", frame.index, [f"more {number}" for number in range(200)])
    wide = pd.concat([approved, more], axis=1)
    longer = pd.concat([approved, approved])
    for changed in (dearer, foreign, unknown, wide, longer, frame.assign(decision="maybe"), frame[["id"]]):
        assert upload(ann, changed, sure="yes").status_code == 422
    assert decided(console.home) == []
    bob = console.visitor("bob")
    bob.decide(action="freeze", product=frame["product_id"][2], reason="mine")
    assert upload(ann, frame.assign(decision="approve"), sure="yes").status_code == 409
    frame.loc[0, ["decision", "note"]] = ["approve", "fine"]
    frame.loc[1, "decision"] = "Reject"
    assert upload(ann, frame, sure="yes").status_code == 302
    said = {body["verdict"]: (body["reason"], list(body["prices"])) for _, _, body in decided(console.home)[1:]}
    assert said == {
        "approve": ("fine", [frame["product_id"][0]]),
        "reject": (f"price file {file.name}", [frame["product_id"][1]]),
    }
    assert console_files(console).find(file.name).state == "exported"


@pytest.mark.parametrize(("answers", "state", "times"), [((503, 200), "exported", 2), ((403,), "failed", 1)])
def test_approved_prices_are_sent_and_again_where_that_may_help(
    tmp_path: Path, answers: tuple[int, ...], state: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pricing.runtime.alerts.FIRST_WAIT", 0.01)
    with (
        price_api(*map(status, answers)) as till,
        open_console(shop_home(tmp_path, more=f"console:\n  push_url: {till.url}\n")) as console,
    ):
        ann = console.visitor("ann")
        ann.decide(one=f"approve:{PRODUCTS[0]}")
        file = written(console, ann)
        ann.send(f"/price-file/{file.name}/send", ann.see("/price-file"))
        assert console_files(console).find(file.name).state == state

    price = price_table(PRODUCTS)["proposed_price"][0]
    sent = {"file": file.name, "prices": [{"product_id": PRODUCTS[0], "price": price, "from": "2023-08-02"}]}
    assert till.bodies == [sent] * times


def test_a_name_that_is_no_file_of_ours_finds_nothing(tmp_path: Path) -> None:
    for name in ("../../secret", "0" * 16, ""):
        with pytest.raises(SourceError):
            console_files(tmp_path).find(name)


def test_prices_that_are_no_longer_approved_are_not_sent(tmp_path: Path) -> None:
    with open_console(shop_home(tmp_path, more="console:\n  push_url: http://127.0.0.1:9/\n")) as console:
        ann = console.visitor("ann")
        ann.decide(one=f"approve:{PRODUCTS[0]}")
        file = written(console, ann)
        ann.decide(action="freeze", product=PRODUCTS[0], reason="wait")

        assert ann.send(f"/price-file/{file.name}/send", ann.see("/price-file")).status_code == 409


@pytest.mark.parametrize("beyond", [None, 0.2])
def test_what_waits_for_nobody_is_frozen_and_not_rejected(tmp_path: Path, beyond: float | None) -> None:
    with open_console(shop_home(tmp_path, beyond=beyond)) as console:
        ann = console.visitor("ann")
        page = ann.see("/?show=all")

        given = {"product": PRODUCTS[0], "reason": "no"}
        assert ann.send("/decide", page, action="reject", **given).status_code == 400
        assert ann.send("/decide", page, action="freeze", **given).status_code == 302


def test_a_file_has_what_serving_charges_what_was_approved_before_and_what_a_person_gave(
    console: Console, ann: Visitor
) -> None:
    product, given = PRODUCTS[:2]
    ann.decide(one=f"approve:{product}")
    ann.decide(action="change", product=given, price="99", reason="deal", sure="yes")
    (approved,) = read_control(console.home).switches.approved.values()
    put_table(console.home, price_table(PRODUCTS, change=0.3))
    console.shop.look()

    file = written(console, ann)
    frame = downloaded(ann, file)
    frame.loc[frame["product_id"] == product, "decision"] = "approve"

    rows = {row["product_id"]: (row["new"], row["status"]) for row in file.rows}
    assert (rows.pop(product), rows.pop(given)) == ((approved, "approved"), (99.0, "approved"))
    assert {status for _, status in rows.values()} == {"proposed"}
    assert upload(ann, frame).status_code == 409  # it is no proposal


def test_what_is_frozen_for_all_is_not_freed_product_by_product(console: Console, ann: Visitor) -> None:
    table(console.home).append(freeze())
    answer = ann.send("/decide", ann.see("/?show=all"), action="unfreeze", product=PRODUCTS[0], reason="go")

    assert answer.status_code == 400


# What a shop's manager stumbles over


def test_names_are_shown_searched_and_written_to_files(tmp_path: Path) -> None:
    table = price_table([*PRODUCTS[:7], "plain"], name=[*HOSTILE, "Grüner Tee", ""])
    with open_console(shop_home(tmp_path, table)) as console:
        ann = console.visitor("ann")

        found, file = ann.see("/?q=GRÜNER"), written(console, ann)
        whole = ann.see("/") + ann.see("/what-if") + "".join(ann.see(f"/products/{one}") for one in PRODUCTS[:7])

        assert re.findall(r">([^<]*)</a><small>([^<]*)</small></th>", found) == [
            ("Grüner Tee", f"{PRODUCTS[6]} · drinks")
        ]
        assert ("<script>alert" in whole, "<img" in whole, ">plain</a>" in whole) == (False, False, True)
        assert {"Grüner Tee", "'=1+1"} < set(pd.read_csv(io.BytesIO(file.as_csv()))["name"])


@pytest.mark.parametrize(
    ("beyond", "price", "asked"),
    [(0.05, 10.4, 0), (0.05, 10.6, 1), (0.05, 5.9, 1), (None, 10.9, 0), (None, 11.2, 1), (0.5, 5.9, 1)],
)
def test_a_typed_price_that_moves_far_or_lies_below_cost_is_asked_about_before_it_counts(
    tmp_path: Path, beyond: float | None, price: float, asked: int
) -> None:
    table = price_table(PRODUCTS, current_price=10.0, unit_cost=5.0, tax_rate=0.2)
    with open_console(shop_home(tmp_path, table, beyond=beyond)) as console:
        ann = console.visitor("ann")

        answer = ann.decide(action="change", reason="so", product=PRODUCTS[0], price=str(price))

        assert (answer.status_code, len(decided(tmp_path))) == ((200, 0) if asked else (302, 1))


def test_a_list_is_asked_about_once_with_the_count_and_the_worst(console: Console, ann: Visitor) -> None:
    answer = ann.send("/decide", ann.see("/?show=all"), action="change", reason="so", scope="all", percent="-45")

    assert f"{len(PRODUCTS)} of {len(PRODUCTS)} prices" in answer.text
    assert (decided(console.home), answer.text.count("Lies below cost")) == ([], SHOWN)
    assert ann.send("/decide", answer.text, **hidden(answer.text)).status_code == 302
    assert len(decided(console.home)) == len(PRODUCTS)


def test_a_file_that_is_read_back_is_asked_about_and_needs_no_other_upload(console: Console, ann: Visitor) -> None:
    frame = downloaded(ann, written(console, ann))
    frame.loc[:1, ["decision", "note"]] = ["approve", 'said "yes",\nü']

    answer = upload(ann, frame)

    assert ("2 of 2 prices" in answer.text, decided(console.home)) == (True, [])
    assert ann.send("/price-file/read", answer.text, **hidden(answer.text)).status_code == 302
    ((_, _, body),) = decided(console.home)
    assert (list(body["prices"]), body["reason"]) == (frame["product_id"][:2].tolist(), 'said "yes",\nü')


def hidden(page: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', page)}


@pytest.mark.parametrize("beyond", [None, 0.05])
def test_a_number_of_products_is_that_of_the_list_that_it_leads_to(tmp_path: Path, beyond: float | None) -> None:
    products = [f"P{number:03d}" for number in range(240)]
    change, reasons = np.resize([0.1, -0.1, 0.02, -0.02, 0.0], 240), np.resize(["", "held", "low_confidence"], 240)
    frame = price_table(products, change=change, reasons=reasons, category=np.resize(["tea", "milk"], 240))
    with open_console(shop_home(tmp_path, frame, beyond=beyond)) as console:
        ann = console.visitor("ann")
        ann.decide(action="freeze", product=products[:5], reason="so")
        pages = "".join(map(ann.see, ("/", "/?category=tea", "/portfolio")))
        tile, row = r'<a href="([^"]*)"[^>]*><b>([\d,]+)</b>', r'<a href="([^"]*reason=[^"]*)">.*?class="n">([\d,]+)'

        links = re.findall(tile, pages) + re.findall(row, pages)

        for address, number in links:
            page = ann.see("/" + html.unescape(address).removeprefix("/"))
            assert f"from the {number} below" in page
        assert len(links) > 10


def test_a_file_has_as_many_rows_as_its_page_counts(console: Console, ann: Visitor) -> None:
    ann.decide(action="approve", product=PRODUCTS[:3])
    put_table(console.home, price_table(PRODUCTS, change=0.3))  # newer proposals wait, and the older ones are charged
    console.shop.look()

    counts, file = re.findall(r"<b>(\d+)</b> (?:wait|may)", ann.see("/price-file")), written(console, ann)

    assert counts == [str(len(file.rows) - 3), str(len(file.approved))]


def test_why_a_price_moves_names_its_step_and_no_reason_of_another() -> None:
    bits = BIT["stock_short"] | BIT["price_test"] | BIT["cost"]

    said = [words.why(step, bits, 0.1, "margin") for step in ("target", "stock", "price_test", "guardrails")]

    assert said[0] == words.why("target", 0, 0.1, "margin")
    assert len(set(said)) == 4
