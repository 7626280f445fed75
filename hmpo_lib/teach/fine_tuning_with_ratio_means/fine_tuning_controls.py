"""The controls over notebook 08's run: method, exponent, optimizer steps per rollout, and the optimizer."""

import dataclasses
import html
from typing import Any

import ipywidgets as widgets

from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.methods import METHODS, Method
from hmpo_lib.teach.panels import P_NAMES, live_bundle, p_label, slider
from hmpo_lib.teach.shared.exponents import EXPONENTS

OWN = "the method's own"
THRESHOLDS = (5.0, 10.0, 15.0, 20.0, 50.0, 100.0)


def with_exponent(name: str, p: float | None) -> Method:
    """A method of METHODS, with another exponent in place of its own (and of its schedule, if it has one).

    Args:
        name: a name in METHODS.
        p: the exponent; None leaves the method as it is.

    >>> with_exponent("grpo", -1.0).objective.p, with_exponent("holder", 0.0).p_schedule
    (-1.0, None)
    """
    method = METHODS[name]
    if p is None:
        return method
    return dataclasses.replace(method, objective=dataclasses.replace(method.objective, p=p), p_schedule=None)


class FineTuningControls:
    """What is to be tried in a run, chosen before it starts; `config` tells `fine_tune`.

    >>> FineTuningControls().config(rollouts=3).steps
    12
    """

    def __init__(self) -> None:
        options = [
            (OWN, OWN),  # not None, which a dropdown takes for no choice
            *((p_label(p) if p in P_NAMES else f"p = {p:g}".replace("-", "−"), p) for p in EXPONENTS),
        ]
        style = {"description_width": "initial"}
        muonclip = [("AdamW", "adamw"), ("MuonClip", "muonclip")]
        self.controls: dict[str, Any] = {
            "method": widgets.Dropdown(options=list(METHODS), value="hmpo", description="method", style=style),
            "p": widgets.Dropdown(options=options, value=OWN, description="exponent", style=style),
            "minibatches": slider(widgets.IntSlider, "optimizer steps per rollout", value=4, min=1, max=8),
            "optimizer": widgets.ToggleButtons(options=muonclip, value="adamw"),
            "threshold": slider(
                widgets.SelectionSlider,
                "MuonClip's threshold τ",
                options=[(f"{threshold:g}", threshold) for threshold in THRESHOLDS],
                value=15.0,
            ),
        }
        first, second, *others = self.controls.values()
        self.widget = widgets.VBox([widgets.HBox([first, second]), *others])
        self._follow_optimizer()
        self.controls["optimizer"].observe(self._follow_optimizer, names="value")

    def _follow_optimizer(self, change: Any = None) -> None:
        self.controls["threshold"].disabled = self.controls["optimizer"].value != "muonclip"

    def config(self, **sizes: Any) -> FineTuneConfig:
        """A run's settings with these choices and with attention logits watched; ``sizes`` are its other fields."""
        chosen = {name: control.value for name, control in self.controls.items()}
        return FineTuneConfig(
            method=chosen["method"] if chosen["p"] == OWN else with_exponent(chosen["method"], chosen["p"]),
            minibatches=chosen["minibatches"],
            optimizer=chosen["optimizer"],
            qk_clip_threshold=chosen["threshold"],
            monitor_logits=True,
            **sizes,
        )

    def summary(self) -> str:
        """The choices in words, for a page without a kernel.

        >>> FineTuningControls().summary()
        "method hmpo, exponent: the method's own, 4 optimizer steps per rollout, AdamW"
        """
        named = {name: control.label for name, control in self.controls.items() if hasattr(control, "label")}
        clip = f" at τ = {named['threshold']}" if self.controls["optimizer"].value == "muonclip" else ""
        return (
            f"method {named['method']}, exponent: {named['p']}, {self.controls['minibatches'].value} optimizer steps "
            f"per rollout, {named['optimizer']}{clip}"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        text = self.summary()
        return live_bundle(self.widget, {"text/html": f"<p>{html.escape(text)}</p>", "text/plain": text})
