"""Notebook 10: the same loop on a model and a task of your own."""

from hmpo_lib.teach.your_own_model import exercises as exercises
from hmpo_lib.teach.your_own_model.hacking_panel import hacking_panel
from hmpo_lib.teach.your_own_model.memory_panel import SHAPES, memory_panel
from hmpo_lib.teach.your_own_model.recordings import load_own_model_runs
from hmpo_lib.teach.your_own_model.rewards_experiment import REWARDS
from hmpo_lib.teach.your_own_model.transfer_drawing import transfer_picture
from hmpo_lib.teach.your_own_model.transfer_experiment import exam_problems, exam_tasks, examine, training_task

__all__ = [
    "REWARDS",
    "SHAPES",
    "exam_problems",
    "exam_tasks",
    "examine",
    "hacking_panel",
    "load_own_model_runs",
    "memory_panel",
    "training_task",
    "transfer_picture",
]
