"""The report page in headless Chromium: silent, alone, and usable by pointer, keyboard and address."""

import base64
import hashlib
import html
import json
import shutil
import subprocess

import pytest

from studies.page import gallery, report_page
from tests.studies.pages import SCRIPT, case, hostile_results, judged, parsed, results
from tests.studies.test_overview import ACCURACY

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --dump-dom"
).split()


def opened(page, tmp_path, address="", probe=None, without_policy=False):
    """Open a page; return the document as it then is, lines of the console, and addresses that the page asked for.

    `probe` is a script that the policy of this copy allows. The browser resolves no name: nothing leaves the machine.
    """
    if probe:
        digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
        allowed = html.escape(f"'sha256-{digest}'")
        page = page.replace("script-src ", f"script-src {allowed} ")
        page = page.replace("</body>", f"<script>{probe}</script></body>")
    if without_policy:
        page = page.replace("Content-Security-Policy", "x-nothing")
    path, log = tmp_path / "page.html", tmp_path / "net.json"
    path.write_text(page)
    command = [CHROMIUM, *FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--log-net-log={log}", f"{path.as_uri()}{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    own = ("not an origin", None)  # of the browser itself: the time, its updates
    asked = {event["url"] for event in events if "url" in event and event.get("initiator") not in own}
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, console, asked


@pytest.fixture
def page():
    """A page with everything on it, and hostile names in every place."""
    shown = gallery.Gallery([0.0, 20.0], SCRIPT, [case(question=SCRIPT)], 0)
    return report_page.page([results(), hostile_results(SCRIPT)], judged(SCRIPT), shown)


def test_a_browser_has_nothing_to_complain_of_asks_for_nothing_and_shows_a_script_as_text(page, tmp_path):
    probe = "document.body.dataset.seen = JSON.stringify([...document.querySelectorAll('dd')].map(d => d.innerText))"
    shown, console, asked = opened(page, tmp_path, probe=probe)
    assert console == []
    assert asked == set()
    document = parsed(shown.partition("<html")[1] + shown.partition("<html")[2])
    texts = json.loads(document.all("body")[0].attributes["data-seen"])
    assert texts[:3] == [SCRIPT, f"“vaguely {SCRIPT}”", SCRIPT]
    assert len(document.all("script")) == 2  # its own, and that of this test


def test_the_policy_forbids_every_request_and_every_other_script(page, tmp_path):
    foreign = '<img src="https://example.invalid/x.png"><script>document.title = "obeyed"</script></body>'
    hurt = page.replace("</body>", foreign)
    shown, console, asked = opened(hurt, tmp_path)
    assert "<title>obeyed" not in shown
    assert len(console) == 2
    assert asked == set()
    shown, _, asked = opened(hurt, tmp_path, without_policy=True)  # which shows that both would have been noticed
    assert "<title>obeyed" in shown
    assert asked == {"https://example.invalid/x.png"}


def test_lines_are_switched_off_by_boxes_and_by_the_address(page, tmp_path):
    probe = """
    const hidden = () => [...document.querySelectorAll("[data-of]")]
      .filter(line => line.getBoundingClientRect().width === 0).map(line => JSON.parse(line.dataset.of).join("&"));
    const box = (value, n = 0) => [...document.querySelectorAll("input")].filter(box => box.value === value)[n];
    const seen = [hidden()];
    box("raw-image").click(); seen.push(hidden(), location.hash);
    box("deepjscc").click(); seen.push(hidden());
    box("mood=other").click(); seen.push(hidden());
    box("machine-tokens", 1).click(); seen.push(box("machine-tokens").checked);
    document.querySelector("[data-all=all]").click(); seen.push(hidden());
    document.querySelector("[data-all=none]").click(); seen.push(hidden().length);
    document.body.dataset.seen = JSON.stringify(seen);
    """
    shown, console, _ = opened(page, tmp_path, "#off=deepjscc,%3Cscript%3E,%E0,unknown", probe)
    assert console == []
    document = parsed(shown.partition("<html")[1] + shown.partition("<html")[2])
    first, second, address, third, fourth, other, fifth, sixth = json.loads(
        document.all("body")[0].attributes["data-seen"]
    )
    assert first == ["deepjscc"]
    assert (sorted(second), address) == (["deepjscc", "raw-image"], "#off=deepjscc,raw-image")
    assert third == ["raw-image"]
    assert sorted(fourth) == sorted(["raw-image", f"{SCRIPT}&mood=other", "machine-tokens&mood=other"])
    assert other is False  # the same scheme in the other figure
    assert sorted(fifth) == sorted([f"{SCRIPT}&mood=other", "machine-tokens&mood=other"])
    assert sixth == len(ACCURACY) + 3


def test_the_keyboard_reaches_every_line_and_its_points_which_tell_their_interval(page, tmp_path):
    probe = """
    const key = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    const tip = () => [...document.querySelectorAll(".tip:not([hidden]) text")].map(text => text.textContent);
    const line = [...document.querySelectorAll("[data-of]")].find(line => line.dataset.of === '["deepjscc"]');
    line.focus();
    const seen = [tip()];
    for (const name of ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"]) { key(name); seen.push(tip()); }
    const interval = document.activeElement.querySelector(".interval");
    seen.push(getComputedStyle(interval).opacity);
    document.activeElement.blur();
    seen.push(tip(), getComputedStyle(interval).opacity);
    document.body.dataset.seen = JSON.stringify(seen);
    """
    shown, console, _ = opened(page, tmp_path, "", probe)
    assert console == []
    document = parsed(shown.partition("<html")[1] + shown.partition("<html")[2])
    none, first, second, back, stays, full, gone, unseen = json.loads(document.all("body")[0].attributes["data-seen"])
    assert none == gone == []
    assert first == back == stays
    assert [first[0], second[0]] == ["DeepJSCC, -15 dB", "DeepJSCC, -10 dB"]
    run = results()
    low, high = (100 * run.of(f"accuracy_{end}", "deepjscc")[0] for end in ("low", "high"))
    assert first[1] == f"40.0 %, 95 % interval {low:.1f} to {high:.1f}"
    assert (full, unseen) == ("1", "0")
