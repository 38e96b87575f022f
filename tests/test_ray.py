"""vlt.ray on a local Ray: a corpus by Ray Data and traffic by Ray Serve, to the bit `encode`'s."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlt

pytest.importorskip("ray.data", reason="needs Ray: pip install '.[ray]'")
pytest.importorskip("ray.serve", reason="needs Ray: pip install '.[ray]'")
pytest.importorskip("orjson", reason="needs the server: pip install '.[ray]'")

import ray
from http_server import bits, wait_until
from ray import serve

from vlt.ray.data import ColumnEncoder
from vlt.ray.placement import place
from vlt.ray.serve import EncoderDeployment, EncoderReplica
from vlt.safetensors_file import SafetensorsFile
from vlt.safetensors_writer import SafetensorsWriter, StoredTensor

DOCUMENT = Path(__file__).parents[1] / "docs" / "RAY.md"
TEXTS = ["a man is running", "the quick red machine", "banana", "", "the river under the world"]
# Workers cannot import this module: its classes go to them whole.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
SOON = {"graceful_shutdown_wait_loop_s": 0.1, "health_check_period_s": 0.2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Ray and Serve in processes of their own; the URL of Serve."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=4,  # actors; they are threads that mostly wait
        include_dashboard=False,
        object_store_memory=100_000_000,
        logging_level="error",
        log_to_driver=False,
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def post(url: str, fields: Any, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(fields).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# ---- Ray Data ------------------------------------------------------------------------------------


class CountedEncoder(ColumnEncoder):
    """Leaves a file for each time that it is made, and one for each batch."""

    def __init__(self, path: str, traces: str) -> None:
        super().__init__(path)
        self._traces = Path(traces)
        self._leave("made")

    def __call__(self, batch: Any) -> Any:
        self._leave("batch")
        return super().__call__(batch)

    def _leave(self, what: str) -> None:
        (self._traces / f"{what}-{os.getpid()}-{time.monotonic_ns()}").touch()


def test_a_corpus_of_texts(
    cluster: str, tiny_weights: Path, tiny_encoder: vlt.Encoder, tmp_path: Path
) -> None:
    texts = [f"{text} {number}" for number in range(20) for text in TEXTS]
    rows = (
        ray.data.from_items([{"id": number, "text": text} for number, text in enumerate(texts)])
        .map_batches(
            CountedEncoder,
            fn_constructor_args=[str(tiny_weights), str(tmp_path)],
            batch_size=7,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        .take_all()
    )
    rows.sort(key=lambda row: row["id"])
    assert [row["text"] for row in rows] == texts
    found = np.stack([row["embedding"] for row in rows])
    assert found.dtype == np.float32
    assert found.tobytes() == tiny_encoder.encode(texts).tobytes()
    traces = [path.name.split("-") for path in tmp_path.iterdir()]
    made = [pid for what, pid, _ in traces if what == "made"]
    assert len(made) == len(set(made)) == 2
    assert sum(what == "batch" for what, *_ in traces) >= len(texts) // 7


def test_a_corpus_of_ids(cluster: str, tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    ids = tiny_encoder.tokenize(TEXTS)
    rows = (
        ray.data.from_items([{"ids": each} for each in ids])
        .map_batches(
            ColumnEncoder,
            fn_constructor_kwargs={
                "path": str(tiny_weights),
                "column": "ids",
                "output_column": "vector",
                "normalize_embeddings": True,
                "truncate_dim": 6,
            },
            batch_size=len(ids),
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        .take_all()
    )
    right = tiny_encoder.encode(TEXTS, normalize_embeddings=True, truncate_dim=6)
    assert np.stack([row["vector"] for row in rows]).tobytes() == right.tobytes()


def test_a_row_at_fault_is_shown(cluster: str, tiny_weights: Path) -> None:
    rows = [{"id": 40 + number, "text": text} for number, text in enumerate(["a", "b", None, "c"])]
    dataset = ray.data.from_items(rows).map_batches(
        ColumnEncoder,
        fn_constructor_kwargs={"path": str(tiny_weights)},
        batch_size=len(rows),
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    with pytest.raises(Exception, match=r"row 2 of a batch of 4, column 'text': .*'id': .*42"):
        dataset.take_all()


def test_actors_get_what_ray_gives_them(cluster: str) -> None:
    def placed(*wanted: Any) -> Any:
        return place(*wanted)

    task = ray.remote(placed)
    assert ray.get(task.options(num_cpus=2).remote("auto", None)) == ("cpu", 2)
    assert ray.get(task.options(num_cpus=0.5).remote("cpu", None)) == ("cpu", 1)
    assert ray.get(task.options(num_cpus=2).remote("auto", 3)) == ("cpu", 3)
    assert ray.get(task.options(num_cpus=2).remote("cuda:1", None)) == ("cuda:1", None)


# A batch is a dict of arrays, so what follows needs no cluster.


def column(*values: Any) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_batches_without_rows(tiny_weights: Path) -> None:
    encoder = ColumnEncoder(tiny_weights, truncate_dim=5)
    found = encoder({"text": column(), "id": np.empty(0, np.int64)})
    assert found.keys() == {"text", "id", "embedding"}
    assert found["embedding"].shape == (0, 5)
    assert found["embedding"].dtype == np.float32


def test_prompts_are_those_of_encode(tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    choices: list[dict[str, Any]] = [{"prompt_name": "query"}, {"prompt": "the man: "}]
    for options in choices:
        found = ColumnEncoder(tiny_weights, **options)({"text": column(*TEXTS)})
        assert found["embedding"].tobytes() == tiny_encoder.encode(TEXTS, **options).tobytes()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (("a", 3, "b"), "row 1 of a batch of 3.*must be str.*the row is {'text': 3, 'id': "),
        (([1, 2], [3, -1]), "row 1 of a batch of 2.*token id -1 at position 1"),
        (([1], [2], [1] * 100), "row 2 of a batch of 3.*has 100 tokens; the model's longest is"),
        (([1], "a"), "row 0 of a batch of 2.*must be str"),
        (([1], None), "row 1 of a batch of 2"),
        (("a", "\ud800"), "row 1 of a batch of 2.*not valid Unicode"),
        (("a" * 900, None), "row 1 of a batch of 2"),
    ],
)
def test_rows_at_fault(tiny_weights: Path, values: Any, problem: str) -> None:
    encoder = ColumnEncoder(tiny_weights)
    batch = {"text": column(*values), "id": np.arange(len(values))}
    with pytest.raises((TypeError, vlt.InvalidArgumentError), match=problem) as caught:
        encoder(batch)
    assert len(str(caught.value)) < 600
    assert encoder({"text": column("a")})["embedding"].shape == (1, 32)


def test_a_model_without_embeddings(tiny_weights: Path, tmp_path: Path) -> None:
    file = SafetensorsFile(tiny_weights)
    metadata = {name: text for name, text in file.metadata.items() if name != "embedding_head"}
    stored = {
        name: StoredTensor(tensor.dtype, tensor.shape, (tensor,))
        for name, tensor in file.items()
        if not name.startswith("_pad.")
    }
    SafetensorsWriter(stored, metadata).save(tmp_path / "states.bin")
    with pytest.raises(vlt.UnsupportedError, match="makes no embeddings; it gives hidden"):
        ColumnEncoder(tmp_path / "states.bin")


def test_wrong_options_fail_at_once(tiny_weights: Path) -> None:
    with pytest.raises(vlt.InvalidArgumentError, match="no prompt 'poem'"):
        ColumnEncoder(tiny_weights, prompt_name="poem")
    with pytest.raises(vlt.InvalidArgumentError, match="truncate_dim must be 1"):
        ColumnEncoder(tiny_weights, truncate_dim=0)
    with pytest.raises(vlt.InvalidArgumentError, match="no column 'text'; there are: 'id'"):
        ColumnEncoder(tiny_weights)({"id": np.arange(3)})
    with pytest.raises(TypeError, match="batch_format='numpy', not give list"):
        ColumnEncoder(tiny_weights)(["a"])  # type: ignore[arg-type]


# ---- Ray Serve -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handle(cluster: str, tiny_weights: Path) -> Any:
    options = {"model_name": "tiny", "api_key": "geheim"}
    application = EncoderDeployment.options(**SOON).bind(
        str(tiny_weights), server_options=options, fit_seconds=0.02
    )
    return serve.run(application, name="tiny", route_prefix="/tiny")


KEY = {"Authorization": "Bearer geheim"}


def test_calls_through_a_handle(handle: Any, tiny_encoder: vlt.Encoder) -> None:
    ids = tiny_encoder.tokenize(TEXTS)
    calls: dict[str, tuple[Any, dict[str, Any]]] = {
        "encode": (TEXTS, {"normalize_embeddings": True}),
        "encode_query": (TEXTS, {}),
        "encode_document": (TEXTS[0], {"truncate_dim": 4}),
        "run": (ids, {"output": "embedding"}),
    }
    waiting = {
        name: getattr(handle, name).remote(given, **options)
        for name, (given, options) in calls.items()
    }
    for name, (given, options) in calls.items():
        right = getattr(tiny_encoder, name)(given, **options)
        assert waiting[name].result(timeout_s=30).tobytes() == right.tobytes(), name
    with pytest.raises(Exception, match="no prompt 'poem'"):
        handle.encode.remote("a", prompt_name="poem").result(timeout_s=30)


def test_calls_over_http(handle: Any, cluster: str, tiny_encoder: vlt.Encoder) -> None:
    url = f"{cluster}/tiny"
    expected = tiny_encoder.encode(TEXTS[:3], normalize_embeddings=True).tobytes()
    status, rows = post(f"{url}/embed", {"inputs": TEXTS[:3]}, **KEY)
    assert (status, bits(rows)) == (200, expected)
    status, answer = post(f"{url}/v1/embeddings", {"input": TEXTS[:3], "model": "tiny"}, **KEY)
    assert (status, bits([each["embedding"] for each in answer["data"]])) == (200, expected)
    assert post(f"{url}/embed", {"inputs": "a"})[0] == 401
    status, answer = post(f"{url}/embed", {"inputs": 3}, **KEY)
    assert (status, answer["error_type"]) == (422, "Validation")
    status, answer = post(f"{url}/nowhere", {}, **KEY)
    assert status == 404
    with urllib.request.urlopen(f"{url}/health") as health:
        assert health.status == 200


def test_requests_run_together(handle: Any, cluster: str, tiny_encoder: vlt.Encoder) -> None:
    """The replica's scheduler sees all of them, though each is one text."""
    before = batches_and_inputs(cluster)
    texts = [f"a man {number}" for number in range(300)]
    waiting = [handle.encode.remote(text) for text in texts]
    found = np.stack([each.result(timeout_s=60) for each in waiting])
    assert found.tobytes() == tiny_encoder.encode(texts).tobytes()
    batches, inputs = batches_and_inputs(cluster) - before
    assert inputs == len(texts)
    assert batches < inputs / 2


def batches_and_inputs(cluster: str) -> Any:
    with urllib.request.urlopen(f"{cluster}/tiny/metrics") as answer:
        page = answer.read().decode()
    names = "te_batch_next_size_count", "te_batch_next_size_sum"
    return np.array([float(re.findall(rf"^{name} (\S+)$", page, re.M)[0]) for name in names])


def test_a_replica_that_stops_finishes_what_it_has(
    cluster: str, tiny_weights: Path, tiny_encoder: vlt.Encoder
) -> None:
    application = EncoderDeployment.options(**SOON).bind(
        str(tiny_weights), fit_seconds=0.02, policy="one"
    )
    handle = serve.run(application, name="ending", route_prefix="/ending")
    texts = [f"{text} {number}" for number in range(4000) for text in TEXTS]
    waiting = handle.encode.remote(texts)

    def is_working() -> bool:
        with urllib.request.urlopen(f"{cluster}/ending/metrics") as answer:
            return not re.search(r"^te_queue_size 0.0$", answer.read().decode(), re.M)

    wait_until(is_working, "the call does not begin")
    stopping = threading.Thread(target=serve.delete, args=["ending"])
    stopping.start()
    time.sleep(0.05)
    assert stopping.is_alive()  # the call is not yet done, and is waited for
    assert waiting.result(timeout_s=60).tobytes() == tiny_encoder.encode(texts).tobytes()
    stopping.join(30)
    assert not stopping.is_alive()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{cluster}/ending/health")
    assert refused.value.code == 404


def test_health(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch that failed the model is tried again."""
    replica = EncoderReplica(tiny_weights, fit_seconds=0.02)
    encoder = replica._encoder.encoder

    async def fail_and_recover() -> None:
        await replica.check_health()
        with monkeypatch.context() as broken:
            broken.setattr(encoder, "_compute", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await replica.encode("a")
            with pytest.raises(ZeroDivisionError):
                await replica.check_health()
        await replica.check_health()
        assert (await replica.encode("a")).tobytes() == encoder.encode("a").tobytes()

    asyncio.run(fail_and_recover())
    replica.__del__()
    with pytest.raises(vlt.ClosedError):
        asyncio.run(replica.encode("a"))


def test_wrong_options_of_a_deployment(tiny_weights: Path) -> None:
    with pytest.raises(vlt.InvalidArgumentError, match="max_queue must be 1"):
        EncoderReplica(tiny_weights, max_queue=0)
    with pytest.raises(TypeError, match="modelname"):
        EncoderReplica(tiny_weights, server_options={"modelname": "tiny"})


# ---- The document's examples ---------------------------------------------------------------------


def test_the_documents_examples(
    cluster: str,
    tiny_weights: Path,
    tiny_encoder: vlt.Encoder,
    tmp_path: Path,
) -> None:
    corpus, traffic = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    # Actors work in a folder of their own, as those of other machines do.
    places = {"weights.bin": tiny_weights}
    places |= {name: tmp_path / name for name in ("texts.parquet", "vectors")}
    for name, path in places.items():
        corpus, traffic = (code.replace(f'"{name}"', repr(str(path))) for code in (corpus, traffic))
    dataset = ray.data.from_items([{"text": text} for text in TEXTS])
    dataset.write_parquet(str(tmp_path / "texts.parquet"))
    namespace: dict[str, Any] = {}
    exec(corpus, namespace)
    rows = ray.data.read_parquet(str(tmp_path / "vectors")).take_all()
    right = tiny_encoder.encode([row["text"] for row in rows], normalize_embeddings=True)
    assert sorted(row["text"] for row in rows) == sorted(TEXTS)
    assert np.stack([row["embedding"] for row in rows]).tobytes() == right.tobytes()

    exec(traffic, namespace)
    found = namespace["handle"].encode.remote(TEXTS).result(timeout_s=30)
    assert found.tobytes() == tiny_encoder.encode(TEXTS).tobytes()
    status, rows = post(f"{cluster}/minilm/embed", {"inputs": TEXTS[0]})
    assert status == 200
    assert bits(rows) == tiny_encoder.encode([TEXTS[0]], normalize_embeddings=True).tobytes()
    serve.delete("vlt")


def test_missing_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "serve", "placement"):
        monkeypatch.delitem(sys.modules, f"vlt.ray.{name}")
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("data", "serve"):
        with pytest.raises(ImportError, match=r"vlt\.ray\.\w+ needs the package ray.*'\.\[ray\]'"):
            __import__(f"vlt.ray.{name}")
