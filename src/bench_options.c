/* bench_options.c - see the header. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_options.h"
#include "conf_value.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
	"usage: mubench [options]                 from proposing to commit\n"
	"       mubench --failover N [options]    from a leader's end to the next one's first "
	"commit\n"
	"       mubench --steady TIME [options]   false alarms while nothing is wrong\n"
	"Measure libmu, with all replicas on this machine, each a process.\n"
	"\n"
	"  --fabric NAME           shm, tcp or, where it is built in, verbs (shm)\n"
	"  --replicas 3|5|7        (3)\n"
	"  --ring-bytes N          size of the log ring, a power of two (16 MiB or more, to fit)\n"
	"  --dir DIR               where the replicas' memory lies meanwhile (/dev/shm)\n"
	"  --csv                   comma-separated values\n"
	"\n"
	"From proposing to commit; lists are combined each with each:\n"
	"  --payload N[,N...]      bytes of one operation (64,1024)\n"
	"  --outstanding N[,N...]  proposals under way at once (1,8)\n"
	"  --batch N[,N...]        operations in one proposal (1,32)\n"
	"  --count N               proposals measured for each line of the report (100000)\n"
	"\n"
	"Failures and false alarms:\n"
	"  --failover N            kill the leader N times, and stop it N times\n"
	"  --steady TIME           watch for so long: 90s, 10m\n"
	"  --busy N                beside processes that spin all the time (0)\n"
	"  --pace TIME             from one proposal of the leader to the next (50us)\n"
	"  --tick TIME             period of heartbeats (1ms)\n"
	"  --data-stall TIME       heartbeats stop when the data thread does for so long (500ms)\n"
	"  --score-max N           best score of a replica whose heartbeat moves (15)\n"
	"  --score-failed N        below it a replica counts as failed (2)\n"
	"  --score-alive N         above it, as alive again (6)\n"
	"  --score-gain N          for a heartbeat that moved (1)\n"
	"  --score-loss N          for one that did not (1)\n"
	"\n"
	"  --help, --version\n"
	"\n"
	"Numbers may end in k, m or g (1024s); times need a unit: us, ms, s, m.\n";

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

static int parse_time(const char *option, const char *text, uint64_t low, uint64_t high,
		      uint64_t *ns)
{
	char why[200];

	if (!conf_parse_ns(text, ns, why, sizeof(why)))
		return complain(option, text, why);
	snprintf(why, sizeof(why), "must be from %g to %g ms", (double)low / 1e6,
		 (double)high / 1e6);
	return *ns < low || *ns > high ? complain(option, text, why) : -1;
}

static int parse_fabric(const char *name, struct bench_options *options)
{
	char why[200] = "is not a fabric of this build, which has";

	options->fabric = bench_fabric_find(name);
	if (options->fabric != NULL)
		return -1;
	for (size_t i = 0; bench_fabric_at(i) != NULL; i++) {
		size_t length = strlen(why);

		snprintf(why + length, sizeof(why) - length, " %s", bench_fabric_at(i)->name);
	}
	return complain("fabric", name, why);
}

/* One of the failure detector's numbers; how they go together is looked at in the end. */
static int parse_score(const char *option, const char *text, uint32_t *score)
{
	size_t number;
	int status = parse_one(option, text, 1, BENCH_SCORE_MAX, &number);

	if (status < 0)
		*score = (uint32_t)number;
	return status;
}

static int check_scores(const struct bench_options *options)
{
	struct mu_config config = options->mu;
	const char *why;

	config.id = 1;
	config.member_mask = 1 << 1;
	if (mu_config_check(&config, &why) == MU_OK)
		return -1;
	fprintf(stderr, "mubench: %s\n", why);
	return EXIT_USAGE;
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
	OPTION_FAILOVER,
	OPTION_STEADY,
	OPTION_BUSY,
	OPTION_PACE,
	OPTION_TICK,
	OPTION_DATA_STALL,
	OPTION_SCORE_MAX,
	OPTION_SCORE_FAILED,
	OPTION_SCORE_ALIVE,
	OPTION_SCORE_GAIN,
	OPTION_SCORE_LOSS,
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
	{"failover", required_argument, NULL, OPTION_FAILOVER},
	{"steady", required_argument, NULL, OPTION_STEADY},
	{"busy", required_argument, NULL, OPTION_BUSY},
	{"pace", required_argument, NULL, OPTION_PACE},
	{"tick", required_argument, NULL, OPTION_TICK},
	{"data-stall", required_argument, NULL, OPTION_DATA_STALL},
	{"score-max", required_argument, NULL, OPTION_SCORE_MAX},
	{"score-failed", required_argument, NULL, OPTION_SCORE_FAILED},
	{"score-alive", required_argument, NULL, OPTION_SCORE_ALIVE},
	{"score-gain", required_argument, NULL, OPTION_SCORE_GAIN},
	{"score-loss", required_argument, NULL, OPTION_SCORE_LOSS},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

/* What is asked of the failure detector; -2: it is another option. */
static int parse_detector_option(struct bench_options *options, int option)
{
	struct mu_config *mu = &options->mu;

	switch ((enum option_id)option) {
	case OPTION_TICK:
		return parse_time("tick", optarg, 10000, 1000000000, &mu->tick_ns);
	case OPTION_DATA_STALL:
		return parse_time("data-stall", optarg, 1000000, 60000000000, &mu->data_stall_ns);
	case OPTION_SCORE_MAX:
		return parse_score("score-max", optarg, &mu->score_max);
	case OPTION_SCORE_FAILED:
		return parse_score("score-failed", optarg, &mu->score_failed);
	case OPTION_SCORE_ALIVE:
		return parse_score("score-alive", optarg, &mu->score_alive);
	case OPTION_SCORE_GAIN:
		return parse_score("score-gain", optarg, &mu->score_gain);
	case OPTION_SCORE_LOSS:
		return parse_score("score-loss", optarg, &mu->score_loss);
	default:
		return -2;
	}
}

/* What kind of run it is to be, and under what load; -2: it is another option. */
static int parse_mode_option(struct bench_options *options, int option)
{
	size_t number = 0;
	int status;

	switch ((enum option_id)option) {
	case OPTION_FAILOVER:
		options->mode = BENCH_FAILOVER;
		status = parse_one("failover", optarg, 1, 1000000, &number);
		options->events = number;
		return status;
	case OPTION_STEADY:
		options->mode = BENCH_STEADY;
		return parse_time("steady", optarg, 1000000, 86400000000000, &options->steady_ns);
	case OPTION_BUSY:
		status = parse_one("busy", optarg, 0, 1024, &number);
		options->busy = (unsigned)number;
		return status;
	case OPTION_PACE:
		return parse_time("pace", optarg, 1000, 1000000000, &options->pace_ns);
	default:
		return -2;
	}
}

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
	default:
		break;
	}
	status = parse_mode_option(options, option);
	if (status == -2)
		status = parse_detector_option(options, option);
	if (status != -2)
		return status;
	fputs("mubench: try --help\n", stderr);
	return EXIT_USAGE;
}

int bench_options_parse(struct bench_options *options, int argc, char **argv)
{
	int option;

	*options = (struct bench_options){
		.fabric = bench_fabric_at(0),
		.payload = {{64, 1024}, 2},
		.outstanding = {{1, 8}, 2},
		.batch = {{1, 32}, 2},
		.count = 100000,
		.replicas = 3,
		.pace_ns = 50000,
		.directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
	};
	mu_config_init(&options->mu);
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		int status = parse_option(options, option);

		if (status >= 0)
			return status;
	}
	if (optind < argc) {
		fprintf(stderr, "mubench: unexpected argument '%s'; try --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	option = check_scores(options);
	return option >= 0 ? option : settle_ring(options);
}
