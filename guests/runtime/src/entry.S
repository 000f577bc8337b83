// The first instructions of a guest: arm64 Image header, what the hypervisor handed over is noted, the
// MMU and the caches go on, zeroed data, stack, Rust.
//
// On entry (Linux Documentation/arch/arm64/booting.rst): EL1, everything masked, MMU and data cache
// off, x0 = device tree. The MMU goes on before the first store, by a map that lies ready in the
// image: so all of memory is only ever written as Normal Write-Back Inner Shareable, as the Xen ABI
// wants for what is shared, and exclusives are allowed from the first line of Rust.

    .section .head, "ax"
    .global _start
_start:
    b       boot
    .long   0
    .quad   {text_offset}               // from the start of RAM
    .quad   __image_end - _start        // image_size, zeroed data included
    .quad   2                           // flags: little endian, 4 KiB pages, near the start of RAM
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

    .section .text.entry, "ax"
boot:
    // What the ABI promises to be zero, folded together before anything is lost: x1..x3 into x1, the
    // other registers into x4. Tests read it; it costs thirty instructions.
    orr     x1, x1, x2
    orr     x1, x1, x3
    .irp    n, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
    orr     x4, x4, x\n
    .endr
    mov     x19, x0
    mov     x20, x1
    mov     x21, x4
    mrs     x22, currentel
    mrs     x23, daif
    mrs     x24, spsel

    msr     daifset, #0xf
    cmp     x22, #(1 << 2)
    b.ne    park                        // no code here for another exception level
    adr     x0, _start
    ldr     x1, =_start
    cmp     x0, x1
    b.ne    park                        // loaded where the image was not linked: no address is right

    mrs     x25, sctlr_el1
    mrs     x26, cpacr_el1
    mrs     x27, cntv_ctl_el0
    adrp    x0, boot_root
    bl      mmu_on

    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b

2:  adrp    x0, {stack}
    add     x0, x0, :lo12:{stack}
    add     sp, x0, #{stack_size}
    // The record that `start` takes by reference: struct `entry::State`.
    sub     sp, sp, #80
    stp     x19, x20, [sp]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, xzr, [sp, #64]
    mov     x0, sp
    msr     tpidr_el1, xzr
    mov     x29, xzr
    mov     x30, xzr
    b       {start}

// A further CPU, from PSCI CPU_ON: x0 = address of its `cpu::Context`.
    .global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    adrp    x0, boot_root
    bl      mmu_on
    ldp     x0, x1, [x19]               // stack top, number
    mov     sp, x0
    msr     tpidr_el1, x1
    mov     x0, x19
    mov     x29, xzr
    mov     x30, xzr
    b       {secondary_start}

park:
    wfi
    b       park

// Exceptions to our vectors, MMU and caches on with the map at x0 (ASID 0), FP usable. Clobbers x1, x2.
mmu_on:
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1
    mov     x1, #(3 << 20)
    msr     cpacr_el1, x1
    mov     x1, #{mair}
    msr     mair_el1, x1
    ldr     x1, ={tcr}
    mrs     x2, id_aa64mmfr0_el1        // physical address size, at most 48 bits
    and     x2, x2, #0xf
    cmp     x2, #5
    b.ls    3f
    mov     x2, #5
3:  bfi     x1, x2, #32, #3
    msr     tcr_el1, x1
    msr     ttbr0_el1, x0
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    mrs     x1, sctlr_el1
    mov     x2, #{sctlr_on}
    orr     x1, x1, x2
    msr     sctlr_el1, x1
    isb
    ret

    .ltorg

// The map in use until the tree has been read: the first GiB (interrupt controller, UART) as device
// memory, the three above it (RAM bank 0) as normal memory. Not global: it has ASID 0, the final map
// has ASID 1, so the two never meet in a TLB.
    .section .rodata.boot_root, "a"
    .balign 4096
boot_root:
    .quad   {device_block}
    .quad   {normal_block} + (1 << 30)
    .quad   {normal_block} + (2 << 30)
    .quad   {normal_block} + (3 << 30)
    .fill   508, 8, 0
