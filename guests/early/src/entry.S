// arm64 Image header; zeroed data; stack; Rust, with MMU and caches as they were found: off.

    .section .head, "ax"
    .global _start
_start:
    b       boot
    .long   0
    .quad   0x80000                     // from the start of RAM
    .quad   __image_end - _start        // image_size
    .quad   2                           // flags: little endian, 4 KiB pages, near the start of RAM
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

    .section .text.entry, "ax"
boot:
    msr     daifset, #0xf
    mov     x19, x0
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
    adrp    x0, vectors
    add     x0, x0, :lo12:vectors
    msr     vbar_el1, x0
    mov     x0, x19
    mov     x29, xzr
    mov     x30, xzr
    b       {start}

// Any exception is the end: nobody here expects one, interrupts stay masked.
    .balign 2048
vectors:
    .rept   16
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    b       {exception}
    .balign 128
    .endr
