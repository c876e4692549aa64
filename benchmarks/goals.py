"""What the kernels are to reach: ratios to the best dense form, by density.

From the study the kernels were written after (another machine: Cascade Lake, 1 MB of L2), at about
75 to 85 % of what its prototypes measured; "stretch" needed more work there.
"""

from __future__ import annotations

from dataclasses import dataclass

DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.365, 0.5)
Ratios = tuple[float | None, ...]


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Attributes:
        text: operation and size.
        against: the rival, in words.
        operation, shape: of the rows measured.
        ours: names of our candidates that count; the fastest of them.
        rivals: kinds ("dense", "int8", "other") or names; the fastest of them.
        ratios: at least, by density; a single one holds at every density; None where there is none.
        stretch: the same, wished for.
    """

    text: str
    against: str
    operation: str
    shape: tuple[int, ...]
    ours: tuple[str, ...]
    rivals: tuple[str, ...]
    ratios: Ratios
    stretch: Ratios = ()

    def at(self, density: float | None) -> float | None:
        """The goal at a density."""
        return _of(self.ratios, density)

    def stretch_at(self, density: float | None) -> float | None:
        """The stretch goal at a density."""
        return _of(self.stretch, density)


def _of(ratios: Ratios, density: float | None) -> float | None:
    if len(ratios) <= 1 or density is None:
        return ratios[0] if ratios else None
    return ratios[DENSITIES.index(density)]


_LINEAR = "spike_linear", (1024, 512, 512)
_DECODE = "spike_linear_decode", (4, 4096, 4096)
_SDPA = ("torch softmax (SDPA)",)
_TORCH = ("torch", "torch (O, I)")
_SMALL = ("int8", "int4")
_SCANS = ("packed", "packed, spikes only")

GOALS = (
    Goal(
        "linear, float32, 1024 x 512 x 512", "best float32", *_LINEAR, ("float32",), ("dense",),
        (8, 3.8, 2.6, 1.5, 1.35, 1.35), (11, 5.5, 3.6, 2.1, 2.0, 2.0),
    ),
    Goal(
        "linear, 8 or 4 bits, the same size", "best float32", *_LINEAR, _SMALL, ("dense",),
        (12, 6, 4.5, 3.8, 3.5, 3.5), (18, 9, 6.5, 5.5, 5, 5),
    ),
    Goal(
        "linear, 8 or 4 bits, the same size", "torch int8", *_LINEAR, _SMALL, ("int8",),
        (1.8, 1.0, 0.9, 0.75, 0.75, 0.75), (2.5, 1.7, 1.3, 1.1, 1, 1),
    ),
    Goal(
        "decode T = 4, float32, 4096 x 4096", "best float32", *_DECODE, ("float32",), ("dense",),
        (18, 5, 3, 2, 1.6, 1.6),
    ),
    Goal(
        "decode T = 4, 8 bits", "best float32", *_DECODE, ("int8",), ("dense",),
        (60, 30, 9, 7, 6, 6),
    ),
    Goal(
        "decode T = 4, 4 bits", "best float32", *_DECODE, ("int4",), ("dense",),
        (90, 40, 15, 11, 10, 8),
    ),
    Goal(
        "decode T = 4, 8 or 4 bits", "torch int8", *_DECODE, _SMALL, ("int8",), (),
    ),
    Goal(
        "conv 3 x 3, 128 to 256 channels", "torch conv2d", "spike_conv2d", (8, 16, 128, 256),
        ("float32",), ("dense",), (None, 2.4, 1.6, 1.0, 1.0, 1.0), (None, 4, 2.6, 1.4, 1.3, 1.3),
    ),
    Goal(
        "attention, 512 tokens", "softmax (torch SDPA)", "spike_attention", (16, 512, 64),
        ("sums", "spikes"), _SDPA, (60, 45, 30, 20, 15, 10),
    ),
    Goal(
        "attention, 1024 tokens", "softmax (torch SDPA)", "spike_attention", (16, 1024, 64),
        ("sums", "spikes"), _SDPA, (65, 60, 38, 35, 20, 14),
    ),
    Goal(
        "attention, 4096 tokens", "softmax (torch SDPA)", "spike_attention", (16, 4096, 64),
        ("sums", "spikes"), _SDPA, (160, 140, 110, 95, 55, 50),
    ),
    Goal(
        "attention, 512 tokens", "best dense form", "spike_attention", (16, 512, 64),
        ("sums", "spikes"), ("dense",), (22, 20, 13, 9, 6, 5),
    ),
    Goal(
        "attention, one token, 32 streams", "best dense state", "spike_attention_step", (32, 64),
        ("sums",), ("dense",), (None, 20, None, 10, None, 6),
    ),
    Goal(
        "SDSA 1, causal, 512 tokens", "torch", "sdsa_causal", (4, 4, 512, 64), ("packed",),
        ("torch",), (120,),
    ),
    Goal(
        "SDSA 1, causal, 512 tokens", "numpy", "sdsa_causal", (4, 4, 512, 64), ("packed",),
        ("numpy",), (60,),
    ),
    Goal(
        "SDSA 1, causal, 512 tokens", "best dense form", "sdsa_causal", (4, 4, 512, 64),
        ("packed",), ("dense",), (),
    ),
    Goal(
        "linear and LIF fused, 1024 x 512 x 512", "torch mm and LIF in place",
        "spike_linear_lif", (4, 256, 512, 512), ("float32",), _TORCH,
        (14, 6.5, 3.8, 2.2, 2.1, 2.1),
    ),
    Goal(
        "gradient of the weights, the same size", "best float32", "grad_weight",
        (1024, 512, 512), ("float32",), ("dense",), (5, 2.4, 1.9, 1.35, 1.35, 1.35),
    ),
    Goal(
        "training step, 2 layers of 512, T = 4", "plain MLX", "training_step", (4, 256, 512),
        ("stack", "fused layers", "linear and neurons"), ("mlx",), (5,),
    ),
    Goal(
        "training step, 2 layers of 512, T = 4", "torch autograd", "training_step",
        (4, 256, 512), ("stack", "fused layers", "linear and neurons"), ("torch autograd",), (),
    ),
    Goal(
        "LIF scan, packed, B = 256", "numpy in place", "lif_scan", (4, 256, 512), _SCANS,
        ("numpy in place",), (6,),
    ),
    Goal(
        "LIF scan, packed, B = 256", "torch in place", "lif_scan", (4, 256, 512), _SCANS,
        ("torch in place",), (9,),
    ),
    Goal(
        "LIF forward and backward, B = 256", "torch autograd", "lif_training", (4, 256, 512),
        ("arrays",), ("torch autograd",), (10,),
    ),
    Goal(
        "LIF forward and backward in mx.grad, B = 256", "plain MLX", "lif_training",
        (4, 256, 512), ("in mx.grad",), ("mlx",), (),
    ),
)  # fmt: skip
