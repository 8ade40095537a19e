/* fiber.c - see fiber.h. */
#undef _FORTIFY_SOURCE /* its longjmp() goes up one stack only */
#include "fiber.h"
#include "../support/sanitizers.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

#define STACK_BYTES (256 * 1024)

/* AddressSanitizer wants to be told which stack runs. */
#ifdef UNDER_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)(save))
#define __sanitizer_finish_switch_fiber(save, bottom, size) ((void)(save))
#endif

/* Where one of two stacks was left. */
struct place {
	ucontext_t context;
	jmp_buf jump;
	bool left; /* by a jump, at least once */
};

struct fiber {
	struct place inside;
	struct place outside;
	void (*body)(void *arg);
	void *arg;
	void *stack;
	void *fake_inside;
	void *fake_outside;
	const void *outside_bottom;
	size_t outside_bytes;
};

/*
 * swapcontext() asks the kernel for the signal mask each time, which would be a
 * third of a run's time. It is for the first time, and for AddressSanitizer, which
 * takes a jump for the end of the functions jumped over.
 */
static void change(struct place *from, struct place *to)
{
#ifdef UNDER_ADDRESS_SANITIZER
	if (swapcontext(&from->context, &to->context) != 0)
		abort();
#else
	from->left = true;
	if (_setjmp(from->jump) != 0)
		return;
	if (to->left)
		_longjmp(to->jump, 1);
	setcontext(&to->context);
	abort();
#endif
}

static void start(unsigned high, unsigned low)
{
	struct fiber *fiber = (struct fiber *)((uintptr_t)high << 32 | low);

	__sanitizer_finish_switch_fiber(NULL, &fiber->outside_bottom, &fiber->outside_bytes);
	fiber->body(fiber->arg);
	abort();
}

struct fiber *fiber_new(void (*body)(void *arg), void *arg)
{
	struct fiber *fiber = calloc(1, sizeof(*fiber));

	if (fiber == NULL || getcontext(&fiber->inside.context) != 0)
		abort();
	fiber->body = body;
	fiber->arg = arg;
	fiber->stack = malloc(STACK_BYTES);
	if (fiber->stack == NULL)
		abort();
	fiber->inside.context.uc_stack.ss_sp = fiber->stack;
	fiber->inside.context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&fiber->inside.context, (void (*)(void))start, 2,
		    (unsigned)((uintptr_t)fiber >> 32), (unsigned)(uintptr_t)fiber);
	return fiber;
}

void fiber_free(struct fiber *fiber)
{
	if (fiber == NULL)
		return;
	free(fiber->stack);
	free(fiber);
}

void fiber_resume(struct fiber *fiber)
{
	__sanitizer_start_switch_fiber(&fiber->fake_outside, fiber->stack, STACK_BYTES);
	change(&fiber->outside, &fiber->inside);
	__sanitizer_finish_switch_fiber(fiber->fake_outside, NULL, NULL);
}

void fiber_give_way(struct fiber *fiber)
{
	__sanitizer_start_switch_fiber(&fiber->fake_inside, fiber->outside_bottom,
				       fiber->outside_bytes);
	change(&fiber->inside, &fiber->outside);
	__sanitizer_finish_switch_fiber(fiber->fake_inside, &fiber->outside_bottom,
					&fiber->outside_bytes);
}
