"""The configuration file: read strictly, errors that name file, line and key, and written so that it reads back."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from chain.primitives.errors import UserError
from miner.config import (
    ApiSettings,
    AsicSettings,
    CpuSettings,
    EnergySettings,
    GpuSettings,
    HttpSettings,
    NodeSettings,
    PoolSettings,
    Settings,
    dump_settings,
    load_settings,
    parse_listen,
    resolve_secret,
)

EXAMPLE = """\
network = "bitcoin"
address = "bc1qexample"
devices = ["cpu", "asic"]
min_difficulty = 512          # a whole number does for a real one

[[pool]]
url = "stratum+tcp://first.example:3333"
user = "me.rig1"
password_env = "POOL_PASSWORD"

[[pool]]
url = "stratum+ssl://spare.example:443"
user = "me.rig1"
priority = 1

[cpu]
threads = 3
idle = true

[asic]
ports = ["/dev/ttyACM0", "/dev/ttyACM1"]
frequency_mhz = 525

[energy]
tariff = 0.30
currency = "EUR"
watts = { cpu = 65, asic0 = 18.5 }

[http]
listen = "127.0.0.1:8080"

[api]
listen = "4028"
write = true
"""


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "miner.toml"
    path.write_text(text)
    return load_settings(path)


def test_a_whole_file(tmp_path: Path) -> None:
    settings = load(tmp_path, EXAMPLE)
    assert settings == Settings(
        network="bitcoin",
        address="bc1qexample",
        devices=("cpu", "asic"),
        min_difficulty=512.0,
        pool=(
            PoolSettings(url="stratum+tcp://first.example:3333", user="me.rig1", password_env="POOL_PASSWORD"),
            PoolSettings(url="stratum+ssl://spare.example:443", user="me.rig1", priority=1),
        ),
        cpu=CpuSettings(threads=3, idle=True),
        asic=AsicSettings(ports=("/dev/ttyACM0", "/dev/ttyACM1"), frequency_mhz=525.0),
        energy=EnergySettings(watts={"cpu": 65.0, "asic0": 18.5}, tariff=0.30, currency="EUR"),
        http=HttpSettings(listen="127.0.0.1:8080"),
        api=ApiSettings(listen="4028", write=True),
    )
    assert load(tmp_path, "") == Settings()
    assert load(tmp_path, 'devices = "auto"').devices == ("auto",)


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("nettwork = 'dev'", 1, "unknown key 'nettwork': did you mean 'network'?"),
        ("\n[cpu]\nthread = 4", 3, "unknown key 'thread' in [cpu]: did you mean 'threads'?"),
        ("[gpus]\n", 1, "unknown key 'gpus'"),
        ("[cpu]\nthreads = 'four'", 2, "cpu.threads must be a whole number, not 'four'"),
        ("[cpu]\nthreads = 2.5", 2, "cpu.threads must be a whole number, not 2.5"),
        ("min_difficulty = inf", 1, "min_difficulty must be a number, not inf"),
        (f"min_difficulty = {10**400}", 1, "min_difficulty must be a number"),
        ("[cpu]\nthreads = true", 2, "cpu.threads must be a whole number, not True"),
        ("[cpu]\nthreads = 0", 2, "cpu.threads must be 1 to 4096"),
        ("[cpu]\nidle = 1", 2, "cpu.idle must be true or false, not 1"),
        ("network = 5", 1, "network must be text in quotes, not 5"),
        ("cpu = 4", 1, "cpu must be a table: [cpu], not 4"),
        ("[pool]\nurl = 'x'", 1, "pool must be tables: [[pool]], not a dict"),
        ("[[pool]]\nuser = 'me'", 1, "url is missing in [pool]"),
        (
            "[[pool]]\nurl = 'a'\n[[pool]]\nurl = 'b'\nusr = 'me'",
            5,
            "unknown key 'usr' in [pool]: did you mean 'user'?",
        ),
        ("[[pool]]\nurl = 'a'\n[[pool]]\nurl = 7", 4, "pool.url must be text in quotes, not 7"),
        ("devices = ['cpu', 'fpga']", 1, "devices knows cpu, gpu, asic, auto, not 'fpga'"),
        ("devices = []", 1, "devices must name at least one kind"),
        ("[energy]\nwatts = { cpu = -1 }", 2, "energy.watts has no such power: cpu = -1"),
        ("[energy.watts]\nall = 5\ncpu = 1", 1, "energy.watts is contradictory"),
        ("[energy]\ntariff = nan", 2, "energy.tariff must be a number, not nan"),
        ("[http]\nlisten = 'nowhere:port'", 2, "http.listen 'nowhere:port' is no place to listen at"),
        ("[api]\nallow = ['192.168.1.7/24']", 2, "api.allow knows networks like 192.168.1.0/24, not '192.168.1.7/24'"),
        ("[http]\nlisten = 'a\\u0007\\nb'".replace("'", '"'), 2, "http.listen 'a  b' is no place to listen at"),
        ("devices = ['c\\u001bpu']".replace("'", '"'), 1, "not 'c pu'"),
        ("pace_s = -1", 1, "pace_s must not be negative"),
        ("blocks = 0", 1, "blocks must be above 0"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, line: int, complaint: str) -> None:
    with pytest.raises(UserError) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'miner.toml'}, line {line}: ")
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert load(tmp_path, "tls_ca = '~/ca.pem'").tls_ca == Path("/home/me/ca.pem")
    assert load(tmp_path, "tls_ca = '~nobody-of-that-name/ca.pem'").tls_ca == tmp_path / "~nobody-of-that-name/ca.pem"
    assert load(tmp_path, "network = '~/own.toml'").network == "/home/me/own.toml"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the configuration .*: No such file"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"is not TOML: .*line 2"):
        load(tmp_path, "\nnetwork = = 1")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not TOML"):
        load_settings(tmp_path / "binary")
    with pytest.raises(UserError, match="not from both"):
        load(tmp_path, "[[pool]]\nurl = 'a'\n[[node]]\nurl = 'b'")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "tls_ca = 'ca.pem'").tls_ca == tmp_path / "ca.pem"
    assert load(tmp_path, "tls_ca = '/etc/ca.pem'").tls_ca == Path("/etc/ca.pem")


def test_what_is_written_reads_back(tmp_path: Path, rng: random.Random) -> None:
    alphabet = "ab \"\\'=#[]\n\t\x7fé"

    def text() -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randrange(12)))

    for _ in range(200):
        settings = Settings(
            network=text(),
            address=rng.choice([None, text()]),
            devices=tuple(rng.sample(["cpu", "gpu", "asic", "auto"], rng.randrange(1, 4))),
            pace_s=rng.choice([0.0, rng.random()]),
            version_rolling=rng.random() < 0.5,
            tls_ca=rng.choice([None, tmp_path / "ca"]),
            node=tuple(NodeSettings(url=text(), priority=rng.randrange(-5, 5)) for _ in range(rng.randrange(3))),
            cpu=CpuSettings(threads=rng.choice([None, 1, 4096]), idle=rng.random() < 0.5),
            energy=EnergySettings(watts={text(): rng.random() * 100, "cpu": 1e-7}, currency=text()),
            api=ApiSettings(write=rng.random() < 0.5),
        )
        assert load(tmp_path, dump_settings(settings)) == settings
    assert dump_settings(Settings()) == ""
    assert load(tmp_path, dump_settings(load(tmp_path, EXAMPLE))) == load(tmp_path, EXAMPLE)


def test_secrets_come_from_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "from the environment")
    (tmp_path / "file").write_text("from the file\nmore\n")
    assert resolve_secret("password", "given", None, None) == "given"
    assert resolve_secret("password", None, "SECRET", None) == "from the environment"
    assert resolve_secret("password", None, None, tmp_path / "file") == "from the file"
    assert resolve_secret("password", None, None, None) is None
    with pytest.raises(UserError, match="given twice, as its value and in the variable SECRET: keep one"):
        resolve_secret("password", "x", "SECRET", None)
    with pytest.raises(UserError, match="UNSET_SECRET, which is not set"):
        resolve_secret("password", None, "UNSET_SECRET", None)
    with pytest.raises(UserError, match="cannot read the password"):
        resolve_secret("password", None, None, tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is empty"):
        resolve_secret("password", None, None, tmp_path / "file")


def test_a_secret_in_two_places_of_a_file_names_both(tmp_path: Path) -> None:
    twice = 'network = "dev"\n[[pool]]\nurl = "a:1"\n[[pool]]\nurl = "b:2"\npassword = "x"\npassword_file = "y"\n'
    with pytest.raises(
        UserError, match=r"miner.toml, line 6: the password in \[pool\].* and as password_file in line 7"
    ):
        load(tmp_path, twice)
    with pytest.raises(
        UserError, match=r"line 2: the token in \[http\] .* here as token_env and as token_file in line 3"
    ):
        load(tmp_path, '[http]\ntoken_env = "A"\ntoken_file = "b"\n')


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0", ("0.0.0.0", 4028)),
        ("[::1]:80", ("::1", 80)),
        ("[::]", ("::", 4028)),
        ("rig-1.local:1", ("rig-1.local", 1)),
        ("localhost", ("localhost", 4028)),
        ("0", ("127.0.0.1", 0)),
    ],
)
def test_places_to_listen_at(text: str, place: tuple[str, int]) -> None:
    assert parse_listen(text, 4028) == place


@pytest.mark.parametrize("text", ["", ":", "host:", "::1", "a b:1", "127.0.0.1:70000", "[::1", "host:port", "a:1:2"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(UserError):
        parse_listen(text, 4028)


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "miner-config.md").read_text()
    for cls in (
        Settings,
        PoolSettings,
        NodeSettings,
        CpuSettings,
        GpuSettings,
        AsicSettings,
        EnergySettings,
        HttpSettings,
        ApiSettings,
    ):
        for item in dataclasses.fields(cls):
            assert f"`{item.name}`" in text or f"[{item.name}]" in text, f"{cls.__name__}.{item.name}"
