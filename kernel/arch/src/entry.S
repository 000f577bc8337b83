// The first instructions: arm64 Image header, exception level, relocation, boot map, MMU.
//
// On entry (Linux Documentation/arch/arm64/booting.rst): x0 = device tree, MMU off, data cache off,
// the image itself clean to the point of coherency, the rest of memory unknown. With the MMU off all
// data accesses are Device-nGnRnE, so nothing before the MMU is on may use exclusives or unaligned
// accesses. x20 holds the tree throughout, x21 the load address.

    .section .head, "ax"
    .global _head
_head:
    b       start
    .long   0
    .quad   0                           // text_offset: none; any multiple of 64 KiB will do
    .quad   __image_end - _head         // image_size, zeroed data included
    .quad   0xa                         // flags: little endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

    .section .text.entry, "ax"

// Cleans and invalidates, by address to the point of coherency, the lines from x0 up to x1.
// Clobbers x2-x4.
    .type   flush_lines, %function
flush_lines:
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4             // DminLine: log2 of words
    mov     x3, #4
    lsl     x2, x3, x2
    sub     x4, x2, #1
    bic     x0, x0, x4
1:  dc      civac, x0
    add     x0, x0, x2
    cmp     x0, x1
    b.lo    1b
    dsb     sy
    ret
    .size   flush_lines, . - flush_lines

    .type   start, %function
start:
    msr     daifset, #0xf
    mov     x20, x0
    adrp    x21, _head

    // Lines that the firmware left dirty over our data would be written back over what follows.
    adrp    x0, __code_end
    adrp    x1, __image_end
    bl      flush_lines

    // Words that hold addresses of the image, as if it lay at 0 (RELR of the ELF gABI: an even word is the
    // place of one such word; an odd one tells by its bits 1 to 63 which of the 63 words behind the last
    // place are others). linker.ld sees to it that there are no relocations but these.
    adrp    x0, __relr_start
    add     x0, x0, :lo12:__relr_start
    adrp    x1, __relr_end
    add     x1, x1, :lo12:__relr_end
1:  cmp     x0, x1
    b.hs    5f
    ldr     x2, [x0], #8
    tbnz    x2, #0, 2f
    add     x3, x2, x21
    ldr     x4, [x3]
    add     x4, x4, x21
    str     x4, [x3], #8
    b       1b
2:  mov     x5, x3
    add     x3, x3, #(63 * 8)
3:  lsr     x2, x2, #1
    cbz     x2, 1b
    tbz     x2, #0, 4f
    ldr     x4, [x5]
    add     x4, x4, x21
    str     x4, [x5]
4:  add     x5, x5, #8
    b       3b

    // Zeroed data.
5:  adrp    x0, __data_end
    add     x0, x0, :lo12:__data_end
    adrp    x1, __image_end
6:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    6b

    adrp    x0, {boot_memory}
    add     x0, x0, :lo12:{boot_memory}
    add     x0, x0, #({boot_stack_top} & ~0xfff)
    add     x0, x0, #({boot_stack_top} & 0xfff)
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr

    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    refuse
    tst     x21, #0xffff
    b.ne    refuse

    mov     x0, x21
    mov     x1, x20
    bl      {build_boot_map}
    mov     x22, x0                     // root of the boot map

    // Lines fetched since the writes above, by speculation, are stale.
    dsb     sy
    adrp    x0, __code_end
    adrp    x1, __image_end
    bl      flush_lines

    mov     x0, x22
    bl      {enable_mmu}
    mov     x0, x20
    bl      {boot_main}
    b       park

// Not at EL2, or not at a multiple of 64 KiB: say so, with the MMU off.
refuse:
    mov     x0, x20
    mov     x2, x21
    bl      {boot_refused}
park:
    wfe
    b       park
    .size   start, . - start

// Where a secondary CPU starts, at EL2 with the MMU off. PSCI hands over x0 = the address of a
// SecondaryBlock; the spin table hands over nothing, so the block is found by its symbol. What it
// holds was cleaned to the point of coherency.
    .global secondary_start
    .type   secondary_start, %function
secondary_start:
    msr     daifset, #0xf
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    park
    mrs     x1, mpidr_el1
    // Aff3 is apart from Aff2..0; U, MT and the RES1 bit are not affinity.
    ubfx    x2, x1, #32, #8
    and     x1, x1, #0xffffff
    orr     x1, x1, x2, lsl #32
    adrp    x3, {secondaries}
    add     x3, x3, :lo12:{secondaries}
    mov     x4, #{max_cpus}
7:  ldr     x5, [x3, #{secondary_affinity}]
    cmp     x5, x1
    b.eq    8f
    add     x3, x3, #{secondary_size}
    subs    x4, x4, #1
    b.ne    7b
    b       park
8:  ldr     x0, [x3, #{secondary_stack}]
    cbz     x0, park
    mov     sp, x0
    mov     x29, xzr
    mov     x19, x3
    ldr     x0, [x3, #{secondary_root}]
    bl      {enable_mmu}
    ldr     x0, [x19, #{secondary_argument}]
    bl      {secondary_main}
    b       park
    .size   secondary_start, . - secondary_start
