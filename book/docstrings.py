"""The library's docstrings as Sphinx reads them: they are plain text with formulas, not reStructuredText.

A bar is the size of a number, and not the begin of a substitution; M_ is a mean, and not a link.
"""

import re
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

# What is code keeps its characters: between backticks.
CODE = re.compile(r"(``.+?``|`[^`]+`)")
MARKUP = re.compile(r"\||(?<=\w)_(?!\w)")


def escaped(lines: list[str]) -> list[str]:
    r"""Lines of a docstring in which nothing is markup but code and examples.

    >>> escaped(["Σ |d| of `a|b`, M_+", ">>> 2 * 3 | 1", "7", "", "`Clip`s"])
    ['Σ \\|d\\| of `a|b`, M\\_+', '>>> 2 * 3 | 1', '7', '', '`Clip`\\ s']
    """
    done, example = [], False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        done.append(line if example else "".join(_escaped_text(line)))
    return done


def _escaped_text(line: str) -> Iterator[str]:
    for k, part in enumerate(CODE.split(line)):
        if k % 2:
            yield part
        else:
            behind_code = k > 0 and part[:1].isalnum()  # where the backtick would not end the code
            yield ("\\ " if behind_code else "") + MARKUP.sub(r"\\\g<0>", part)


def without_the_engines() -> None:
    """Lets `hmpo_lib.integrations` be imported where no engine is installed: names, and nothing behind them."""

    def made(name: str) -> type:
        return type(name, (), {"__module__": "trl", "_compute_loss": 0, "_get_per_token_logps_and_entropies": 0})

    names = {
        "trl": {"GRPOTrainer": made("GRPOTrainer"), "GRPOConfig": made("GRPOConfig")},
        "verl.trainer.ppo": {"core_algos": SimpleNamespace(register_policy_loss=lambda name: lambda loss: loss)},
        "prime_rl.trainer.rl.loss": {"LossOutputs": object},
    }
    for path, contents in names.items():
        parts = path.split(".")
        for k in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:k]), ModuleType(".".join(parts[:k])))
        vars(sys.modules[path]).update(contents)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry: before napoleon, which reads the same lines."""
    without_the_engines()
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")

    def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
        lines[:] = escaped(lines)

    app.connect("autodoc-process-docstring", escape, priority=400)
    return {"parallel_read_safe": True}
