/*
 * bench_member.h - a replica as a process of its own that leads when it can:
 * proposes at a steady pace while it leads, applies what is committed, and
 * tells the board what happens.
 */
#ifndef MUPROXY_BENCH_MEMBER_H
#define MUPROXY_BENCH_MEMBER_H

#include "bench_board.h"
#include "bench_run.h"

struct bench_member_task {
	const struct bench_run *run;
	struct bench_board *board;
};

/* Until `quit`; returns the exit status. For bench_run_fork(); ctx: struct bench_member_task. */
int bench_member_run(void *ctx, unsigned id);

#endif
