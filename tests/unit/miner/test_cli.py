"""The miner's commands: what the command line and the file make together, and what each says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chain.params import NETWORKS
from chain.primitives.errors import UserError
from chain.script.addresses import encode_address
from miner.asic.device import AsicDevice
from miner.asic.gekko.models import GEKKO_MODELS
from miner.asic.transport import PortInfo, identify
from miner.cli import mine
from miner.cli.devices import port_state
from miner.cli.hardware import make_devices
from miner.cli.mine import override
from miner.cli.sources import benchmark_source
from miner.config import AsicSettings, CpuSettings, NodeSettings, PoolSettings, Settings, load_settings
from miner.gpu.discovery import FoundDevice
from miner.work.job import Job

ADDRESS = encode_address(b"\x00\x14" + bytes(range(20)), NETWORKS["dev"].addresses) or ""


@pytest.fixture(autouse=True)
def _ctrl_c_of_the_tests() -> Iterator[None]:
    """A run's last act is to be deaf to it, and so would be what later tests start."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def datadir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PICKAXE_DATADIR", str(tmp_path))
    return tmp_path


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(mine, list(arguments), env=environment)


def complaint(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def written(path: Path, *arguments: str, **environment: str) -> Settings:
    result = run(*arguments, "--write-config", str(path), **environment)
    assert result.exit_code == 0, (result.output, result.exception)
    return load_settings(path)


def test_a_folder_in_the_place_of_the_file_is_refused(datadir: Path) -> None:
    (datadir / "miner.toml").mkdir()
    assert complaint("--benchmark") == f"cannot read the configuration {datadir / 'miner.toml'}: Is a directory"


def test_every_option_reaches_the_settings(datadir: Path) -> None:
    settings = written(
        datadir / "written.toml",
        *("--network", "dev", "--address", "a", "--url", "stratum+tcp://x:1", "--url", "stratum+tcp://y:2"),
        *("--user", "me", "--suggest-difficulty", "5", "--follow-redirects", "--datadir", str(datadir)),
        *("--device", "cpu", "--device", "asic", "--threads", "3", "--idle", "--idle-load", "40", "--gpu", "1"),
        *("--port", "/dev/a,/dev/b", "--board", "bitaxe-gamma", "--model", "bm1370", "--frequency", "500"),
        *("--zero-bits", "20", "--blocks", "5", "--pace", "1.5", "--min-difficulty", "2", "--no-version-rolling"),
        *("--watts", "cpu=65", "--watts", "asic0=18", "--tariff", "0.3", "--currency", "EUR"),
        *("--http", "127.0.0.1:1", "--http-token", "0123456789abcdef", "--api", "4028", "--api-write"),
        *("--api-allow", "10.0.0.0/8"),
    )
    assert settings.pool == (PoolSettings(url="stratum+tcp://x:1"), PoolSettings(url="stratum+tcp://y:2"))
    assert (settings.network, settings.address, settings.user, settings.datadir) == ("dev", "a", "me", datadir)
    assert settings.devices == ("cpu", "asic")
    assert (settings.cpu.threads, settings.cpu.idle, settings.cpu.idle_load) == (3, True, 40.0)
    assert settings.gpu.use == ("1",)
    assert settings.asic == AsicSettings(
        ports=("/dev/a,/dev/b",), boards=("bitaxe-gamma",), model="bm1370", frequency_mhz=500.0, zero_bits=20
    )
    assert (settings.blocks, settings.pace_s, settings.min_difficulty) == (5, 1.5, 2.0)
    assert (settings.suggest_difficulty, settings.version_rolling, settings.follow_redirects) == (5.0, False, True)
    assert settings.energy.watts == {"cpu": 65.0, "asic0": 18.0}
    assert (settings.energy.tariff, settings.energy.currency) == (0.3, "EUR")
    assert (settings.http.listen, settings.http.token) == ("127.0.0.1:1", "0123456789abcdef")
    assert (settings.api.listen, settings.api.write, settings.api.allow) == ("4028", True, ("10.0.0.0/8",))
    assert (datadir / "written.toml").stat().st_mode & 0o777 == 0o600


def test_the_command_line_goes_before_the_file(datadir: Path) -> None:
    (datadir / "miner.toml").write_text(
        "network = 'dev'\npace_s = 2.0\ndevices = ['asic']\n[cpu]\nthreads = 2\nidle = true\n"
        "[[pool]]\nurl = 'stratum+tcp://x:1'\nuser = 'me'\n[http]\ntoken_env = 'TOKEN'\n"
    )
    same = written(datadir / "a.toml")
    assert (same.network, same.pace_s, same.devices, same.cpu.threads) == ("dev", 2.0, ("asic",), 2)
    other = written(datadir / "b.toml", "--pace", "0", "--threads", "1", "--no-idle", "--rpc-url", "http://n:1")
    assert (other.pace_s, other.cpu.threads, other.cpu.idle, other.network) == (0.0, 1, False, "dev")
    assert (other.pool, other.node) == ((), (NodeSettings(url="http://n:1"),))
    token = written(datadir / "c.toml", PICKAXE_HTTP_TOKEN="0123456789abcdef")
    assert (token.http.token, token.http.token_env) == ("0123456789abcdef", None)
    assert written(datadir / "d.toml", "--config", "none") == Settings()
    assert written(datadir / "e.toml", "--config", str(datadir / "b.toml")) == other


def test_passwords_stay_out_of_what_is_written(datadir: Path) -> None:
    written(datadir / "a.toml", "--url", "tcp://x:1", "--user", "me", "--password", "secret")
    assert "secret" not in (datadir / "a.toml").read_text()
    assert "exists already" in complaint("--write-config", str(datadir / "a.toml"))
    assert "cannot write" in complaint("--write-config", str(datadir / "no" / "such" / "folder"))


def test_what_is_written_means_the_same_elsewhere(datadir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = datadir / "here", datadir / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    (here / "ca.pem").touch()
    arguments = (
        *(
            "--network",
            "own.toml",
            "--tls-ca",
            "ca.pem",
            "--datadir",
            "data",
            "--board",
            "mine.toml",
            "--board",
            "tube",
        ),
        *("--rpc-url", "http://a:1", "--rpc-url", "http://b:1", "--rpc-cookie", "cookie"),
    )
    settings = written(elsewhere / "miner.toml", *arguments)
    assert (settings.network, settings.tls_ca) == (str(here / "own.toml"), here / "ca.pem")
    assert settings.datadir == here / "data"
    assert settings.asic.boards == (str(here / "mine.toml"), "tube")
    assert settings.node == tuple(NodeSettings(url=f"http://{name}:1", cookie=here / "cookie") for name in "ab")
    assert written(here / "a.toml", "--rpc-user", "me").node == (NodeSettings(user="me"),)
    text = 'network = "own.toml"\ntls_ca = "ca.pem"\n[asic]\nboards = ["sub/mine.toml", "tube"]\n'
    (elsewhere / "b.toml").write_text(text)
    monkeypatch.chdir(datadir)
    for path in (elsewhere / "b.toml", Path("elsewhere/b.toml")):
        settings = load_settings(path)
        assert settings.network == str(path.parent / "own.toml")
        assert settings.tls_ca == path.parent / "ca.pem"
        assert settings.asic.boards == (str(path.parent / "sub" / "mine.toml"), "tube")


def test_settings_that_are_no_text_are_refused_and_leave_no_file(datadir: Path) -> None:
    said = complaint("--user", "J\udcfcrgen", "--write-config", str(datadir / "a.toml"))
    assert "characters that are no text in 'user = \"J\\udcfcrgen\"\\n'" in said
    assert not (datadir / "a.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "say where to mine"),
        (("--url", "tcp://x:1", "--rpc-url", "http://n:1"), "not from both"),
        (("--url", "tcp://x:1"), "needs a user"),
        (("--config", "/no/such/file"), "cannot read the configuration"),
        (("--address", ADDRESS, "--port", "/dev/x"), "add --device asic"),
        (("--address", ADDRESS, "--board", "bitaxe"), "add --device asic"),
        (("--address", ADDRESS, "--gpu", "0"), "add --device gpu"),
        (("--address", ADDRESS, "--device", "asic"), "--port"),
        (("--address", ADDRESS, "--device", "asic", "--port", "/dev/x", "--threads", "1"), "--threads"),
        (("--address", ADDRESS, "--device", "asic", "--port", "/dev/x", "--idle"), "--idle"),
        (("--address", ADDRESS, "--watts", "much"), "--watts much"),
        (("--address", ADDRESS, "--watts", "5", "--watts", "cpu=5"), "do not go together"),
        (("--address", ADDRESS, "--http", "here"), None),
        (("--address", ADDRESS, "--http", "1.2.3.4:99999"), "ports go up to 65535"),
        (("--address", ADDRESS, "--http", "127.0.0.1:0", "--http-token", "short"), "at least 16"),
        (("--address", ADDRESS, "--api", "0.0.0.0:4028"), "--api-allow"),
        (("--address", ADDRESS, "--api", "4028", "--api-allow", "everyone"), "write networks like"),
        (("--address", ADDRESS, "--tls-ca", __file__, "--url", "tcp://x:1"), "holds no certificates"),
    ],
)
def test_what_does_not_fit_is_one_line(datadir: Path, arguments: tuple[str, ...], wanted: str | None) -> None:
    said = complaint("--network", "dev", "--quiet", *arguments)
    assert wanted is None or wanted in said
    assert "\n" not in said


def test_a_busy_port_is_said_before_mining(datadir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = f"127.0.0.1:{other.getsockname()[1]}"
        for option in ("--http", "--api"):
            said = complaint("--network", "dev", "--address", ADDRESS, "--threads", "1", "--quiet", option, place)
            assert f"cannot listen at {place}: the port is in use" in said
            assert option in said


def test_secrets_of_the_file_are_found_or_missed(datadir: Path) -> None:
    (datadir / "miner.toml").write_text("[[pool]]\nurl = 'tcp://x:1'\nuser = 'me'\npassword_env = 'NO_SUCH_VARIABLE'\n")
    assert "NO_SUCH_VARIABLE, which is not set" in complaint("--network", "dev")


def test_overriding_nothing_changes_nothing() -> None:
    settings = Settings(network="dev", pool=(PoolSettings(url="x"),))
    assert override(settings, {}) == settings


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_cards() -> list[FoundDevice]:
        return [FoundDevice("-", "OpenCL", "no OpenCL driver is installed")]

    monkeypatch.setattr("miner.gpu.discover", no_cards)
    monkeypatch.setattr("miner.asic.transport.scan", list)
    devices, remarks = make_devices(Settings(devices=("auto",), cpu=CpuSettings(threads=1)), frozenset())
    assert [device.name for device in devices] == ["cpu0"]
    assert remarks == ["without graphics cards: no GPU can be used here: OpenCL: no OpenCL driver is installed"]
    with pytest.raises(UserError, match="no GPU can be used here"):
        make_devices(Settings(devices=("gpu",)), frozenset())


def test_auto_drives_each_board_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control ports are no boards, boards that must be powered up wait to be named, and each chip gets its driver."""

    def port(path: str, vendor: int, product_id: int, product: str, interface: int = 0) -> PortInfo:
        return PortInfo(path, product, f"serial of {product}", identify(vendor, product_id, product), interface)

    ports = [
        port("/dev/ttyACM0", 0xC0DE, 0xCAFE, "Bitaxe", 0),
        port("/dev/ttyACM1", 0xC0DE, 0xCAFE, "Bitaxe", 2),
        port("/dev/ttyACM2", 0xC0DE, 0xCAFE, "BitaxeBonanza"),
        port("/dev/ttyUSB0", 0x0403, 0x6015, "NewPac Bitcoin Miner"),
        port("/dev/ttyUSB1", 0x10C4, 0xEA60, "Block Erupter"),
        port("/dev/ttyUSB2", 0x10C4, 0xEA60, "CP2102 USB to UART Bridge Controller"),
        port("/dev/ttyUSB3", 0x1234, 0x5678, "modem"),
    ]
    monkeypatch.setattr("miner.gpu.discover", list)
    monkeypatch.setattr("miner.asic.transport.scan", lambda: ports)
    settings = Settings(devices=("auto",), cpu=CpuSettings(threads=1))
    devices, remarks = make_devices(settings, frozenset())
    boards = [device for device in devices if device.kind == "asic"]
    assert [(board.name, type(board).__name__) for board in boards] == [
        ("asic0", "AsicDevice"),
        ("asic1", "IcarusDevice"),
    ]
    first = boards[0]
    assert isinstance(first, AsicDevice)
    assert (first.board.path, first.board.driver.model) == ("/dev/ttyUSB0", GEKKO_MODELS["bm1387"])
    assert remarks[-2:] == [
        "perhaps boards, perhaps not: name them with --port: /dev/ttyUSB2",
        "Bitaxe with bitaxe-raw firmware on /dev/ttyACM1: say which it is, --port /dev/ttyACM1 --board NAME",
    ]


def test_several_kinds_together() -> None:
    settings = Settings(devices=("cpu", "asic"), cpu=CpuSettings(threads=2), asic=AsicSettings(ports=("/dev/null0",)))
    devices, _ = make_devices(settings, frozenset())
    assert [(device.name, device.kind) for device in devices] == [("cpu0", "cpu"), ("cpu1", "cpu"), ("asic0", "asic")]


def test_a_benchmark_needs_neither_node_nor_pool() -> None:
    factory, title = benchmark_source(Settings(version_rolling=False))
    jobs: list[Job | None] = []
    source = factory(on_job=jobs.append, on_message=lambda text: None)
    assert (title, source.pools(), source.pool_control) == ("benchmark", [], None)

    async def first_job() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(source.run(), 0.01)

    asyncio.run(first_job())
    assert jobs[0] is not None
    assert jobs[0].version_mask == 0


def test_ports_that_may_not_be_opened_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = tmp_path / "ttyACM0"
    port.touch()
    assert port_state(port) == "usable"
    monkeypatch.setattr("os.access", lambda *_: False)
    port.chmod(0o600)
    assert "udev rule" in port_state(port)
    port.chmod(0o660)

    class Group:
        gr_name = "dialout"

    monkeypatch.setattr("grp.getgrgid", lambda _: Group)
    assert "sudo usermod -aG dialout" in port_state(port)
    assert "No such file" in port_state(tmp_path / "gone")


def test_bench_keeps_its_history(tmp_path: Path) -> None:
    from miner.bench import History

    history = History(tmp_path / "bench.json", "Xeon")
    assert history.rates("a") == []
    for rate in (1.0, 3.0, 2.0):
        history.save({"a": rate})
    assert history.rates("a") == [1.0, 3.0, 2.0]
    (tmp_path / "bench.json").write_text('{"Xeon: a": [5.0], "Xeon: b": [0], "Xeon: c": []}')
    assert (history.rates("a"), history.rates("b"), history.rates("c")) == ([5.0], [], [])
    for _ in range(60):
        history.save({"a": 1.0})
    assert len(history.rates("a")) == 50
    other = History(tmp_path / "bench.json", "Ryzen")
    assert other.rates("a") == [], "another processor is another story"
    other.save({"a": 7.0})
    assert (other.rates("a"), len(history.rates("a"))) == ([7.0], 50)
    for damage in ("nonsense", "[" * 100_000, '{"a": [1e999]}', f'{{"a": [1{"0" * 400}]}}'):
        (tmp_path / "bench.json").write_text(damage)
        assert history.rates("a") == []


def test_processors_are_known_by_their_makers_name(tmp_path: Path) -> None:
    from miner.bench import processor_model
    from miner.cpu.features import host_processor

    (tmp_path / "x86").write_text("processor\t: 0\nmodel name\t: A CPU @ 2.00GHz\nmodel name\t: B\n")
    (tmp_path / "arm").write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    names = [processor_model(tmp_path / name) for name in ("x86", "arm", "none")]
    assert names == ["A CPU @ 2.00GHz", host_processor().name, host_processor().name]


def test_a_device_that_fails_in_a_measurement_is_named() -> None:
    from miner.bench import measure
    from miner.device import DeviceError
    from miner.kernels.reference import ReferenceDevice

    class Broken(ReferenceDevice):
        def open(self) -> None:
            raise DeviceError("no driver")

    devices: list[Any] = [ReferenceDevice("cpu0"), Broken("gpu0")]
    with pytest.raises(DeviceError, match="no driver"):
        measure(devices, 1, 0.1)


@pytest.mark.parametrize(
    "option", ["--min-difficulty", "--suggest-difficulty", "--pace", "--tariff", "--idle-load", "--frequency"]
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_are_finite(option: str, value: str) -> None:
    result = run(f"{option}={value}", "--address", ADDRESS, "--network", "dev")
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_a_configuration_that_cannot_be_written_leaves_no_file(datadir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system_open = os.open

    def onto_full_disk(path: Path, flags: int, mode: int) -> int:
        path.write_text("")
        return system_open("/dev/full", os.O_WRONLY)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", onto_full_disk)
        assert "No space left" in complaint("--threads", "2", "--write-config", str(datadir / "a.toml"))
    assert not (datadir / "a.toml").exists()
