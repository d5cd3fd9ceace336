/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How control gets in and out. Offsets are those of struct task and struct regs (personality.h; checked in dispatch.c).
 *
 * A signal that arrives while RIP lies in our text is deferred by entry/signal.c: it notes the signal, sets task->pending and
 * returns here. Two windows make that safe without a lock, both pure assembler without any call inside:
 *   [blocking_check, blocking_done)  pending was tested, the system call not finished: go to blocking_abort
 *   [exit_check, exit_end)           pending was tested, the guest not reached: go back to exit_check; all that the window
 *                                    does is to load registers from memory that it does not change
 */
#define TASK_SELF 0
#define TASK_REGS 8
#define TASK_STACK 16
#define TASK_SCRATCH 24
#define TASK_PENDING 56

    .section .text.entry, "ax"

    .globl _start
_start:
    xorl %ebp, %ebp
    movq %rsp, %rdi
    andq $-16, %rsp
    call personality_main
    hlt

/* From rewritten call sites and from the SIGSYS handler: RCX = where the guest goes on, everything else as at the call. */
    .globl entry
    .balign 64
entry:
    movq %rsp, %gs:TASK_SCRATCH
    movq %gs:TASK_STACK, %rsp
    leaq -8(%rsp), %rsp
    pushq %gs:TASK_SCRATCH
    pushq %rcx
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %rbp
    pushq %rbx
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rax
    cld
    movq %rsp, %gs:TASK_REGS
    movq %gs:TASK_SELF, %rdi
    movq %rsp, %rsi
    call dispatch

    .globl guest_enter
guest_enter:
    .globl exit_check
exit_check:
    cmpl $0, %gs:TASK_PENDING
    jne exit_work
    movq %gs:TASK_REGS, %rsp
    popq %rax
    popq %rdx
    popq %rsi
    popq %rdi
    popq %r8
    popq %r9
    popq %r10
    popq %r11
    popq %rbx
    popq %rbp
    popq %r12
    popq %r13
    popq %r14
    popq %r15
    popq %rcx
    popq %rsp
    jmp *%rcx
    .globl exit_end
exit_end:
    int3

exit_work:
    movq %gs:TASK_STACK, %rsp
    leaq -152(%rsp), %rsp /* below the regs; 16-aligned plus 8 for the call: stack_top is 8 mod 16 */
    andq $-16, %rsp
    movq %gs:TASK_SELF, %rdi
    call task_exit_work
    jmp exit_check

/* A thread in guest code that must stop is sent here by the signal handler, with nothing to come back to. */
    .globl entry_stop
entry_stop:
    movq %gs:TASK_STACK, %rsp
    leaq -152(%rsp), %rsp
    andq $-16, %rsp
    movq %gs:TASK_SELF, %rdi
    call task_leave_guest
    hlt

/* long host_call(number, a, b, c, d, e, f) */
    .globl host_call
    .balign 16
host_call:
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    movq %r8, %r10
    movq %r9, %r8
    movq 8(%rsp), %r9
    syscall
    ret

/* long host_blocking(task, number, a, b, c, d, e, f) */
    .globl host_blocking
    .balign 16
host_blocking:
    movq %rsi, %rax
    movq %rdx, %rdi
    movq %rcx, %rsi
    movq %r8, %rdx
    movq %r9, %r10
    movq 8(%rsp), %r8
    movq 16(%rsp), %r9
    .globl blocking_check
blocking_check:
    cmpl $0, %gs:TASK_PENDING
    jne blocking_abort
    syscall
    .globl blocking_done
blocking_done:
    ret
    .globl blocking_abort
blocking_abort:
    movq $-4, %rax /* -EINTR */
    ret

/* long host_clone(args, size, child): clone3. In the child, on a stack of its own or on a copy of ours: thread_start(child)
 * when `child` is not NULL, else it returns 0 like fork. */
    .globl host_clone
host_clone:
    pushq %rbx
    movq %rdx, %rbx
    movl $435, %eax
    syscall
    testq %rax, %rax
    jnz 1f
    testq %rbx, %rbx
    jz 1f
    xorl %ebp, %ebp
    movq %rbx, %rdi
    andq $-16, %rsp
    call thread_start
    hlt
1:  popq %rbx
    ret

/* host_sigreturn(ucontext) */
    .globl host_sigreturn
host_sigreturn:
    movq %rdi, %rsp
    .globl host_restorer
host_restorer:
    movl $15, %eax
    syscall
    hlt

    .globl stack_switch
stack_switch:
    movq %rdi, %rsp
    andq $-16, %rsp
    movq %rdx, %rdi
    call *%rsi
    hlt

/* The kernel saves the guest's FP state for us in the frame of the SIGILL that this makes. */
    .globl extended_capture
extended_capture:
    .globl extended_capture_at
extended_capture_at:
    ud2
    ret

/* long guest_copy(to, from, len): 0, or -EFAULT by way of guest_copy_fault */
    .globl guest_copy
guest_copy:
    movq %rdx, %rcx
    .globl guest_copy_begin
guest_copy_begin:
    rep movsb
    .globl guest_copy_end
guest_copy_end:
    xorl %eax, %eax
    ret

/* long guest_string(to, from, cap) */
    .globl guest_string
guest_string:
    xorl %eax, %eax
1:  cmpq %rdx, %rax
    jae 2f
    .globl guest_string_begin
guest_string_begin:
    movzbl (%rsi, %rax), %ecx
    .globl guest_string_end
guest_string_end:
    movb %cl, (%rdi, %rax)
    testb %cl, %cl
    jz 3f
    incq %rax
    jmp 1b
2:  movq $-36, %rax /* -ENAMETOOLONG */
3:  ret

/* 32-bit compare and swap on guest memory: guest_swap(address, expected, desired): old value, or -EFAULT */
    .globl guest_swap
guest_swap:
    movl %esi, %eax
    .globl guest_swap_begin
guest_swap_begin:
    lock cmpxchgl %edx, (%rdi)
    .globl guest_swap_end
guest_swap_end:
    movl %eax, %eax
    ret

    .globl guest_fault
guest_fault:
    movq $-14, %rax /* -EFAULT */
    ret

    .section .note.GNU-stack, "", @progbits
