"""Triton compiles each program for a GPU, which needs none: the interpreter takes programs that the compiler refuses.

Whole blocks of aligned tensors are read and written 16 bytes at a time, and no product is fused with a sum.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Compiles the variants that it is given, and prints of each what its assembly holds.
SCRIPT = """
import json, re, sys
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nonsmooth.kernels import separable, step_programs

programs = {"prox": separable._separable_prox, "sgd": step_programs.sgd_program, "adam": step_programs.adam_program}
types = {"float32": tl.float32, "float64": tl.float64, "bfloat16": tl.bfloat16, "uint8": tl.uint8}
pointers = {"numbers": "*fp64", "layout": "*i64", "owners": "*i32", "addresses": "*i64"}
for name, constants in json.load(sys.stdin):
    program = programs[name]
    names = program.arg_names
    constants["TYPES"] = tuple(types[kind] for kind in constants["TYPES"])
    constants["T"] = types[constants["T"]]
    kinds = {**pointers, "width": "i32", "count": "i32", **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(
        program,
        signature={argument: kinds[argument] for argument in names},
        constexprs={(names.index(key),): value for key, value in constants.items()},
        attrs={(names.index(key),): [["tt.divisibility", 16]] for key in pointers},
    )
    options = {"num_warps": separable.WARPS, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    text = compiled.asm["ptx"]
    wide = [len(re.findall(pattern, text)) for pattern in (r"ld\\.global\\.v4\\.b32", r"st\\.global\\.v4\\.b32")]
    print(json.dumps({"wide": wide, "fused": "fma.rn.f32" in text}))
"""

SHARED = {"NUMBER": True, "ALIGNED": True, "BLOCK": 4096}
PROX = {**SHARED, "LIMITED": False, "ZEROS": False, "STEADY": False}
STEP = {**SHARED, "KIND": "l1", "SCALED": False, "MAXIMIZE": False, "STEADY": False}


def prox(kind, metric, tensors, dtype="float32", **more):
    """A variant of the prox, and how many tensors of it are read, or read and written, in blocks."""
    types = [dtype, dtype, dtype, "uint8", "float64" if dtype == "float64" else "float32", dtype]
    computed = "float64" if dtype == "float64" else "float32"
    return ["prox", {**PROX, "KIND": kind, "METRIC": metric, "TYPES": types, "T": computed, **more}], tensors


VARIANTS = [
    *[prox(kind, "euclidean", (1, 1)) for kind in ("l1", "elastic_net", "mcp", "scad", "transformed_l1", "l0")],
    *[prox(kind, "adaptive", (2, 1)) for kind in ("l1", "elastic_net", "mcp", "scad", "transformed_l1", "l0")],
    prox("l1", "centred", (5, 2), LIMITED=True, STEADY=True, NUMBER=False),
    prox("scad", "centred", None, dtype="float64", LIMITED=True, STEADY=True, ZEROS=True),
    prox("l1", "adaptive", None, dtype="bfloat16", LIMITED=True, ZEROS=True),
    (["sgd", {**STEP, "MOMENTA": True, "NESTEROV": True, "TYPES": ["float32"] * 5, "T": "float32"}], (3, 2)),
    (["adam", {**STEP, "AMSGRAD": False, "DECOUPLED": True, "TYPES": ["float32"] * 7, "T": "float32"}], (4, 3)),
    (
        ["adam", {**STEP, "SCALED": True, "STEADY": True, "NUMBER": False, "AMSGRAD": True, "DECOUPLED": False}
         | {"TYPES": ["float32"] * 7, "T": "float32"}],
        (7, 6),
    ),
]  # fmt: skip


@pytest.mark.processes
def test_programs_compile_and_move_16_bytes_at_a_time(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([variant for variant, _ in VARIANTS]),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    results = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(results) == len(VARIANTS)
    for result, (variant, tensors) in zip(results, VARIANTS, strict=True):
        assert not result["fused"], variant
        # 4096 numbers are 16 for each of 256 threads: four wide loads of float32 for each tensor.
        if tensors is not None:
            assert result["wide"] == [4 * number for number in tensors], variant
