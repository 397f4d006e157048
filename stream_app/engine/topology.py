"""Which processors run, over which topics: everything a task must know of the world around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .processor import AnyProcessor, Combiner


@dataclass(frozen=True, slots=True)
class Topology:
    """Processors and the real names of their topics.

    `topics` maps every logical name (inputs, outputs) to the topic's real name. All inputs, the repartition topic
    and the changelog have `partitions` partitions; partition p of all of them is task p.
    """

    processors: Sequence[AnyProcessor]
    topics: Mapping[str, str]
    repartition: str
    changelog: str
    dead_letters: str
    partitions: int
    combiners: Mapping[str, Combiner] = field(default_factory=dict)
    """By name, for what processors gather during a commit (`Context.gather`)."""
    state_version: int = 0
    """States are written in this version at most, so that the release before can still read them; 0: in the newest."""
    _by_source: dict[str, AnyProcessor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        tags = [p.tag for p in self.processors]
        if len(set(tags)) != len(tags) or any(len(t) != 1 for t in tags):
            raise ValueError(f"processor tags must be single, distinct bytes: {tags}")
        for processor in self.processors:
            for source in (*processor.inputs, *processor.kinds):
                if source in self._by_source:
                    raise ValueError(f"{source} is read by both {self._by_source[source].name} and {processor.name}")
                self._by_source[source] = processor

    def processor_of(self, source: str) -> AnyProcessor | None:
        """The processor that reads a logical input or repartition kind."""
        return self._by_source.get(source)

    @property
    def inputs(self) -> list[str]:
        """Logical names of the source inputs: they make the stream time."""
        return [name for p in self.processors for name in p.inputs]

    @property
    def input_topics(self) -> list[str]:
        """Real names of everything a task reads, the repartition topic last."""
        return [*(self.topics[name] for name in self.inputs), self.repartition]
