# Stays on processor 1 and loads the FPU's environment forever: see soak.rs.
	.globl _start
_start:
	mov $203, %eax              # sched_setaffinity(0, 8, {processor 1})
	xor %edi, %edi
	mov $8, %esi
	lea mask(%rip), %rdx
	syscall
	test %eax, %eax
	js fail
	lea environment(%rip), %rdi
	fnstenv (%rdi)
again:
	fldenv (%rdi)
	jmp again
fail:
	mov $60, %eax               # exit(1)
	mov $1, %edi
	syscall
	.data
	.balign 8
mask:
	.quad 2
environment:
	.skip 28
	.section .note.GNU-stack, "", @progbits
