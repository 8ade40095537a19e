/*
 * fiber.h - a plane of a replica as a thread that the simulator owns: it runs
 * on a stack of its own until it gives way, at any depth of calls, and goes on
 * from there when it is resumed, or never, if its process died meanwhile.
 */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

struct fiber;

/* body must not return. It starts at the first fiber_resume(). */
struct fiber *fiber_new(void (*body)(void *arg), void *arg);
/* May be in the middle of anything: nothing on its stack is cleaned up. */
void fiber_free(struct fiber *fiber);
/* Not from within a fiber. Returns when the fiber gives way. */
void fiber_resume(struct fiber *fiber);
/* From within the fiber. */
void fiber_give_way(struct fiber *fiber);

#endif
