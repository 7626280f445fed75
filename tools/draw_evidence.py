"""Draws docs/evidence.png, the picture of the README, from data/results/evidence/: python tools/draw_evidence.py

It prints the numbers that it draws.
"""

from pathlib import Path

from hmpo_lib.teach.what_the_evidence_says.headline_drawing import headline_canvas, headline_words
from hmpo_lib.teach.what_the_evidence_says.records import load_evidence

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "evidence.png"

if __name__ == "__main__":
    evidence = load_evidence()
    PICTURE.write_bytes(headline_canvas(evidence).png(small=True))
    print(headline_words(evidence))
