"""The folder of a run on a cluster, and what is refused before one is reached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.cli.on_ray import cluster_of, read_there
from confide.cluster.ray_cluster import Cluster, _cluster, ray_cluster
from confide.cluster.run_folder import RunFolder
from confide.errors import ConfideError
from confide.records import Record, read_records, write_records


def test_a_run_goes_on_with_its_settings_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    assert folder.known() == {}
    folder.begin({"task": "geography", "block": 64})
    folder.begin({"task": "geography", "block": 64})
    with pytest.raises(ConfideError, match=r"made with other settings \(task 'geography', now 'other'\)"):
        folder.begin({"task": "other", "block": 64})


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfideError, match="choose an empty folder"):
        RunFolder(tmp_path).begin({})
    (tmp_path / "_run.json").write_text("{")
    with pytest.raises(ConfideError, match="is not readable"):
        RunFolder(tmp_path).known()


def test_records_of_a_folder_come_in_the_order_of_its_files(tmp_path: Path) -> None:
    RunFolder(tmp_path).begin({})
    write_records(tmp_path / "000001-b.parquet", [Record(id="c")])
    write_records(tmp_path / "000000-a.parquet", [Record(id="a"), Record(id="b")])
    assert [record.id for record in read_records(tmp_path)] == ["a", "b", "c"]
    write_records(tmp_path / "000002-c.parquet", [Record(id="a")])
    with pytest.raises(ConfideError, match=r"1 duplicate ids \(a\)"):
        read_records(tmp_path)


def test_a_folder_of_mixed_schemas_is_refused(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", [Record(id="a")])
    pq.write_table(pa.table({"id": ["b"], "confidence": [0.5]}), tmp_path / "b.parquet")
    with pytest.raises(ConfideError, match=r"a\.parquet and b\.parquet do not both have confidence, record"):
        read_records(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfideError, match="a folder without Parquet files"):
        read_records(tmp_path / "none")


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "head", "head:port", ""])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ConfideError, match="--ray takes HOST:PORT"), ray_cluster(address):
        pass


WITHOUT = "import sys; sys.modules['ray'] = None; from confide.cli.main import main; main()"


def test_without_ray_the_command_that_installs_it_is_told(tmp_path: Path) -> None:
    flags = ["annotate", "--task", "geography", "--limit", "5", "--out", str(tmp_path / "out"), "--ray", "local"]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *flags], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == ("confide: the package ray is not installed: pip install 'confide[ray]'")


def node(cpus: int, gpus: int = 0, alive: bool = True) -> dict[str, object]:
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})}


@pytest.mark.parametrize(
    ("nodes", "workers", "wanted"),
    [
        ([node(2)], None, Cluster(1, 2, 0)),
        ([node(2)], 2, Cluster(2, 1, 0)),
        ([node(4), node(4)], None, Cluster(2, 4, 0)),
        ([node(4), node(4)], 3, Cluster(3, 2, 0)),
        ([node(0), node(8, 4), node(8, 4, alive=False)], None, Cluster(4, 2, 1)),
        ([node(16), node(8, 2)], 1, Cluster(1, 8, 1)),
    ],
)
def test_every_worker_finds_a_place(nodes: list[dict[str, object]], workers: int | None, wanted: Cluster) -> None:
    assert _cluster(nodes, workers) == wanted


def test_more_workers_than_the_cluster_has_room_for_are_refused() -> None:
    with pytest.raises(ConfideError, match="has 2 CPUs, too few for 3 workers"):
        _cluster([node(2)], 3)


def test_flags_of_one_machine_do_not_go_with_a_cluster() -> None:
    with pytest.raises(ConfideError, match="--workers is for --ray"):
        cluster_of(None, 2, {})
    with pytest.raises(ConfideError, match="--judge does not go with --ray"):
        cluster_of("local", None, {"--engine": False, "--judge": "m"})
    assert cluster_of(None, None, {"--judge": "m"}) is None


def test_what_asks_the_model_more_is_left_out_or_refused() -> None:
    assert read_there(["stack", "p_true", "logprob_sum"], everything=True) == ["stack", "logprob_sum"]
    with pytest.raises(ConfideError, match="p_true takes more"):
        read_there(["stack", "p_true"], everything=False)
