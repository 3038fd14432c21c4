"""Compile the program for groups for a GPU that need not be there, and print what came out, a line of JSON a case."""

from __future__ import annotations

import json
import re
import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nonsmooth.kernels.group_program import group_prox
from nonsmooth.kernels.groups import constants, planned

ARGUMENTS = {"table": "*i64", "owners": "*i32", "numbers": "*fp64", "columns": "i32"}
CASES = {
    "rows": ((8, 256), 0, "adaptive", torch.float32),
    "rows, Euclidean": ((8, 4096), 0, "Euclidean", torch.float32),
    "rows, in double precision": ((8, 256), 0, "centred", torch.float64),
    "rows, half": ((8, 256), 0, "centred", torch.bfloat16),
    "long rows": ((8, 20000), 0, "adaptive", torch.float32),
    "very long rows, Euclidean": ((8, 40000), 0, "Euclidean", torch.float16),
    "columns": ((64, 256), 1, "adaptive", torch.float32),
    "long columns": ((3000, 64), 1, "centred", torch.float32),
    "input channels": ((8, 16, 3, 3), 1, "adaptive", torch.float32),
    "coordinates": ((64,), 0, "adaptive", torch.float32),
    "coordinates, Euclidean": ((64,), 0, "Euclidean", torch.float64),
}

for name, (shape, dim, metric, dtype) in CASES.items():
    point = torch.empty(shape, dtype=dtype)
    adaptive = metric != "Euclidean"
    square = torch.empty(shape, dtype=dtype)
    roles = (
        [point],
        [square] if adaptive else None,
        [square] if metric == "centred" else None,
        [torch.empty(shape, dtype=torch.uint8)] if adaptive else None,
        [torch.ones(1)] if dtype == torch.bfloat16 else None,
    )
    (launch,) = planned(roles, dim)
    fixed = constants(launch.kind, metric, sparse=adaptive, limited=adaptive, held=adaptive)
    source = ASTSource(
        group_prox,
        signature=ARGUMENTS | dict.fromkeys(fixed, "constexpr"),
        constexprs=fixed,
        attrs={(place,): [["tt.divisibility", 16]] for place in range(3)},
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", int(sys.argv[1]), 32),
        options={"num_warps": launch.kind.tile.warps, "enable_fp_fusion": False},
    )
    moves = re.findall(r"(?:ld|st)\.global\S*", compiled.asm["ptx"])
    wide = sum(".v4.b32" in move or ".v2.b64" in move for move in moves)
    narrow = sum(bool(re.search(r"\.b(8|16|32)$", move)) and ".v" not in move for move in moves)
    print(json.dumps({"name": name, "whole": launch.kind.tile.whole, "wide": wide, "narrow": narrow}), flush=True)
