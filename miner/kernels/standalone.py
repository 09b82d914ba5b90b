"""A kernel as a module of its own, for any target that LLVM knows: for looking at another processor's code, counting it
and running it elsewhere. Mining compiles kernels through Numba instead (miner/kernels/search.py)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from miner.kernels.generator import I32, Emitter, emit_compress, emit_expand
from miner.kernels.sha_extensions import emit_sha_compress, emit_sha_expand
from miner.kernels.variant import Variant


@dataclass(frozen=True, slots=True)
class Machine:
    """What to compile for, in LLVM's words: `features` as "+sha2,-aes"."""

    triple: str
    processor: str = "generic"
    features: str = ""


def emit_module(variant: Variant, machine: Machine) -> ir.Module:
    """void expand(uint32_t nonce, const uint32_t *job, uint32_t *schedule) and
    uint32_t compress(const uint32_t *job, const uint32_t *midstate, const uint32_t *schedule)."""
    module = ir.Module(name=str(variant))
    module.triple = machine.triple
    words = I32.as_pointer()
    expand = ir.Function(module, ir.FunctionType(ir.VoidType(), [I32, words, words]), "expand")
    builder = ir.IRBuilder(expand.append_basic_block())
    if variant.sha_extensions:
        emit_sha_expand(builder, variant, *expand.args)
    else:
        emit_expand(Emitter(builder, variant), *expand.args)
    builder.ret_void()
    compress = ir.Function(module, ir.FunctionType(I32, [words] * 3), "compress")
    builder = ir.IRBuilder(compress.append_basic_block())
    if variant.sha_extensions:
        builder.ret(emit_sha_compress(builder, variant, *compress.args))
    else:
        builder.ret(emit_compress(Emitter(builder, variant), *compress.args))
    return module


def compile_module(variant: Variant, machine: Machine) -> tuple[str, bytes]:
    """(assembly, object file), optimised as Numba does. An instruction that the machine lacks ends the process: that is
    LLVM's way."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.processor, features=machine.features, opt=3, reloc="pic"
    )
    module: Any = llvm.parse_assembly(str(emit_module(variant, machine)))
    module.data_layout = str(target.target_data)
    module.verify()
    passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return target.emit_assembly(module), target.emit_object(module)


def count_instructions(assembly: str) -> dict[str, Counter[str]]:
    """How often each instruction stands in `expand` and in `compress`."""
    counts: dict[str, Counter[str]] = {}
    function = ""
    for line in assembly.splitlines():
        if label := re.match(r"_?(expand|compress):", line):
            function = label.group(1)
            counts[function] = Counter()
        elif function and (instruction := re.match(r"\t([a-z]\w*)", line)):
            counts[function][instruction.group(1)] += 1
    return counts
