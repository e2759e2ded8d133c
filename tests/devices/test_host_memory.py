import psutil

from tf_simclr.devices import host_memory


def test_free_memory_is_what_the_machine_and_the_container_leave(monkeypatch, tmp_path):
    monkeypatch.setattr(host_memory, "_CGROUP", tmp_path)
    total = psutil.virtual_memory().total
    assert 0 < host_memory.free_bytes() < total
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5000\n")
    assert 5000 < host_memory.free_bytes() < total
    (tmp_path / "memory.max").write_text("9000\n")
    assert host_memory.free_bytes() == 4000
    (tmp_path / "memory.current").write_text("9001\n")
    assert host_memory.free_bytes() == 0
