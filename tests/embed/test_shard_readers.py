"""Archives are untrusted: damage is reported, names are data, and memory is bounded."""

import gzip
import io
import os
import struct
import tarfile

import made_inputs
import pytest

from tf_simclr.embed import listing, shard_readers, storage, tar_members
from tf_simclr.embed.listing import Shard
from tf_simclr.embed.shard_readers import Keys

JPEG = made_inputs.jpeg(0)


def read(kind, path, **keys):
    return list(shard_readers.read(Shard(kind, [str(path)]), Keys(**keys)))


def tar_of(path, *members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name, content=JPEG, **values):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info, content


def complaint_of(kind):
    return f"damaged {kind} file, not read further"


# --- tar


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_members_are_named_by_archive_and_member(tmp_path, name):
    files = {"x/1.jpg": JPEG, "x/1.json": b"{}", "x/._1.jpg": b"", "x/2.jpg": b"no image"}
    made_inputs.write_tar(tmp_path / name, files, mode="w" if name == "a.tar" else "w:gz")
    items = read("tar", tmp_path / name)
    assert [(item.name, item.position) for item in items] == [
        (f"{tmp_path}/{name}/x/1.jpg", 0),
        (f"{tmp_path}/{name}/x/2.jpg", 1),
    ]
    assert [item.content for item in items] == [JPEG, b"no image"]


def test_nothing_is_extracted_and_no_link_is_followed(tmp_path, monkeypatch):
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    (tmp_path / "cwd").mkdir()
    path = tar_of(
        tmp_path / "a.tar",
        member("../escaped.jpg"),
        member(f"{tmp_path}/absolute.jpg"),
        member("link.jpg", b"", type=tarfile.SYMTYPE, linkname=f"{tmp_path}/secret.jpg"),
        member("hard.jpg", b"", type=tarfile.LNKTYPE, linkname="../secret.jpg"),
        member("pipe.jpg", b"", type=tarfile.FIFOTYPE),
        member("folder.jpg", b"", type=tarfile.DIRTYPE),
    )
    monkeypatch.chdir(tmp_path / "cwd")
    items = read("tar", path)
    assert [item.content for item in items] == [JPEG, JPEG, None, None, None]
    assert {item.complaint for item in items[2:]} == {tar_members.NOT_A_FILE}
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "cwd", "secret.jpg"]
    assert os.listdir() == []


def test_members_of_one_name_are_told_apart_by_their_position(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("x.jpg"), member("x.jpg", b"other"))
    assert [(item.position, item.content) for item in read("tar", path)] == [
        (0, JPEG),
        (1, b"other"),
    ]


def test_names_become_valid_text(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("caf\udce9\n.jpg"), member("é" * 5000))
    names = [item.name for item in read("tar", path)]
    assert names[0] == f"{path}/caf\\xe9\n.jpg"
    assert len(names[1]) == shard_readers.MAX_NAME + 3
    assert all(name.encode() for name in names)


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 10_000])
def test_a_tar_that_is_cut_off_says_so(tmp_path, cut):
    """At a multiple of 512, tarfile alone takes what is left for a whole archive."""
    path = tar_of(tmp_path / "a.tar", member("1.jpg", b"x" * 512), member("2.jpg", b"y" * 20_000))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    items = read("tar", path)
    assert items[-1] == (str(path), items[-1].position, None, complaint_of("tar"))
    assert [item.content for item in items[:-1]] == [b"x" * 512] * (cut >= 1024)
    path.write_bytes(whole)
    assert [item.complaint for item in read("tar", path)] == [None, None]


def hostile_headers():
    negative = bytearray(member("a.jpg", b"")[0].tobuf(tarfile.GNU_FORMAT))
    negative[124:136] = b"\xff" * 12  # size -1, of which tarfile's offsets go backwards
    checksum = tarfile.calc_chksums(bytes(negative))[0]
    negative[148:156] = b"%06o\0 " % checksum
    long_name = member("././@LongLink", b"", type=tarfile.GNUTYPE_LONGNAME, size=2**33)[0]
    pax = member("a.jpg", b"")[0]
    pax.pax_headers = {"size": "-512"}
    sparse = member("a.jpg", b"")[0]
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return {
        "negative": bytes(negative),
        "long_name": long_name.tobuf(tarfile.GNU_FORMAT),
        "pax": pax.tobuf(tarfile.PAX_FORMAT),
        "sparse": sparse.tobuf(tarfile.PAX_FORMAT),
        "noise": os.urandom(512),
    }


@pytest.mark.parametrize("name", hostile_headers())
def test_a_hostile_header_ends_the_archive(tmp_path, name):
    path = tar_of(tmp_path / "a.tar", member("1.jpg"))
    start = path.read_bytes()[: 512 + -(-len(JPEG) // 512) * 512]
    path.write_bytes(start + hostile_headers()[name] + start + bytes(10240))
    items = read("tar", path)
    assert [item.complaint for item in items] == [None, complaint_of("tar")]


def test_a_member_that_is_too_large_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_readers, "MAX_CONTENT", 1000)
    path = tar_of(tmp_path / "a.tar", member("1.jpg", b"x" * 1001), member("2.jpg", b"y" * 1000))
    complaints = [item.complaint for item in read("tar", path)]
    assert complaints == [shard_readers.TOO_LARGE, None]


def test_damaged_gzip(tmp_path):
    made_inputs.write_tar(tmp_path / "a.tar", {"1.jpg": os.urandom(50_000)})
    whole = gzip.compress((tmp_path / "a.tar").read_bytes())
    (tmp_path / "a.tgz").write_bytes(whole[:20_000] + bytes(100) + whole[20_100:])
    assert read("tar", tmp_path / "a.tgz")[-1].complaint == complaint_of("tar")


# --- TFRecord


def test_records_are_named_by_their_key_or_position(tmp_path):
    path = tmp_path / "a.tfrecord"
    records = [{"key": "x"}, {"key": 7}, {}, {"key": b"\xff"}]
    made_inputs.write_tfrecord(path, [made_inputs.example(image=JPEG, **r) for r in records])
    names = [item.name.removeprefix(f"{path}/") for item in read("tfrecord", path, name="key")]
    assert names == ["x", "7", "2", "\\xff"]
    assert [item.name[-1] for item in read("tfrecord", path)] == ["0", "1", "2", "3"]


def masked_checksum(content: bytes) -> int:
    """CRC-32C as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("damage", ["cut", "claim", "content"])
def test_a_damaged_tfrecord_gives_what_is_before_the_damage(tmp_path, damage):
    path = tmp_path / "a.tfrecord"
    made_inputs.write_tfrecord(path, [made_inputs.example(image=JPEG)] * 3)
    whole = bytearray(path.read_bytes())
    size = len(whole) // 3
    if damage == "cut":
        del whole[-100:]
    elif damage == "claim":  # terabytes, with the right checksum: TensorFlow would ask for them
        length = struct.pack("<Q", 2**42)
        whole[2 * size : 2 * size + 12] = length + struct.pack("<I", masked_checksum(length))
    else:
        whole[-100] ^= 1
    path.write_bytes(whole)
    items = read("tfrecord", path)
    assert [item.complaint for item in items] == [None, None, complaint_of("tfrecord")]


# --- Parquet


def test_rows_of_bytes_and_of_structs(tmp_path):
    path = tmp_path / "a.parquet"
    made_inputs.write_parquet(path, [JPEG, None], ["x", "y"])
    items = read("parquet", path, name="key")
    assert [(item.name, item.content) for item in items] == [
        (f"{path}/x", JPEG),
        (f"{path}/y", None),
    ]
    made_inputs.write_parquet(path, [{"bytes": JPEG, "path": "p"}], [3])
    for image in ("image", "image.bytes"):
        [item] = read("parquet", path, image=image, name="image.path")
        assert (item.name, item.content) == (f"{path}/p", JPEG)


@pytest.mark.parametrize("cut", [0, 10, 1000, -5])
def test_a_damaged_parquet_file(tmp_path, cut):
    path = tmp_path / "a.parquet"
    made_inputs.write_parquet(path, [JPEG] * 5, ["x"] * 5)
    path.write_bytes(path.read_bytes()[:cut])
    [item] = read("parquet", path)
    assert item == (str(path), 0, None, complaint_of("parquet"))


# --- Files


def test_failures_of_the_storage_are_not_taken_for_bad_images(tmp_path, monkeypatch):
    """The shard must be done again, and not be finished with its images left out."""
    path = tar_of(tmp_path / "a.tar", member("1.jpg"))

    def fail(*_):
        raise OSError(5, "Input/output error")
        yield

    monkeypatch.setattr(tar_members, "read", fail)
    with pytest.raises(OSError, match="Input/output"):
        read("tar", path)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(FileNotFoundError):
        storage.read_limited(str(tmp_path / "pipe.jpg"), 10)
    (tmp_path / "11.jpg").write_bytes(bytes(11))
    assert storage.read_limited(str(tmp_path / "11.jpg"), 10) is None


def test_inputs_are_grouped_in_the_same_way_each_time(tmp_path, monkeypatch):
    for name in ("p/b.jpg", "p/a.jpg", "p/deep/c.jpg", "p/x.tar", "y.tfrecord-00001-of-00002"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "p" / "out").mkdir()
    (tmp_path / "p" / "out" / "0.parquet").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)

    def find(*inputs, kind="auto"):
        shards = listing.find(inputs, kind=kind, files_per_shard=2, output="p/out")
        return [(shard.kind, shard.paths) for shard in shards]

    def fingerprint():
        return listing.fingerprint(
            listing.find(["p"], kind="auto", files_per_shard=2, output="p/out")
        )

    expected = [
        ("images", ["p/a.jpg", "p/b.jpg"]),
        ("images", ["p/deep/c.jpg"]),
        ("tar", ["p/x.tar"]),
        ("tfrecord", ["y.tfrecord-00001-of-00002"]),
    ]
    assert find("p", "y.*") == expected
    assert find("y.*", "p/**", "p/a.jpg") == expected  # no file twice, none from the output
    assert find("p/x.tar", kind="images") == [("images", ["p/x.tar"])]
    before = fingerprint()
    assert before == fingerprint()
    (tmp_path / "p" / "x.tar").write_bytes(b"12")
    assert before != fingerprint()
