"""What to sweep: models, chips, parameters, seeds and what to measure, read from TOML and checked.

Every point of the sweep is one model on one chip, with one setting of its parameters, one seed and
one work (the held-out text, or one prompt); or a network of populations with one setting and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neurosim.devices.preset import read_toml
from neurosim.models.sampling import Sampler
from neurosim.sweep import reading
from neurosim.sweep.reading import Value

DESIGNS = ("grid", "each", "zip")
TEXTS = ("sample", "test")
SHIPPED = "shipped"
_KEYS = (
    "name",
    "summary",
    "models",
    "chips",
    "seeds",
    "design",
    "parameters",
    "set",
    "cases",
    "quality",
    "generate",
    "network",
)
_MOST_TOKENS = 10_000_000


@dataclass(frozen=True)
class Quality:
    """Bits per byte over `tokens` predicted tokens of `text`: the bundled sample, or the test
    split that `neurosim eval` uses."""

    tokens: int = 256
    text: str = "sample"

    @classmethod
    def from_dict(cls, where: str, value: object) -> Quality:
        """Read {tokens, text}."""
        entry = reading.table(where, value, ("tokens", "text"))
        return cls(
            reading.whole(f"{where}.tokens", entry.get("tokens", cls.tokens), 1, _MOST_TOKENS),
            reading.one_of(f"{where}.text", entry.get("text", cls.text), TEXTS),
        )


@dataclass(frozen=True)
class Generation:
    """Continue every one of `prompts` by `tokens` tokens, chosen as `neurosim run` does."""

    prompts: tuple[str, ...]
    tokens: int = 16
    temperature: float = Sampler.temperature
    top_k: int = Sampler.top_k

    @classmethod
    def from_dict(cls, where: str, value: object) -> Generation:
        """Read {prompts, tokens, temperature, top_k}."""
        known = ("prompts", "tokens", "temperature", "top_k")
        entry = reading.table(where, value, known)
        if "prompts" not in entry:
            raise ValueError(f"{where}: missing prompts; expected a list of texts to continue")
        return cls(
            reading.texts(f"{where}.prompts", entry["prompts"]),
            reading.whole(f"{where}.tokens", entry.get("tokens", cls.tokens), 1, _MOST_TOKENS),
            reading.real(
                f"{where}.temperature", entry.get("temperature", cls.temperature), 0.0, 1e6
            ),
            reading.whole(f"{where}.top_k", entry.get("top_k", cls.top_k), 1, _MOST_TOKENS),
        )


@dataclass(frozen=True)
class NetworkWork:
    """Simulate a network of populations for `duration` s.

    `build`: "module:function", called with the parameters (and the seed, if it takes one); or
    `file`: a NIR graph, whose inputs get Poisson trains of the parameter `rate` (Hz). `time_step`
    (s) of clock-driven engines, `precision`: see `neurosim.events.simulate.Options`.
    """

    duration: float
    build: str = ""
    file: str = ""
    engine: str = "auto"
    time_step: float = 1e-4
    precision: str = "float64"

    @classmethod
    def from_dict(cls, where: str, value: object) -> NetworkWork:
        """Read {build or file, duration, engine, time_step, precision}."""
        known = ("build", "file", "duration", "engine", "time_step", "precision")
        entry = reading.table(where, value, known)
        if ("build" in entry) == ("file" in entry):
            raise ValueError(f'{where}: expected build = "module:function" or file = "net.nir"')
        if "duration" not in entry:
            raise ValueError(f"{where}: missing duration, in s")
        build = reading.text(f"{where}.build", entry["build"]) if "build" in entry else ""
        if build and not all(build.partition(":")):
            raise ValueError(f'{where}.build: expected "module:function", got {build!r}')
        return cls(
            reading.real(f"{where}.duration", entry["duration"], 1e-9, 1e9),
            build,
            reading.text(f"{where}.file", entry["file"]) if "file" in entry else "",
            reading.text(f"{where}.engine", entry.get("engine", cls.engine)),
            reading.real(f"{where}.time_step", entry.get("time_step", cls.time_step), 1e-9, 1.0),
            reading.one_of(
                f"{where}.precision",
                entry.get("precision", cls.precision),
                ("float64", "float32"),
            ),
        )


@dataclass(frozen=True)
class Case:
    """A named set of chip keys that are changed together; `values`: (dotted key, value) pairs."""

    name: str
    values: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True)
class SweepSpec:
    """A whole sweep. `parameters`: (dotted chip key, values) pairs; `fixed`: pairs set everywhere.

    `design`: "grid" takes every combination of the parameters, "each" the base and then one
    parameter at a time, "zip" the first values together, then the second ones, ...
    `folder`: where relative paths of chips and models start.
    """

    name: str
    chips: tuple[str, ...] = ()
    summary: str = ""
    models: tuple[str, ...] = (SHIPPED,)
    seeds: tuple[int, ...] = (0,)
    design: str = "grid"
    parameters: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    fixed: tuple[tuple[str, Value], ...] = ()
    cases: tuple[Case, ...] = (Case(""),)
    quality: Quality | None = None
    generate: Generation | None = None
    network: NetworkWork | None = None
    folder: Path = field(default=Path("."), compare=False)

    def __post_init__(self) -> None:
        language = self.quality is not None or self.generate is not None
        if language == (self.network is not None):
            raise ValueError(
                "expected something to measure, of one kind: [quality] (tokens, text) and "
                "[generate] (prompts, tokens) for language models, or [network] (build or file, "
                "duration)"
            )
        if bool(self.chips) == (self.network is not None):
            raise ValueError(
                "chips: expected a list of chips for language models and none for [network]"
            )
        keys = [key for key, _ in self.parameters]
        for key, _ in self.fixed:
            if key in keys:
                raise ValueError(f"set.{key}: is also in [parameters]; keep one of the two")
        for case in self.cases:
            clash = sorted({key for key, _ in case.values} & set(keys))
            if clash:
                raise ValueError(f"cases.{case.name}: {clash[0]} is also in [parameters]")
        lengths = {key: len(values) for key, values in self.parameters}
        if self.design == "zip" and len(set(lengths.values())) > 1:
            sizes = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise ValueError(f'parameters: design = "zip" expects lists of one length, got {sizes}')

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], where: str = "sweep", folder: Path | str = "."
    ) -> SweepSpec:
        """Check and read a specification; `where` (the file) stands in every error."""
        entry = reading.table(where, data, _KEYS)
        if "name" not in entry:
            raise ValueError(f"{where}: missing name")
        parameters = reading.flattened(
            f"{where}: parameters", entry.get("parameters", {}), ranges=True
        )
        fixed = reading.flattened(f"{where}: set", entry.get("set", {}), ranges=False)
        values: dict[str, Any] = {
            "name": _name(f"{where}: name", entry["name"]),
            "chips": reading.texts(f"{where}: chips", entry["chips"]) if "chips" in entry else (),
            "summary": str(entry.get("summary", "")),
            "models": reading.texts(f"{where}: models", entry.get("models", [SHIPPED])),
            "seeds": reading.seeds(f"{where}: seeds", entry.get("seeds", [0])),
            "design": reading.one_of(f"{where}: design", entry.get("design", "grid"), DESIGNS),
            "parameters": tuple(
                (key, reading.axis(f"{where}: parameters.{key}", value))
                for key, value in parameters.items()
            ),
            "fixed": _pairs(f"{where}: set", fixed),
            "cases": _cases(f"{where}: cases", entry.get("cases")),
            **{
                key: None if entry.get(key) is None else read(f"{where}: {key}", entry[key])
                for key, read in _WORKS.items()
            },
            "folder": Path(folder),
        }
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> SweepSpec:
        """Read a TOML file; relative paths in it start at its folder."""
        path = Path(path)
        return cls.from_dict(read_toml(path), str(path), path.parent)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **{
                key: value
                for key, value in asdict(self).items()
                if key not in ("folder", "parameters", "fixed", "cases")
            },
            "parameters": {key: list(values) for key, values in self.parameters},
            "set": dict(self.fixed),
            "cases": [{"name": case.name, "set": dict(case.values)} for case in self.cases],
            "folder": str(self.folder.resolve()),
        }

    def __repr__(self) -> str:
        return (
            f"SweepSpec({self.name}: {len(self.models)} models, {len(self.chips)} chips, "
            f"{len(self.seeds)} seeds, {self.design} of {len(self.parameters)} parameters)"
        )


_WORKS: dict[str, Callable[[str, object], object]] = {
    "quality": Quality.from_dict,
    "generate": Generation.from_dict,
    "network": NetworkWork.from_dict,
}


def _name(where: str, value: object) -> str:
    name = reading.text(where, value)
    if not all(letter.isalnum() or letter in "-_. " for letter in name) or name.startswith("."):
        raise ValueError(f"{where}: expected letters, digits, spaces and -_. only, got {name!r}")
    return name


def _pairs(where: str, values: Mapping[str, Any]) -> tuple[tuple[str, Value], ...]:
    return tuple((key, reading.scalar(f"{where}.{key}", value)) for key, value in values.items())


def _cases(where: str, value: object) -> tuple[Case, ...]:
    if value is None:
        return (Case(""),)
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{where}: expected tables [[cases]] with name and set, got {value!r}")
    found = []
    for i, item in enumerate(value):
        entry = reading.table(f"{where}[{i}]", item, ("name", "set"))
        name = reading.text(f"{where}[{i}].name", entry.get("name"))
        changes = reading.flattened(f"{where}.{name}.set", entry.get("set", {}), ranges=False)
        found.append(Case(name, _pairs(f"{where}.{name}.set", changes)))
    names = [case.name for case in found]
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: expected different names, got {', '.join(names)}")
    return tuple(found)
