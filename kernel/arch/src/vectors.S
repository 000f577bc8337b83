// Exceptions taken to EL2, and the way back into a guest.
//
// While a guest runs, SP_EL2 points to the Context of its vCPU, so that an exit can store registers
// before it has a register to spare; handlers run on the CPU's own stack. HVC, SMC and
// interrupts keep x19-x29 where they are, as Rust keeps them for us, and so does what of trapped
// registers and data aborts is served at once; other exits store them too, as the handler may need
// any register of the guest.
//
// A handler returns 0 to resume the same guest, 1 to resume none, or the context that is now loaded.

.macro SAVE_ARGUMENTS
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    str     x18, [sp, #144]
    str     x30, [sp, #240]
.endm

// From the guest's context to the CPU's stack: x0 = context, x1 = the CPU's header.
.macro ENTER_STACK
    mov     x0, sp
    mrs     x1, tpidr_el2
    ldr     x2, [x1, #{stack_top}]
    mov     sp, x2
.endm

.macro SAVE_REST
    stp     x19, x20, [x0, #152]
    stp     x21, x22, [x0, #168]
    stp     x23, x24, [x0, #184]
    stp     x25, x26, [x0, #200]
    stp     x27, x28, [x0, #216]
    str     x29, [x0, #232]
.endm

// Trapped registers and data aborts, x3 = ESR >> 27: what can be served without x19-x29. Goes on behind the macro with what
// the handler returned; to `others` with x0, x1, x2 as they were if it is none of these, or nothing was done.
.macro SERVE_QUICKLY others
    cmp     x3, #0x18 >> 1              // 0x18: MSR, MRS; the syndrome of 0x19, SVE, names none
    b.ne    7f
    bl      viaduct_exit_register
    b       8f
7:  cmp     x3, #0x24 >> 1              // 0x24: data abort; 0x25 would be EL2's own
    b.ne    \others
    bl      viaduct_exit_abort
8:  cmp     x0, #2
    b.ne    9f
    mrs     x1, tpidr_el2
    ldr     x0, [x1, #{current}]
    mrs     x2, esr_el2
    b       \others
9:
.endm

// SError of EL2 itself: one that `serror::take` waits for is a guest's. It gets the syndrome in x18, and A is masked again, or
// a source that does not go away would be taken for ever.
.macro OWN_SERROR
    .balign 128
    mrs     x18, tpidr_el2
    cbz     x18, 2f
    ldr     x18, [x18, #{awaits_serror}]
    cbz     x18, 2f
    mrs     x18, spsr_el2
    orr     x18, x18, #0x100
    msr     spsr_el2, x18
    mrs     x18, esr_el2
    eret
2:  mov     x18, #7
    b       fatal
.endm

    .section .text.vectors, "ax"
    .balign 2048
    .global viaduct_vectors
viaduct_vectors:
    // Current EL with SP_EL0: never used.
    .irp    kind, 0, 1, 2, 3
    .balign 128
    mov     x18, #\kind
    b       fatal
    .endr
    // Current EL with SP_ELx: EL2's own faults.
    .irp    kind, 4, 5, 6
    .balign 128
    mov     x18, #\kind
    b       fatal
    .endr
    OWN_SERROR

    // Lower EL, AArch64: synchronous.
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    mrs     x2, esr_el2
    lsr     x3, x2, #27
    cmp     x3, #0x16 >> 1              // 0x16 and 0x17: HVC and SMC from AArch64
    b.ne    synchronous
    bl      viaduct_exit_call
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same

    // Lower EL, AArch64: IRQ.
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    bl      viaduct_exit_interrupt
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same

    // Lower EL, AArch64: FIQ. Group 0 interrupts that firmware kept would come here.
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    bl      viaduct_exit_interrupt
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same

    // Lower EL, AArch64: SError.
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    SAVE_REST
    mrs     x2, esr_el2
    bl      viaduct_exit_serror
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same

    // Lower EL, AArch32: EL0 programs of a guest. The same exits.
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    mrs     x2, esr_el2
    b       synchronous
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    bl      viaduct_exit_interrupt
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    bl      viaduct_exit_interrupt
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    SAVE_REST
    mrs     x2, esr_el2
    bl      viaduct_exit_serror
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
    .balign 128

// x0 = context, x1 = header, x2 = ESR.
    .type   synchronous, %function
synchronous:
    SERVE_QUICKLY 1f
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
1:  SAVE_REST
    bl      viaduct_exit_synchronous
// x0 = what the handler returned.
synchronous_done:
    cbnz    x0, 2f
    mrs     x1, tpidr_el2
    ldr     x0, [x1, #{current}]
    // The handler may have written any register of the guest.
    b       restore_all
    // Then the rest must not be stored again: the CPU has it as it was before the exit.
2:  mrs     x1, tpidr_el2
    ldr     x2, [x1, #{current}]
    cbnz    x2, release_current
    b       take_over
    .size   synchronous, . - synchronous

    .global viaduct_resume_same
    .type   viaduct_resume_same, %function
viaduct_resume_same:
    mrs     x1, tpidr_el2
    ldr     x0, [x1, #{current}]
    mov     sp, x0
restore_arguments:
    ldr     x30, [sp, #240]
    ldr     x18, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp]
    eret
    // No speculation past the return.
    dsb     nsh
    isb
    .size   viaduct_resume_same, . - viaduct_resume_same

// x0 = the context to resume. The one that was loaded gets the rest of its registers, and is then
// nobody's.
    .global viaduct_resume_other
    .type   viaduct_resume_other, %function
viaduct_resume_other:
    mrs     x1, tpidr_el2
    ldr     x2, [x1, #{current}]
    cbz     x2, take_over
    stp     x19, x20, [x2, #152]
    stp     x21, x22, [x2, #168]
    stp     x23, x24, [x2, #184]
    stp     x25, x26, [x2, #200]
    stp     x27, x28, [x2, #216]
    str     x29, [x2, #232]
// x0 = the context to resume, x1 = header, x2 = the context that was loaded.
release_current:
    add     x2, x2, #{owned}
    stlr    wzr, [x2]
take_over:
    tbnz    x0, #0, nobody
    str     x0, [x1, #{current}]
restore_all:
    mov     sp, x0
    ldp     x19, x20, [sp, #152]
    ldp     x21, x22, [sp, #168]
    ldp     x23, x24, [sp, #184]
    ldp     x25, x26, [sp, #200]
    ldp     x27, x28, [sp, #216]
    ldr     x29, [sp, #232]
    b       restore_arguments
    .size   viaduct_resume_other, . - viaduct_resume_other

// x1 = header. What this CPU was doing is over; its stack is empty.
    .type   nobody, %function
nobody:
    str     xzr, [x1, #{current}]
    ldr     x2, [x1, #{stack_top}]
    mov     sp, x2
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x1
    b       viaduct_idle
    .size   nobody, . - nobody

// An exception of EL2 itself. The stack may be what is broken, so the emergency stack is used: x18 is
// lost to get at it. x18 = which vector on entry.
    .type   fatal, %function
fatal:
    msr     tpidr_el0, x18              // the guest's, which will not run again
    mrs     x18, tpidr_el2
    cbz     x18, 2f
    ldr     x18, [x18, #{emergency_top}]
    b       3f
2:  adrp    x18, {early_emergency}
    add     x18, x18, :lo12:{early_emergency}
    add     x18, x18, #{early_emergency_size}
3:  sub     x18, x18, #272
    stp     x0, x1, [x18]
    mov     x0, sp
    str     x0, [x18, #248]
    mov     sp, x18
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    str     xzr, [sp, #144]
    stp     x19, x20, [sp, #152]
    stp     x21, x22, [sp, #168]
    stp     x23, x24, [sp, #184]
    stp     x25, x26, [sp, #200]
    stp     x27, x28, [sp, #216]
    stp     x29, x30, [sp, #232]
    mrs     x0, tpidr_el0
    mov     x1, sp
    mov     x2, x29
    bl      viaduct_fatal
4:  wfe
    b       4b
    .size   fatal, . - fatal
