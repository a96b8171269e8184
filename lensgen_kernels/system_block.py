"""Text of a CUDA kernel that draws systems: the traced values of one preset in, CUDA C++ out.

A group of lanes of one warp draws a system; `system_lanes` says how. Everything is float64 in the order in which it is
written, without contraction (NVRTC's -fmad=false, a C++ compiler's -ffp-contract=off): the bits are those of torch and
of `system_kernel`. Rows are written whole, so that their memory may hold anything before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lensgen_kernels.c_source import PRELUDE
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import Node
from lensgen_kernels.system_lanes import LanesWriter
from lensgen_kernels.system_order import Output

THREADS = 64  # of a block: groups do without each other, and small blocks fill a GPU evenly
_SHARED = 47 * 1024 // 8  # float64 numbers in the shared memory of a block: any GPU has 48 KB without asking


@dataclass(frozen=True)
class SystemBlock:
    """A kernel `draw(const long long* index, int count, unsigned int key0, unsigned int key1, float* real,
    long long* whole, bool* bad)`.

    It draws the systems of `index` `[count]` into the rows of `real` `[count, R]` and `whole` `[count, W]`, and says in
    `bad` `[count]` for which of them some check does not hold.

    Args:
        text: complete.
        threads: of a block.
        lanes: threads a system.
        shared_bytes: of dynamic shared memory, a block.
    """

    text: str
    threads: int
    lanes: int
    shared_bytes: int

    def blocks(self, count: int) -> int:
        """How many draw `count` systems."""
        return -(-count // (self.threads // self.lanes))


def lanes_for(slots: int) -> int:
    """Lanes of a group whose systems have at most so many slots: four slots or more for each."""
    lanes = 1
    while lanes < 32 and 8 * lanes <= slots:
        lanes *= 2
    return lanes


def system_block(
    graph: Graph,
    label: Node,
    outputs: Sequence[Output],
    empty: Mapping[str, Sequence[float]],
    lanes: int | None = None,
) -> SystemBlock:
    """The kernel of a preset.

    Args:
        graph: exact.
        label: the class of a system.
        outputs: what is written.
        empty: of each array, a row of what stands where a system has no value.
        lanes: for tests; the bits do not depend on it.
    """
    most = max((o.slots for o in outputs if o.count is not None), default=1)
    lanes = lanes or lanes_for(most)
    groups = THREADS // lanes
    writer = LanesWriter(graph, label, outputs, empty, lanes, _SHARED // groups)
    source = writer.source
    arguments = (
        "const long long* index, int count, unsigned int key0, unsigned int key1, float* real, long long* whole, "
        "bool* bad"
    )
    with source.braces(f"LG_KERNEL(1) draw({arguments})"):
        source.line("LG_SHARED_MEMORY(shared);")
        with source.braces("LG_EACH_GROUP(g)"):
            source.line("const long long b = (long long)LG_BLOCK * LG_GROUPS + g;")
            with source.braces("if (b < count)"):
                source.line("const unsigned long long image = (unsigned long long)index[b];")
                source.line(f"float* const real_row = real + b * {len(empty['real'])};")
                source.line(f"long long* const whole_row = whole + b * {len(empty['whole'])};")
                source.line("const lg_memory<double> scratch = lg_place<double>(shared, g * LG_SCRATCH * 8);")
                writer.write()
    body = source.text()
    head = [
        f"#define LG_THREADS {THREADS}",
        f"#define LG_LANES {lanes}",
        f"#define LG_SCRATCH {writer.scratch}  // float64 numbers of a group in shared memory",
        PRELUDE,
        *(Path(__file__).with_name(name).read_text() for name in ("block.h", "philox.h", "group.h")),
    ]
    tables = [f"LG_TABLE lg_table{k}[] = {{{', '.join(map(repr, values))}}};" for k, values in enumerate(graph.tables)]
    text = "\n".join([*head, *tables, *writer.functions(), body])
    return SystemBlock(text, THREADS, lanes, writer.scratch * 8 * groups)
