"""A volume that is nearly full, full, or fills up at any moment: each session ends as what it was, and once."""

from __future__ import annotations

import random
import time
from collections import Counter

from tests.support.clocks import HANGS_SECONDS
from tests.support.hosts import Host, base_settings, with_influxdb
from tests.support.recordings import IN_MEMORY, RECORD_FOUR, SHORT_REST, assert_undisturbed, points, said
from tests.support.servers import InfluxDB1
from tests.support.volumes import fill, small_volume

MEGABYTE = 1_000_000

# Fills the volume between a session's start and its end, as others do who write there.
FILL_IN_BETWEEN = """
from pathlib import Path
from tests.support.volumes import fill
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for number in range({sessions}):
    with manager.session("series") as session:
        say("started", session.id)
        if number == 0:
            fill(Path({volume!r}))
    say("ended", session.id)
manager.close()
"""

STORM = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
until = time.monotonic() + 8.0
while time.monotonic() < until:
    with manager.session("series") as session:
        session.record_metric("contrast", 0.5)
        time.sleep(0.005)
    say("ended", session.id)
manager.close()
say("lost", manager.swallowed_errors)
"""


def test_a_disk_that_is_full_from_the_start_costs_nothing_but_durability(host: Host, influxdb1: InfluxDB1) -> None:
    with small_volume(host.folder / "volume", 1) as volume:
        filler = fill(volume)
        host.settings = with_influxdb(base_settings(volume / "store"), influxdb1.write_settings())
        ended = host.run(RECORD_FOUR)
        assert_undisturbed(ended)
        assert said(ended, IN_MEMORY) == 1
        assert len(points(influxdb1)) == 4
        filler.unlink()
        assert_undisturbed(host.run(RECORD_FOUR))
        assert len(points(influxdb1)) == 8
    assert host.swallowed() == ""


def test_a_disk_that_fills_up_keeps_what_was_committed_and_gets_the_rest_later(
    host: Host, influxdb1: InfluxDB1
) -> None:
    """The stored sessions survive the full disk; those recorded meanwhile come into the file when there is room."""
    with small_volume(host.folder / "volume", 2) as volume:
        host.store_folder = volume / "store"
        host.settings = base_settings(volume / "store")  # no backend: what is stored can only wait
        before = host.run(RECORD_FOUR).said("ended")
        filler = fill(volume)
        script = SHORT_REST + RECORD_FOUR.replace('say("result")', f'say("result")\nos.remove({str(filler)!r})')
        ended = host.run(script)
        assert_undisturbed(ended)
        assert said(ended, IN_MEMORY) == 1
        assert "lost" not in ended.stderr
        assert set(host.records()) == {*before, *ended.said("ended")}
        host.settings = with_influxdb(host.settings, influxdb1.write_settings())
        host.drain()
        assert len(points(influxdb1)) == 8
    assert host.swallowed() == ""


def test_a_nearly_full_disk_evicts_delivered_sessions_rather_than_growing(host: Host, influxdb1: InfluxDB1) -> None:
    with small_volume(host.folder / "volume", 32) as volume:
        host.store_folder = volume / "store"
        settings = with_influxdb(base_settings(volume / "store"), influxdb1.write_settings())
        host.settings = settings
        assert host.run(RECORD_FOUR.replace("range(4)", "range(400)")).code == 0
        host.drain()
        size = host.store_path.stat().st_size
        # A tenth of a small volume is kept free, even if more is asked for.
        host.settings = {**settings, "store": {"path": str(volume / "store"), "min_free_mb": 100}}
        with (volume / "filler").open("wb") as file:
            file.write(bytes(31_000_000 - size))
        ended = host.run(RECORD_FOUR)
        assert_undisturbed(ended)
        assert said(ended, IN_MEMORY) == 0
        assert host.store_path.stat().st_size <= size + 3 * 4096
        assert len(points(influxdb1)) == 404
        assert set(ended.said("ended")) <= set(host.records())


def test_a_volume_with_less_free_space_than_is_to_be_left_goes_on_keeping_sessions(host: Host) -> None:
    """The default: nothing is delivered, so that nothing could make room; it is no reason to throw sessions away."""
    with small_volume(host.folder / "volume", 50) as volume:
        host.store_folder = volume / "store"
        host.settings = base_settings(volume / "store", store={"path": str(volume / "store")})
        (volume / "others").write_bytes(bytes(46 * MEGABYTE))
        ended = [host.run(RECORD_FOUR) for _ in range(3)]
        for one in ended:
            assert_undisturbed(one)
            assert said(one, IN_MEMORY) == said(one, "crashed") == 0
        assert Counter(record.status for record in host.records().values()) == {"completed": 12}
    assert host.swallowed() == ""


def test_a_session_that_began_before_the_volume_was_full_is_committed_into_the_room_that_was_held_back(
    host: Host,
) -> None:
    with small_volume(host.folder / "volume", 8) as volume:
        host.store_folder = volume / "store"
        host.settings = base_settings(volume / "store")
        ended = host.run(FILL_IN_BETWEEN.format(sessions=1, volume=str(volume)))
        assert ended.code == 0, ended.stderr
        assert said(ended, IN_MEMORY) == 0
        assert {id_: one.status for id_, one in host.records().items()} == {ended.said("ended")[0]: "completed"}
    assert host.swallowed() == ""


def test_what_ended_on_a_full_volume_never_comes_back_as_crashed(host: Host, influxdb1: InfluxDB1) -> None:
    """Its trace may be in the file while its end could not be written; the backend has been told from memory."""
    with small_volume(host.folder / "volume", 8) as volume:
        host.store_folder = volume / "store"
        host.settings = with_influxdb(base_settings(volume / "store"), influxdb1.write_settings())
        script = FILL_IN_BETWEEN.format(sessions=1, volume=str(volume)).replace(
            "fill(Path(", "os.remove(SETTINGS['monitoring']['store']['path'] + '/monitoring.db.ballast'); fill(Path("
        )
        ended = host.run(script)
        assert ended.code == 0, ended.stderr
        assert said(ended, IN_MEMORY) == 1
        assert len(points(influxdb1)) == 1
        (volume / "filler").unlink()
        again = host.run(RECORD_FOUR)
        assert said(again, "crashed") == 0
        host.drain()
        assert Counter(record.status for record in host.records().values()) == {"completed": 4}
        told = influxdb1.read_points("leglength_session")
        assert Counter(point.tags["status"] for point in told) == {"completed": 5}
        assert list(host.store_folder.glob("*.ended-*")) == []


def test_a_storm_of_filling_and_freeing_invents_no_session_and_tells_each_once(
    host: Host, influxdb1: InfluxDB1
) -> None:
    chance = random.Random(20_261_126)
    with small_volume(host.folder / "volume", 12) as volume:
        host.store_folder = volume / "store"
        host.settings = with_influxdb(base_settings(volume / "store"), influxdb1.write_settings())
        hosts = [host.start(SHORT_REST + STORM) for _ in range(3)]
        try:
            until = time.monotonic() + 9.0
            while time.monotonic() < until:
                filler = fill(volume)
                time.sleep(chance.uniform(0.0, 0.2))
                filler.unlink()
                time.sleep(chance.uniform(0.0, 0.2))
            said_by = [process.communicate(timeout=HANGS_SECONDS) for process in hosts]
        finally:
            for process in hosts:
                process.kill()
        assert [process.returncode for process in hosts] == [0, 0, 0], said_by
        ended = {line.split()[1] for stdout, _ in said_by for line in stdout.splitlines() if line.startswith("ended")}
        assert not any("are lost" in stderr for _, stderr in said_by)
        host.run("manager = MonitorManager(SETTINGS)\nmanager.close()")
        host.drain()
        records = host.records()
        assert {record.status for record in records.values()} <= {"completed"}
        assert set(records) <= ended
        told = influxdb1.read_points("leglength_session")
        assert Counter(point.tags["status"] for point in told) == {"completed": len(ended)}
        completed = [
            value
            for key, value in host.totals().items()
            if key[:2] == ("leglength_sessions_total", (("status", "completed"),))
        ]
        assert completed == [len(records)]
