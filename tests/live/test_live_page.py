"""The page that shows a sweep while it runs: what it says, who may ask for it, and how a browser shows it."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from runner.disk.lock import acquire, release
from runner.errors import RequestError
from runner.live.curves import CurveReader
from runner.live.server import LiveServer
from runner.live.watch import Watch
from runner.records.sweep_cells import write_cells
from runner.report.write import write_report
from tests.live.browser import CHROMIUM, Browser
from tests.report.sweep_folders import write_cell, write_search, write_sweep

GRID = [("precision=fp32 seed=0", 0.97), ("precision=fp32 seed=1", 0.98), ("precision=bf16 seed=0", 0.96),
        ("precision=bf16 seed=1", 0.98)]  # fmt: skip
HOSTILE = ("<img/src=x/onerror=document.title='had'>", "\"'`&amp;", "\u202egnp.exe", "שלום", "\x1b[31m")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    for name in ("_AGAIN_AFTER", "_QUIET"):
        monkeypatch.setattr(f"runner.live.watch.{name}", 0.0)
    monkeypatch.setattr("runner.live.watch._ANSWER_SHARE", 1e9)


def look(folder):
    return json.loads(Watch(folder, lambda sweep: None).look().content)


@contextlib.contextmanager
def under_way(folder):
    """Somebody works in ``folder``."""
    held = acquire(folder / ".lock")
    try:
        yield
    finally:
        release(folder / ".lock", held)


@contextlib.contextmanager
def served(folder):
    with LiveServer(folder, lambda sweep: None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, *, host=None, method="GET"):
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    with contextlib.closing(connection):
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def test_a_folder_that_has_nothing_yet_and_one_that_begins(tmp_path):
    watch = Watch(tmp_path, lambda sweep: None)
    first = json.loads(watch.look().content)
    assert (first["phase"], first["verdict"]) == ("waiting", "Nothing has begun here yet.")
    write_cells(tmp_path, {str(n): [*line.split(), "seeds=2"] for n, (line, _) in enumerate(GRID)})
    write_cell(tmp_path / "0", "precision=fp32 seed=0", "running", curve=(2.0, 0.02))
    with under_way(tmp_path), under_way(tmp_path / "0"):
        found = json.loads(watch.look().content)
    # the cells that wait are told, and ask their part of the question
    assert (found["phase"], found["counts"], found["title"]) == ("running", "1 running, 3 waiting", "Which precision?")
    assert found["recipes"] == ["fp32", "bf16"]
    assert found["cells"]["head"] == ["precision", "seed", "state", "epoch", "validation", "time"]
    assert [row[:3] for row in found["cells"]["rows"][:2]] == [["fp32", "0", "running"], ["fp32", "1", "waiting"]]
    loss, accuracy = found["panels"]
    assert loss["curves"] == [{"recipe": 0, "live": True, "name": "0", "points": [[1.0, 2.0], [2.0, 0.02]]}]
    assert accuracy["curves"][0]["points"][0] == [1.0, 50.0]
    # nobody works there any more: it was killed
    found = json.loads(watch.look().content)
    assert (found["phase"], found["counts"]) == ("ended", "1 stopped, 3 waiting")


def test_the_answer_so_far(tmp_path):
    write_sweep(tmp_path, GRID)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = look(tmp_path)
    assert found["phase"] == "ended"
    assert "fp32" in found["verdict"]
    assert found["parts"][1]["rows"][0][:3] == ["fp32", "2 of 2", "97.50 %"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "it only reads"
    assert not found["report"]
    write_report(tmp_path)
    assert look(tmp_path)["report"]


def test_a_single_run_a_damaged_one_and_trials_that_nobody_may_see(tmp_path):
    write_cell(tmp_path / "run", "precision=bf16", 0.97)
    found = look(tmp_path / "run")
    assert (found["title"], found["counts"]) == ("r", "1 done")
    assert found["cells"]["rows"] == [["r", "done", "", "", "0:10"]]
    (tmp_path / "run" / "run.json").write_text("{")
    assert look(tmp_path / "run")["verdict"].startswith("No answer so far: run/run.json: not a record of a run")
    write_sweep(tmp_path / "drawn", GRID)
    (tmp_path / "drawn" / "selection.json").write_text("{}")
    found = look(tmp_path / "drawn")
    assert (found["counts"], found["cells"], found["panels"], found["parts"]) == ("", None, [], [])


def test_a_search_shows_its_trials_by_what_selected_them(tmp_path):
    write_search(tmp_path, [0.5, 0.7, 0.6])
    found = look(tmp_path)
    assert found["title"] == "Which learning rate and optimizer?"
    assert found["verdict"].startswith(
        "Best of 3 completed trials: optimizer.lr=0.000126 optimizer=adam, with validation"
    )
    heading, table = found["parts"]
    assert heading == {"kind": "heading", "text": "Trials"}
    assert [row[:2] for row in table["rows"]] == [["1", "70.00 %"], ["2", "60.00 %"], ["0", "50.00 %"]]
    assert "12." not in json.dumps(found["parts"]), "no test figures"


def test_curves_follow_a_file_that_grows_is_torn_and_is_replaced(tmp_path):
    path, curve = tmp_path / "metrics.jsonl", CurveReader(tmp_path)
    line = '{{"step": {0}, "epoch": {0}.0, "kind": "train", "loss": {1}}}\n'.format
    path.write_text(line(1, 2) + line(2, "null")[:20])
    assert curve.refresh()["training loss"] == [(1.0, 2)]
    with path.open("a") as file:
        file.write(line(2, "null")[20:] + "no JSON\n" + line(3, 1))
    assert curve.refresh()["training loss"] == [(1.0, 2), (2.0, None), (3.0, 1)]
    # a run that goes on forgets what it will do again, and may have done more by the next look
    (tmp_path / "new").write_text("".join(line(n, 5) for n in range(9)))
    (tmp_path / "new").replace(path)
    assert curve.refresh()["training loss"] == [(n, 5) for n in range(9)]
    path.write_text("".join(line(n, n) for n in range(3000)))
    long = CurveReader(tmp_path).refresh()["training loss"]
    assert 200 < len(long) <= 401
    assert long[0] == (0.0, 0) and long[-1] == (2999.0, 2999)  # noqa: PT018


def test_only_this_machine_and_who_knows_the_token(tmp_path):
    write_sweep(tmp_path / "s", GRID)
    with served(tmp_path / "s") as server:
        base = f"/{server.token}/"
        assert server.server_address[0] == "127.0.0.1"
        code, page, headers = ask(server, base)
        assert (code, headers["Cache-Control"], headers["Referrer-Policy"]) == (200, "no-store", "no-referrer")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert b"<script>" not in page
        for path in ("/", "/state", f"/{server.token[:-1]}/", f"/{server.token}", f"{base}../x",
                     f"{base}report.html", f"{base}0/run.json", f"{base}page.js/", f"{base}%2e%2e/run.json",
                     "/%C3%A9/"):  # fmt: skip
            assert ask(server, path)[:2] == (404, b""), path
        for host in ("evil.example", f"evil.example:{server.server_address[1]}", "127.0.0.1", ""):
            assert ask(server, base, host=host)[:2] == (403, b""), host
        assert ask(server, base, host=f"localhost:{server.server_address[1]}")[0] == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
            assert ask(server, base, method=method)[:2] == (405, b""), method
        code, content, _ = ask(server, f"{base}state")
        version = json.loads(content)["version"]
        assert ask(server, f"{base}state?since={version}")[:2] == (204, b"")
        # a report may be a stranger's: it is shown without scripts, and not through a link
        (tmp_path / "s" / "report.html").write_text("<script>alert(1)</script>")
        policy = ask(server, f"{base}report.html")[2]["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert "script" not in policy
        (tmp_path / "s" / "report.html").unlink()
        (tmp_path / "secret").write_text("x")
        (tmp_path / "s" / "report.html").symlink_to(tmp_path / "secret")
        assert ask(server, f"{base}report.html")[0] == 404


def test_a_port_that_cannot_be_had(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (taken.getsockname()[1], 70000, -1):
            with pytest.raises(RequestError, match=f"--port: got {port}, expected a free port of this machine"):
                LiveServer(tmp_path, lambda sweep: None, port)


def test_ctrl_c_ends_the_command_in_one_line(tmp_path):
    command = [sys.executable, "-m", "runner", "report", "--live", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = re.match(r"live: (http://127\.0\.0\.1:\d+/\S+/) ", process.stdout.readline())
        assert address
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (75, "", "interrupted\n")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def test_a_browser_shows_the_sweep_and_follows_it(browser, tmp_path):
    hostile = dict(zip("abcde", HOSTILE, strict=True))
    write_cells(tmp_path, {name: [f"model={value}", "seed=0"] for name, value in hostile.items()})
    with served(tmp_path) as server, under_way(tmp_path):
        browser.open(server.address, width=390, height=844)
        browser.wait_for("document.getElementById('phase').textContent === 'running'")
        write_cell(tmp_path / "a", "x", "running")
        (tmp_path / "a" / ".hydra" / "overrides.yaml").write_text(json.dumps([f"model={HOSTILE[0]}", "seed=0"]))
        with under_way(tmp_path / "a"):
            browser.wait_for("document.querySelectorAll('#panels path').length === 2")
            with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
                file.write('{"step": 40, "epoch": 4.0, "kind": "train", "loss": 0.25}\n')
            browser.wait_for("document.querySelector('#panels path').getAttribute('d').split('L').length === 4")
            # of 100 updates, 10 an epoch
            browser.wait_for("document.querySelector('#now li').innerText.includes('epoch 4 of 10')")
            assert browser.evaluate("document.querySelector('#now progress').value") == 4
            assert "1 running, 4 waiting" in browser.evaluate("document.getElementById('status').innerText")
        rows = browser.evaluate("[...document.querySelectorAll('#cells tbody tr')].map((r) => r.children[0].innerText)")
        # what has no glyph, or turns the line round, is shown as its escape; everything else as it is
        assert rows == [HOSTILE[0], HOSTILE[1], r"\u202egnp.exe", "שלום", r"\x1b[31m"]
        assert browser.evaluate("document.querySelectorAll('#cells bdi').length") == 1
        assert browser.evaluate("document.querySelectorAll('img, #cells script, iframe').length") == 0
        assert browser.evaluate("document.title") == "Which model? (live)"
        assert browser.evaluate("document.body.scrollWidth <= document.documentElement.clientWidth"), (
            "nothing but the tables scrolls"
        )
        base = server.address
        browser.leave()
    assert {address.partition("?")[0] for address in browser.requested} == {
        base, f"{base}page.js", f"{base}page.css", f"{base}state",
    }  # fmt: skip
    assert browser.errors == []


def test_a_browser_shows_a_report_that_loads_nothing(browser, tmp_path):
    write_sweep(tmp_path, [(f"name={number} seed={seed}", 0.9) for number in range(len(HOSTILE)) for seed in (0, 1)])
    for number, value in enumerate(HOSTILE):
        for seed in (0, 1):
            file = tmp_path / str(2 * number + seed) / ".hydra" / "overrides.yaml"
            file.write_text(json.dumps([f"name={value}", f"seed={seed}"]))
    write_report(tmp_path)
    browser.errors.clear()
    browser.requested.clear()
    with served(tmp_path) as server:
        address = f"{server.address}report.html"
        browser.open(address, width=390, height=844, dark=True)
        assert browser.evaluate("document.title") == "Which name?"
        rows = browser.evaluate("[...document.querySelectorAll('table')][0].innerText")
        assert HOSTILE[0] in rows
        assert "\\u202egnp.exe" in rows
        assert browser.evaluate("document.querySelectorAll('img, script, iframe').length") == 0
        assert browser.evaluate("document.body.scrollWidth <= document.documentElement.clientWidth")
        # in the dark, text and pictures are light
        light = "getComputedStyle(document.querySelector('svg')).color"
        assert (
            browser.evaluate(light) == browser.evaluate("getComputedStyle(document.body).color") == "rgb(227, 231, 236)"
        )
    assert (browser.requested, browser.errors) == ([address], [])
