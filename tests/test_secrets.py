"""No password or token of an address is printed, written to the workspace or put in arguments."""

import pytest
from one_process import run_all

from bench.core.errors import BadInput
from bench.core.store import Store
from bench.core.text import without_secrets
from bench.sweep.storage import checked_address
from bench.tracking.address import Address, find_address

SECRET = "hunter2secret"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"http://ann:{SECRET}@host:5000/a", "http://ann:***@host:5000/a"),
        (f"postgresql+psycopg://ann:{SECRET}@h/db", "postgresql+psycopg://ann:***@h/db"),
        (f"http://:{SECRET}@host", "http://:***@host"),
        (f"http://ann:a/{SECRET}@b@host:1", "http://ann:***@host:1"),
        (f"http://ann:123{SECRET}@proxy:3128", "http://ann:***@proxy:3128"),
        (f"https://{SECRET}@host/x", "https://***@host/x"),
        (f"https://h/x?a=1&access_token={SECRET}#f", "https://h/x?a=1&access_token=***#f"),
        (f"postgresql://h/d?user=a&password={SECRET}", "postgresql://h/d?user=a&password=***"),
        (f"two http://a:{SECRET}@b, http://c:{SECRET}@d.", "two http://a:***@b, http://c:***@d."),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        (f"http://ann:p'{SECRET}\"<x>@host/a", "http://ann:***@host/a"),
        (f"'http://ann:80{SECRET}@host', b", "'http://ann:***@host', b"),
        (f"databricks://{SECRET}@host", "databricks://***@host"),
        (f"https://h/x?pass={SECRET}&key={SECRET}", "https://h/x?pass=***&key=***"),
        (f"https://h/x#token={SECRET}", "https://h/x#token=***"),
        (f"host=h password={SECRET} dbname=d", "host=h password=*** dbname=d"),
        (f"host=h password = 'a \\'{SECRET}' dbname=d", "host=h password = *** dbname=d"),
        (f'{{"PGPASSWORD={SECRET}": 1}}', '{"PGPASSWORD=***": 1}'),
        ("http://host:80/a@b, see C:\\Users\\ann@home or ann@host.org", None),
        ("http://host:port is wrong, write to ann@host.org", None),
        ("https://h/x?monkey=1&keys=2&compass=3, the password is missing", None),
        ("http://127.0.0.1:5000/#/x?viewStateShareKey=abc", None),
        ("http://127.0.0.1:5000/a@b", None),
        ("models:/digits@champion, ann@host:22", None),
    ],
)
def test_addresses_are_shown_without_secrets(given: str, shown: str | None) -> None:
    assert without_secrets(given) == (given if shown is None else shown)


def test_no_output_and_no_file_holds_a_secret(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"http://ann:{SECRET}@127.0.0.1:9/x?token={SECRET}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:{SECRET}@127.0.0.1:9")
    run = ("run", "-p", tiny_protocol, "-m", "mean_image")
    storage = f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:9/db"
    commands = (
        (*run, "--json"),
        ("sync",),
        ("doctor",),
        ("doctor", "--json"),
        ("ui",),
        ("sweep", "-p", tiny_protocol, "-m", "fc_ae", "--trials", "1", "--storage", storage),
        ("data", "fetch", "mnist"),
    )
    ended = run_all(commands)
    assert SECRET not in ended.said
    assert "Traceback" not in ended.said
    assert ended.said.count("http://ann:***@127.0.0.1:9/x?token=***") >= len(commands) - 2
    for path in store.root.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("password", [f"p/{SECRET}", f"p#{SECRET}", f"p?{SECRET}"])
def test_a_password_that_cuts_its_address_is_not_quoted(
    store: Store, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{password}@host")
    with pytest.raises(BadInput, match="its port is not a number") as caught:
        find_address(store)
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"ftp://ann:{SECRET}@host")
    with pytest.raises(BadInput, match="expected sqlite") as caught:
        find_address(store)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    [f"80/{SECRET}", f"1?{SECRET}", f"a {SECRET}", f"a'{SECRET}", f'"{SECRET}', f"<{SECRET}"],
)
def test_an_address_whose_password_could_be_shown_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    for scheme in ("http", "postgresql"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://ann:{password}@host/db")
        with pytest.raises(BadInput, match=r"MLFLOW_TRACKING_URI: .*%XX") as caught:
            find_address(store)
        assert SECRET not in str(caught.value)
    with pytest.raises(BadInput, match="--storage: ") as caught:
        checked_address(f"postgresql://ann:{password}@host/db")
    assert SECRET not in str(caught.value)
    assert checked_address(f"postgresql://ann:p%2F{SECRET}@host/db").password == f"p/{SECRET}"


def test_the_server_gets_its_store_in_the_environment(store: Store) -> None:
    from bench.tracking import server

    address = Address(f"postgresql://ann:{SECRET}@127.0.0.1:9/db")
    assert SECRET not in " ".join(server._command(5000))
    assert server._environment(address, store)["MLFLOW_BACKEND_STORE_URI"] == address.uri
