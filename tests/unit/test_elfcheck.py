# SPDX-License-Identifier: MIT
"""Each check of onestack.elfcheck against a planted violation, and against a sound image."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onestack.elfcheck import (
    Image,
    StackRules,
    Violation,
    check_image,
)
from onestack.elfcheck.callgraph import CallGraph

RULES = StackRules(size=8192)
CFLAGS = ["-O2", "-ffreestanding", "-fno-pic", "-mno-red-zone", "-fstack-usage"]
SOUND = """
int add(int a, int b);
int add(int a, int b) { return a + b; }
"""
STUB = """
.section .text.entry, "ax"
.globl __entry_start, __entry_end
__entry_start:
.type stub, @function
stub: push %rax
      pop %rax
      iretq
.size stub, . - stub
.balign 16, 0x90
{more}
__entry_end:
.section .note.GNU-stack, "", @progbits
"""

Build = Callable[..., list[Violation]]


def compile_source(
    folder: Path, name: str, text: str, flags: list[str], compiler: str = "gcc"
) -> Path:
    source = folder / name
    source.write_text(text)
    output = source.with_suffix(".o")
    subprocess.run([compiler, *flags, "-c", source, "-o", output], check=True, cwd=folder)
    return output


def link(folder: Path, objects: list[Path], flags: list[str]) -> Path:
    elf = folder / "image.elf"
    base = [
        "ld",
        "-nostdlib",
        "-z",
        "noexecstack",
        "-z",
        "max-page-size=4096",
        "-e",
        "0",
    ]
    subprocess.run([*base, *flags, "-o", elf, *objects], check=True)
    return elf


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compile C, assemble assembly, link, check."""

    def run(
        c: str = SOUND,
        asm: str | None = None,
        *,
        ld: tuple[str, ...] = (),
        cflags: tuple[str, ...] = (),
        general: bool = True,
        compiler: str = "gcc",
        rules: StackRules = RULES,
    ) -> list[Violation]:
        common = [*CFLAGS, "-mgeneral-regs-only"] if general else CFLAGS
        objects = [compile_source(tmp_path, "code.c", c, [*common, *cflags], compiler)]
        if asm is not None:
            objects.append(compile_source(tmp_path, "stubs.S", asm, []))
        return check_image(link(tmp_path, objects, list(ld)), objects, rules)

    return run


def the_one(found: list[Violation], check: str) -> Violation:
    assert [violation.check for violation in found] == [check], found
    return found[0]


def test_sound_image_passes(build: Build) -> None:
    assert build(asm=STUB.format(more="")) == []


def test_writable_and_executable_segment(build: Build) -> None:
    assert the_one(build(ld=("-N", "--no-warn-rwx-segments")), "segment")


@pytest.mark.parametrize(
    ("instruction", "shown"),
    [
        ("movaps %xmm1, %xmm2", "xmm"),
        ("paddb %mm1, %mm2", "mm"),
        ("fld1", "fld1"),
        ("fninit", "fninit"),
        ("vaddps %ymm1, %ymm2, %ymm3", "ymm"),
        ("emms", "emms"),
        ("ldmxcsr (%rdi)", "ldmxcsr"),
        ("xsave (%rdi)", "xsave"),
        ("fxrstor64 (%rdi)", "fxrstor64"),
    ],
)
def test_fpu_instruction_only_in_fpu_functions(build: Build, instruction: str, shown: str) -> None:
    code = f'void NAME(void);\nvoid NAME(void) {{ __asm__ volatile("{instruction}"); }}'
    violation = the_one(build(code.replace("NAME", "switch_to")), "fpu")
    assert violation.where == "switch_to"
    assert shown in violation.what
    assert build(code.replace("NAME", "fpu_switch")) == []


def test_fences_and_pause_are_no_fpu_use(build: Build) -> None:
    code = 'void f(void);\nvoid f(void) { __asm__ volatile("mfence; lfence; sfence; pause"); }'
    assert build(code) == []


def test_compiler_made_sse(build: Build) -> None:
    code = "double half(double x);\ndouble half(double x) { return x / 2; }"
    found = build(code, cflags=("-msse2",), general=False)
    assert found
    assert {violation.check for violation in found} == {"fpu"}


def test_swapgs(build: Build) -> None:
    violation = the_one(build(asm=STUB.format(more="") + SWAPGS), "swapgs")
    assert violation.where == "enter+0x1"


SWAPGS = """
.text
.type enter, @function
enter: nop
       swapgs
       ret
.size enter, . - enter
"""


def test_undefined_symbol(build: Build) -> None:
    code = "__attribute__((weak)) int missing(void);\nint f(void);\n"
    code += "int f(void) { return missing ? missing() : 0; }"  # the linker lets a weak one pass
    assert the_one(build(code), "static").where == "missing"


def test_dynamic_section(build: Build) -> None:
    found = build(ld=("-pie", "--no-dynamic-linker"), cflags=("-fPIE",))
    assert ("PT_DYNAMIC", "static") in {(v.where, v.check) for v in found}
    assert (".dynamic", "static") in {(v.where, v.check) for v in found}


def test_large_frame(build: Build) -> None:
    code = "void use(char *);\nvoid f(void);\nvoid use(char *p) { *(volatile char *)p = 0; }\n"
    code += 'void f(void) { char b[SIZE]; __asm__ volatile("" :: "r"(b) : "memory"); }'
    assert build(code.replace("SIZE", "960")) == []
    assert "code.c" in the_one(build(code.replace("SIZE", "1100")), "frame").where


def test_frame_of_unknown_size(build: Build) -> None:
    code = "void f(unsigned n);\nvoid f(unsigned n) { char b[n];"
    code += ' __asm__ volatile("" :: "r"(b) : "memory"); }'
    found = build(code)
    assert "frame" in {violation.check for violation in found}
    assert "stack" in {violation.check for violation in found}  # and the walk says so itself


# Three functions, each with about 500 bytes; the last is reached in the way that CALL says.
CHAIN = """
#define NOINLINE __attribute__((noinline))
#define FILL char fill[SIZE]; __asm__ volatile("" :: "r"(fill) : "memory")
void one(int); void two(int); void three(int);
NOINLINE void three(int n) { FILL; (void)n; __asm__ volatile(""); }
static void (*const table[2])(int) = { three, 0 };
void (*variable)(int) = three;
NOINLINE void two(int n) { FILL; CALL; __asm__ volatile(""); }
NOINLINE void one(int n) { FILL; two(n); __asm__ volatile(""); }
"""


def chain_code(call: str, size: int = 500) -> str:
    return CHAIN.replace("CALL", call).replace("SIZE", str(size))


@pytest.mark.parametrize("call", ["three(n)", "table[n](n)", "table[0](n)", "variable(n)"])
def test_call_chain_deeper_than_the_stack(build: Build, call: str) -> None:
    bytes_needed = 3 * 504 + RULES.frames * RULES.frame_bytes  # and a few words more
    enough, short = (
        replace(RULES, size=bytes_needed + 200),
        replace(RULES, size=bytes_needed),
    )
    assert build(chain_code(call), rules=enough) == []
    violation = the_one(build(chain_code(call), rules=short), "stack")
    assert violation.where == "one"
    assert "one -> two -> three" in violation.what


@pytest.mark.parametrize("flags", [(), ("-fno-omit-frame-pointer",), ("-O1",)])
def test_depth_is_the_compilers_own_figure(
    build: Build, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    assert build(chain_code("three(n)"), cflags=flags) == []
    usage = [line.split("\t") for line in (tmp_path / "code.su").read_text().splitlines()]
    frames = {where.rsplit(":", 1)[1]: int(size) for where, size, _ in usage}
    image = Image.load(tmp_path / "image.elf")
    chain = CallGraph(image, RULES).deepest()
    assert [image.name_of(address) for address in chain.path] == ["one", "two", "three"]
    # The compiler counts the return address into a frame; the chain starts without one.
    assert chain.bytes == sum(frames.values()) - 8


SWITCH = """
    .text
    .type pick, @function
    pick:
        push %rbx
        jmp *cases(,%rdi,8)
    first:
        pop %rbx
        ret
    second:
        mov %rdi, %rdi
        jmp first
    .size pick, . - pick
    .section .rodata
    .balign 8
    cases: .quad first, second
    .quad pick                  # not the switch's: some table of functions comes next
    .section .note.GNU-stack, "", @progbits
"""


def test_switch_is_followed_not_called(build: Build) -> None:
    assert build(asm=SWITCH) == []
    pushing = SWITCH.replace("mov %rdi, %rdi", "push %rdi\n jmp second")
    assert any("without end" in violation.what for violation in build(asm=pushing))


def test_recursion(build: Build) -> None:
    code = chain_code("one(n - 1)")
    violation = the_one(build(code), "recursion")
    assert "one -> two -> one" in violation.what or "two -> one -> two" in violation.what


def test_recursion_through_a_pointer_and_the_rule_that_excludes_it(
    build: Build,
) -> None:
    code = chain_code("variable(n)").replace("variable)(int) = three", "variable)(int) = one")
    assert the_one(build(code), "recursion")
    rules = replace(RULES, indirect={"two": ("three",)})
    assert build(code, rules=rules) == []


def test_rule_that_nothing_needs(build: Build) -> None:
    rules = replace(RULES, indirect={"two": ("three",)})
    assert the_one(build(chain_code("three(n)"), rules=rules), "stack rule").where == "two"
    assert build(chain_code("variable(n)"), rules=rules) == []


# Of two tables of the same type, an array of structures, one member each is called.
MEMBERS = """
struct ops { long kind; void (*first)(int); void (*second)(int); };
extern int which;
static const struct ops ops[2];
NOINLINE void user_of_first(int n) { FILL; if (ops[n].first) ops[n].first(n); __asm__(""); }
void user_of_second(int n) { FILL; ops[n].second(n); __asm__(""); }
static const struct ops ops[2] = {{ 1, three, user_of_first }, { 2, two, user_of_first }};
"""


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_table_of_structures_is_told_apart_by_member(build: Build, compiler: str) -> None:
    code = chain_code("three(n)") + MEMBERS.replace("FILL", "(void)0")
    assert build(code, cflags=("-g",), compiler=compiler) == []
    # Without debug information any member may be meant, and one is the caller itself.
    found = build(code, compiler=compiler)
    assert "recursion" in {violation.check for violation in found}


def test_final_functions_end_a_chain_and_are_added_once(build: Build) -> None:
    # print complains through panic, which prints: a cycle, but nobody comes back from panic.
    code = CHAIN.replace("CALL", "if (n) panic()").replace("SIZE", "500")
    panic = "void panic(void);\n" + code + "NOINLINE void panic(void) { FILL; one(1); for (;;) ; }"
    assert the_one(build(panic.replace("SIZE", "500")), "recursion")
    rules = replace(RULES, final=("pan*",))
    panic = panic.replace("SIZE", "500")
    need = 2 * 504 + 3 * 504 + RULES.frames * RULES.frame_bytes
    assert build(panic, rules=replace(rules, size=need + 200)) == []
    assert the_one(build(panic, rules=replace(rules, size=need - 200)), "stack")


def test_nested_entries_are_added(build: Build) -> None:
    need = 3 * 504 + RULES.frames * (504 + RULES.frame_bytes)
    rules = replace(RULES, size=need + 200, nested=("thr*",))
    assert build(chain_code("three(n)"), rules=rules) == []
    assert the_one(build(chain_code("three(n)"), rules=replace(rules, size=need - 200)), "stack")


def test_another_stack_is_counted_from_its_top(build: Build) -> None:
    asm = """
    .text
    .type enter, @function
    enter:
        sub $600, %rsp
        mov %rax, %rsp
        sub $600, %rsp
        call three
        iretq
    .size enter, . - enter
    .section .note.GNU-stack, "", @progbits
    """
    need = 600 + 504 + RULES.frames * RULES.frame_bytes  # less than 3 * 504
    rules = replace(RULES, size=need + 600)
    assert build(chain_code("three(n)"), asm, rules=rules) == []
    found = build(chain_code("three(n)"), asm.replace("three", "one"), rules=rules)
    assert "enter -> one -> two -> three" in the_one(found, "stack").what


def test_round_that_gives_up_its_stack_is_no_recursion(build: Build) -> None:
    asm = """
    .text
    .type again, @function
    again:
        lea 4096(%rdi), %rsp
        call leave
        ud2
    .size again, . - again
    .globl leave
    .type leave, @function
    leave:
        push %rax
        jmp again
    .size leave, . - leave
    .section .note.GNU-stack, "", @progbits
    """
    assert build(asm=asm) == []
    looping = asm.replace("lea 4096(%rdi), %rsp", "lea -64(%rsp), %rsp")
    assert "recursion" in {violation.check for violation in build(asm=looping)}


def test_assembly_is_measured_too(build: Build) -> None:
    asm = """
    .text
    .type enter, @function
    enter:
        sub $600, %rsp
        call tail
        ret
    .size enter, . - enter
    .type tail, @function
    tail:
        push %rax
        jmp one
    .size tail, . - tail
    .section .note.GNU-stack, "", @progbits
    """
    rules = replace(RULES, size=3 * 504 + RULES.frames * RULES.frame_bytes + 200)
    violation = the_one(build(chain_code("three(n)"), asm, rules=rules), "stack")
    assert "enter -> tail -> one -> two -> three" in violation.what


def test_loop_that_pushes(build: Build) -> None:
    asm = ".text\n.type f, @function\nf: push %rax\n jmp f\n.size f, . - f\n"
    asm += '.section .note.GNU-stack, "", @progbits'
    found = build(asm=asm)
    assert {violation.check for violation in found} == {"stack"}
    assert any("without end" in violation.what for violation in found)


@pytest.mark.parametrize(
    "more",
    [
        "naked: push %rbx\n jmp stub",  # a label without size
        "jmp stub",  # not even a label
    ],
)
def test_entry_code_without_symbol_and_size(build: Build, more: str) -> None:
    assert the_one(build(asm=STUB.format(more=more)), "stub")


def test_entry_code_between_two_stubs(build: Build) -> None:
    more = "jmp stub\n.type last, @function\nlast: iretq\n.size last, . - last"
    assert the_one(build(asm=STUB.format(more=more)), "stub").where == "stub+0x4"


def test_object_without_stack_note(build: Build) -> None:
    asm = ".text\n.type f, @function\nf: ret\n.size f, . - f\n"
    assert "stubs.o" in the_one(build(asm=asm), "stack note").where


def test_object_that_asks_for_an_executable_stack(build: Build) -> None:
    asm = '.section .note.GNU-stack, "x", @progbits\n'
    assert "executable" in the_one(build(asm=asm), "stack note").what


def test_command_line_tells_by_its_status(tmp_path: Path) -> None:
    objects = [compile_source(tmp_path, "code.c", chain_code("three(n)"), CFLAGS)]
    elf = link(tmp_path, objects, [])
    command = ["onestack", "check", str(elf), "--objects", *map(str, objects), "--stack-size"]
    assert subprocess.run([*command, "0x1000"], check=False).returncode == 0
    failed = subprocess.run([*command, "0x400"], check=False, stdout=subprocess.PIPE, text=True)
    assert failed.returncode == 1
    assert "one -> two -> three" in failed.stdout


# ---- what cores share

SHARED = """
#define SHARED __attribute__((section(".shared"), aligned({align})))
static unsigned long one SHARED, two SHARED;
static unsigned long other = 1;
void use(void);
void use(void)
{{
    __atomic_fetch_or(&one, 1, __ATOMIC_RELAXED);
    __atomic_exchange_n(&two, 1, __ATOMIC_RELAXED);
    {act};
}}
"""
SCRIPT = """
SECTIONS {{
    . = 0x400000;
    .text : {{ *(.text*) }}
    . = ALIGN(4096);
    .data : {{ *(.data*) *(.bss*) . = ALIGN({first});
              __shared_start = .; *(.shared) . = ALIGN({last}); __shared_end = .; }}
    /DISCARD/ : {{ *(.comment) *(.eh_frame) *(.note*) }}
}}
"""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"align": 8}, ": does not begin a cache line"),
        ({"align": 8}, ": lies on a cache line of "),
        ({"last": 8}, "__shared_end: what follows lies on the last one's cache line"),
        (
            {"act": "__atomic_fetch_add(&other, 1, __ATOMIC_RELAXED)"},
            "lock add on other, which is not declared",
        ),
        (
            {"act": "__atomic_exchange_n(&other, 2, __ATOMIC_RELAXED)"},
            "xchg on other, which is not declared",
        ),
        ({"act": "other = 3"}, ""),
    ],
)
def test_what_cores_share(build: Build, tmp_path: Path, changes: dict[str, str], says: str) -> None:
    parts = {"align": "64", "act": "", "first": "64", "last": "64", **changes}
    script = tmp_path / "script.ld"
    script.write_text(SCRIPT.format(**parts))
    found = build(SHARED.format(**parts), ld=("-T", str(script)))
    assert all(violation.check == "shared" for violation in found)
    assert bool(found) == bool(says)
    assert any(says in str(violation) for violation in found) or not says
