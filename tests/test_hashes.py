import hashlib

import pytest

from dinov2_helpers import hashes
from dinov2_helpers.hashes import sha256_of


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 17])
def test_a_file_read_in_pieces_has_the_hash_of_the_whole(tmp_path, monkeypatch, size):
    monkeypatch.setattr(hashes, "CHUNK_BYTES", 8)
    data = bytes(range(size))
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()
