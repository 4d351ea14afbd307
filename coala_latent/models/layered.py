"""Networks that can be entered and left at any named layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar, TypeAlias

from torch import Tensor, nn

__all__ = ["Layered", "Step"]

Step: TypeAlias = Callable[[Tensor], Tensor]


class Layered(nn.Module, ABC):
    """A chain of named steps, and heads that all read the last of them.

    A subclass lists its `steps` and `heads`; from these follow the layers' names, the activations
    at any of them, and the rest of the network from any of them. A step may be a module, a bound
    method or a chain of modules: whatever maps the previous layer's activations to its own.

    Attributes:
        time_axis: Which axis of maps ``(batch, channels, ., .)`` is time.
    """

    time_axis: ClassVar[int] = 2

    @abstractmethod
    def steps(self) -> Mapping[str, Step]:
        """Name of each layer and how to get there from the one before, in order."""

    def heads(self) -> Mapping[str, Step]:
        """Layers computed from the last step, beside each other."""
        return {}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers, from the input to the output."""
        return (*self.steps(), *self.heads())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Layers that nothing follows: the heads, or the last step."""
        return tuple(self.heads()) or (self.layers[-1],)

    def activations(self, x: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Activations at several layers in one pass, which ends at the deepest of them.

        Raises:
            KeyError: No such layer.
        """
        return self._run(x, list(self.steps().items()), layers)

    def until(self, x: Tensor, layer: str) -> Tensor:
        """Activations at `layer`.

        Raises:
            KeyError: No such layer.
        """
        return self.activations(x, (layer,))[layer]

    def resume(self, hidden: Tensor, layer: str) -> dict[str, Tensor]:
        """The `outputs` that can be reached from activations at `layer`.

        From a step these are all of them, from a head itself alone.

        Raises:
            KeyError: No such layer.
        """
        self._check((layer,))
        if layer in self.outputs:
            return {layer: hidden}
        steps = list(self.steps().items())
        after = [name for name, _ in steps].index(layer) + 1
        found = self._run(hidden, steps[after:], self.outputs)
        return {name: found[name] for name in self.outputs}

    def _check(self, layers: Collection[str]) -> None:
        for layer in layers:
            if layer not in self.layers:
                raise KeyError(f"no layer {layer!r}; there are {', '.join(self.layers)}")

    def _run(
        self, x: Tensor, steps: Sequence[tuple[str, Step]], layers: Collection[str]
    ) -> dict[str, Tensor]:
        self._check(layers)
        wanted = set(layers)
        found: dict[str, Tensor] = {}
        for name, step in steps:
            if len(found) == len(wanted):
                return found
            x = step(x)
            if name in wanted:
                found[name] = x
        for name, head in self.heads().items():
            if name in wanted:
                found[name] = head(x)
        return found
