"""What each command of the cgminer API answers, in both forms."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from chain.primitives.errors import UserError
from miner.api.cgminer.commands import COMMANDS, Context, execute
from miner.api.cgminer.messages import Message
from miner.api.cgminer.wire import Envelope, is_complete, parse_request, render
from miner.device import DeviceDetails
from miner.status import NetworkReport, Status
from tests.support.miner_status import PARENT, RecordingControl, board, core, pool, status

WHEN = 1_700_000_100


def ask(
    request: str | bytes, state: Status | None = None, *, write: bool = True, control: RecordingControl | None = None
) -> str:
    data = request.encode() if isinstance(request, str) else request
    parsed = parse_request(data)
    context = Context(state or status(), control or RecordingControl(), write, WHEN)
    reply = render(parsed, execute(parsed, context), Envelope(WHEN, "pickaxe 0.1.0"))
    assert reply.endswith(b"\0")
    assert reply.count(b"\0") == 1
    return reply[:-1].decode()


def ask_json(command: str, parameter: object = None, **more: Any) -> dict[str, Any]:
    fields = {"command": command} if parameter is None else {"command": command, "parameter": parameter}
    answer: dict[str, Any] = json.loads(ask(json.dumps(fields), **more))
    assert answer["id"] == 1
    return answer


def code_of(command: str, parameter: object = None, **more: Any) -> tuple[str, int, str]:
    (said,) = ask_json(command, parameter, **more)["STATUS"]
    return said["STATUS"], said["Code"], said["Msg"]


def test_version_in_both_forms() -> None:
    assert ask("version") == (
        "STATUS=S,When=1700000100,Code=22,Msg=CGMiner versions,Description=pickaxe 0.1.0|"
        "VERSION,CGMiner=4.12.0,API=3.7,Miner=pickaxe 0.1.0|"
    )
    assert ask_json("version") == {
        "STATUS": [
            {
                "STATUS": "S",
                "When": WHEN,
                "Code": 22,
                "Msg": "CGMiner versions",
                "Description": "pickaxe 0.1.0",
            }
        ],
        "VERSION": [{"CGMiner": "4.12.0", "API": "3.7", "Miner": "pickaxe 0.1.0"}],
        "id": 1,
    }


def test_summary_has_cgminers_fields_in_their_order() -> None:
    (summary,) = ask_json("summary")["SUMMARY"]
    assert list(summary) == [
        "Elapsed",
        "MHS av",
        "MHS 5s",
        "MHS 1m",
        "MHS 5m",
        "MHS 15m",
        "Found Blocks",
        "Getworks",
        "Accepted",
        "Rejected",
        "Hardware Errors",
        "Utility",
        "Discarded",
        "Stale",
        "Get Failures",
        "Local Work",
        "Remote Failures",
        "Network Blocks",
        "Total MH",
        "Work Utility",
        "Difficulty Accepted",
        "Difficulty Rejected",
        "Difficulty Stale",
        "Best Share",
        "Device Hardware%",
        "Device Rejected%",
        "Pool Rejected%",
        "Pool Stale%",
        "Last getwork",
    ]
    assert summary["Elapsed"] == 100
    assert summary["Accepted"] == 17
    assert summary["Rejected"] == 1
    assert summary["Stale"] == 2
    assert summary["Hardware Errors"] == 2
    assert summary["Utility"] == 10.2
    assert summary["MHS av"] == pytest.approx(980_064.0)
    assert summary["Total MH"] == pytest.approx(98_006_400.0)
    assert summary["Difficulty Accepted"] == 17 * 512
    assert summary["Pool Rejected%"] == pytest.approx(512 / (17 * 512 + 512 + 1024) * 100, abs=1e-4)


def test_devices_are_ascs_and_then_pgas() -> None:
    answer = ask_json("devs")
    assert answer["STATUS"][0]["Msg"] == "1 ASC(s) - 2 PGA(s)"
    asc, first, second = answer["DEVS"]
    assert list(asc) == [
        "ASC",
        "Name",
        "ID",
        "Enabled",
        "Status",
        "Temperature",
        "MHS av",
        "MHS 5s",
        "MHS 1m",
        "MHS 5m",
        "MHS 15m",
        "Accepted",
        "Rejected",
        "Hardware Errors",
        "Utility",
        "Last Share Pool",
        "Last Share Time",
        "Total MH",
        "Diff1 Work",
        "Difficulty Accepted",
        "Difficulty Rejected",
        "Last Share Difficulty",
        "No Device",
        "Last Valid Work",
        "Device Hardware%",
        "Device Rejected%",
        "Device Elapsed",
    ]
    assert (asc["ASC"], asc["Enabled"], asc["Status"], asc["Temperature"]) == (0, "Y", "Alive", 61.5)
    assert (asc["Accepted"], asc["Rejected"], asc["Last Share Time"]) == (17, 1, WHEN - 4)
    assert asc["Last Share Pool"] == 0
    assert [(pga["PGA"], pga["Name"], pga["ID"]) for pga in (first, second)] == [(0, "CPU", 0), (1, "CPU", 1)]
    assert first["Last Share Pool"] == -1
    text = ask("devs").split("|")
    assert text[1].startswith("ASC=0,Name=ASC,ID=0,Enabled=Y,Status=Alive,Temperature=61.50,MHS av=980000.00,")
    assert text[2].startswith("PGA=0,Name=CPU,")


def test_a_wrong_nonce_counts_as_much_as_a_good_one() -> None:
    """At ticket difficulty 256, ten wrong nonces are 2560 units of work gone wrong, not ten."""
    details = DeviceDetails(counters={"good": 90, "wrong": 10})
    sick = board(hashes=90 * 256 << 32, hardware_errors=10, details=details)
    state = status(devices=[sick])
    (asc,) = ask_json("devs", state=state)["DEVS"]
    assert (asc["Hardware Errors"], asc["Device Hardware%"]) == (10, 10.0)
    (summary,) = ask_json("summary", state=state)["SUMMARY"]
    assert summary["Device Hardware%"] == 10.0


def test_one_device() -> None:
    answer = ask_json("asc", 0)
    assert answer["STATUS"][0]["Msg"] == "ASC0"
    assert answer["ASC"] == [ask_json("devs")["DEVS"][0]]
    assert ask_json("pga", "1")["PGA"][0]["ID"] == 1
    assert ask("asc|0").split("|")[1].startswith("ASC=0,")
    assert code_of("asc") == ("E", 15, "Missing device id parameter")
    assert code_of("asc", 1) == ("E", 107, "Invalid ASC id 1 - range is 0 - 0")
    assert code_of("pga", -1) == ("E", 58, "Invalid PGA id -1 - range is 0 - 1")
    assert code_of("pga", 0, state=status([board()])) == ("E", 56, "No PGAs")
    assert code_of("asc", 0, state=status([core()])) == ("E", 105, "No ASCs")
    assert code_of("devs", state=status([])) == ("E", 10, "No ASCs/PGAs")
    assert ask_json("asccount")["ASCS"] == [{"Count": 1}]
    assert ask_json("pgacount")["PGAS"] == [{"Count": 2}]


def test_retired_and_paused_devices() -> None:
    state = status([board(failure="a chip is at 99 °C: hashing stopped"), core(paused=True)])
    dead, paused = ask_json("devs", state=state)["DEVS"]
    assert (dead["Status"], dead["No Device"], dead["Enabled"]) == ("Dead", True, "Y")
    assert (paused["Status"], paused["Enabled"]) == ("Alive", "N")
    assert len(ask_json("edevs", state=state)["DEVS"]) == 1
    assert [entry["ID"] for entry in ask_json("estats", state=state)["STATS"]] == []
    first, second = ask_json("notify", state=state)["NOTIFY"]
    assert first["Reason Not Well"] == "Device Thermal Cutoff"
    assert (first["*Dev Thermal Cutoff"], first["*Dev Comms Error"]) == (1, 4)
    assert second["Reason Not Well"] == "None"


def test_pools() -> None:
    answer = ask_json("pools")
    assert answer["STATUS"][0]["Msg"] == "2 Pool(s)"
    first, second = answer["POOLS"]
    assert list(first)[:16] == [
        "POOL",
        "URL",
        "Status",
        "Priority",
        "Quota",
        "Long Poll",
        "Getworks",
        "Accepted",
        "Rejected",
        "Works",
        "Discarded",
        "Stale",
        "Get Failures",
        "Remote Failures",
        "User",
        "Last Share Time",
    ]
    assert first["URL"] == "stratum+tcp://pool0.example:3333"
    assert (first["Status"], first["Accepted"], first["Rejected"], first["User"]) == ("Alive", 17, 1, "me.rig1")
    assert (first["Stratum Active"], first["Stratum Difficulty"], first["Has GBT"]) == (True, 512.0, False)
    assert (first["Current Block Height"], second["Current Block Height"]) == (840_000, 0)
    assert second["Status"] == "Dead"
    disabled = status(pools=[pool(0), pool(1, enabled=False)])
    assert ask_json("pools", state=disabled)["POOLS"][1]["Status"] == "Disabled"


def test_a_node_stands_in_the_place_of_a_pool() -> None:
    alone = status(pools=[], network=NetworkReport("dev", 7, 1.0, PARENT, 1.0, "http://127.0.0.1:8332"))
    (node,) = ask_json("pools", state=alone)["POOLS"]
    assert (node["URL"], node["Has GBT"], node["Has Stratum"], node["Long Poll"]) == (
        "http://127.0.0.1:8332",
        True,
        False,
        "Y",
    )
    assert node["Accepted"] == 17
    no_pools = RecordingControl(with_pools=False)
    assert code_of("switchpool", 0, state=alone, control=no_pools)[1] == Message.ACCESS_DENIED.code
    assert code_of("addpool", "a,b,c", state=alone, control=no_pools)[1] == Message.ACCESS_DENIED.code
    assert code_of("pools", state=status(pools=[])) == ("E", 8, "No pools")


def test_coin_config_details_and_lcd() -> None:
    (coin,) = ask_json("coin")["COIN"]
    assert coin == {
        "Hash Method": "sha256",
        "Current Block Time": WHEN - 12.0,
        "Current Block Hash": PARENT,
        "LP": False,
        "Network Difficulty": 83_148_355_189_239.0,
    }
    (config,) = ask_json("config")["CONFIG"]
    assert (config["ASC Count"], config["PGA Count"], config["Pool Count"]) == (1, 2, 2)
    assert config["Device Code"] == "ASC CPU "
    details = ask_json("devdetails")["DEVDETAILS"]
    assert details[0] == {
        "DEVDETAILS": 0,
        "Name": "ASC",
        "ID": 0,
        "Driver": "asic",
        "Kernel": "",
        "Model": "BM1370 × 1",
        "Device Path": "/dev/ttyACM0",
    }
    (lcd,) = ask_json("lcd")["LCD"]
    assert lcd["Current Pool"] == "stratum+tcp://pool0.example:3333"
    assert lcd["Temperature"] == 61.5


def test_stats_tell_what_boards_know() -> None:
    entries = ask_json("stats")["STATS"]
    assert [entry["ID"] for entry in entries] == ["ASC0", "CPU0", "CPU1", "POOL0", "POOL1"]
    asc = entries[0]
    assert (asc["Frequency"], asc["Voltage core"], asc["Temp vr"], asc["Fan fan"]) == (525.0, 1.15, 58.0, 4200)
    assert (asc["Chips"], asc["Chip 0"], asc["Chip 1"], asc["Count crc_errors"]) == (2, "1050.0 GH/s", "dead", 3)


def test_several_reports_at_once() -> None:
    answer = json.loads(ask('{"command":"+summary+devs++summary+quit+nonsense+asc"}'))
    assert list(answer) == ["summary", "devs", "quit", "nonsense", "asc", "id"]
    assert answer["summary"][0]["SUMMARY"][0]["Accepted"] == 17
    assert answer["devs"][0]["id"] == 1
    assert answer["quit"][0]["STATUS"][0]["Code"] == 45
    assert answer["nonsense"][0]["STATUS"][0]["Code"] == 14
    assert answer["asc"][0]["STATUS"][0]["Code"] == 45
    text = ask("summary+version")
    assert text.startswith("CMD=summary|STATUS=S,")
    assert "|CMD=version|STATUS=S," in text


def test_requests_that_are_wrong() -> None:
    assert json.loads(ask("{nonsense}"))["STATUS"][0]["Code"] == 23
    assert json.loads(ask("{}"))["STATUS"][0]["Msg"] == "Missing JSON 'command'"
    assert json.loads(ask('{"command":5}'))["STATUS"][0]["Code"] == 14
    assert json.loads(ask('{"command":"asc","parameter":[0]}'))["STATUS"][0]["Code"] == 15
    assert ask("nonsense") == f"STATUS=E,When={WHEN},Code=14,Msg=Invalid command|"
    assert ask("") == f"STATUS=E,When={WHEN},Code=14,Msg=Invalid command|"
    assert ask(b"\xff\xfe|\xff").startswith("STATUS=E")
    assert ask("{" * 4000).startswith('{"STATUS":[{"STATUS":"E"')


def test_writing_needs_permission() -> None:
    control = RecordingControl()
    for name, command in COMMANDS.items():
        if command.writes:
            assert code_of(name, "0", write=False, control=control)[1:] == (45, f"Access denied to '{name}' command")
            assert ask_json("check", name, write=False)["CHECK"] == [{"Exists": "Y", "Access": "N"}]
            assert ask_json("check", name, write=True)["CHECK"] == [{"Exists": "Y", "Access": "Y"}]
    assert control.asked == []
    assert ask_json("check", "summary", write=False)["CHECK"] == [{"Exists": "Y", "Access": "Y"}]
    assert ask_json("check", "nonsense")["CHECK"] == [{"Exists": "N", "Access": "N"}]
    assert code_of("check") == ("E", 71, "Missing check cmd")
    assert code_of("privileged") == ("S", 46, "Privileged access OK")


@pytest.mark.parametrize(
    ("command", "parameter", "answer", "asked"),
    [
        ("switchpool", 1, ("S", 27, "Switching to pool 1:'stratum+tcp://pool1.example:3333'"), ("switch", 1)),
        ("enablepool", 2, ("S", 47, "Enabling pool 2:'stratum+tcp://pool2.example:3333'"), ("enable", 2)),
        ("enablepool", 0, ("I", 49, "Pool 0:'stratum+tcp://pool0.example:3333' already enabled"), None),
        ("disablepool", 1, ("S", 48, "Disabling pool 1:'stratum+tcp://pool1.example:3333'"), ("disable", 1)),
        ("disablepool", 2, ("I", 50, "Pool 2:'stratum+tcp://pool2.example:3333' already disabled"), None),
        ("removepool", 1, ("S", 68, "Removed pool 1:'stratum+tcp://pool1.example:3333'"), ("remove", 1)),
        (
            "addpool",
            r"tcp://a:1,me\,too,a\\b",
            ("S", 55, "Added pool 2: 'tcp://a:1'"),
            ("add", "tcp://a:1", "me,too", "a\\b"),
        ),
        ("addpool", "tcp://a:1,me", ("E", 53, "Invalid addpool details 'tcp://a:1,me'"), None),
        ("addpool", None, ("E", 52, "Missing addpool details"), None),
        ("poolpriority", "2,0", ("S", 73, "Changed pool priorities"), ("order", 2, 0)),
        ("poolpriority", "1,1", ("E", 74, "Duplicate pool specified 1"), None),
        ("poolpriority", "1,7", ("E", 26, "Invalid pool id 7 - range is 0 - 2"), None),
        ("poolpriority", None, ("E", 25, "Missing pool id parameter"), None),
        ("poolquota", "1,2", ("E", 83, "Unknown config 'quota'"), None),
        ("poolquota", "1", ("E", 86, "Missing config value N for '1,N'"), None),
        ("switchpool", 9, ("E", 26, "Invalid pool id 9 - range is 0 - 2"), None),
        ("switchpool", None, ("E", 25, "Missing pool id parameter"), None),
        ("ascdisable", 0, ("I", 111, "ASC 0 set disable flag"), ("pause", "asic0")),
        ("ascenable", 0, ("I", 108, "ASC 0 already enabled"), None),
        ("pgaenable", 1, ("I", 63, "PGA 1 sent enable message"), ("resume", "cpu1")),
        ("pgadisable", 1, ("I", 62, "PGA 1 already disabled"), None),
        ("pgadisable", 0, ("I", 64, "PGA 0 set disable flag"), ("pause", "cpu0")),
        ("ascidentify", 0, ("W", 114, "ASC0 does not support identify"), None),
        ("ascset", "0,freq,500", ("W", 117, "ASC 0 does not support ascset"), None),
        ("failover-only", "true", ("E", 127, "Deprecated config option 'true'"), None),
        ("setconfig", "queue,5", ("E", 127, "Deprecated config option 'queue'"), None),
        ("setconfig", "speed,5", ("E", 83, "Unknown config 'speed'"), None),
        ("setconfig", None, ("E", 85, "Missing config parameters 'name,N'"), None),
        ("debug", "d", ("S", 79, "Debug settings"), None),
        ("usbstats", None, ("I", 88, "No USB Statistics"), None),
        ("hotplug", "5", ("W", 102, "Hotplug is not available"), None),
        ("lockstats", None, ("W", 124, "Lock stats not enabled"), None),
    ],
)
def test_changes(
    command: str, parameter: object, answer: tuple[str, int, str], asked: tuple[object, ...] | None
) -> None:
    control = RecordingControl()
    state = status([core("cpu0"), core("cpu1", paused=True), board()], [pool(0), pool(1), pool(2, enabled=False)])
    assert code_of(command, parameter, state=state, control=control) == answer
    assert control.asked == ([] if asked is None else [asked])


def test_quit_and_restart_answer_with_a_word() -> None:
    control = RecordingControl()
    assert ask("quit", control=control) == "BYE"
    assert ask('{"command":"restart"}', control=control) == '{"STATUS":"RESTART","id":1}'
    assert control.asked == [("quit",), ("restart",)]


def test_what_the_pools_refuse_is_an_error() -> None:
    class Refusing(RecordingControl):
        def disable_pool(self, number: int) -> None:
            raise UserError("the last one")

        def remove_pool(self, number: int) -> None:
            raise UserError("the last one")

        def add_pool(self, url: str, user: str | None, password: str | None) -> int:
            raise UserError("no address")

    assert code_of("disablepool", 0, control=Refusing())[:2] == ("E", 51)
    assert code_of("removepool", 0, control=Refusing())[:2] == ("E", 67)
    assert code_of("addpool", "x,y,z", control=Refusing())[:2] == ("E", 53)
    assert code_of("removepool", 0, state=status(pools=[pool(0)]))[:2] == ("E", 66)


def test_text_is_escaped_so_that_it_can_be_taken_apart() -> None:
    state = status(pools=[pool(0, user="a,b|c=d\\e", url='tcp://"quoted"')])
    (entry,) = ask_json("pools", state=state)["POOLS"]
    assert (entry["User"], entry["URL"]) == ("a,b|c=d\\e", 'tcp://"quoted"')
    record = re.split(r"(?<!\\)\|", ask("pools", state=state))[1]
    fields = dict(re.split(r"(?<!\\)=", field, maxsplit=1) for field in re.split(r"(?<!\\),", record))
    assert re.sub(r"\\(.)", r"\1", fields["User"]) == "a,b|c=d\\e"


def test_a_join_of_nothing_is_an_invalid_command() -> None:
    assert ask("+") == ask("nonsense") == "STATUS=E,When=1700000100,Code=14,Msg=Invalid command|"
    assert code_of("++") == code_of("nonsense") == ("E", 14, "Invalid command")


def test_any_bytes_get_an_answer(rng: random.Random) -> None:
    names = [*COMMANDS, "{", '{"command":', "+", "|", ",", "0", "\\", '"', "}", "parameter", "\xff"]
    for _ in range(2000):
        request = "".join(rng.choice(names) for _ in range(rng.randrange(6))).encode("latin-1")
        is_complete(request)
        answer = ask(request, write=rng.random() < 0.5)
        if request.startswith(b"{"):
            parsed = json.loads(answer)
            joined = [reply for command, replies in parsed.items() if command in COMMANDS for reply in replies]
            assert all("STATUS" in reply for reply in joined or [parsed]), answer
        else:
            assert re.match(r"(CMD=[^|]*\|)?(STATUS=|RESTART|BYE)", answer), answer


def test_when_a_request_is_whole() -> None:
    assert is_complete(b'{"command":"summary"}')
    assert not is_complete(b'{"command":"sum')
    assert not is_complete(b"summary")
    assert is_complete(b"summary\n")
    assert is_complete(b"summary\0")
    assert not is_complete(b"")
