// Exception vectors (Arm ARM D1.4.1). Every entry saves the whole register file into an
// `exception::Frame` on the current stack and calls one Rust function with the frame and the kind.

    .macro  vector kind
    .balign 128
    sub     sp, sp, #{frame_size}
    stp     x0, x1, [sp]
    mov     x1, #\kind
    b       save_and_call
    .endm

    .section .text.vectors, "ax"
    .balign 2048
vectors:
    vector  0                           // current level, SP_EL0
    vector  1
    vector  2
    vector  3
    vector  4                           // current level, SP_EL1: synchronous, IRQ, FIQ, SError
    vector  5
    vector  6
    vector  7
    vector  8                           // lower level
    vector  9
    vector  10
    vector  11
    vector  12
    vector  13
    vector  14
    vector  15

save_and_call:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x30, x2, [sp, #240]
    mrs     x4, esr_el1
    stp     x3, x4, [sp, #256]
    mrs     x5, far_el1
    str     x5, [sp, #272]
    mov     x0, sp
    bl      {handler}
    ldp     x30, x2, [sp, #240]
    ldr     x3, [sp, #256]
    msr     elr_el1, x2
    msr     spsr_el1, x3
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldp     x0, x1, [sp], #{frame_size}
    eret

// Accesses that may fault. A fault whose ELR lies between guarded_start and guarded_end resumes at the
// address in x9, with ESR in x1 and FAR in x2; x1 = 0 says that there was none.
//   x0 address or operand, x1 value to store; result x0
    .section .text.guarded, "ax"
    .balign 64
    .global guarded_start
guarded_start:
    .macro  guarded name, instruction:vararg
    .global \name
    .type   \name, %function
\name:
    adr     x9, 1f
    \instruction
    mov     x1, #0
1:  ret
    .endm

    guarded guarded_load8, ldrb w0, [x0]
    guarded guarded_load16, ldrh w0, [x0]
    guarded guarded_load32, ldr w0, [x0]
    guarded guarded_load64, ldr x0, [x0]
    guarded guarded_store8, strb w1, [x0]
    guarded guarded_store16, strh w1, [x0]
    guarded guarded_store32, str w1, [x0]
    guarded guarded_store64, str x1, [x0]

// One instruction that Rust writes into `guarded_instruction` beforehand; it may use x0 and x1. It is
// followed by a call-clobber-safe return, and by nothing if it branches away.
    .global guarded_execute
    .type   guarded_execute, %function
guarded_execute:
    adr     x9, 1f
    .global guarded_instruction
guarded_instruction:
    nop
    mov     x1, #0
1:  ret
    .global guarded_end
guarded_end:
    nop

// x0 = where a program at EL0 starts, x1 = its PSTATE, x2 = its x0 to x14. Back at `program_end` when it has
// taken an exception.
    .text
    .global run_program
    .type   run_program, %function
run_program:
    stp     x19, x20, [sp, #-96]!
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    mov     x16, x2
    ldp     x0, x1, [x16]
    ldp     x2, x3, [x16, #16]
    ldp     x4, x5, [x16, #32]
    ldp     x6, x7, [x16, #48]
    ldp     x8, x9, [x16, #64]
    ldp     x10, x11, [x16, #80]
    ldp     x12, x13, [x16, #96]
    ldr     x14, [x16, #112]
    eret
    .global program_end
program_end:
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     x19, x20, [sp], #96
    ret
