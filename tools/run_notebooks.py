"""Runs notebooks from top to bottom and stores small clean outputs: python tools/run_notebooks.py notebooks/*.ipynb

Saving from JupyterLab stores views of live widgets, which a page without a kernel shows as errors. Here they are taken
out, so that the HTML beside them (the picture, its caption) is what a viewer shows.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

KEPT = ("tags", "jupyter")  # `jupyter` collapses the source of a check
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def run(path: Path) -> None:
    """Executes one notebook in its own folder and writes it back."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name in KEPT}
        outputs = []
        for output in cell.get("outputs", []):
            is_widget = output.get("data", {}).pop(WIDGET_VIEW, None) is not None
            if "metadata" in output:
                output["metadata"] = {}
            if not is_widget or "text/html" in output["data"]:  # a bare widget leaves nothing to look at
                outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs = outputs
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


for argument in sys.argv[1:]:
    run(Path(argument))
    print(argument)
