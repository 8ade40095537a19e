/* main.c - the command line: which transcripts, and what to do with them. */
#include <getopt.h>
#include <stdio.h>

#include "scenario.h"

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

static int execute_all(char **paths, size_t count, const struct options *options)
{
	unsigned passed = 0, failed = 0;

	for (size_t i = 0; i < count; i++) {
		if (transcript_in_child(paths[i], options->rewrite, options->trace)) {
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

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{"rewrite", no_argument, NULL, 'w'},
		{"trace", no_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct options options = {.rewrite = false};
	char **paths;
	size_t count;
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
	paths = argv + optind;
	count = (size_t)(argc - optind);
	if (count == 0)
		transcript_find_all(&paths, &count);
	return execute_all(paths, count, &options);
}
