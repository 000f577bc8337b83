// The vectors while the trace is on: the same handlers, with a call before each that tells of the exit, and one after
// it that tells of the entry. While it is off nothing of this is in the way.

// x0 = context, x1 = the CPU's header, and the same afterwards, with x2 = ESR.
.macro TELL_EXIT kind
    mov     x2, #\kind
    mrs     x3, esr_el2
    bl      viaduct_traced_exit
    mrs     x1, tpidr_el2
    ldr     x0, [x1, #{current}]
    mrs     x2, esr_el2
.endm

// x0 = what the handler returned, and the same afterwards. Nothing that EL2 does changes ESR_EL2 meanwhile.
.macro TELL_ENTRY kind
    str     x0, [sp, #-16]!
    mov     x4, x0
    mrs     x1, tpidr_el2
    ldr     x0, [x1, #{current}]
    mov     x2, #\kind
    mrs     x3, esr_el2
    bl      viaduct_traced_entry
    ldr     x0, [sp], #16
.endm

.macro ENTRY target
    .balign 128
    SAVE_ARGUMENTS
    ENTER_STACK
    b       \target
.endm

    .section .text.vectors, "ax"
    .balign 2048
    .global viaduct_traced_vectors
viaduct_traced_vectors:
    // EL2's own are as before.
    .irp    kind, 0, 1, 2, 3, 4, 5, 6
    .balign 128
    mov     x18, #\kind
    b       fatal
    .endr
    OWN_SERROR
    // Lower EL, AArch64 and AArch32: synchronous, IRQ, FIQ, SError.
    .rept   2
    ENTRY   traced_synchronous
    ENTRY   traced_interrupt
    ENTRY   traced_interrupt
    ENTRY   traced_serror
    .endr
    .balign 128

    .type   traced_synchronous, %function
traced_synchronous:
    mrs     x2, esr_el2
    lsr     x3, x2, #27
    cmp     x3, #0x16 >> 1              // 0x16 and 0x17: HVC and SMC from AArch64
    b.ne    1f
    TELL_EXIT 0
    bl      viaduct_exit_call
    TELL_ENTRY 0
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
1:  TELL_EXIT 0
    lsr     x3, x2, #27
    SERVE_QUICKLY 1f
    TELL_ENTRY 0
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
1:  SAVE_REST
    bl      viaduct_exit_synchronous
    TELL_ENTRY 0
    b       synchronous_done
    .size   traced_synchronous, . - traced_synchronous

    .type   traced_interrupt, %function
traced_interrupt:
    TELL_EXIT 1
    bl      viaduct_exit_interrupt
    TELL_ENTRY 1
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
    .size   traced_interrupt, . - traced_interrupt

    .type   traced_serror, %function
traced_serror:
    SAVE_REST
    TELL_EXIT 2
    bl      viaduct_exit_serror
    TELL_ENTRY 2
    cbnz    x0, viaduct_resume_other
    b       viaduct_resume_same
    .size   traced_serror, . - traced_serror
