"""The parts of a collection: which pictures are in each, and its Parquet file of results."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from course.explainer import Explanation
from course.files import fingerprint, write
from course.pictures import is_picture

LISTING = "_pictures"  # .jsonl, a path a line, as a JSON string; readers of Parquet ignore what begins with _ or .
ROWS = 100  # that a worker holds before it writes them
SIZE = 2**20  # bytes read at once


# The list of pictures


def list_paths(paths: object) -> Iterator[str]:
    """Single paths, one after another, however they were given."""
    if hasattr(paths, "iter_batches"):  # a ray.data.Dataset
        for batch in paths.select_columns(["path"]).iter_batches(batch_format="numpy"):
            yield from map(absolute, batch["path"])
    elif not isinstance(paths, str | os.PathLike):
        for path in paths:
            yield from list_paths(path)
    elif os.path.isdir(paths):
        yield from pictures_inside(os.path.abspath(paths))
    elif str(paths).endswith(".txt"):
        with open(paths, encoding="utf-8-sig", errors="surrogateescape") as lines:
            yield from (absolute(line.rstrip("\r\n")) for line in lines if line.strip())
    elif is_picture(paths) or os.path.lexists(paths):
        yield absolute(paths)
    else:                                                              # one picture that is lost is a row of its own
        raise FileNotFoundError(f"there is no folder {paths}, and no picture of that name")


def pictures_inside(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Those of a folder, then those of the folders inside, linked ones too; OSError for a folder that it may not read.

    Not os.walk, which leaves such folders out without a word. A link back to a folder `above` is not followed.
    """
    above = (*above, os.path.realpath(folder))
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    yield from (entry.path for entry in entries if is_picture(entry.name) and not entry.is_dir())
    for entry in entries:
        if entry.is_dir() and os.path.realpath(entry.path) not in above:
            yield from pictures_inside(entry.path, above)


def absolute(path: str | os.PathLike) -> str:
    """A path that means the same in another process; a bare name of one of the course's photographs stays."""
    path = os.fspath(path)
    return path if os.path.basename(path) == path and not os.path.exists(path) else os.path.abspath(path)


def write_listing(paths: object, folder: Path, settings: str, shard_size: int) -> list[dict]:
    """Write the list of pictures into the folder, and give its parts: name, list, first byte and number of pictures.

    So neither this process nor Ray holds the paths, however many there are. The list's name follows from what is in it:
    another run never exchanges the list that workers read.
    """
    shards, kind = [], f"{LISTING}-{fingerprint(settings, shard_size)}"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        for lines in parts_of(list_paths(paths), shard_size):
            name = f"{len(shards):08d}-{fingerprint(settings, *lines)}.parquet"
            shards.append({"name": name, "start": stream.tell(), "count": len(lines)})
            stream.write("".join(lines).encode())
        if not shards:
            raise ValueError(f"there are no pictures in {paths}")
        check_alone(folder, {shard["name"] for shard in shards}, kind, stream)
        listing = f"{kind}-{fingerprint(*(shard['name'] for shard in shards))}.jsonl"
        stream.seek(0)
        write(folder / listing, lambda file: shutil.copyfileobj(stream, file))
    return [shard | {"listing": listing} for shard in shards]


def parts_of(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    """The lines of a list, `size` at a time; plain ASCII, whatever is in a path."""
    paths = iter(paths)
    while part := list(islice(paths, size)):
        yield [f"{json.dumps(path)}\n" for path in part]


def check_alone(folder: Path, names: set[str], kind: str, stream: BinaryIO) -> None:
    """Refuse a folder with results, or with another run's list, that does not go with this one.

    A list of the same settings that is longer or shorter does: all that both have is in the same place.
    """
    if any(file.name not in names for file in folder.glob("*.parquet")):
        raise ValueError(f"{folder} has results for other pictures or settings; name another folder, or delete it")
    for file in folder.glob(f"{LISTING}-*.jsonl"):
        if not (file.name.startswith(f"{kind}-") and one_begins_the_other(file, stream)):
            raise ValueError(f"{folder} has the list of a run with other pictures or settings ({file.name}), which may "
                             "still work; name another folder, or delete it")  # fmt: skip


def one_begins_the_other(file: Path, stream: BinaryIO) -> bool:
    """Whether two files are the same as far as the shorter one goes."""
    stream.seek(0)
    with file.open("rb") as other:
        while (first := stream.read(SIZE)) and (second := other.read(SIZE)):
            shorter = min(len(first), len(second))
            if first[:shorter] != second[:shorter]:
                return False
    return True


def read_listing(folder: Path, shard: dict) -> list[str]:
    """The paths of a part."""
    with (folder / shard["listing"]).open("rb") as stream:
        stream.seek(shard["start"])
        return [json.loads(line) for line in islice(stream, shard["count"])]


def missing(folder: Path, shards: list[dict]) -> str:
    """Which files are not there: a picture that kills its worker every time is in one of the first."""
    left = [shard for shard in shards if not (folder / shard["name"]).exists()]
    some = [f"{shard['name']} ({read_listing(folder, shard)[0]} and {shard['count'] - 1} more)" for shard in left[:3]]
    return f"not finished, {len(left)} in all: {', '.join(some)}{', ...' * (len(left) > 3)}"


# Results


def columns() -> object:
    """The columns of a file of results."""
    import pyarrow as pa

    return pa.schema({
        "source": pa.string(), "target": pa.int32(), "label": pa.string(), "probability": pa.float32(),
        "map": pa.list_(pa.float16()), "height": pa.int32(), "width": pa.int32(), "error": pa.string(),
    })  # fmt: skip


def row_of(item: Explanation) -> dict:
    """An explanation as a row."""
    source, error = as_unicode(item.source), as_unicode(item.error or "")
    if error:
        return {"source": source, "error": error}
    with np.errstate(over="ignore"):
        values = item.map.flatten().numpy().astype(np.float16)
    if not np.isfinite(values).all():
        return {"source": source, "error": f"the map of {source} has values that float16 cannot hold (above 65504)"}
    height, width = item.map.shape
    return {"source": source, "target": item.target, "label": item.label, "probability": item.probability,
            "map": values, "height": height, "width": width}  # fmt: skip


def as_unicode(text: str) -> str:
    """What Parquet can hold: the bytes of a file name that are no characters become \\xff and the like."""
    return os.fsencode(text).decode(errors="backslashreplace")


def write_rows(stream: BinaryIO, explained: Iterator[Explanation]) -> None:
    """Explanations as Parquet; only ROWS of them are in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(stream, columns(), compression="zstd") as file:
        while rows := [row_of(item) for item in islice(explained, ROWS)]:
            file.write_table(pa.Table.from_pylist(rows, columns()))


def count_rows(folder: Path, shards: list[dict]) -> tuple[int, int]:
    """How many rows of a finished folder are explained, and how many are errors; RuntimeError if other files are there.

    Another run that began at the same time may have written them: a reader would get both.
    """
    import pyarrow.dataset as ds

    files, total = sorted(folder.glob("*.parquet")), sum(shard["count"] for shard in shards)
    rows = ds.dataset(files, columns(), format="parquet")
    there, failed = rows.count_rows(), rows.count_rows(filter=ds.field("error").is_valid())
    if there != total or [file.name for file in files] != sorted(shard["name"] for shard in shards):
        raise RuntimeError(f"{folder} has {there} rows in {len(files)} files for {total} pictures in {len(shards)}; "
                           "did another run write into it? Delete it, or name another folder")  # fmt: skip
    return there - failed, failed


def first_errors(folder: Path, count: int) -> list[str]:
    """The sentences of the first rows that are errors; each names its picture."""
    import pyarrow.dataset as ds

    rows = ds.dataset(sorted(folder.glob("*.parquet")), columns(), format="parquet")
    found = rows.head(count, columns=["source", "error"], filter=ds.field("error").is_valid()).to_pylist()
    return [row["error"] if row["source"] in row["error"] else f"{row['source']}: {row['error']}" for row in found]
