"""The model card: README.md of a model on the Hugging Face Hub, written from the run's record."""

import math
import re
import shlex
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrnn.base.console import duration
from textrnn.comparing.settings import group
from textrnn.config.schema import Config
from textrnn.lookup.records import RunRecord, kind_of, read_run, read_set
from textrnn.tracking.hub_models import PREFIX
from textrnn.tracking.metrics_csv import PREFIXES
from textrnn.tracking.run_directory import RunDirectory
from textrnn.training.checkpoints import Checkpoint

LIBRARY = "textrnn"
QUANTITIES = {"loss": None, "accuracy": "accuracy", "f1": "f1", "auroc": "roc_auc"}
"""Metrics of the card, and their names on the Hub."""
PRIVATE = ("run_dir=", "resume=", "tracking.", "tracking=", "data.cache_dir=", "hydra.")
"""Words of a command that say where something is kept or who keeps it; the result doesn't depend on them."""
_FOLDERS = re.compile(r"(^|[=\[,])(?:~|\.{0,2}/)[^,\]=]*/(?=[^,\]=/])")
ENDS = {"head": "first", "tail": "last"}


@dataclass(kw_only=True, slots=True)
class Results:
    """What a run measured, and runs that differ in their seed only."""

    summary: Mapping[str, Any] = field(default_factory=dict)
    """Content of `summary.json`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The final metrics that are finite."""
    seeds: dict[int, dict[str, float]] = field(default_factory=dict)
    """The finished runs of the same setting in the same multirun or sweep: final metrics by seed, its own too."""

    def spread(self, metric: str) -> str:
        """Return mean and standard deviation over the seeds; "" where fewer than two have the metric."""
        values = [found[metric] for found in self.seeds.values() if metric in found]
        if len(values) < 2:
            return ""
        return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}"


def results_of(run: Path) -> Results:
    """Return the results of a run's directory; empty for a checkpoint alone.

    Raises:
        InputError: a file of it, or of a run of its multirun or sweep, is damaged.
    """
    if not RunDirectory.join(run).run_json.is_file():
        return Results()
    record = read_run(run)
    found = Results(summary=record.summary, metrics=_finite(record.metrics))
    parent = run.resolve().parent
    if kind_of(parent) in ("multirun", "sweep"):
        records = [one for one in read_set(str(parent)).runs if one.state == "finished"]
        mine = next((same for same in group(records) if any(_is_one(one, run) for one in same)), [])
        found.seeds = {one.seed: _finite(one.metrics) for one in mine}
    return found


def _is_one(record: RunRecord, run: Path) -> bool:
    return record.path.resolve() == run.resolve()


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def public_command(identity: Mapping[str, Any]) -> list[str]:
    """Return a run's command line without folders of its machine, and without keys of places and of tracking."""
    program, *words = identity.get("command") or ["textrnn"]
    name = Path(program).stem
    verb = [] if name in ("__main__", "textrnn") else [name]
    kept = [word for word in words if not word.lstrip("+~").startswith(PRIVATE)]
    return ["textrnn", *verb, *(_FOLDERS.sub(r"\1", word) for word in kept)]


def model_card(checkpoint: Checkpoint, repo: str, run: Path, results: Results, *, onnx: bool) -> str:
    """Return the text of the card, with the Hub's metadata at its beginning.

    Args:
        checkpoint: The model.
        repo: OWNER/NAME on the Hub.
        run: The run's directory, or its checkpoint.
        results: What the run measured.
        onnx: Whether the model has `model.onnx` too.
    """
    parts = [
        f"---\n{_metadata(checkpoint, repo, results, onnx=onnx)}\n---",
        f"# {repo.partition('/')[2]}",
        _about(checkpoint),
        _use(checkpoint, repo, onnx=onnx),
        f"## Results\n\n{_results(results)}",
    ]
    if RunDirectory.join(run).curves_png.is_file():
        parts.append("![loss and accuracy by step](curves.png)")
    parts += [_data(checkpoint), _training(checkpoint, results), _limits(checkpoint)]
    return "\n\n".join(parts) + "\n"


def _metadata(checkpoint: Checkpoint, repo: str, results: Results, *, onnx: bool) -> str:
    """Return the YAML between the lines ---; huggingface.co/docs/hub/model-cards explains its keys."""
    from huggingface_hub import EvalResult, ModelCardData

    config = checkpoint.config
    on_hub = _hub_data(config)
    split = "test" if any(name.startswith("test/") for name in results.metrics) else "validation"
    prefix = PREFIXES[split]
    measured = {
        theirs: results.metrics[f"{prefix}/{ours}"]
        for ours, theirs in QUANTITIES.items()
        if theirs is not None and f"{prefix}/{ours}" in results.metrics
    }
    task = "text-classification"
    evaluations = [
        EvalResult(
            task_type=task,
            dataset_type=on_hub or "own",
            dataset_name=on_hub or _data_name(config),
            dataset_split=split,
            dataset_revision=checkpoint.data.get("revision"),
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in measured.items()
    ]
    model = config.model
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=task,
        tags=[LIBRARY, "pytorch", model.cell, *(["onnx"] if onnx else [])],
        datasets=[on_hub] if on_hub else None,
        metrics=list(measured) or None,
        model_name=repo.partition("/")[2],
        eval_results=evaluations or None,
    )
    return str(data.to_yaml()).strip()


def _hub_data(config: Config) -> str | None:
    """Return the data set's name on the Hub, where the texts came from there."""
    return config.data.repo if config.data.path is None and config.data.source == "hub" else None


def _data_name(config: Config) -> str:
    path = config.data.path
    if path is None:
        return config.data.repo if config.data.source == "hub" else "generated reviews"
    return ", ".join(Path(name).name for name in ([path] if isinstance(path, str) else path))


def _about(checkpoint: Checkpoint) -> str:
    model, data = checkpoint.config.model, checkpoint.config.data
    direction = "bidirectional " if model.bidirectional else ""
    layers = "1 layer" if model.num_layers == 1 else f"{model.num_layers} layers"
    several = " A text may have several of them, or none." if data.many_labels() else ""
    return (
        f"A {direction}{model.cell.upper()} with {layers} of {model.hidden_size} units that labels texts, trained with "
        f"textrnn. Its classes: {', '.join(' '.join(name.split()) for name in checkpoint.classes)}.{several}"
    )


def _use(checkpoint: Checkpoint, repo: str, *, onnx: bool) -> str:
    name = f"{PREFIX}{repo}"
    lines = f'''## Use

    textrnn predict {name} "A text."

```python
from textrnn import load

model = load("{name}")
for prediction in model.predict(["A text."]):
    print(prediction.label, prediction.probabilities)
```

`{name}@COMMIT` pins a commit. The weights are safetensors; nothing that is downloaded is run as code.'''
    if onnx:
        lines += (
            "\n\n`model.onnx` needs only onnxruntime and tokenizers: inputs `token_ids` (batch, time) and `lengths` "
            "(batch), both int64; outputs `logits` and `probabilities`. `config.json` has classes and truncation."
        )
    if checkpoint.config.data.tokenizer == "spacy":
        lines += "\n\nIts texts are split by spaCy: the version of the training must be installed."
    return lines


def _results(results: Results) -> str:
    columns = [(split, PREFIXES[split]) for split in ("validation", "test") if _has(results, PREFIXES[split])]
    if not columns:
        return "The run's results are not known."
    several = len(results.seeds) > 1
    heads = [head for split, _ in columns for head in (split, *([f"{split}, mean ± sd"] if several else []))]
    rows = [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for quantity in QUANTITIES:
        cells = []
        for _, prefix in columns:
            value = results.metrics.get(f"{prefix}/{quantity}")
            cells += ["" if value is None else f"{value:.4f}"]
            cells += [results.spread(f"{prefix}/{quantity}")] if several else []
        if any(cells):
            rows.append(f"| {quantity} | {' | '.join(cells)} |")
    seeds = ", ".join(map(str, sorted(results.seeds)))
    told = (
        f"Mean and standard deviation are over the seeds {seeds}; the weights are of one of these runs."
        if several
        else "These are the results of one seed, so how far they vary with the seed is not known."
    )
    chosen = "Validation chose the epoch, so its results are a little too good."
    return "\n".join(rows) + f"\n\n{told} {chosen}"


def _has(results: Results, prefix: str) -> bool:
    return any(f"{prefix}/{quantity}" in results.metrics for quantity in QUANTITIES)


def _data(checkpoint: Checkpoint) -> str:
    config, data = checkpoint.config, checkpoint.data
    name = _hub_data(config)
    lines = ["## Data", ""]
    shown = f"[{name}](https://huggingface.co/datasets/{name})" if name else _data_name(config)
    revision = f", commit `{data['revision']}`" if data.get("revision") else ""
    lines.append(f"Trained on {shown}{revision}. Fingerprint of texts and tokens: `{data.get('fingerprint')}`.")
    if splits := data.get("splits"):
        lines += ["", "| split | texts | tokens |", "|---|---:|---:|"]
        lines += [f"| {split} | {found['reviews']:,} | {found['tokens']:,} |" for split, found in splits.items()]
    return "\n".join(lines)


def _training(checkpoint: Checkpoint, results: Results) -> str:
    identity, summary = checkpoint.identity, results.summary
    commit = f", commit {identity['git_commit'][:7]}" if identity.get("git_commit") else ""
    edited = " with changes" if identity.get("git_dirty") else ""
    versions = [
        f"textrnn {identity['version']}{commit}{edited}" if "version" in identity else "",
        f"PyTorch {identity['torch']}" if "torch" in identity else "",
        f"Python {identity['python']}" if "python" in identity else "",
    ]
    lines = ["## Training", "", f"    {shlex.join(public_command(identity))}", ""]
    lines.append(
        f"Seed {checkpoint.config.seed}, step {checkpoint.global_step:,}. {', '.join(filter(None, versions))}."
    )
    if summary:
        processes = summary["world_size"]
        devices = "one process" if processes == 1 else f"{processes} processes"
        lines[-1] += (
            f" {summary['parameters']:,} parameters, {summary['tokens']:,} tokens in {duration(summary['seconds'])} on "
            f"{devices} (accelerator {checkpoint.config.trainer.accelerator})."
        )
    lines += [
        "",
        "Keys of places and of tracking are left out of the command. `config.json` has the whole configuration.",
    ]
    return "\n".join(lines)


def _limits(checkpoint: Checkpoint) -> str:
    data = checkpoint.config.data
    unknown = "" if data.tokenizer == "bpe" else " Words that are not among them are all read as the same unknown word."
    answer = (
        "A text about something else gets probabilities too."
        if data.many_labels()
        else "Every text gets one of the classes, also an empty one or one about something else."
    )
    return f"""## Limits

- It reads the {ENDS[data.truncate]} {data.max_length:,} tokens of a text and ignores the others.
- It knows the {checkpoint.vocab_size:,} tokens of its training data.{unknown}
- It was trained and measured on the texts above: expect less on other languages, other kinds of texts and later years.
- {answer}"""
