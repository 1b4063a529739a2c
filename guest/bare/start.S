/* SPDX-License-Identifier: MIT */
/*
 * From the PVH entry to bare_main() in ring 3.
 *
 * Ring 0 is entered here, for faults and for sleep, and nowhere else: a KVM in
 * software emulates ring-0 code instruction by instruction. So what can be
 * filled from ring 3 (the IDT, page tables for high RAM) is filled there; all
 * memory is the user's, these tables too.
 */
#define KERNEL_CODE	0x08
#define KERNEL_DATA	0x10
#define USER_DATA	(0x18 | 3)
#define USER_CODE	(0x20 | 3)
#define TSS		0x28

#define MSR_EFER	0xc0000080
#define EFER_LME	0x100
#define CR0_PAGING	0x80000001
#define CR4_PAE		0x20
#define RFLAGS_IOPL3	0x3002

#define TSS_SIZE	104
#define TSS_RSP0	4
#define TSS_IOMAP	102
#define IOMAP_SIZE	8193		/* a last byte of ones follows the map */

/* present, writable, user, accessed, dirty; so the CPU need not set them */
#define PAGE_TABLE	0x27
#define PAGE_LARGE	0xe7

#define KVM_SIGNATURE	0x4b4d564b	/* "KVMK" */
#define KVM_CLOCK_BIT	3
#define MSR_KVM_CLOCK	0x4b564d01

#define EOI		0xfee000b0
#define HLT		0xf4

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 8, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad start32

	.section .text.start, "ax"
	.code32
	.globl start32
start32:
	cld
	movl $stack_end, %esp
	movl %ebx, %esi			/* start info, until bare_main() */

	/* 4 GiB one to one in pages of 2 MiB. */
	movl $page_directories, %edi
	movl $PAGE_LARGE, %eax
	movl $2048, %ecx
1:	movl %eax, (%edi)
	movl $0, 4(%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 1b
	movl $page_pointers, %edi
	movl $page_directories + PAGE_TABLE, %eax
	movl $4, %ecx
1:	movl %eax, (%edi)
	movl $0, 4(%edi)
	addl $4096, %eax
	addl $8, %edi
	loop 1b
	movl $page_pointers + PAGE_TABLE, page_root

	movl $page_root, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $MSR_EFER, %ecx
	rdmsr
	orl $EFER_LME, %eax
	wrmsr
	movl %cr0, %eax
	orl $CR0_PAGING, %eax
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $KERNEL_CODE, $start64

	.code64
start64:
	movl $KERNEL_DATA, %eax
	movl %eax, %ss
	movl $USER_DATA, %eax
	movl %eax, %ds
	movl %eax, %es

	/* The I/O bitmap opens all ports: IOPL does not everywhere. */
	movq $tss, %rax
	movw %ax, gdt_tss + 2
	shrq $16, %rax
	movb %al, gdt_tss + 4
	movb %ah, gdt_tss + 7
	movq $trap_stack_end, tss + TSS_RSP0
	movw $TSS_SIZE, tss + TSS_IOMAP
	movb $0xff, tss + TSS_SIZE + IOMAP_SIZE - 1
	movl $TSS, %eax
	ltr %ax
	lidt idt_pointer

	/* KVM's clock tells the rate of the TSC. */
	movl $0x40000000, %eax
	cpuid
	cmpl $KVM_SIGNATURE, %ebx
	jne 1f
	movl $0x40000001, %eax
	cpuid
	btl $KVM_CLOCK_BIT, %eax
	jnc 1f
	movl $MSR_KVM_CLOCK, %ecx
	movl $kvm_clock + 1, %eax
	xorl %edx, %edx
	wrmsr
1:
	movl %esi, %edi
	xorl %ebp, %ebp
	pushq $USER_DATA
	pushq $stack_end - 8		/* as after a call */
	pushq $RFLAGS_IOPL3
	pushq $USER_CODE
	pushq $bare_main
	iretq

/*
 * Traps: 32 entries of 16 bytes. A fault is reported and ends the machine. The
 * one exception is hlt in ring 3: it sleeps here until the APIC's timer ticks.
 */
	.balign 16
	.globl trap_entries
trap_entries:
	.set vector, 0
	.rept 32
	.balign 16
	.if vector != 8 && vector != 13 && vector != 14 && vector != 17 && \
	    (vector < 10 || vector > 12) && vector != 21
	pushq $0
	.endif
	pushq $vector
	.if vector == 13
	jmp maybe_sleep
	.else
	jmp trap
	.endif
	.set vector, vector + 1
	.endr

	.balign 16
maybe_sleep:
	pushq %rax
	movq 24(%rsp), %rax		/* rip */
	cmpb $HLT, (%rax)
	popq %rax
	jne trap
	incq 16(%rsp)
	addq $16, %rsp
	sti
sleep_hlt:
	hlt
	cli
	iretq

	.globl timer_entry
timer_entry:
	pushq %rax
	/*
	 * The shadow of sti keeps the tick behind the hlt it is to end. An
	 * emulated SVM that leaves the guest between the two forgets the
	 * shadow; the tick comes first then, and that hlt must not be begun.
	 */
	leaq sleep_hlt(%rip), %rax
	cmpq %rax, 8(%rsp)
	jne 1f
	incq 8(%rsp)
1:
	movl $EOI, %eax
	movl $0, (%rax)
	popq %rax
	iretq

trap:
	movq %rsp, %rdi
	movq %cr2, %rsi
	call trap_report
1:	hlt
	jmp 1b

	.data
	.balign 16
gdt:	.quad 0
	.quad 0x00af9b000000ffff	/* ring 0, 64-bit code */
	.quad 0x00cf93000000ffff	/* ring 0, data */
	.quad 0x00cff3000000ffff	/* ring 3, data */
	.quad 0x00affb000000ffff	/* ring 3, 64-bit code */
gdt_tss:
	.quad 0x0000890000000000 + TSS_SIZE + IOMAP_SIZE - 1
	.quad 0
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.quad gdt
idt_pointer:
	.word 33 * 16 - 1
	.quad idt

	.bss
	.balign 4096
	.globl page_root, page_pointers
page_root:
	.skip 4096
page_pointers:
	.skip 4096
page_directories:
	.skip 4 * 4096
	.globl idt
idt:	.skip 33 * 16
	.balign 64
	.globl kvm_clock
kvm_clock:
	.skip 64
	.balign 16
tss:	.skip TSS_SIZE + IOMAP_SIZE
	.balign 16
	.skip 16384
trap_stack_end:
	.skip 65536
stack_end:

	.section .note.GNU-stack, "", @progbits
