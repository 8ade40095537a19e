/*
 * bench_watch.h - a group of members (bench_member.h) as seen by the process
 * that started them: starting, waiting, killing, and comparing what they have.
 */
#ifndef MUPROXY_BENCH_WATCH_H
#define MUPROXY_BENCH_WATCH_H

#include "bench_audit.h"
#include "bench_member.h"

struct bench_watch {
	struct bench_run run;
	struct bench_member_task task;
	struct bench_board *board;
	pid_t process[MU_ID_SLOTS];
	pid_t *busy; /* options->busy of them */
	struct bench_audit audit;
};

/* Start all; returns once one leads all the others. On failure the reason is on stderr. */
bool bench_watch_start(struct bench_watch *watch, const struct bench_options *options);
void bench_watch_stop(struct bench_watch *watch);

/*
 * Wait until one leads, all others follow it, and all give each other the best
 * score; returns
 * the leader. 0, with the reason on stderr unless it was a signal, if it does
 * not come to that.
 */
unsigned bench_watch_whole(struct bench_watch *watch);
/* Compare what all have applied by now. False if they do not come level; the reason is on stderr.
 */
bool bench_watch_audit(struct bench_watch *watch);

/* Start replica id (again); its process must have ended. */
bool bench_watch_launch(struct bench_watch *watch, unsigned id);
/* kill -9, and wait until the process is gone. */
void bench_watch_kill(struct bench_watch *watch, unsigned id);

/* How often any replica has begun to lead. */
uint64_t bench_watch_terms(const struct bench_watch *watch);

#endif
