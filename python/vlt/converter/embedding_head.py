"""The modules of sentence-transformers that turn token states into one vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .checkpoint import open_checkpoint
from .json_config import JsonConfig
from .tensor_reader import RoleTensor, TensorReader

# Name of a mode -> vlt's, and the flag that older folders have for it. Where several flags are
# set, their vectors follow each other in this order.
_POOLING_MODES = {
    "cls": ("cls", "pooling_mode_cls_token"),
    "max": ("max", "pooling_mode_max_tokens"),
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "mean_sqrt_len_tokens": ("mean_sqrt_len", "pooling_mode_mean_sqrt_len_tokens"),
    "weightedmean": ("weightedmean", "pooling_mode_weightedmean_tokens"),
    "lasttoken": ("lasttoken", "pooling_mode_lasttoken"),
}
_POOLING_FLAGS = [flag for _, flag in _POOLING_MODES.values()]

# A class under torch.nn -> vlt's activation. Its module is not compared: it moved over time.
_ACTIVATIONS = {
    "GELU": "gelu",
    "Identity": "identity",
    "ReLU": "relu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}
_DEFAULT_ACTIVATION = "torch.nn.modules.activation.Tanh"

_VECTOR = "sentence_embedding"  # what sentence-transformers calls the pooled vector


@dataclass
class EmbeddingHead:
    """The steps after the encoder, gathered module by module.

    Attributes
    ----------
    size : int
        Numbers in the vector after the last step; before pooling, in a token's state.
    steps : list of str
        The words of ``embedding_head`` in the weights file.
    tensors : dict of str to RoleTensor
        The ``head.*`` tensors.
    include_prompt : bool
        Are a prompt's tokens pooled?
    """

    size: int
    steps: list[str] = field(default_factory=list)
    tensors: dict[str, RoleTensor] = field(default_factory=dict)
    include_prompt: bool = True

    def add_pooling(self, folder: Path) -> None:
        config = JsonConfig.load(folder / "config.json")
        dimensions = ("embedding_dimension", "word_embedding_dimension")
        config.no_other_keys(["pooling_mode", "include_prompt", *dimensions, *_POOLING_FLAGS])
        for key in dimensions:
            config.only(key, self.size, reason="the encoder's hidden size")
        modes = _pooling_modes(config)
        self.steps.append("pool:" + "+".join(modes))
        self.size *= len(modes)
        self.include_prompt = config.flag("include_prompt", default=True)

    def add_dense(self, folder: Path) -> None:
        config = JsonConfig.load(folder / "config.json")
        config.no_other_keys(_DENSE_KEYS)
        for key in ("module_input_name", "module_output_name"):
            config.only(key, _VECTOR, reason="vlt has dense layers after pooling only")
        config.only("use_residual", False, reason="vlt has no residual there")
        config.only("in_features", self.size, reason="the size of the vector before it")
        outputs = config.integer("out_features", minimum=1)
        number = len([step for step in self.steps if step.startswith("dense:")])
        self.steps.append(f"dense:{number}:{_dense_activation(config)}")
        reader = TensorReader.of_model(open_checkpoint(folder), "", "linear.weight")
        shapes: dict[str, tuple[int, ...]] = {"weight": (outputs, self.size)}
        if config.flag("bias", default=True):
            shapes["bias"] = (outputs,)
        for part, shape in shapes.items():
            self.tensors |= reader.single(f"head.dense.{number}.{part}", f"linear.{part}", shape)
        reader.check_rest()
        self.size = outputs

    def add_normalize(self, folder: Path) -> None:
        config = JsonConfig.load_if_present(folder / "config.json")
        for key in ("module_input_name", "module_output_name"):
            config.only(key, _VECTOR, reason="vlt normalises the pooled vector only")
        self.steps.append("normalize")


_DENSE_KEYS = (
    "in_features",
    "out_features",
    "bias",
    "activation_function",
    "module_input_name",
    "module_output_name",
    "use_residual",
)


def _pooling_modes(config: JsonConfig) -> list[str]:
    if config.has("pooling_mode"):
        names = config.fields["pooling_mode"]
        names = names if isinstance(names, list) else [names]
        if not names or any(name not in _POOLING_MODES for name in names):
            config.refuse("pooling_mode", "one or several of " + ", ".join(_POOLING_MODES))
        return [_POOLING_MODES[name][0] for name in names]
    modes = [mode for mode, flag in _POOLING_MODES.values() if config.flag(flag, default=False)]
    return modes or ["mean"]


def _dense_activation(config: JsonConfig) -> str:
    path = config.text("activation_function", default=_DEFAULT_ACTIVATION)
    name = path.removeprefix("torch.nn.").rpartition(".")[2]
    if not path.startswith("torch.nn.") or name not in _ACTIVATIONS:
        known = ", ".join(f"torch.nn.{name}" for name in _ACTIVATIONS)
        config.refuse("activation_function", f"one of {known}")
    return _ACTIVATIONS[name]
