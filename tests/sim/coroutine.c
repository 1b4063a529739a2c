// SPDX-License-Identifier: MIT
/* Coroutines for x86-64: a switch is a call that keeps six registers. */
#include "coroutine.h"

#include <stddef.h>

struct coroutine *coroutine_now;

static void *scheduler_stack;

/* Leave this stack, its pointer in *@from, and go on with @to. */
void coroutine_switch(void **from, void *to);

__asm__(".text\n"
	".globl coroutine_switch\n"
	".type coroutine_switch, @function\n"
	"coroutine_switch:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size coroutine_switch, .-coroutine_switch\n");

static void begin(void)
{
	struct coroutine *self = coroutine_now;
	void *ended;

	self->main(self->argument);
	self->active = false;
	coroutine_switch(&ended, scheduler_stack);
	__builtin_unreachable();
}

void coroutine_start(struct coroutine *coroutine, void *stack, uint64_t size,
		     void (*main)(void *argument), void *argument)
{
	void **top = (void **)((uint8_t *)stack + size);

	*--top = NULL; /* the return address of begin(): the ABI's alignment */
	*--top = (void *)begin;
	top -= 6; /* registers, of no value */
	*coroutine = (struct coroutine){
		.stack_pointer = top,
		.active = true,
		.deadline = NEVER,
		.main = main,
		.argument = argument,
	};
}

void coroutine_resume(struct coroutine *coroutine)
{
	coroutine_now = coroutine;
	coroutine_switch(&scheduler_stack, coroutine->stack_pointer);
	coroutine_now = NULL;
}

void coroutine_yield(void)
{
	if (coroutine_now)
		coroutine_switch(&coroutine_now->stack_pointer,
				 scheduler_stack);
}

bool coroutine_wait(bool (*ready)(void *of), void *of, uint64_t deadline)
{
	struct coroutine *self = coroutine_now;

	self->ready = ready;
	self->of = of;
	self->deadline = deadline;
	coroutine_yield();
	self->ready = NULL;
	self->deadline = NEVER;
	return ready(of);
}
