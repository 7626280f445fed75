"""Builds the book from the notebooks and the docs: python book/build.py [--frames NAME ...]

Notebooks are executed with `HMPO_BOOK` set, so that every panel draws its frames (hmpo_lib/teach/frames.py), and kept
in .cache/book as long as their code, the modules they import and data/ are the same. Pages are put into
book/_build/source as the book words them (pages.py), and Sphinx makes book/_build/html of it.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from answer_key import answer_key
from nbclient import NotebookClient
from pages import page_of, said_in_the_book

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
SOURCE, SITE = BOOK / "_build" / "source", BOOK / "_build" / "html"
CACHE = ROOT / ".cache" / "book"
KATEX = BOOK / "node_modules" / "katex" / "dist"

READ = (".py", ".safetensors", ".csv", ".json", ".lock")  # what a notebook's outputs may depend on

# Asked of the kernel at a notebook's end: which modules of ours its outputs depend on.
MODULES = "import sys; print(*{m.__file__ for n, m in sys.modules.items() if n.startswith('hmpo_lib')}, sep='\\n')"


def digest(*parts: bytes) -> str:
    """A name for some content."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that are executed."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def contents() -> dict[str, str]:
    """Everything in the repository that a notebook's outputs may depend on, by name."""
    files = [*(ROOT / "hmpo_lib").rglob("*.py"), *(ROOT / "data").rglob("*"), ROOT / "requirements.lock"]
    return {path.relative_to(ROOT).as_posix(): digest(path.read_bytes()) for path in files if path.suffix in READ}


def stamp(notebook: nbformat.NotebookNode, now: Mapping[str, str], modules: Collection[str]) -> str:
    """What the outputs do depend on: a change of prose is no change, nor one of a module that is not imported."""
    used = sorted(name for name in now if name in modules or not name.endswith(".py"))
    return digest(*(cell.source.encode() for cell in code_of(notebook)), *(f"{n} {now[n]}".encode() for n in used))


def with_frames(path: Path) -> Path:
    """Executes a notebook with frames, unless that has been done; where its outputs, frames and stamp are kept."""
    notebook = nbformat.read(path, as_version=4)
    kept = CACHE / path.stem
    record = kept / "stamp.json"
    now = contents()  # not those at the end: a file may change while the notebook is executed
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        if known["stamp"] == stamp(notebook, now, known["modules"]):
            return kept
    began = time.monotonic()
    shutil.rmtree(kept, ignore_errors=True)
    notebook.cells.append(nbformat.v4.new_code_cell(MODULES))
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    environment = {"HMPO_BOOK": str(kept / "frames"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    client.execute(env={"OMP_NUM_THREADS": "1", **os.environ, **environment})
    (asked,) = notebook.cells.pop().outputs
    modules = sorted(Path(name).relative_to(ROOT).as_posix() for name in asked.text.split())
    kept.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept / "executed.ipynb")
    record.write_text(json.dumps({"stamp": stamp(notebook, now, modules), "modules": modules}), encoding="utf-8")
    print(f"{path.stem}: executed in {time.monotonic() - began:.0f} s", flush=True)
    return kept


def put(content: bytes, target: Path) -> None:
    """Writes a file unless it is the same already: Sphinx then reads only what has changed."""
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    staged.add(target)


staged: set[Path] = set()


def stage_notebook(path: Path, kept: Path | None) -> None:
    """A notebook's page, with the outputs and frames of the build or, without these, those that are stored."""
    notebook = nbformat.read(path, as_version=4)
    if kept is not None:
        executed = nbformat.read(kept / "executed.ipynb", as_version=4)
        for cell, done in zip(code_of(notebook), code_of(executed), strict=True):
            cell.outputs = done.outputs
        for frames in (kept / "frames").glob("*.js"):
            put(frames.read_bytes(), SOURCE / "_static" / "frames" / frames.name)
    page = page_of(notebook, lab=os.path.relpath(ROOT / "lab.md", path.parent).replace(os.sep, "/"))
    put(nbformat.writes(page).encode(), SOURCE / path.relative_to(ROOT))


def stage_text(path: Path, target: Path) -> None:
    """A page of Markdown, and the files of the repository to which it links, for they are not elsewhere in the site."""
    put(path.read_bytes(), target)
    for link in re.findall(r"\]\(([^)#:\s]+)", path.read_text(encoding="utf-8")):
        linked = (ROOT / target.relative_to(SOURCE)).parent / link
        if linked.is_file() and linked.suffix not in (".md", ".ipynb"):
            put(linked.read_bytes(), SOURCE / linked.resolve().relative_to(ROOT))


def stage_answer_key(notebooks: list[Path]) -> None:
    """The instructor's page, from the notebooks as they have just been staged."""
    pages = {f"../{path.relative_to(ROOT).as_posix()}": nbformat.read(path, as_version=4) for path in notebooks}
    for page in pages.values():
        for cell in page.cells:
            cell.source = said_in_the_book(cell.source)
    put(answer_key(pages).encode(), SOURCE / "docs" / "answer_key.md")


def stage(wanted: list[str] | None, jobs: int) -> None:
    """Puts everything that Sphinx reads into SOURCE and removes what is no longer there."""
    notebooks = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    chosen = [path for path in notebooks if wanted is None or path.stem.startswith(tuple(wanted))]
    with ThreadPoolExecutor(jobs) as pool:
        kept = dict(zip(chosen, pool.map(with_frames, chosen), strict=True))
    for path in notebooks:
        stage_notebook(path, kept.get(path))
    for path in (*BOOK.glob("*.md"), *BOOK.glob("api/*.md")):
        if path.name != "README.md":
            stage_text(path, SOURCE / path.relative_to(BOOK))
    stage_answer_key(notebooks)
    for path in (*(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md", ROOT / "examples" / "README.md"):
        stage_text(path, SOURCE / path.relative_to(ROOT))
    for picture in (ROOT / "docs").glob("*.png"):
        put(picture.read_bytes(), SOURCE / picture.relative_to(ROOT))
    put((BOOK / "conf.py").read_bytes(), SOURCE / "conf.py")
    for name in ("frames.js", "pictures.js", "book.css"):
        put((BOOK / name).read_bytes(), SOURCE / "_static" / name)
    for path in (KATEX / "katex.min.css", *(KATEX / "fonts").glob("*.woff2")):
        put(path.read_bytes(), SOURCE / "_static" / "katex" / path.relative_to(KATEX))
    for path in SOURCE.rglob("*"):
        if path.is_file() and path not in staged:
            path.unlink()


def table() -> str:
    """The panels of the site: their stops, pictures and bytes."""
    rows = ["| page | stops | pictures | kB |", "|---|---|---|---|"]
    for path in sorted((SITE / "notebooks").rglob("*.html")):
        for name in re.findall(r'data-frames="(\w+)"', path.read_text(encoding="utf-8")):
            script = SITE / "_static" / "frames" / f"{name}.js"
            text = script.read_text(encoding="utf-8")
            data = json.loads(text[text.index("{") : -1])
            stops = " × ".join(f"{control['label']} {len(control['stops'])}" for control in data["controls"])
            fixed = f"; fixed: {data['fixed']}" if data["fixed"] else ""
            drawn = f"{len(data['frames'])} of {len(data['order'])}"
            rows.append(f"| {path.stem[:12]} | {stops}{fixed} | {drawn} | {script.stat().st_size / 1000:.0f} |")
    return "\n".join(rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Build the book into book/_build/html.")
    parser.add_argument("--frames", nargs="*", metavar="NAME", help="frames for these notebooks alone")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="notebooks executed at once")
    parser.add_argument("--table", action="store_true", help="print the table of panels")
    arguments = parser.parse_args()
    stage(arguments.frames, arguments.jobs)
    # Frames that have gone are not removed by Sphinx.
    shutil.rmtree(SITE / "_static" / "frames", ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going", "-b", "html"]
    command += ["-d", BOOK / "_build" / "doctrees", SOURCE, SITE]
    done = subprocess.run(command, env={**os.environ, "HMPO_BOOK_SOURCE": str(BOOK)}, check=False)
    if arguments.table:
        print(table())
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    print(f"{SITE.relative_to(ROOT)}: {size / 1e6:.1f} MB, open index.html")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
