"""A notebook that a real kernel runs and saves: output of the cells, and content of the saved file."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from tests.support.sets import shard_set

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed (make install does)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (make install does)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (make install does)")

CELLS = (
    """
from mps_shards import DeviceLoader, ShardDataset, classify
from mps_shards.inspect.live_line import watch
data = ShardDataset({path!r}, batch_size=4, transform=classify.train(16), shuffle=True, on_bad_sample="skip")
data
""",
    """
loader = DeviceLoader(data, device="cpu", num_threads=1)
for images, targets in watch(loader, "first"):
    pass
""",
    "loader.stats()",
    "print(loader.stats())",
    "data.preview(2, times=1)",
    """
for number, _ in enumerate(watch(loader, "stopped")):
    if number == 2:
        raise KeyboardInterrupt
""",
    "sum(len(targets) for _, targets in watch(loader, 'again')), data.position.epoch",
)


def test_a_notebook_shows_its_data_set_its_progress_and_its_pictures_and_keeps_them(tmp_path: Path):
    path = str(shard_set([12, 12], broken=[5]))
    cells = [nbformat.v4.new_code_cell(cell.strip().replace("{path!r}", repr(path))) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)

    client = nbclient.NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    nbformat.write(notebook, tmp_path / "saved.ipynb")

    shown = [cell.outputs for cell in nbformat.read(tmp_path / "saved.ipynb", as_version=4).cells]
    [table] = shown[0]
    assert "<th style='text-align:left'>classes</th><td>3 classes</td>" in table.data["text/html"]
    assert table.data["text/plain"].startswith("ShardDataset(")
    lines = [output.data["text/plain"] for output in shown[1] if "data" in output]
    assert len(lines) == 1 and lines[0].startswith("first: 6/6 batches, 23 images in ")
    assert lines[0].endswith(", 1 sample skipped")
    assert "<td>23 images in 6 batches</td>" in shown[2][0].data["text/html"]
    assert "23 images in 6 batches" in shown[3][0].text
    [picture] = shown[4]
    with Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))) as image:
        assert image.width > 50
    stopped = [output.data["text/plain"] for output in shown[5] if "data" in output]
    assert stopped[0].startswith("stopped: 3/6 batches") and shown[5][-1].ename == "KeyboardInterrupt"
    assert shown[6][-1].data["text/plain"] == "(23, 3)"
    assert not any(output.get("ename") for outputs in (*shown[:5], shown[6]) for output in outputs)
