/* bench_options.c - see the header. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_options.h"

enum { EXIT_USAGE = 2 };

static const struct bench_fabric fabrics[] = {
	{"shm", mu_fabric_shm_open},
};

static const char usage[] =
	"usage: mubench [options]\n"
	"Measure libmu: from proposing to commit, with all replicas on this machine.\n"
	"\n"
	"  --fabric NAME           the fabric to measure (shm)\n"
	"  --payload N[,N...]      bytes of one operation (64,1024)\n"
	"  --outstanding N[,N...]  proposals under way at once (1,8)\n"
	"  --batch N[,N...]        operations in one proposal (1,32)\n"
	"  --count N               proposals measured for each line of the report (100000)\n"
	"  --replicas 3|5|7        replicas, each a process (3)\n"
	"  --ring-bytes N          size of the log ring, a power of two (16 MiB or more, to fit)\n"
	"  --dir DIR               where the replicas' memory lies meanwhile (/dev/shm)\n"
	"  --csv                   comma-separated values\n"
	"  --help, --version\n"
	"\n"
	"Numbers may end in k, m or g (1024s). Lists are combined each with each.\n";

static int complain(const char *option, const char *value, const char *why)
{
	fprintf(stderr, "mubench: --%s %s: %s\n", option, value, why);
	return EXIT_USAGE;
}

/* A number with an optional suffix, up to where `end` points; false if it is none. */
static bool parse_size(const char *text, size_t *out, const char **end)
{
	char *behind;
	unsigned long long number;
	unsigned shift = 0;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &behind, 10);
	switch (*behind) {
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	default:
		break;
	}
	if (errno != 0 || number > SIZE_MAX >> shift)
		return false;
	*out = (size_t)number << shift;
	*end = behind + (shift != 0);
	return true;
}

static int parse_one(const char *option, const char *text, size_t low, size_t high, size_t *out)
{
	const char *end;
	char why[80];

	if (!parse_size(text, out, &end) || *end != '\0')
		return complain(option, text, "is not a number");
	snprintf(why, sizeof(why), "must be from %zu to %zu", low, high);
	return *out < low || *out > high ? complain(option, text, why) : -1;
}

static int parse_list(const char *option, const char *text, size_t low, size_t high,
		      struct bench_list *list)
{
	const char *at = text;
	char why[80];

	snprintf(why, sizeof(why), "wants numbers from %zu to %zu, with commas between", low, high);
	for (list->count = 0;; at++) {
		if (list->count == BENCH_LIST_MAX)
			return complain(option, text, "has too many numbers");
		if (!parse_size(at, &list->value[list->count], &at) ||
		    list->value[list->count] < low || list->value[list->count] > high)
			return complain(option, text, why);
		list->count++;
		if (*at == '\0')
			return -1;
		if (*at != ',')
			return complain(option, text, why);
	}
}

static int parse_fabric(const char *name, struct bench_options *options)
{
	for (size_t i = 0; i < sizeof(fabrics) / sizeof(fabrics[0]); i++) {
		if (strcmp(name, fabrics[i].name) == 0) {
			options->fabric = &fabrics[i];
			return -1;
		}
	}
	return complain("fabric", name, "is not a fabric of this build (it has: shm)");
}

static int parse_replicas(const char *text, struct bench_options *options)
{
	size_t number;
	int status = parse_one("replicas", text, 1, MU_MAX_REPLICAS, &number);

	if (status >= 0)
		return status;
	if (number != 3 && number != 5 && number != 7)
		return complain("replicas", text, "must be 3, 5 or 7");
	options->replicas = (unsigned)number;
	return -1;
}

static size_t largest_of(const struct bench_list *list)
{
	size_t largest = 0;

	for (unsigned i = 0; i < list->count; i++)
		if (list->value[i] > largest)
			largest = list->value[i];
	return largest;
}

size_t bench_options_largest(const struct bench_options *options)
{
	return largest_of(&options->payload) * largest_of(&options->batch);
}

/* All that are outstanding, a few times over, must fit in the ring. */
static int settle_ring(struct bench_options *options)
{
	size_t need = 4096;
	size_t want = (bench_options_largest(options) + 4096) *
		      (largest_of(&options->outstanding) + 1) * 8;

	while (need < want)
		need *= 2;
	if (options->ring_bytes == 0) {
		options->ring_bytes = need > 16u << 20 ? need : 16u << 20;
	} else if (options->ring_bytes < need ||
		   (options->ring_bytes & (options->ring_bytes - 1))) {
		fprintf(stderr,
			"mubench: --ring-bytes %zu: must be a power of two of at least %zu for "
			"these payloads, batches and outstanding proposals\n",
			options->ring_bytes, need);
		return EXIT_USAGE;
	}
	return -1;
}

enum option_id {
	OPTION_FABRIC = 256,
	OPTION_PAYLOAD,
	OPTION_OUTSTANDING,
	OPTION_BATCH,
	OPTION_COUNT,
	OPTION_REPLICAS,
	OPTION_RING_BYTES,
	OPTION_DIR,
	OPTION_CSV,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{"fabric", required_argument, NULL, OPTION_FABRIC},
	{"payload", required_argument, NULL, OPTION_PAYLOAD},
	{"outstanding", required_argument, NULL, OPTION_OUTSTANDING},
	{"batch", required_argument, NULL, OPTION_BATCH},
	{"count", required_argument, NULL, OPTION_COUNT},
	{"replicas", required_argument, NULL, OPTION_REPLICAS},
	{"ring-bytes", required_argument, NULL, OPTION_RING_BYTES},
	{"dir", required_argument, NULL, OPTION_DIR},
	{"csv", no_argument, NULL, OPTION_CSV},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

static int parse_option(struct bench_options *options, int option)
{
	size_t number = 0;
	int status = -1;

	switch ((enum option_id)option) {
	case OPTION_FABRIC:
		return parse_fabric(optarg, options);
	case OPTION_PAYLOAD:
		return parse_list("payload", optarg, 1, 16u << 20, &options->payload);
	case OPTION_OUTSTANDING:
		return parse_list("outstanding", optarg, 1, BENCH_OUTSTANDING_MAX,
				  &options->outstanding);
	case OPTION_BATCH:
		return parse_list("batch", optarg, 1, BENCH_BATCH_MAX, &options->batch);
	case OPTION_COUNT:
		status = parse_one("count", optarg, 100, 10000000, &number);
		options->count = number;
		return status;
	case OPTION_REPLICAS:
		return parse_replicas(optarg, options);
	case OPTION_RING_BYTES:
		return parse_one("ring-bytes", optarg, 4096, (size_t)1 << 36, &options->ring_bytes);
	case OPTION_DIR:
		options->directory = optarg;
		return -1;
	case OPTION_CSV:
		options->csv = true;
		return -1;
	case OPTION_HELP:
		fputs(usage, stdout);
		return 0;
	case OPTION_VERSION:
		puts("mubench " PACKAGE_VERSION);
		return 0;
	}
	fputs("mubench: try --help\n", stderr);
	return EXIT_USAGE;
}

int bench_options_parse(struct bench_options *options, int argc, char **argv)
{
	int option;

	*options = (struct bench_options){
		.fabric = &fabrics[0],
		.payload = {{64, 1024}, 2},
		.outstanding = {{1, 8}, 2},
		.batch = {{1, 32}, 2},
		.count = 100000,
		.replicas = 3,
		.directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
	};
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		int status = parse_option(options, option);

		if (status >= 0)
			return status;
	}
	if (optind < argc) {
		fprintf(stderr, "mubench: unexpected argument '%s'; try --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	return settle_ring(options);
}
