/* fiber.c - see fiber.h. */
#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

#define STACK_BYTES (256 * 1024)

/* AddressSanitizer wants to be told which stack runs. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TELL_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(TELL_SANITIZER)
#define TELL_SANITIZER 1
#endif

#ifdef TELL_SANITIZER
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)(save))
#define __sanitizer_finish_switch_fiber(save, bottom, size) ((void)(save))
#endif

struct fiber {
	ucontext_t inside;
	ucontext_t outside;
	void (*body)(void *arg);
	void *arg;
	void *stack;
	void *fake_inside;
	void *fake_outside;
	const void *outside_bottom;
	size_t outside_bytes;
};

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

	if (fiber == NULL || getcontext(&fiber->inside) != 0)
		abort();
	fiber->body = body;
	fiber->arg = arg;
	fiber->stack = malloc(STACK_BYTES);
	if (fiber->stack == NULL)
		abort();
	fiber->inside.uc_stack.ss_sp = fiber->stack;
	fiber->inside.uc_stack.ss_size = STACK_BYTES;
	makecontext(&fiber->inside, (void (*)(void))start, 2, (unsigned)((uintptr_t)fiber >> 32),
		    (unsigned)(uintptr_t)fiber);
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
	if (swapcontext(&fiber->outside, &fiber->inside) != 0)
		abort();
	__sanitizer_finish_switch_fiber(fiber->fake_outside, NULL, NULL);
}

void fiber_give_way(struct fiber *fiber)
{
	__sanitizer_start_switch_fiber(&fiber->fake_inside, fiber->outside_bottom,
				       fiber->outside_bytes);
	if (swapcontext(&fiber->inside, &fiber->outside) != 0)
		abort();
	__sanitizer_finish_switch_fiber(fiber->fake_inside, &fiber->outside_bottom,
					&fiber->outside_bytes);
}
