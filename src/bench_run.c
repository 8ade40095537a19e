/* bench_run.c - see the header. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench_run.h"

static bool make_directory(struct bench_run *run)
{
	int length = snprintf(run->directory, sizeof(run->directory), "%s/mubench-XXXXXX",
			      run->options->directory);

	if (length < (int)sizeof(run->directory) && mkdtemp(run->directory) != NULL)
		return true;
	fprintf(stderr, "mubench: --dir %s: %s\n", run->options->directory,
		length < (int)sizeof(run->directory) ? strerror(errno) : "is too long");
	return false;
}

static void delete_directory(const struct bench_run *run)
{
	DIR *list = opendir(run->directory);
	struct dirent *entry;

	if (list == NULL)
		return;
	while ((entry = readdir(list)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(list), entry->d_name, 0);
	closedir(list);
	rmdir(run->directory);
}

/* Of this process, and of those that it forks. */
static atomic_bool *quit_at_signal;

static void on_signal(int number)
{
	(void)number;
	atomic_store(quit_at_signal, true);
}

bool bench_run_begin(struct bench_run *run, const struct bench_options *options)
{
	*run = (struct bench_run){.options = options};
	run->quit = mmap(NULL, sizeof(*run->quit), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run->quit == MAP_FAILED) {
		fprintf(stderr, "mubench: %s\n", strerror(errno));
		return false;
	}
	if (!make_directory(run)) {
		munmap(run->quit, sizeof(*run->quit));
		return false;
	}
	quit_at_signal = run->quit;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	return true;
}

void bench_run_end(struct bench_run *run)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	delete_directory(run);
	munmap(run->quit, sizeof(*run->quit));
}

pid_t bench_run_fork(int (*body)(void *ctx, unsigned id), void *ctx, unsigned id)
{
	pid_t parent = getpid(), child;

	fflush(NULL); /* what stands in a buffer is to be printed once */
	child = fork();
	if (child < 0) {
		fprintf(stderr, "mubench: fork: %s\n", strerror(errno));
		return 0;
	}
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(getppid() == parent ? body(ctx, id) : 1);
	}
	return child;
}
