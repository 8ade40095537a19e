/*
 * transcript.c - a transcript is a file of prose (lines that begin with #),
 * commands (lines that begin with >) and, behind each command, the output that
 * must come, up to the next line that is empty, prose or a command.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenario.h"

#define HUNG_SECONDS 60 /* of real time: a transcript takes milliseconds */
#define FILE_LINES_MAX 4096
#define DIFF_MAX (LINES_MAX + 8)

struct transcript {
	char *text;
	char *line[FILE_LINES_MAX];
	unsigned lines;
	FILE *rewritten; /* NULL: compare */
};

static _Noreturn void fail(const char *path, const char *what)
{
	fprintf(stderr, "scenario: %s: %s\n", path, what);
	exit(2);
}

static void load(struct transcript *transcript, const char *path)
{
	FILE *file = fopen(path, "r");
	size_t room = 0, length;
	char *rest = NULL;

	if (file == NULL)
		fail(path, strerror(errno));
	errno = 0;
	if (getdelim(&transcript->text, &room, '\0', file) < 0)
		fail(path, errno ? strerror(errno) : "empty");
	fclose(file);
	length = strlen(transcript->text);
	if (transcript->text[length - 1] != '\n')
		fail(path, "does not end with a newline");
	rest = transcript->text;
	for (char *end; (end = strchr(rest, '\n')) != NULL; rest = end + 1) {
		*end = '\0';
		if (transcript->lines == FILE_LINES_MAX)
			fail(path, "too many lines");
		transcript->line[transcript->lines++] = rest;
	}
}

static bool is_output(const char *line)
{
	return line[0] && line[0] != '#' && line[0] != '>';
}

/* ------------------------------------------------------------------ differences */

static unsigned split(char *text, char *line[DIFF_MAX])
{
	unsigned count = 0;
	char *rest = text;

	for (char *end; (end = strchr(rest, '\n')) != NULL && count < DIFF_MAX; rest = end + 1) {
		*end = '\0';
		line[count++] = rest;
	}
	return count;
}

/* By the longest common subsequence; lengths[i][j] is that of what follows lines i and j. */
static void print_difference(char **expected, unsigned m, char **got, unsigned n)
{
	static unsigned short lengths[DIFF_MAX + 1][DIFF_MAX + 1];
	unsigned i = 0, j = 0;

	memset(lengths, 0, sizeof(lengths));
	for (unsigned a = m; a-- > 0;)
		for (unsigned b = n; b-- > 0;) {
			if (strcmp(expected[a], got[b]) == 0)
				lengths[a][b] = (unsigned short)(lengths[a + 1][b + 1] + 1);
			else
				lengths[a][b] = lengths[a + 1][b] > lengths[a][b + 1]
							? lengths[a + 1][b]
							: lengths[a][b + 1];
		}
	while (i < m || j < n) {
		if (i < m && j < n && strcmp(expected[i], got[j]) == 0) {
			printf("   %s\n", expected[i++]);
			j++;
		} else if (i < m && (j == n || lengths[i + 1][j] >= lengths[i][j + 1])) {
			printf("  -%s\n", expected[i++]);
		} else {
			printf("  +%s\n", got[j++]);
		}
	}
}

static bool same(char **expected, unsigned m, char **got, unsigned n)
{
	if (m != n)
		return false;
	for (unsigned i = 0; i < m; i++)
		if (strcmp(expected[i], got[i]) != 0)
			return false;
	return true;
}

/* ----------------------------------------------------------------------- steps */

static struct transcript current;

/* Take the command's output; returns whether it is what it must be. */
static bool settle(struct scenario *scenario, unsigned first, unsigned count)
{
	char *got[DIFF_MAX];
	char *output = say_output(scenario);
	unsigned n;
	bool fits;

	if (current.rewritten != NULL) {
		fputs(output, current.rewritten);
		free(output);
		return true;
	}
	n = split(output, got);
	fits = same(current.line + first, count, got, n);
	if (!fits) {
		printf("%s:%u: %s\n", scenario->path, scenario->line,
		       current.line[scenario->line - 1]);
		print_difference(current.line + first, count < DIFF_MAX ? count : DIFF_MAX, got, n);
	}
	free(output);
	return fits;
}

static unsigned output_lines(unsigned first)
{
	unsigned count = 0;

	while (first + count < current.lines && is_output(current.line[first + count]))
		count++;
	return count;
}

void transcript_stop(struct scenario *scenario)
{
	if (current.rewritten != NULL)
		fail(scenario->path, scenario->lines[scenario->line_count - 1].text);
	if (settle(scenario, scenario->line, output_lines(scenario->line)))
		printf("%s:%u: no transcript may end like this\n", scenario->path, scenario->line);
	fflush(stdout);
	_exit(1);
}

/* Execute the commands in order, up to the first whose output is not what it must be. */
static bool step_through(struct scenario *scenario)
{
	unsigned at = 0;
	bool good = true;

	while (at < current.lines && good) {
		const char *line = current.line[at++];
		unsigned count;

		if (current.rewritten != NULL)
			fprintf(current.rewritten, "%s\n", line);
		if (line[0] != '>') {
			if (is_output(line))
				fail(scenario->path, "output that belongs to no command");
			continue;
		}
		scenario->line = at;
		if (scenario->run.voice == RUN_TRACES)
			printf("%s\n", line);
		say_clear(scenario);
		command_execute(scenario, line + 1);
		count = output_lines(at);
		good = settle(scenario, at, count);
		at += count;
	}
	return good;
}

static void put_in_place(const char *path, const char *written)
{
	if (fclose(current.rewritten) != 0 || rename(written, path) != 0)
		fail(path, strerror(errno));
}

/* True if it is as it should be, or has been rewritten. Exits if it cannot be executed. */
static bool execute(const char *path, bool rewrite, bool trace)
{
	struct scenario *scenario = calloc(1, sizeof(*scenario));
	char written[4096];
	bool good;

	if (scenario == NULL)
		abort();
	memset(&current, 0, sizeof(current));
	load(&current, path);
	scenario->path = path;
	scenario->run.voice = trace ? RUN_TRACES : RUN_SAYS;
	if (rewrite) {
		snprintf(written, sizeof(written), "%s.new", path);
		current.rewritten = fopen(written, "w");
		if (current.rewritten == NULL)
			fail(written, strerror(errno));
	}
	good = step_through(scenario);
	group_free(scenario);
	if (rewrite)
		put_in_place(path, written);
	free(current.text);
	free(scenario);
	return good;
}

bool transcript_in_child(const char *path, bool rewrite, bool trace)
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
		exit(execute(path, rewrite, trace) ? 0 : 1);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		printf("%s: died, signal %d (%s)\n", path, WTERMSIG(status),
		       strsignal(WTERMSIG(status)));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void transcript_find_all(char ***paths, size_t *count)
{
	const char *srcdir = getenv("srcdir");
	static glob_t found;
	char pattern[4096];

	snprintf(pattern, sizeof(pattern), "%s/tests/scenario/*.txt",
		 srcdir != NULL ? srcdir : ".");
	if (glob(pattern, 0, NULL, &found) != 0) {
		fprintf(stderr, "scenario: no transcripts: %s\n", pattern);
		exit(2);
	}
	*paths = found.gl_pathv;
	*count = found.gl_pathc;
}
