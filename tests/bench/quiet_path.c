/*
 * quiet_path.c - from proposing to commit, and on to handing out, libmu over shm
 * neither allocates, nor calls the system, nor takes a lock. No measurement:
 * while the leader's thread is in libmu, each of these is trapped and counted.
 *
 * Allocations and locks are seen because the functions here take the place of
 * libc's; system calls because the kernel answers each with SIGSYS while the
 * byte `selector` says so (Linux 5.11, syscall user dispatch).
 */
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "../support/sanitizers.h"
#include "bench_group.h"
#include "clock.h"

enum { EXIT_SKIPPED = 77 };

#if defined(UNDER_ADDRESS_SANITIZER) || defined(UNDER_THREAD_SANITIZER) || \
	!defined(PR_SET_SYSCALL_USER_DISPATCH) || !defined(__x86_64__)

int main(void)
{
	puts("skipped: needs a build without sanitizers on x86-64, and Linux 5.11");
	return EXIT_SKIPPED;
}

#else

/* ------------------------------------------------------------- the traps */

static _Thread_local bool watched; /* this thread is in libmu */
static volatile char selector = SYSCALL_DISPATCH_FILTER_ALLOW;
static volatile int allocations, locks, system_calls, last_call = -1;

/* What takes another's place, and how to reach that. */
#define INSTEAD_OF(counter, result, name, parameters, arguments)   \
	result name parameters;                                    \
	result name parameters                                     \
	{                                                          \
		static result(*real) parameters;                   \
                                                                   \
		if (watched)                                       \
			counter++;                                 \
		if (real == NULL)                                  \
			*(void **)&real = dlsym(RTLD_NEXT, #name); \
		return real arguments;                             \
	}

INSTEAD_OF(allocations, void *, malloc, (size_t bytes), (bytes))
INSTEAD_OF(allocations, void *, calloc, (size_t count, size_t bytes), (count, bytes))
INSTEAD_OF(allocations, void *, realloc, (void *memory, size_t bytes), (memory, bytes))
INSTEAD_OF(allocations, void *, aligned_alloc, (size_t align, size_t bytes), (align, bytes))
INSTEAD_OF(locks, int, pthread_mutex_lock, (pthread_mutex_t * lock), (lock))
INSTEAD_OF(locks, int, pthread_mutex_trylock, (pthread_mutex_t * lock), (lock))
INSTEAD_OF(locks, int, pthread_rwlock_rdlock, (pthread_rwlock_t * lock), (lock))
INSTEAD_OF(locks, int, pthread_rwlock_wrlock, (pthread_rwlock_t * lock), (lock))
INSTEAD_OF(locks, int, pthread_spin_lock, (pthread_spinlock_t * lock), (lock))

/* The call was not made, and is not going to be. */
static void on_system_call(int number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	(void)number;
	selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	system_calls++;
	last_call = info->si_syscall;
	at->uc_mcontext.gregs[REG_RAX] = -EINTR;
}

static bool set_traps(void)
{
	struct sigaction action = {.sa_sigaction = on_system_call, .sa_flags = SA_SIGINFO};

	return sigaction(SIGSYS, &action, NULL) == 0 &&
	       prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) == 0;
}

static void enter(void)
{
	watched = true;
	selector = SYSCALL_DISPATCH_FILTER_BLOCK;
}

static void leave(void)
{
	selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	watched = false;
}

/* That the traps catch what they are for; afterwards the counts are 0 again. */
static bool traps_work(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	void *volatile memory;
	bool caught;

	enter();
	memory = malloc(100);
	pthread_mutex_lock(&mutex);
	syscall(SYS_getppid);
	leave();
	pthread_mutex_unlock(&mutex);
	free(memory);
	caught = allocations == 1 && locks == 1 && system_calls == 1 && last_call == SYS_getppid;
	if (!caught)
		printf("the traps caught %d of 1 allocations, %d of 1 locks, %d of 1 system "
		       "calls\n",
		       allocations, locks, system_calls);
	allocations = locks = system_calls = 0;
	return caught;
}

/* --------------------------------------------------------------- the path */

struct path {
	struct bench_group *group;
	const struct iovec *iov;
	unsigned outstanding;
	unsigned long count, proposed, committed;
	uint64_t ballot, lsn[BENCH_OUTSTANDING_MAX];
};

/* One turn of a leader: propose, step, look, hand out. */
static void turn(struct path *path, uint64_t now_ns)
{
	struct mu *mu = path->group->leader.mu;
	struct mu_view view;

	while (path->proposed < path->count &&
	       path->proposed - path->committed < path->outstanding &&
	       mu_propose(mu, path->iov, 1, mu_timestamp(mu, now_ns / 1000000),
			  &path->lsn[path->proposed % BENCH_OUTSTANDING_MAX]) == MU_OK)
		path->proposed++;
	mu_step(mu, now_ns);
	mu_view(mu, &view);
	while (path->committed < path->proposed && view.ballot == path->ballot &&
	       path->lsn[path->committed % BENCH_OUTSTANDING_MAX] <= view.commit_lsn)
		path->committed++;
	bench_apply(&path->group->leader);
}

/* False if leadership was lost, and a round must be done again. */
static bool run(struct bench_group *group, const struct iovec *iov, unsigned outstanding,
		unsigned long count, bool watch)
{
	struct path path = {.group = group, .iov = iov, .outstanding = outstanding, .count = count};
	struct mu_view view;

	if (!bench_group_lead(group))
		exit(EXIT_FAILURE);
	mu_view(group->leader.mu, &view);
	path.ballot = view.ballot;
	while (path.committed < count) {
		uint64_t now_ns = clock_ns();

		if (watch)
			enter();
		turn(&path, now_ns);
		if (watch)
			leave();
		mu_view(group->leader.mu, &view);
		if (view.ballot != path.ballot)
			return false;
	}
	return true;
}

/* Twice round the ring: skips, commit words and reclaiming are on the way. */
static bool check(struct bench_group *group, const struct iovec *iov, unsigned outstanding)
{
	unsigned long count = 2 * group->run.options->ring_bytes / (iov->iov_len + 64);
	int attempts = 10;

	/* Unwatched first: the reader's buffer grows to what it needs. */
	while (!run(group, iov, outstanding, 100, false) ||
	       !run(group, iov, outstanding, count, true))
		if (--attempts == 0)
			exit(EXIT_FAILURE);
	printf("%7zu bytes, %2u outstanding, %6lu proposals: %d allocations, %d locks, %d system "
	       "calls",
	       iov->iov_len, outstanding, count, allocations, locks, system_calls);
	printf(system_calls ? " (the last one: number %d)\n" : "\n", last_call);
	return allocations == 0 && locks == 0 && system_calls == 0;
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = {1, 64, 1024, 100000};
	static const unsigned outstanding[] = {1, 8};
	static uint8_t bytes[100000];
	struct bench_options options;
	struct bench_group group;
	bool quiet = true;

	if (bench_options_parse(&options, argc, argv) >= 0)
		return EXIT_FAILURE;
	if (!bench_group_start(&group, &options))
		return EXIT_FAILURE;
	if (!set_traps()) {
		bench_group_stop(&group);
		puts("skipped: this kernel cannot trap system calls");
		return EXIT_SKIPPED;
	}
	quiet = traps_work();
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		const struct iovec iov = {bytes, sizes[i]};

		for (unsigned j = 0; j < sizeof(outstanding) / sizeof(*outstanding); j++)
			quiet = check(&group, &iov, outstanding[j]) && quiet;
	}
	bench_group_stop(&group);
	return quiet ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
