"""Files in folders that others can write to: nothing blocks, nothing is endless, no link is written through."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from analysis.files import FileTooLarge, NotAPlainFile, output_stem, read_file, replace_file, write_new


def test_a_file_is_read_whole_and_up_to_its_bound(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1000)
    assert read_file(path, 1000) == b"x" * 1000
    with pytest.raises(FileTooLarge):
        read_file(path, 999)


def test_a_pipe_without_a_writer_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAPlainFile):
        read_file(tmp_path / "pipe", 1000)


@pytest.mark.parametrize("endless", ["/dev/zero", "/proc/self/pagemap", "/proc/self/maps"])
def test_a_link_to_what_has_no_end_or_no_stated_size_is_refused(tmp_path: Path, endless: str):
    (tmp_path / "link").symlink_to(endless)
    with pytest.raises(OSError, match=r"not a regular file|Invalid argument"):
        read_file(tmp_path / "link", 1 << 30)


@pytest.mark.parametrize("write", [write_new, replace_file])
@pytest.mark.parametrize("name", ["out", ".out.part"])
def test_a_link_that_lies_where_a_file_is_to_be_written_is_not_followed(tmp_path: Path, write, name: str):
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / name).symlink_to(victim)
    write(tmp_path / "out", b"new")
    assert victim.read_bytes() == b"untouched"
    assert (tmp_path / "out").read_bytes() == b"new"
    assert not (tmp_path / "out").is_symlink()


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "out", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_file_may_be_read_by_whom_the_mask_lets(tmp_path: Path):
    old = os.umask(0o027)
    try:
        replace_file(tmp_path / "out", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_only_a_stem_that_is_too_long_is_shortened_and_two_stay_two():
    assert output_stem("1.2.3#4") == "1.2.3#4"
    long = ["9" * 240 + "#1", "9" * 240 + "#2", "ü" * 120]
    short = [output_stem(stem) for stem in long]
    assert len(set(short)) == 3
    assert all(len(os.fsencode(stem)) <= 200 for stem in short)
    assert short[0].startswith("9" * 100)
