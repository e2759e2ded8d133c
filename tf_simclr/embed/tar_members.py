"""Reads the files in a tar archive as a stream. Nothing is extracted, and no link is followed.

An archive is untrusted. Python's tarfile keeps every header in memory, takes a damaged header for
the end of the archive, reads headers of any length, and before Python 3.13.6 loops forever over a
negative size.
"""

import contextlib
import gzip
import os
import tarfile
from collections.abc import Iterator

from tf_simclr.data.sources import file_tree

NOT_A_FILE = "not a regular file"
# WebDataset puts labels and captions beside the images.
SIDECARS = frozenset({".json", ".txt", ".cls", ".csv", ".tsv", ".xml", ".npy", ".npz", ".md"})
_REFUSED = "a header that is not read: sparse, or of an impossible size"
_DRAINED_AT_ONCE = 2**20  # bytes after the end of the archive
_MAX_HEADER = 2**16  # bytes of a long name or of extended attributes
_LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _Member(tarfile.TarInfo):
    """A header that is checked before tarfile reads what it announces."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged header: {error}") from error

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        is_long = self.type in _LONG_HEADERS and self.size > _MAX_HEADER
        if self.size < 0 or is_long or self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(_REFUSED)
        return super()._proc_member(archive)  # type: ignore[misc]

    def _apply_pax_info(self, pax_headers: dict, encoding: str, errors: str) -> None:
        super()._apply_pax_info(pax_headers, encoding, errors)  # type: ignore[misc]
        if self.size < 0:
            raise tarfile.ReadError(_REFUSED)

    def _refuse_sparse(self, *_: object) -> None:
        raise tarfile.ReadError(_REFUSED)

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def read(
    path: str, max_content: int, too_large: str
) -> Iterator[tuple[str, bytes | None, str | None]]:
    """Yields (name, content, complaint) of each file, except hidden ones and SIDECARS.

    Args:
      path: the archive, which may be compressed by gzip.
      max_content: the largest file to read, in bytes.
      too_large: the complaint about larger ones.

    Raises:
      tarfile.TarError or another error: the archive is damaged, or ends too early.
    """
    with contextlib.ExitStack() as stack:
        # tarfile itself does not look at gzip's checksum.
        open_file = gzip.open if _is_gzip(path) else open
        stream = stack.enter_context(open_file(path, "rb"))
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member))
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]
            archive.pax_headers = {}
            if member.isdir() or _is_skipped(member.name):
                continue
            if not member.isreg():
                yield member.name, None, NOT_A_FILE
            elif member.size > max_content:
                yield member.name, None, too_large
            else:
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read(), None
        while stream.read(_DRAINED_AT_ONCE):
            pass


def _is_gzip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _is_skipped(name: str) -> bool:
    base = os.path.basename(name)
    return file_tree.is_skipped(base) or os.path.splitext(base)[1].lower() in SIDECARS
