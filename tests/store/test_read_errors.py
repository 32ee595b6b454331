"""A disk, or a network volume, that fails to read for a moment costs nothing; one that goes on failing is damage."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from monitoring.store.recovery import look_again
from tests.support.hosts import Host
from tests.support.recordings import RECORD_FOUR, assert_undisturbed

SOURCE = Path(__file__).parents[1] / "support" / "failing_reads.c"

# Lets the next reads fail while the host works, with a cache that holds nothing of the file.
FAIL_IN_BETWEEN = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for number in range(3):
    with manager.session("series") as session:
        if number == 1:
            connection = manager._runtime.store.active.database._connection
            connection.execute("PRAGMA shrink_memory")
            connection.execute("PRAGMA cache_size = 1")
            open(os.environ["FAILING_READS_FILE"], "w").write("1")
    say("ended", session.id)
manager.close()
"""


@pytest.fixture(scope="module")
def failing_reads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    library = tmp_path_factory.mktemp("failing-reads") / "failing_reads.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


@pytest.fixture
def failing_host(host: Host, failing_reads: Path) -> Host:
    counter = host.folder / "failing"
    counter.write_text("0")
    host.environment = {
        "LD_PRELOAD": str(failing_reads), "FAILING_READS_OF": host.store_path.name, "FAILING_READS_FILE": str(counter),
    }  # fmt: skip
    return host


def let_fail(host: Host, reads: int) -> None:
    """The next reads of the store, in whatever process, fail."""
    (host.folder / "failing").write_text(chr(ord("0") + reads))


@pytest.mark.parametrize("reads", [1, 2])
def test_a_read_that_fails_when_the_store_is_opened_puts_nothing_aside(failing_host: Host, reads: int) -> None:
    before = failing_host.run(RECORD_FOUR).said("ended")
    let_fail(failing_host, reads)
    ended = failing_host.run(RECORD_FOUR)
    assert_undisturbed(ended)
    assert (failing_host.folder / "failing").read_text() == "0", "nothing has failed"
    assert list(failing_host.store_folder.glob("*.corrupt-*")) == []
    assert set(failing_host.records()) == {*before, *ended.said("ended")}
    assert failing_host.status()["losses"] == {}


def test_a_read_that_fails_while_a_session_is_kept_puts_nothing_aside(failing_host: Host) -> None:
    before = failing_host.run(RECORD_FOUR).said("ended")
    ended = failing_host.run(FAIL_IN_BETWEEN)
    assert ended.code == 0
    assert (failing_host.folder / "failing").read_text() == "0", "nothing has failed"
    assert list(failing_host.store_folder.glob("*.corrupt-*")) == []
    assert set(failing_host.records()) == {*before, *ended.said("ended")}
    assert failing_host.status()["sessions"]["completed"] == len(before) + 3


def test_reads_that_go_on_failing_leave_the_application_alone(failing_host: Host) -> None:
    before = failing_host.run(RECORD_FOUR).said("ended")
    let_fail(failing_host, 60)
    ended = failing_host.run(RECORD_FOUR)
    assert_undisturbed(ended)
    let_fail(failing_host, 0)
    kept = set(failing_host.records())
    assert kept >= set(ended.said("ended")) or kept >= set(before)


def test_what_is_whole_at_a_second_look_is_used_as_it_is(host: Host) -> None:
    before = host.run(RECORD_FOUR).said("ended")
    opened, aside = look_again(host.store_path)
    opened.close()
    assert aside is None
    assert set(host.records()) == set(before)
