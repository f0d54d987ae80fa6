"""course/files.py: files that are complete or not there, safe names, fingerprints."""

import os
import threading
from pathlib import Path

import pytest
import torch

from course.files import fingerprint, safe_name, write, write_text


def test_names_are_safe():
    assert safe_name("input 3/../Ä b:c*.x") == "input_3_.._Ä_b_c_.x"
    assert len(safe_name("a" * 300)) == 100


def test_a_long_name_in_another_script_is_cut_by_its_bytes(tmp_path):
    """255 of them fit, and the temporary name has more than the name."""
    name = safe_name("猫の写真" * 20)
    assert name == ("猫の写真" * 20)[:33]
    write(tmp_path / f"{name}-0123456789.npz", lambda stream: stream.write(b"map"))
    assert (tmp_path / f"{name}-0123456789.npz").read_bytes() == b"map"


def test_write_is_all_or_nothing(tmp_path):
    file = tmp_path / "deep" / "file.bin"
    write(file, lambda stream: stream.write(b"first"))
    assert file.read_bytes() == b"first"

    def fails(stream) -> None:
        stream.write(b"half")
        stream.flush()
        assert file.read_bytes() == b"first"                           # nobody sees the new one before it is whole
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(file, fails)
    assert file.read_bytes() == b"first"
    assert [found.name for found in file.parent.iterdir()] == ["file.bin"]


@pytest.mark.skipif(os.name != "posix", reason="Windows does not replace a file that is open")
def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    """Replaced, not overwritten: who has opened the old file reads it to its end."""
    write(tmp_path / "x", lambda stream: stream.write(b"old"))
    with (tmp_path / "x").open("rb") as reader:
        write(tmp_path / "x", lambda stream: stream.write(b"new"))
        assert reader.read() == b"old"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_two_threads_do_not_write_into_one_file(tmp_path):
    """Both are halfway at the same time; what has the name in the end is one of the two, whole."""
    together = threading.Barrier(2)

    def fill(letter: bytes):
        def write(stream) -> None:
            stream.write(letter * 1000)
            stream.flush()
            together.wait(timeout=20)
            stream.write(letter * 1000)

        return write

    threads = [threading.Thread(target=write, args=(tmp_path / "x", fill(letter))) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_bytes() in (b"a" * 2000, b"b" * 2000)
    assert len(list(tmp_path.iterdir())) == 1


def test_while_fill_runs_the_old_content_stands(tmp_path):
    """Afterwards the new one, and nothing else."""
    file, seen = tmp_path / "map.npz", []
    file.write_bytes(b"old")

    def fill(stream) -> None:
        stream.write(b"new")
        stream.flush()
        seen.append(file.read_bytes())

    write(file, fill)
    assert seen == [b"old"]
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["map.npz"]
    write(tmp_path / "new" / "map.npz", fill=lambda stream: stream.write(b"first"))
    assert (tmp_path / "new" / "map.npz").read_bytes() == b"first"


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def fill(stream) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    (tmp_path / "kept.png").write_bytes(b"old")
    for name in ("kept.png", "absent.png"):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / name, fill)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.png"]
    assert (tmp_path / "kept.png").read_bytes() == b"old"


def test_a_full_disk_has_a_name(tmp_path):
    """Writing fails without one; what names its own file keeps it."""
    for name, said in ((None, "a.npz"), ("b.jpg", "b.jpg")):
        def fill(_stream, name=name) -> None:
            raise OSError(28, "No space left on device", name)

        with pytest.raises(OSError, match=rf"No space left on device: '.*{said}'"):
            write(tmp_path / "a.npz", fill)


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "new" / "x.md", "é\n")
    assert (tmp_path / "new" / "x.md").read_bytes() == b"\xc3\xa9\n"


def test_a_fingerprint_is_of_contents(tmp_path):
    """Of a file's bytes, a tensor's values, another thing's text; in their order."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    assert fingerprint(first) == fingerprint(second)
    second.write_bytes(b"other")
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(torch.ones(2)) == fingerprint(torch.ones(2)) != fingerprint(torch.tensor([1.0, 1.0001]))
    assert fingerprint(1, "a") != fingerprint("a", 1)
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert len(fingerprint()) == 10
    assert fingerprint(torch.ones(2, dtype=torch.bfloat16)) != fingerprint(torch.zeros(2, dtype=torch.bfloat16))
    assert fingerprint(Path("no/such/file")) == fingerprint(Path("nor/this"))
