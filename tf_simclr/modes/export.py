"""Exports the SavedModels of a run, and copies its model for use by a single worker."""

import os
from collections.abc import Mapping
from typing import Any

from tf_simclr.checkpoints import loading_code, model_card, recognition, result_files
from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.config import Config
from tf_simclr.devices import workers
from tf_simclr.models.from_config import make_model
from tf_simclr.models.simclr import SimCLR
from tf_simclr.modes import best_checkpoint
from tf_simclr.run_state import RunState

LATEST, BEST = "saved_model", "saved_model_best"  # folders in model_dir


class Exporter:
    """Exports a run. The model is copied and traced only once, however often it is exported."""

    def __init__(self, state: RunState):
        self._state = state
        self._copies: dict[str, SimCLR] = {}  # by precision
        self._exportable: saved_model.Exportable | None = None  # of the copy in float32
        self._written: dict[str, tuple[int, str]] = {}  # {folder: step and path of its SavedModel}

    def export_latest(self) -> str | None:
        """Writes saved_model/STEP with the current weights; returns its path on the chief."""
        state = self._state
        if not state.is_chief:
            return None
        keep = state.config.training.keep_hub_module_max
        return self._write(LATEST, state.step, keep=keep)

    def export_best(self) -> dict:
        """Writes saved_model_best/STEP from the best checkpoint, if one is kept.

        It restores the best checkpoint, and afterwards the latest one again.

        Returns:
          best_step, best_metric, best_value and best_saved_model, and best_top_1 if the top-1
          accuracy decides; empty if no best checkpoint is kept, or none was measured.
        """
        state = self._state
        if state.best_checkpointer is None:
            return {}
        workers.wait_for_all(state.strategy)  # the chief may still be writing both checkpoints
        best, latest = best_checkpoint.read(state), state.checkpointer.latest
        if best is None:
            metric = result_files.best_metric(state.config)
            state.say(
                f"{metric} was not measured, so there is no best checkpoint: it is measured only "
                "while the run trains. Raise --train_steps, or choose another --best_metric"
            )
            return {}
        assert latest, "the run has been saved"
        prefix = os.path.join(state.best_checkpointer.directory, f"ckpt-{best.step}")
        state.best_checkpointer.restore(prefix, weights_only=True)
        path = self._write(BEST, best.step, keep=1) if state.is_chief else None
        state.checkpointer.restore(latest)
        top_1 = {"best_top_1": best.value} if best.metric == result_files.TOP_1 else {}
        return top_1 | {
            "best_step": best.step,
            "best_metric": best.metric,
            "best_value": best.value,
            "best_saved_model": path,
        }

    def write_cards(self, results: Mapping[str, Any]) -> None:
        """Writes MODEL_CARD.md into the SavedModels of this start.

        They are written before the evaluation, so that a SavedModel exists even if the evaluation
        is interrupted. The cards follow it, because they hold its results.

        Args:
          results: {metric: value} of the latest weights.
        """
        state = self._state
        recipe: Config | None = state.config
        if state.config.runtime.mode == "eval":
            # The evaluation's settings may name other data than that of the training.
            saved = state.saved_settings
            recipe = Config().replace(**saved) if saved else None
        best = best_checkpoint.read(state) if BEST in self._written else None
        results_of = {LATEST: results, BEST: best.results if best else {}}
        variables = state.model.variables_by_path()
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        for name, (step, path) in self._written.items():
            folder = (state.model_dir, result_files.BEST) if name == BEST else (state.model_dir,)
            card = model_card.Card(
                network=recognition.describe_network(shapes, state.config),
                weights=os.path.join(*folder, f"ckpt-{step}"),
                step=step,
                recipe=recipe,
                evaluation=state.config,
                results=model_card.accuracies(results_of[name]),
                about=state.about(),
                outputs=model_card.outputs_of(state.model),
                loading=loading_code.SAVED_MODEL,
            )
            model_card.write(path, card)

    def local_model(self, precision: str | None = None) -> SimCLR:
        """Returns a model that this worker can call on its own: the run's model, or a copy of it.

        Args:
          precision: precision of the returned model; None for the run's.
        """
        state = self._state
        config = state.config.replace(precision=precision) if precision else state.config
        # A SavedModel cannot hold the variables of several replicas.
        if state.strategy.num_replicas_in_sync == 1 and config == state.config:
            return state.model
        key = config.training.precision
        if key not in self._copies:
            self._copies[key] = make_model(config, state.num_classes)
        weights = state.model.variables_by_path()
        for path, variable in self._copies[key].variables_by_path().items():
            variable.assign(workers.local_variable(weights[path]))
        return self._copies[key]

    def _write(self, name: str, step: int, *, keep: int) -> str:
        """Writes model_dir/NAME/STEP. The SavedModel always computes in float32."""
        model = self.local_model(precision="float32")
        if self._exportable is None:
            self._exportable = saved_model.exportable(model, self._state.about())
        path = saved_model.write(
            self._exportable,
            os.path.join(self._state.model_dir, name),
            step,
            keep=keep,
            about=self._state.about(),
        )
        self._written[name] = step, path
        return path
