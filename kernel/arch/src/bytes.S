// memcpy, memmove and memset, which the compiler calls for values that are moved, copied and zeroed: the boot, and a
// guest's making, are full of them. Those of `compiler-builtins` take 4 instructions for 8 bytes; these take 10 for 64.
// (memcmp is theirs.)
//
// Also called with the MMU off, when all memory is Device memory: every access is aligned to its own size. None of
// them touches guest memory, or a SIMD register.

    .section .text.bytes, "ax"

// x0 = to, x1 = from, x2 = bytes; x0 stays. The two do not overlap, or `to` lies below: each turn reads what it
// writes over before it writes.
    .global memcpy
    .type   memcpy, %function
memcpy:
    mov     x3, x0
    orr     x4, x0, x1
    tst     x4, #7
    b.ne    10f
1:  subs    x2, x2, #64
    b.lo    3f
2:  ldp     x4, x5, [x1], #64
    ldp     x6, x7, [x1, #-48]
    ldp     x8, x9, [x1, #-32]
    ldp     x10, x11, [x1, #-16]
    stp     x4, x5, [x3], #64
    stp     x6, x7, [x3, #-48]
    stp     x8, x9, [x3, #-32]
    stp     x10, x11, [x3, #-16]
    subs    x2, x2, #64
    b.hs    2b
    // The low six bits of x2 are those of what is left.
3:  tbz     x2, #5, 4f
    ldp     x4, x5, [x1], #32
    ldp     x6, x7, [x1, #-16]
    stp     x4, x5, [x3], #32
    stp     x6, x7, [x3, #-16]
4:  tbz     x2, #4, 5f
    ldp     x4, x5, [x1], #16
    stp     x4, x5, [x3], #16
5:  tbz     x2, #3, 6f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
6:  tst     x2, #7
    b.eq    9f
    tbz     x2, #2, 7f
    ldr     w4, [x1], #4
    str     w4, [x3], #4
7:  tbz     x2, #1, 8f
    ldrh    w4, [x1], #2
    strh    w4, [x3], #2
8:  tbz     x2, #0, 9f
    ldrb    w4, [x1]
    strb    w4, [x3]
9:  ret

    // Up to where both are aligned, if they ever are, and if it pays.
10: eor     x4, x0, x1
    tst     x4, #3
    b.ne    17f
    cmp     x2, #16
    b.lo    17f
11: tst     x3, #3
    b.eq    12f
    ldrb    w5, [x1], #1
    strb    w5, [x3], #1
    sub     x2, x2, #1
    b       11b
12: tbnz    x4, #2, 13f
    tbz     x3, #2, 1b
    ldr     w5, [x1], #4
    str     w5, [x3], #4
    sub     x2, x2, #4
    b       1b
    // In words, which is as far as the two are aligned alike.
13: subs    x2, x2, #32
    b.lo    15f
14: ldp     w4, w5, [x1], #32
    ldp     w6, w7, [x1, #-24]
    ldp     w8, w9, [x1, #-16]
    ldp     w10, w11, [x1, #-8]
    stp     w4, w5, [x3], #32
    stp     w6, w7, [x3, #-24]
    stp     w8, w9, [x3, #-16]
    stp     w10, w11, [x3, #-8]
    subs    x2, x2, #32
    b.hs    14b
15: tbz     x2, #4, 16f
    ldp     w4, w5, [x1], #16
    ldp     w6, w7, [x1, #-8]
    stp     w4, w5, [x3], #16
    stp     w6, w7, [x3, #-8]
16: tbz     x2, #3, 6b
    ldp     w4, w5, [x1], #8
    stp     w4, w5, [x3], #8
    b       6b
17: subs    x2, x2, #4
    b.lo    19f
18: ldrb    w4, [x1], #4
    ldrb    w5, [x1, #-3]
    ldrb    w6, [x1, #-2]
    ldrb    w7, [x1, #-1]
    strb    w4, [x3], #4
    strb    w5, [x3, #-3]
    strb    w6, [x3, #-2]
    strb    w7, [x3, #-1]
    subs    x2, x2, #4
    b.hs    18b
19: adds    x2, x2, #4
    b.eq    9b
20: ldrb    w4, [x1], #1
    strb    w4, [x3], #1
    subs    x2, x2, #1
    b.ne    20b
    ret
    .size   memcpy, . - memcpy

// The same, whatever overlaps.
    .global memmove
    .type   memmove, %function
memmove:
    sub     x3, x0, x1
    cmp     x3, x2
    b.hs    memcpy
    // `to` lies inside what is read: backwards, from the ends.
    add     x3, x0, x2
    add     x1, x1, x2
    orr     x4, x3, x1
    tst     x4, #7
    b.ne    5f
1:  subs    x2, x2, #32
    b.lo    3f
2:  ldp     x4, x5, [x1, #-16]
    ldp     x6, x7, [x1, #-32]!
    stp     x4, x5, [x3, #-16]
    stp     x6, x7, [x3, #-32]!
    subs    x2, x2, #32
    b.hs    2b
3:  tbz     x2, #4, 4f
    ldp     x4, x5, [x1, #-16]!
    stp     x4, x5, [x3, #-16]!
4:  tbz     x2, #3, 5f
    ldr     x4, [x1, #-8]!
    str     x4, [x3, #-8]!
    // What is left: less than 8 bytes, or all of it.
5:  cmp     x3, x0
    b.ls    7f
    orr     x4, x3, x1
    tst     x4, #7
    b.ne    6f
    sub     x2, x3, x0
    cmp     x2, #8
    b.hs    1b
6:  ldrb    w4, [x1, #-1]!
    strb    w4, [x3, #-1]!
    b       5b
7:  ret
    .size   memmove, . - memmove

// x0 = to, w1 = the byte, x2 = bytes; x0 stays.
    .global memset
    .type   memset, %function
memset:
    mov     x3, x0
    cmp     x2, #16
    b.lo    6f
    and     x1, x1, #0xff
    mov     x4, #0x0101010101010101
    mul     x1, x1, x4
1:  tst     x3, #7
    b.eq    2f
    strb    w1, [x3], #1
    sub     x2, x2, #1
    b       1b
2:  subs    x2, x2, #64
    b.lo    4f
3:  stp     x1, x1, [x3], #64
    stp     x1, x1, [x3, #-48]
    stp     x1, x1, [x3, #-32]
    stp     x1, x1, [x3, #-16]
    subs    x2, x2, #64
    b.hs    3b
4:  tbz     x2, #5, 5f
    stp     x1, x1, [x3], #32
    stp     x1, x1, [x3, #-16]
5:  tbz     x2, #4, 8f
    stp     x1, x1, [x3], #16
8:  and     x2, x2, #15
6:  cbz     x2, 9f
7:  strb    w1, [x3], #1
    subs    x2, x2, #1
    b.ne    7b
9:  ret
    .size   memset, . - memset
