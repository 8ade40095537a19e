/*
 * mutants.c - proof that the transcripts would notice: a line "# Catches: NAME,
 * NAME" in a transcript names ways to break the core (consensus/mutant.h), and
 * under each of them the transcript must not come out as it stands.
 */
#include "mutant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenario.h"

#define MARK "# Catches:"

unsigned mu_mutant;

static const struct {
	const char *name, *rule, *what;
} mutants[MU_MUTANTS_END] = {
#define ROW(name, rule, what) [MU_MUTANT_##name] = {#name, rule, what},
	MU_MUTANT_LIST(ROW)
#undef ROW
};

static unsigned caught_by[MU_MUTANTS_END]; /* how many transcripts */

static unsigned mutant_of(const char *name)
{
	for (unsigned i = 1; i < MU_MUTANTS_END; i++)
		if (strcmp(mutants[i].name, name) == 0)
			return i;
	return 0;
}

/* Is the transcript, executed with this mutant, anything but what it says? */
static bool catches(const char *path, unsigned mutant)
{
	bool same;
	int kept, null;

	fflush(stdout);
	kept = dup(STDOUT_FILENO);
	null = open("/dev/null", O_WRONLY);
	if (kept < 0 || null < 0 || dup2(null, STDOUT_FILENO) < 0) {
		perror("scenario_mutants");
		exit(2);
	}
	mu_mutant = mutant;
	same = transcript_in_child(path, false, false);
	mu_mutant = 0;
	dup2(kept, STDOUT_FILENO);
	close(kept);
	close(null);
	return !same;
}

/* Try the mutants named in a line of a transcript; returns how many it failed to catch. */
static unsigned try_line(const char *path, char *names, unsigned *passed)
{
	unsigned failed = 0;
	char *rest = NULL;

	for (char *name = strtok_r(names, ", \n", &rest); name != NULL;
	     name = strtok_r(NULL, ", \n", &rest)) {
		unsigned mutant = mutant_of(name);

		if (mutant && catches(path, mutant)) {
			caught_by[mutant]++;
			(*passed)++;
			continue;
		}
		failed++;
		printf("FAILED: %s %s\n", path,
		       mutant ? "does not notice this mutant:" : "names a mutant that is none:");
		printf("  %s%s%s\n", name, mutant ? ": " : "", mutant ? mutants[mutant].what : "");
	}
	return failed;
}

static unsigned try_transcript(const char *path, unsigned *passed)
{
	FILE *file = fopen(path, "r");
	char line[1024];
	unsigned failed = 0;

	if (file == NULL) {
		fprintf(stderr, "scenario_mutants: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, MARK, strlen(MARK)) == 0)
			failed += try_line(path, line + strlen(MARK), passed);
	fclose(file);
	return failed;
}

/* For whoever writes transcripts: which of them notice which mutant. */
static void print_matrix(char **paths, size_t count)
{
	for (unsigned mutant = 1; mutant < MU_MUTANTS_END; mutant++) {
		printf("%s (%s):", mutants[mutant].name, mutants[mutant].rule);
		for (size_t i = 0; i < count; i++)
			if (catches(paths[i], mutant))
				printf(" %s", strrchr(paths[i], '/') ? strrchr(paths[i], '/') + 1
								     : paths[i]);
		putchar('\n');
	}
}

static int check(char **paths, size_t count)
{
	unsigned passed = 0, failed = 0;

	for (size_t i = 0; i < count; i++)
		failed += try_transcript(paths[i], &passed);
	for (unsigned mutant = 1; mutant < MU_MUTANTS_END; mutant++)
		if (!caught_by[mutant])
			printf("no transcript is about %s (%s: %s)\n", mutants[mutant].name,
			       mutants[mutant].rule, mutants[mutant].what);
	printf("%u passed, %u failed\n", passed, failed);
	return failed > 0;
}

int main(int argc, char **argv)
{
	bool matrix = argc > 1 && strcmp(argv[1], "--matrix") == 0;
	char **paths = argv + 1 + matrix;
	size_t count = (size_t)(argc - 1 - matrix);
	int rc;

	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		puts("usage: scenario_mutants [--matrix] [TRANSCRIPT...]\n"
		     "Break the core in the ways that each transcript says it catches, one at a\n"
		     "time: it must notice. Without arguments: all of tests/scenario/*.txt.\n"
		     "  --matrix   print for every mutant which transcripts notice it");
		return 0;
	}
	if (count == 0)
		transcript_find_all(&paths, &count);
	rc = matrix ? 0 : check(paths, count);
	if (matrix)
		print_matrix(paths, count);
	return rc;
}
