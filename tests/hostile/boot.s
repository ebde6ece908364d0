# From the PVH entry (32-bit, flat, no paging; Xen's docs/misc/pvh.pandoc) and from a second processor's first instruction
# to 64-bit code with all of the first 4 GiB mapped as they are. `begin(processor, start_info)` never comes back.

.section .note.pvh, "a", @note
    .long 4, 4, 18                      # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long entry

.section .text.boot, "ax"
.code32
.globl entry
entry:
    cli
    mov %ebx, %esi                      # start_info
    mov $directories + 3, %eax
    mov $second_level, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $4096, %eax
    add $8, %edi
    loop 1b
    movl $second_level + 3, pointers
    mov $0x83, %eax                     # present, writable, 2 MiB
    mov $directories, %edi
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 2b
    mov $first_stack, %esp
    xor %ebp, %ebp
enable:
    mov $pointers, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x620, %eax                     # PAE, and SSE for what the compiler makes of copies
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax                     # long mode
    wrmsr
    mov %cr0, %eax
    or $0x80000002, %eax
    mov %eax, %cr0
    lgdt segments_place
    ljmp $8, $long

.code64
long:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %ebp, %edi
    mov %esi, %esi
    call begin
3:  jmp 3b

# Copied to SECOND_START; the place of the segments, to SEGMENTS_PLACE.
.code16
.globl second_start, second_end
second_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdt 0x7f00
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $24, $second
second_end:

.code32
second:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $second_stack, %esp
    mov $1, %ebp
    jmp enable

.section .rodata
.balign 8
segments:
    .quad 0
    .quad 0x00af9b000000ffff            # 8: 64-bit code
    .quad 0x00cf93000000ffff            # 16: data
    .quad 0x00cf9b000000ffff            # 24: 32-bit code
.globl segments_place
segments_place:
    .word 31
    .long segments

.section .bss
.balign 4096
pointers:     .skip 4096
second_level: .skip 4096
directories:  .skip 4 * 4096
              .skip 65536
first_stack:
              .skip 65536
second_stack:
