/* main.c - which transcripts, each in a process of its own. */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenario.h"

#define HUNG_SECONDS 60 /* of real time: a transcript takes milliseconds */

struct options {
	bool rewrite;
	bool trace;
};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: scenario [--rewrite] [--trace] [TRANSCRIPT...]\n"
		"Execute transcripts and compare what happens with what they say must happen.\n"
		"Without arguments: all of tests/scenario/*.txt.\n"
		"  --rewrite   write what happens into the transcripts; review the difference\n"
		"  --trace     print everything that happens, with its time\n"
		"A transcript's commands:\n");
	command_help(out);
	fprintf(out, "Classes of events: clients election commits applies followers votes watch "
		     "backends denials\noperations.\n");
}

/* True if the transcript is as it should be. */
static bool execute(const char *path, const struct options *options)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("scenario: fork");
		exit(2);
	}
	if (pid == 0) {
		alarm(HUNG_SECONDS);
		exit(transcript_execute(path, options->rewrite, options->trace) ==
		     TRANSCRIPT_DIFFERS);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		printf("%s: died, signal %d (%s)\n", path, WTERMSIG(status),
		       strsignal(WTERMSIG(status)));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int execute_all(char **paths, size_t count, const struct options *options)
{
	unsigned passed = 0, failed = 0;

	for (size_t i = 0; i < count; i++) {
		if (execute(paths[i], options)) {
			passed++;
			continue;
		}
		failed++;
		printf("FAILED: %s\n", paths[i]);
	}
	if (options->rewrite)
		printf("%u rewritten, %u not\n", passed, failed);
	else
		printf("%u passed, %u failed\n", passed, failed);
	return failed > 0;
}

static int execute_default(const struct options *options)
{
	const char *srcdir = getenv("srcdir");
	char pattern[4096];
	glob_t found;
	int rc;

	snprintf(pattern, sizeof(pattern), "%s/tests/scenario/*.txt",
		 srcdir != NULL ? srcdir : ".");
	if (glob(pattern, 0, NULL, &found) != 0) {
		fprintf(stderr, "scenario: no transcripts: %s\n", pattern);
		return 2;
	}
	rc = execute_all(found.gl_pathv, found.gl_pathc, options);
	globfree(&found);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{"rewrite", no_argument, NULL, 'w'},
		{"trace", no_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct options options = {.rewrite = false};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'w':
			options.rewrite = true;
			break;
		case 't':
			options.trace = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind == argc)
		return execute_default(&options);
	return execute_all(argv + optind, (size_t)(argc - optind), &options);
}
