"""Run the quickstart notebook, print what its cells give, and keep the executed page."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

root = Path(__file__).parent.parent
source = root / "notebooks" / "01_quickstart.ipynb"
page = root / "build" / "01_quickstart.html"


def show(cell: nbformat.NotebookNode, cell_index: int) -> None:
    """Print an executed cell: its first line, and the plain text of its outputs."""
    if cell.cell_type != "code":
        return
    print(f"\n\033[1;34m[{cell_index}] {cell.source.splitlines()[0]}\033[0m")
    for output in cell.outputs:
        if output.output_type == "stream":
            print(output.text, end="")
        elif output.output_type == "error":
            print("\n".join(output.traceback))
        else:
            print(output.data.get("text/plain", ""))


notebook = nbformat.read(source, as_version=4)
NotebookClient(
    notebook,
    timeout=300,
    resources={"metadata": {"path": str(source.parent)}},
    extra_arguments=["--IPKernelApp.log_level=ERROR"],
    on_cell_executed=lambda cell, cell_index, **_: show(cell, cell_index),
).execute()
page.parent.mkdir(exist_ok=True)
page.write_text(HTMLExporter(template_name="lab").from_notebook_node(notebook)[0], "utf-8")
print(f"\nThe notebook as a page: {page.relative_to(root)}")
