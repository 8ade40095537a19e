/*
 * writer.h - a replica that streams blocks into another's log, from a thread or
 * a process of its own, until it is refused.
 *
 * Blocks are numbered from 1, and no number is used twice. Block n goes to the
 * place n % WRITER_PLACES; its words name n and their index in the block, so
 * whoever finds a word can tell whether it may be there.
 */
#ifndef MU_CONFORMANCE_WRITER_H
#define MU_CONFORMANCE_WRITER_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "conformance.h"

#define WRITER_ID 1
#define WRITER_TARGET 2
#define WRITER_PLACES 4

/* In memory that a forked writer shares with the test. */
struct writer_board {
	/* The test's. */
	_Atomic uint64_t ballot; /* stream under this one until refused, once */
	atomic_bool quit;
	/* The writer's. */
	_Atomic uint64_t done_ballot; /* was refused under this one */
	_Atomic uint64_t last_ok;     /* the last block that completed OK */
	_Atomic uint64_t block;       /* the last one that was posted */
	atomic_bool failed;           /* cannot go on at all */
};

struct writer {
	struct group *group;
	size_t block_bytes;
	struct writer_board *board;
	pid_t process; /* 0: a thread */
	pthread_t thread;
};

void writer_start(struct writer *writer, struct group *group, size_t block_bytes, bool process);
/* End it in good order. */
void writer_stop(struct writer *writer);
/* End it by SIGKILL (a process), and start another in its place. */
void writer_kill(struct writer *writer);
void writer_restart(struct writer *writer);

/* Stream under a ballot that has been granted; and wait until it was refused. */
void writer_stream(struct writer *writer, uint64_t ballot);
void writer_wait_refused(struct writer *writer, uint64_t ballot);
/* Stop it (a process) with SIGSTOP at a moment when it is in the middle of a write. */
void writer_freeze_in_write(struct writer *writer);
void writer_thaw(struct writer *writer);

/* Whether a word of block n's place may hold this, when block `oldest` was OK before. */
bool writer_word_is_valid(uint64_t word, size_t place, size_t index, uint64_t oldest);

#endif
